//! From indices to a batch with the teacher's outputs: what the thread that prepares a batch does.

use std::sync::{Arc, Mutex};

use burn::tensor::{Device, Tensor};

use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::outputs::Outputs;
use crate::error::{Error, Result};
use crate::teacher::Teacher;
use crate::teacher::full_batch::ask;

/// The first thing that went wrong in a training. The engine has no way to carry an [`Error`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    /// Keeps an error, unless there is one already.
    pub fn report(&self, error: Error) {
        let mut first = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        first.get_or_insert(error);
    }

    pub fn has_any(&self) -> bool {
        let first = self.0.lock();
        first
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .is_some()
    }

    pub fn take(&self) -> Option<Error> {
        let mut first = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        first.take()
    }
}

/// The number of classes of each categorical head of the student, the first one first: what every
/// batch's labels are held to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Classes(Arc<Vec<(String, usize)>>);

impl Classes {
    pub fn of(student: &Outputs) -> Self {
        let heads = student.heads();
        let categorical = heads.filter(|(_, head)| head.logits().is_some());
        let classes = categorical.map(|(name, head)| (name.to_string(), head.width()));
        Self(Arc::new(classes.collect()))
    }

    /// Fails if a label of a valid row is too large for its head.
    fn check<I, J>(&self, batch: &DistillBatch<I, J>, what: &'static str) -> Result<()> {
        for (at, (name, classes)) in self.0.iter().enumerate() {
            let is_first = at == 0;
            let target = batch.targets.target_of(name, is_first);
            let Some(labels) = target.and_then(|target| target.classes()) else {
                continue;
            };
            let labels: Vec<i64> = read(labels.clone().without_autodiff())?;
            let Some(row) = labels.iter().position(|label| *label >= *classes as i64) else {
                continue;
            };
            let weights = batch.targets.weights_of(name, is_first);
            let weights = weights.map(|weights| weights.values().clone().into_data());
            let is_valid = |row: &usize| {
                let weight = weights.as_ref().and_then(|w| w.iter::<f32>().nth(*row));
                weight.is_none_or(|weight| weight != 0.0)
            };
            let rows = (row..labels.len()).filter(|row| labels[*row] >= *classes as i64);
            if let Some(row) = rows.clone().find(is_valid) {
                let per_sample = labels.len() / batch.indices.len().max(1);
                let sample = batch.indices.get(row / per_sample.max(1));
                return Err(Error::SampleLabel {
                    what,
                    sample: sample.copied().unwrap_or(row),
                    label: labels[row],
                    classes: *classes,
                });
            }
        }
        Ok(())
    }
}

fn read(labels: Tensor<1, burn::tensor::Int>) -> Result<Vec<i64>> {
    let data = labels.try_into_data();
    let data = data.map_err(|error| Error::Dataset {
        what: "labels of the",
        message: error.to_string(),
    })?;
    Ok(data.iter::<i64>().collect())
}

/// A batch, and the teacher's outputs where it was asked for them.
#[derive(Debug, Clone)]
pub(crate) struct Prepared<I, J> {
    pub batch: DistillBatch<I, J>,
    pub teacher: Option<Outputs>,
}

/// Data, the teacher that is asked about them, and what batches are held to.
pub(crate) struct Feed<I, J> {
    pub data: DistillData<I, J>,
    /// `training` or `validation`, in errors.
    pub what: &'static str,
    /// The teacher on the device of the batches; `None` where it is asked inside the step, or not at all.
    pub teacher: Option<Arc<dyn Teacher<J>>>,
    pub wants_full_batches: bool,
    /// Whether something goes by the names of samples.
    pub needs_names: bool,
    pub batch_size: usize,
    pub classes: Classes,
    pub failure: Failure,
}

impl<I, J> Clone for Feed<I, J> {
    fn clone(&self) -> Self {
        Self {
            data: self.data.clone(),
            teacher: self.teacher.clone(),
            classes: self.classes.clone(),
            failure: self.failure.clone(),
            ..*self
        }
    }
}

impl<I, J: 'static> Feed<I, J> {
    /// The same with the teacher on a device.
    pub fn on(&self, device: &Device) -> Self {
        Self {
            teacher: self.teacher.as_ref().map(|teacher| teacher.on(device)),
            ..self.clone()
        }
    }

    /// A batch of these samples, checked, without the teacher's outputs.
    pub fn batch(&self, indices: Vec<usize>, device: &Device) -> Result<DistillBatch<I, J>> {
        let batch = match self.needs_names {
            true => self.data.named_batch(indices, device),
            false => self.data.batch(indices, device),
        };
        let batch = batch.map_err(|error| Error::Dataset {
            what: self.what,
            message: error.to_string(),
        })?;
        self.classes.check(&batch, self.what)?;
        Ok(batch)
    }

    /// The teacher's outputs for a batch, where this feed asks it.
    pub fn ask(&self, batch: &DistillBatch<I, J>, device: &Device) -> Result<Option<Outputs>> {
        let Some(teacher) = &self.teacher else {
            return Ok(None);
        };
        let outputs = ask(
            teacher.as_ref(),
            &self.data,
            batch,
            self.batch_size,
            device,
            self.wants_full_batches,
        )?;
        // Some devices collect work before they begin with it: now, and not when the student wants it.
        // One that fails here fails again, with its reason, where the outputs are read.
        let _ = device.flush();
        Ok(Some(outputs))
    }
}
