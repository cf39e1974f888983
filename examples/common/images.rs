//! Labelled images of one size, from wherever they are.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use burn::data::dataset::InMemDataset;
use burn::tensor::{Tensor, TensorData};
use burn_distill::{DistillBatch, DistillData};

use super::{cifar, digits, folder, idx};

/// One image.
#[derive(Debug, Clone)]
pub struct Image {
    /// One plane of rows per channel.
    pub pixels: Vec<u8>,
    pub label: usize,
}

/// Images to learn from, and others to test on.
#[derive(Debug)]
pub struct ImageSet {
    /// Channels, height and width of each image.
    pub shape: [usize; 3],
    pub classes: usize,
    pub train: Vec<Image>,
    pub test: Vec<Image>,
}

impl ImageSet {
    /// The images behind a name, `digits`, `mnist` or `cifar10`, or in a directory.
    ///
    /// `digits` come with the repository. `mnist` is what Burn's `MnistDataset` has downloaded to the
    /// user's cache. `cifar10` is the directory `cifar-10-batches-bin`, as CIFAR-10's archive of binary
    /// files unpacks, or what Burn's `CifarDataset` has downloaded. What a directory holds is known
    /// by its files, see [`read`](Self::read).
    pub fn open(name: &str) -> Result<Self> {
        let downloaded =
            |set: &str| dirs::cache_dir().map(|cache| cache.join("burn-dataset").join(set));
        let directories: Vec<PathBuf> = match name {
            "digits" => vec![digits::shipped()],
            "mnist" => downloaded("mnist").into_iter().collect(),
            "cifar10" => [Some("cifar-10-batches-bin".into()), downloaded("cifar10")]
                .into_iter()
                .flatten()
                .collect(),
            directory => vec![directory.into()],
        };
        match directories.iter().find(|path| path.is_dir()) {
            Some(path) => Self::read(path),
            None => {
                let message = format!("{name}: there is no directory at {directories:?}");
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }

    /// The images in a directory: MNIST's four IDX files, CIFAR-10's binary files, or `train` and
    /// `test` with one folder of PNG images per class, the layout of Burn's `ImageFolderDataset`.
    pub fn read(directory: &Path) -> Result<Self> {
        if idx::is_here(directory, "train") {
            let [train, test] = [digits::train_in(directory)?, digits::test_in(directory)?];
            let images = |digits: Vec<digits::Digit>| {
                let image = |digit: digits::Digit| Image {
                    pixels: digit.pixels,
                    label: digit.label.into(),
                };
                digits.into_iter().map(image).collect()
            };
            Ok(Self {
                shape: [1, digits::SIDE, digits::SIDE],
                classes: 10,
                train: images(train),
                test: images(test),
            })
        } else if cifar::is_here(directory) {
            cifar::read(directory)
        } else if folder::is_here(directory) {
            folder::read(directory)
        } else {
            let message = format!(
                "{}: neither MNIST's IDX files, nor CIFAR-10's binary files, nor train and test \
                 with one folder of PNG images per class",
                directory.display()
            );
            Err(Error::new(ErrorKind::NotFound, message))
        }
    }

    /// Images of this set as batches `[N, channels, height, width]` from 0 to 1, with their labels.
    pub fn data(&self, images: &[Image]) -> DistillData<Tensor<4>> {
        let [channels, height, width] = self.shape;
        let images = InMemDataset::new(images.to_vec());
        DistillData::from_fn(images, move |images: Vec<Image>, device| {
            let shape = [images.len(), channels, height, width];
            let pixels = images.iter().flat_map(|image| &image.pixels);
            let pixels: Vec<f32> = pixels.map(|pixel| f32::from(*pixel) / 255.0).collect();
            let labels: Vec<i64> = images.iter().map(|image| image.label as i64).collect();
            DistillBatch::new(Tensor::from_data(TensorData::new(pixels, shape), device))
                .with_classes(Tensor::<1, _>::from_data(labels.as_slice(), device))
        })
    }
}
