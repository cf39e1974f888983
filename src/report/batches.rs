//! Batches to measure on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;

use crate::attempt::panic_text;
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

/// Runs the code of a user, or of a device, whose panic becomes an error: what is measured is trained already.
pub(crate) fn attempted<R>(what: &str, run: impl FnOnce() -> Result<R>) -> Result<R> {
    // Whatever a panic leaves half done is dropped with it.
    let outcome = catch_unwind(AssertUnwindSafe(run));
    outcome.unwrap_or_else(|panic| {
        let message = panic_text(panic.as_ref());
        Err(Error::Measuring {
            what: what.to_string(),
            message: message.unwrap_or("it panicked without a message".into()),
        })
    })
}
