//! Where knowledge comes from.

mod average;
mod closure;
mod ensemble;
mod frozen;
mod recorded;

pub(crate) use average::Average;
pub use closure::{Answer, TeacherFn, teacher_fn};
pub use ensemble::{Combine, Ensemble};
pub(crate) use frozen::Asked;
pub use frozen::Frozen;
pub use recorded::Recorded;
