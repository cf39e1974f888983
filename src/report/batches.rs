//! Batches to measure on, and the teacher's outputs for them.

use std::sync::Arc;

use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::outputs::Outputs;
use crate::data::recorded::RecordedOutputs;
use crate::error::{Error, Result};
use crate::teacher::{Teacher, TeacherBatch};

/// One batch of the measured data.
pub(crate) fn read<I, J>(
    data: &DistillData<I, J>,
    indices: &[usize],
    device: &Device,
) -> Result<DistillBatch<I, J>> {
    let batch = data.named_batch(indices.to_vec(), device);
    batch.map_err(|error| Error::Dataset {
        what: "measured",
        message: error.to_string(),
    })
}

/// The teacher's outputs for a batch: those that were recorded with the data, where they are.
pub(crate) fn ask<I, J: 'static>(
    teacher: &dyn Teacher<J>,
    data: &DistillData<I, J>,
    batch: &DistillBatch<I, J>,
    device: &Device,
) -> Result<Outputs> {
    let has_all = |it: &&Arc<dyn RecordedOutputs>| {
        !batch.names.is_empty() && batch.names.iter().all(|name| it.has(name))
    };
    match data.recorded().iter().find(has_all) {
        Some(recorded) => recorded.read(&batch.names, batch.targets.first_weights(), device),
        None => teacher.ask(&TeacherBatch::of(batch, data.scope())),
    }
}

/// A device that cannot be read.
pub(crate) fn unreadable(what: &str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    let what = what.to_string();
    move |error| Error::Measuring {
        what: what.clone(),
        message: error.to_string(),
    }
}
