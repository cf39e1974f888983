//! A module that teaches and never learns.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use crate::data::distillable::Distillable;
use crate::data::outputs::Outputs;
use crate::error::Result;
use crate::loss::modules::LossModules;
use crate::teacher::fingerprint::fingerprint;
use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};

/// A module in inference mode for good, outside autodiff: dropout is off, batch normalisation uses its
/// running statistics and leaves them alone.
#[derive(Debug, Clone)]
pub(crate) struct Frozen<M>(M);

impl<M: Module> Frozen<M> {
    /// The module given is not changed: its copy shares the weights, which nothing writes to.
    pub fn new(module: &M, device: &Device) -> Self {
        // Not `fork`: nothing is here to detach, and it would turn quantised weights into floats.
        Self(module.valid().to_device(&device.clone().inner()))
    }

    /// Outputs as constants, whatever the input's device.
    pub fn outputs<I: Module>(&self, input: &I) -> Outputs
    where
        M: Distillable<I>,
    {
        self.0.outputs(input.valid()).without_autodiff()
    }

    /// The module, in inference mode.
    pub fn inner(&self) -> &M {
        &self.0
    }
}

impl<J: Module + 'static, M: Distillable<J>> Teacher<J> for Frozen<M> {
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        Ok(self.outputs(batch.input))
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Self::new(&self.0, device))
    }

    fn info(&self) -> TeacherInfo {
        info(&self.0)
    }
}

impl<J: Module + 'static, M: Distillable<J>> Teacher<J> for M {
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        Ok(Frozen(self.valid()).outputs(batch.input))
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Frozen::new(self, device))
    }

    fn info(&self) -> TeacherInfo {
        info(self)
    }
}

fn info<J, M: Distillable<J>>(module: &M) -> TeacherInfo {
    TeacherInfo {
        fingerprint: None,
        wants_full_batches: true,
        is_remote: false,
        module: Some(LossModules::new(module.clone())),
    }
}

impl TeacherInfo {
    /// The fingerprint: of the weights, or the name that was given.
    pub(crate) fn digest(&self) -> Option<String> {
        let of_weights = || self.module.as_ref().map(fingerprint);
        self.fingerprint.clone().or_else(of_weights)
    }
}
