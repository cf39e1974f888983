//! A teacher on a device of its own.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use crate::data::outputs::Outputs;
use crate::error::Result;
use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};

/// A teacher that does not leave its device: inputs go there, and outputs come back.
pub(crate) struct Pinned<J> {
    teacher: Arc<dyn Teacher<J>>,
    at: Device,
    /// Where the outputs go: the device that the teacher would have followed to.
    outputs_on: Device,
}

impl<J: 'static> Pinned<J> {
    pub fn new(teacher: &dyn Teacher<J>, device: &Device) -> Self {
        let at = device.clone().inner();
        Self {
            teacher: teacher.on(&at),
            outputs_on: at.clone(),
            at,
        }
    }
}

impl<J: Module + 'static> Teacher<J> for Pinned<J> {
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        if self.at == self.outputs_on {
            return self.teacher.ask(batch);
        }
        let input = batch.input.valid().to_device(&self.at);
        let outputs = self.teacher.ask(&TeacherBatch {
            input: &input,
            ..*batch
        })?;
        Ok(outputs.without_autodiff().moved_to(&self.outputs_on))
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Self {
            teacher: self.teacher.clone(),
            at: self.at.clone(),
            outputs_on: device.clone().inner(),
        })
    }

    fn info(&self) -> TeacherInfo {
        TeacherInfo {
            is_remote: true,
            ..self.teacher.info()
        }
    }
}
