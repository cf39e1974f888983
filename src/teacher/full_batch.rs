//! Asking a teacher with batches of one size.

use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::head::Head;
use crate::data::outputs::Outputs;
use crate::error::{Error, Result};
use crate::teacher::{Teacher, TeacherBatch};

/// The outputs of a teacher for a batch: what was recorded for the data, or what the teacher gives.
///
/// The last bits of a model's outputs for a row depend on how many rows the batch has. A teacher that
/// `wants_full_batches` is asked with `batch_size` samples always: a shorter batch is filled up with
/// samples that it has, so that sequences stay as long as they are, and these are cut off again. So a
/// live, a cached, a recorded and a resumed teacher agree bit for bit.
pub(crate) fn ask<I, J: 'static>(
    teacher: &dyn Teacher<J>,
    data: &DistillData<I, J>,
    batch: &DistillBatch<I, J>,
    batch_size: usize,
    device: &Device,
    wants_full_batches: bool,
) -> Result<Outputs> {
    let weights = batch.targets.first_weights();
    if let Some(recorded) = data.recorded() {
        // Samples without names go by their index, which another sample may have as its id.
        if !data.is_named() {
            return Err(Error::NoKnowledge);
        }
        return recorded.read(&batch.names, weights, &device.clone().inner());
    }
    let samples = batch.indices.len();
    if !wants_full_batches || samples == 0 || samples >= batch_size {
        return teacher.ask(&TeacherBatch::of(batch, data.scope()));
    }
    let indices = batch.indices.iter().copied().cycle().take(batch_size);
    let full = data.read("teacher's", indices.collect(), device, true)?;
    let outputs = teacher.ask(&TeacherBatch::of(&full, data.scope()))?;
    Ok(first_samples(outputs, samples, batch_size))
}

/// The outputs of the first `samples` of `all` samples.
pub(crate) fn first_samples(outputs: Outputs, samples: usize, all: usize) -> Outputs {
    let rows = |rows: usize| rows / all * samples;
    outputs.map(
        |head: Head| head.slice(0..rows(head.rows())),
        |feature| feature.first(samples),
    )
}
