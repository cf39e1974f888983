//! What the tests of losses share.

pub mod bench;
pub mod features;
pub mod probe;
pub mod properties;
pub mod states;
