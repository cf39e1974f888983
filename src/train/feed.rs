//! From indices to a batch with the teacher's outputs: what the thread that prepares a batch does.

use std::sync::{Arc, Mutex};

use burn::tensor::Device;

use crate::attempt::attempt;
use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::outputs::Outputs;
use crate::data::targets::{Target, Weights, too_large};
use crate::error::{Error, Result};
use crate::teacher::Teacher;
use crate::teacher::full_batch::ask;

/// The name of a set in errors.
pub(crate) const TRAINING: &str = "training";
/// The name of a set in errors.
pub(crate) const VALIDATION: &str = "validation";

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
    pub fn check<I, J>(&self, batch: &DistillBatch<I, J>, what: &'static str) -> Result<()> {
        for (at, (name, classes)) in self.0.iter().enumerate() {
            let is_first = at == 0;
            let target = batch.targets.target_of(name, is_first);
            let Some(labels) = target.and_then(Target::classes) else {
                continue;
            };
            let weights = batch.targets.weights_of(name, is_first);
            let found = too_large(labels, weights.map(Weights::values), *classes);
            let found = found.map_err(|error| Error::Dataset {
                what: "labels of the",
                message: error.to_string(),
            })?;
            if let Some((row, label)) = found {
                return Err(Error::SampleLabel {
                    what,
                    sample: batch.sample_of(row, labels.dims()[0]),
                    label,
                    classes: *classes,
                });
            }
        }
        Ok(())
    }
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

    /// A batch of these samples with the teacher's outputs, whatever the code of a user does.
    pub fn prepare(&self, indices: Vec<usize>, device: &Device) -> Result<Prepared<I, J>> {
        attempt(self.what, &indices, || {
            let batch = self.batch(indices.clone(), device)?;
            let teacher = self.ask(&batch, device)?;
            Ok(Prepared { batch, teacher })
        })
    }

    /// A batch of these samples, checked, without the teacher's outputs.
    fn batch(&self, indices: Vec<usize>, device: &Device) -> Result<DistillBatch<I, J>> {
        let batch = self
            .data
            .read(self.what, indices, device, self.needs_names)?;
        self.classes.check(&batch, self.what)?;
        Ok(batch)
    }

    /// The teacher's outputs for a batch, where this feed asks it.
    fn ask(&self, batch: &DistillBatch<I, J>, device: &Device) -> Result<Option<Outputs>> {
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
