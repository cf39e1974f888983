//! PyTorch's logits for some digits, which an exact import of its network gives too.

use std::error::Error;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use burn_distill::Distillable;
use serde::Deserialize;

use super::digits;

/// The logits of the network in `examples/data/teacher` for the first digits of the test set.
#[derive(Debug, Deserialize)]
pub struct Known {
    logits: Vec<Vec<f32>>,
}

impl Known {
    pub fn read() -> Result<Self, Box<dyn Error>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples/data/teacher/digits_cnn_logits.json");
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }

    /// The number of digits.
    pub fn digits(&self) -> usize {
        self.logits.len()
    }

    /// How far the logits of a network are from PyTorch's; an error where they are not the same.
    pub fn largest_difference<T: Distillable<Tensor<2>>>(
        &self,
        network: &T,
        device: &Device,
    ) -> Result<f32, Box<dyn Error>> {
        let images = digits::flat_images(&digits::test()?[..self.logits.len()], device);
        let logits = network.valid().outputs(images).logits();
        let ours: Vec<f32> = logits.into_data().iter().collect();
        let known = self.logits.concat();
        let pairs = ours.iter().zip(&known);
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        match ours.len() == known.len() && largest < 1e-4 {
            true => Ok(largest),
            false => Err(format!("the import is not exact: logits differ by {largest}").into()),
        }
    }
}
