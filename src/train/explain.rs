//! What a term that is not finite came from.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use crate::attempt::attempt;
use crate::data::distillable::Distillable;
use crate::error::{Error, Side};
use crate::teacher::Teacher;
use crate::teacher::full_batch::ask;
use crate::train::Training;
use crate::train::feed::VALIDATION;
use crate::train::finite::{check_input, check_outputs};

impl<I, J, S> Training<'_, I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    /// What made a term not finite, where it can be found: an input, or what the teacher says of a sample.
    /// It is looked for only now, so that no step waits for it.
    pub(super) fn explained(
        &self,
        error: Error,
        teacher: Option<&Arc<dyn Teacher<J>>>,
        device: &Device,
    ) -> Error {
        let (what, samples, error) = match error {
            Error::Batch {
                what,
                samples,
                error,
            } if matches!(*error, Error::NonFinite { .. }) => (what, samples, *error),
            other => return other,
        };
        let data = match (what, self.valid) {
            (VALIDATION, Some(valid)) => valid,
            _ => self.train,
        };
        let looked = attempt(what, &samples, || {
            let batch = data.read(what, samples.clone(), device, true)?;
            let checked = match teacher {
                Some(teacher) => {
                    let full = teacher.info().wants_full_batches;
                    let size = self.config.batch_size;
                    let outputs = ask(teacher.as_ref(), data, &batch, size, device, full)?;
                    check_outputs(what, Side::Teacher, &outputs, &batch)
                }
                None => Ok(()),
            };
            check_input(what, &batch)?;
            checked
        });
        match (looked, &error) {
            (Err(Error::NonFinite { what, value }), Error::NonFinite { what: term, .. }) => {
                Error::NonFinite {
                    what,
                    value: format!("{value}, seen by {term}"),
                }
            }
            _ => error,
        }
    }
}
