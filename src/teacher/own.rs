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
        outputs_of::<I, J, S>(&self.model, batch.input)
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Self::new(self.model.clone().to_device(device)))
    }
}

/// The outputs of a student for a teacher's input, which has to be of the student's type.
pub(crate) fn outputs_of<I, J, S>(model: &S, input: &J) -> Result<Outputs>
where
    I: Module + 'static,
    J: 'static,
    S: Distillable<I>,
{
    let input: &dyn Any = input;
    let input = input.downcast_ref::<I>().ok_or_else(|| {
        Error::invalid(
            "mean_teacher.input",
            std::any::type_name::<J>(),
            "the type of the student's input",
        )
    })?;
    Ok(model.outputs(input.valid()).without_autodiff())
}
