//! What the tests of losses share.
//!
//! - `numbers.rs`: numbers made up, numbers read, numbers compared;
//! - `logits.rs`: a batch of logits and labels, and what every loss on logits has to hold;
//! - `properties.rs`: what every loss between two rows of logits has to hold beyond that;
//! - `features.rs`: a feature of each side, and a loss between the two run forward and backward;
//! - `bench.rs`: the same with several features, and with the modules that a loss trains.

pub mod bench;
pub mod features;
pub mod logits;
pub mod numbers;
pub mod properties;
