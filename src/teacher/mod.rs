//! Where knowledge comes from.

mod average;
mod ensemble;
mod frozen;

pub(crate) use average::Average;
pub use ensemble::{Combine, Ensemble};
pub use frozen::Frozen;
