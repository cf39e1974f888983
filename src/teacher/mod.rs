//! Where knowledge comes from.

mod frozen;

pub use frozen::Frozen;
