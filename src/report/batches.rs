//! Batches to measure on.

use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::error::{Error, Result};

/// One batch of the measured data.
pub(crate) fn read<I, J>(
    data: &DistillData<I, J>,
    indices: &[usize],
    device: &Device,
) -> Result<DistillBatch<I, J>> {
    data.read("measured", indices.to_vec(), device, true)
}

/// A device that cannot be read.
pub(crate) fn unreadable(what: &str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    let what = what.to_string();
    move |error| Error::Measuring {
        what: what.clone(),
        message: error.to_string(),
    }
}
