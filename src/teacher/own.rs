//! A student, or the average of its weights, as a teacher.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use crate::data::distillable::Distillable;
use crate::data::outputs::Outputs;
use crate::error::{Error, Result};
use crate::teacher::{Teacher, TeacherBatch};

/// A student, or its average, as a teacher.
pub(crate) struct OwnTeacher<I, S> {
    model: S,
    _input: PhantomData<fn(I)>,
}

impl<I, S> OwnTeacher<I, S> {
    pub fn new(model: S) -> Self {
        Self {
            model,
            _input: PhantomData,
        }
    }
}

impl<I, J, S> Teacher<J> for OwnTeacher<I, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        let input: &dyn Any = batch.input;
        let input = input.downcast_ref::<I>().ok_or_else(|| {
            Error::invalid(
                "mean_teacher.input",
                std::any::type_name::<J>(),
                "the type of the student's input",
            )
        })?;
        Ok(self.model.outputs(input.valid()).without_autodiff())
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Self::new(self.model.clone().to_device(device)))
    }
}
