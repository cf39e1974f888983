//! Teachers: whatever gives outputs for a batch.
//!
//! A live module, a closure, an ensemble, a recording, a device elsewhere and a cache are one trait, so
//! any of them can stand behind any other.

pub(crate) mod adapt;
pub(crate) mod any;
pub(crate) mod cache;
pub(crate) mod closure;
pub(crate) mod ensemble;
pub(crate) mod fingerprint;
pub(crate) mod frozen;
pub(crate) mod full_batch;
pub(crate) mod mean;
pub(crate) mod own;
pub(crate) mod pinned;

use std::sync::Arc;

use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::data::key::Name;
use crate::data::outputs::Outputs;
use crate::data::targets::Weights;
use crate::error::Result;
use crate::loss::modules::LossModules;

/// Whatever gives outputs for a batch: a live module, a [closure](crate::teacher_fn), an
/// [ensemble](crate::Ensemble), a [recording](crate::Recorded), or a type of your own.
///
/// Every [`Distillable`](crate::Distillable) module is a teacher: it is frozen, in inference mode and
/// outside autodiff, so that nothing of it is trained or checkpointed. The thread that prepares a batch
/// asks the teacher, so a teacher can work on the next batch while the student learns from this one. A
/// teacher draws no random numbers: noise belongs to samples.
///
/// `J` is the teacher's input, see [`DistillBatch::with_teacher_input`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot teach on inputs of type `{J}`",
    label = "expected a teacher: a module that implements `Distillable<{J}>`, or `teacher_fn(name, closure)`",
    note = "write `impl Distillable<{J}> for {Self}`, whose one method returns `Outputs::new(logits)`; the type needs `#[derive(Module, Debug)]`",
    note = "a model of another crate is adapted: `adapt(model, |model, input| Outputs::new(model.forward(input)))`",
    note = "if teacher and student take different inputs, give each batch a `with_teacher_input`"
)]
pub trait Teacher<J>: Send + Sync + 'static {
    /// The outputs for a batch, as constants on the device that the teacher is [on](Self::on).
    ///
    /// # Errors
    ///
    /// What keeps the teacher from giving them.
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs>;

    /// The same teacher for batches on this device. One that has a device of its own stays there, and
    /// only its outputs follow. Weights are shared where the device is the same.
    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>>;

    /// What is known of the teacher beside its outputs.
    fn info(&self) -> TeacherInfo {
        TeacherInfo::default()
    }
}

/// A batch as a teacher sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TeacherBatch<'a, J> {
    /// The input of the teacher.
    pub input: &'a J,
    /// The index of each sample in its dataset.
    pub indices: &'a [usize],
    /// The weights of the first head's rows, where they are not all 1.
    pub weights: Option<&'a Weights>,
    /// The name of each sample, where something goes by it.
    pub(crate) names: &'a [Name],
    /// What tells names of one dataset from those of another.
    pub(crate) scope: u64,
}

impl<'a, J> TeacherBatch<'a, J> {
    /// A batch that is an input and nothing more.
    pub fn new(input: &'a J) -> Self {
        Self {
            input,
            indices: &[],
            weights: None,
            names: &[],
            scope: 0,
        }
    }

    /// What a teacher sees of a batch of data of this scope.
    pub(crate) fn of<I>(batch: &'a DistillBatch<I, J>, scope: u64) -> Self {
        Self {
            input: &batch.teacher_input,
            indices: &batch.indices,
            weights: batch.targets.first_weights(),
            names: &batch.names,
            scope,
        }
    }
}

/// What is known of a teacher beside its outputs; all of it is absent for what is not a model.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TeacherInfo {
    /// What tells it from other teachers: a digest of its weights, or a name.
    pub fingerprint: Option<String>,
    /// Whether the outputs for a row depend on how many rows a batch has, in their last bits: such a
    /// teacher is asked with full batches only.
    pub wants_full_batches: bool,
    /// Whether it computes elsewhere than on the thread that asks: asked by a thread of its own, the
    /// student need not wait.
    pub is_remote: bool,
    /// Its weights.
    pub(crate) module: Option<LossModules>,
}

impl TeacherInfo {
    /// A teacher that is known by a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            fingerprint: Some(name.into()),
            ..Self::default()
        }
    }
}
