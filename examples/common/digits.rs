//! The handwritten digits in `examples/data/mnist`.

use std::io::Read;
use std::path::{Path, PathBuf};

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::{DistillBatch, DistillData, batch_fn};
use flate2::read::GzDecoder;
use serde::Serialize;

/// Height and width of a digit.
pub const SIDE: usize = 28;

/// One handwritten digit. Recorded knowledge knows it by a hash of what `serde` writes of it.
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
pub fn train() -> std::io::Result<Vec<Digit>> {
    read("train")
}

/// The 2,000 test digits.
pub fn test() -> std::io::Result<Vec<Digit>> {
    read("t10k")
}

fn read(split: &str) -> std::io::Result<Vec<Digit>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/mnist");
    let images = unpack(directory.join(format!("{split}-images-idx3-ubyte.gz")))?;
    let labels = unpack(directory.join(format!("{split}-labels-idx1-ubyte.gz")))?;
    // A header of four numbers before the images, of two before the labels.
    let images = images[16..].chunks_exact(SIDE * SIDE);
    let digits = images.zip(&labels[8..]).map(|(pixels, label)| Digit {
        pixels: pixels.to_vec(),
        label: *label,
    });
    Ok(digits.collect())
}

fn unpack(path: PathBuf) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(&path)
        .map_err(|error| std::io::Error::other(format!("{}: {error}", path.display())))?;
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Digits as batches of flat images `[N, 784]` from 0 to 1, with their labels.
pub fn data(digits: Vec<Digit>) -> DistillData<Tensor<2>> {
    DistillData::new(InMemDataset::new(digits), batcher())
        .with_pictures(|images| images.clone().reshape([-1, 1, SIDE as i32, SIDE as i32]))
}

/// What makes such a batch of some digits.
pub fn batcher() -> impl Batcher<Digit, DistillBatch<Tensor<2>>> + Clone + 'static {
    batch_fn(|digits: Vec<Digit>, device: &Device| {
        let labels: Vec<i64> = digits.iter().map(|digit| digit.label.into()).collect();
        DistillBatch::new(flat_images(&digits, device))
            .with_classes(Tensor::<1, _>::from_data(labels.as_slice(), device))
    })
}

/// Flat images `[N, 784]` from 0 to 1.
pub fn flat_images(digits: &[Digit], device: &Device) -> Tensor<2> {
    let pixels = digits.iter().flat_map(|digit| &digit.pixels);
    let pixels: Vec<f32> = pixels.map(|pixel| f32::from(*pixel) / 255.0).collect();
    let shape = [digits.len(), SIDE * SIDE];
    Tensor::from_data(TensorData::new(pixels, shape), device)
}
