//! The handwritten digits in `examples/data/mnist`.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use burn::data::dataset::InMemDataset;
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::{DistillBatch, DistillData};
use serde::Serialize;

use super::idx;

/// Height and width of a digit.
pub const SIDE: usize = 28;

/// One handwritten digit. What a teacher predicts for it is recorded under a hash of what `serde` writes.
#[derive(Debug, Clone, Serialize)]
pub struct Digit {
    /// Rows from the top, 0 for paper to 255 for ink.
    pub pixels: Vec<u8>,
    pub label: u8,
}

impl Digit {
    /// The digit as text: two pixels of a column in one character.
    pub fn to_text(&self) -> String {
        let ink = |row: usize, column: usize| self.pixels[row * SIDE + column] > 100;
        let line = |row: usize| -> String {
            (0..SIDE)
                .map(|column| match (ink(row, column), ink(row + 1, column)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                })
                .collect()
        };
        let lines: Vec<String> = (0..SIDE).step_by(2).map(line).collect();
        lines.join("\n")
    }
}

/// The 10,000 training digits.
pub fn train() -> Result<Vec<Digit>> {
    train_in(&shipped())
}

/// The 2,000 test digits.
pub fn test() -> Result<Vec<Digit>> {
    test_in(&shipped())
}

/// Where the digits are that come with the repository.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/mnist")
}

/// The training digits in a directory of MNIST's files.
pub fn train_in(directory: &Path) -> Result<Vec<Digit>> {
    read(directory, "train")
}

/// The test digits in a directory of MNIST's files.
pub fn test_in(directory: &Path) -> Result<Vec<Digit>> {
    read(directory, "t10k")
}

fn read(directory: &Path, split: &str) -> Result<Vec<Digit>> {
    let (images, labels) = idx::read(directory, split)?;
    if [images.height, images.width] != [SIDE, SIDE] {
        let size = format!("{} by {}", images.height, images.width);
        let message = format!("a digit is {SIDE} by {SIDE} pixels, not {size}");
        return Err(Error::new(ErrorKind::InvalidData, message));
    }
    let images = images.pixels.chunks_exact(SIDE * SIDE);
    let digits = images.zip(labels).map(|(pixels, label)| Digit {
        pixels: pixels.to_vec(),
        label,
    });
    Ok(digits.collect())
}

/// Digits as batches of flat images `[N, 784]` from 0 to 1, with their labels.
pub fn data(digits: Vec<Digit>) -> DistillData<Tensor<2>> {
    let named = DistillData::builder(InMemDataset::new(digits)).by_content();
    let data = named.batched(|digits: Vec<Digit>, device: &Device| {
        let labels: Vec<i64> = digits.iter().map(|digit| digit.label.into()).collect();
        DistillBatch::new(flat_images(&digits, device))
            .with_classes(Tensor::<1, _>::from_data(labels.as_slice(), device))
    });
    data.with_images(|flat| flat.clone().reshape([-1, 1, SIDE as i32, SIDE as i32]))
}

/// The same batches without the labels, for a student that has a teacher in their place.
pub fn unlabelled(digits: Vec<Digit>) -> DistillData<Tensor<2>> {
    let named = DistillData::builder(InMemDataset::new(digits)).by_content();
    named.batched(|digits: Vec<Digit>, device: &Device| {
        DistillBatch::new(flat_images(&digits, device))
    })
}

/// Flat images `[N, 784]` from 0 to 1.
pub fn flat_images(digits: &[Digit], device: &Device) -> Tensor<2> {
    let pixels = digits.iter().flat_map(|digit| &digit.pixels);
    let pixels: Vec<f32> = pixels.map(|pixel| f32::from(*pixel) / 255.0).collect();
    let shape = [digits.len(), SIDE * SIDE];
    Tensor::from_data(TensorData::new(pixels, shape), device)
}
