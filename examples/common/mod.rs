//! What the examples share: digits, a perceptron, and the choice of a backend.
#![allow(dead_code)] // No example uses all of it.

pub mod arms;
pub mod backend;
pub mod digits;
pub mod idx;
pub mod mlp;
