//! The distilled student on a machine without an operating system.
//!
//! ```text
//! cd examples/deploy_target
//! rustup target add thumbv7em-none-eabihf wasm32-unknown-unknown
//! cargo check --target thumbv7em-none-eabihf
//! cargo check --target wasm32-unknown-unknown
//! ```
//!
//! The weights in `student.bpk` are those that `cargo run --release --example deploy` writes: eight
//! bits each, with a scale per matrix. The module is the file that this example trains.

#![no_std]

#[path = "../../deploy/student.rs"]
mod student;

use burn::store::RecordError;
use burn::tensor::{Device, Tensor, TensorData};

pub use student::Student;

/// What `deploy` wrote.
const WEIGHTS: &[u8] = include_bytes!("../student.bpk");

/// The student with its weights.
///
/// # Errors
///
/// If the weights are of another model.
pub fn student() -> Result<Student, RecordError> {
    Student::from_bytes(WEIGHTS, &Device::default())
}

/// Which digit is on an image of 28 rows of 28 pixels, 0.0 for paper to 1.0 for ink.
pub fn classify(student: &Student, image: &[f32; 784]) -> usize {
    let pixels = TensorData::new(image.to_vec(), [1, 784]);
    let logits = student.forward(Tensor::from_data(pixels, &Device::default()));
    let answer: i64 = logits.argmax(1).into_scalar();
    answer as usize
}
