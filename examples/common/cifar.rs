//! CIFAR-10's binary files: records of one label and three planes of 32 by 32 pixels, nothing else.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use super::images::{Image, ImageSet};

const PIXELS: usize = 3 * 32 * 32;
const CLASSES: usize = 10;

/// Whether a directory holds them.
pub fn is_here(directory: &Path) -> bool {
    directory.join("data_batch_1.bin").exists()
}

/// The 50,000 training images and 10,000 test images.
pub fn read(directory: &Path) -> Result<ImageSet> {
    let mut train = Vec::new();
    for batch in 1..=5 {
        train.extend(images(&directory.join(format!("data_batch_{batch}.bin")))?);
    }
    Ok(ImageSet {
        shape: [3, 32, 32],
        classes: CLASSES,
        train,
        test: images(&directory.join("test_batch.bin"))?,
    })
}

fn images(path: &Path) -> Result<Vec<Image>> {
    let failed = |kind, problem: &dyn std::fmt::Display| {
        Error::new(kind, format!("{}: {problem}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|error| failed(error.kind(), &error))?;
    let records = bytes.chunks_exact(1 + PIXELS);
    let valid = records
        .clone()
        .all(|record| usize::from(record[0]) < CLASSES);
    if !records.remainder().is_empty() || !valid {
        let problem = "not a file of CIFAR-10's records";
        return Err(failed(ErrorKind::InvalidData, &problem));
    }
    let image = |record: &[u8]| Image {
        pixels: record[1..].to_vec(),
        label: record[0].into(),
    };
    Ok(records.map(image).collect())
}
