//! Several batches in one optimizer step: the gradient of the mean over all of their rows.
//!
//! The engine sums gradients, and how many rows there are is known only when the last batch has been run.
//! So each batch weighs by its fraction of the samples, times how many rows a sample has in it, and
//! before the optimizer steps, the gradients are divided by the sum of that.

use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::data::head::Head;
use crate::data::precision::single;
use crate::loss::context::LossContext;
use crate::ops::vectors::or_one;

/// What the batches of the current optimizer step weigh, whichever device they are on.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Rows per sample in the first batch, so that a weight is about the fraction of the samples.
    per_sample: f64,
    weights: Mutex<Vec<Weight>>,
}

/// The weight of a batch, and the divisor of a sum of gradients.
#[derive(Debug, Clone)]
pub(crate) enum Weight {
    Known(f64),
    /// `[1]`, summed on the device, where rows have weights; never read back.
    Summed(Box<Tensor<1>>),
}

/// The rows of the first head, or the samples of a model without heads.
pub(crate) fn rows(context: &LossContext<'_>) -> usize {
    let head = context.student_head();
    head.map_or(context.indices.len(), Head::rows)
}

impl Window {
    /// Batches like the first one.
    pub fn of(context: &LossContext<'_>) -> Self {
        Self {
            per_sample: rows(context) as f64 / context.indices.len().max(1) as f64,
            ..Self::default()
        }
    }

    /// The weight of a batch that has this fraction of the samples.
    pub fn add(&self, fraction: f64, context: &LossContext<'_>) -> Weight {
        let samples = context.indices.len().max(1) as f64;
        let per_row = fraction / (samples * self.per_sample.max(f64::MIN_POSITIVE));
        let weight = match context.row_weights() {
            Some(weights) => Weight::Summed(Box::new(weights.clone().sum() * per_row)),
            None => Weight::Known(rows(context) as f64 * per_row),
        };
        self.lock().push(weight.clone());
        weight
    }

    /// The sum of the weights since the last call; `None` where gradients are right as they are.
    pub fn take(&self, device: &Device) -> Option<Weight> {
        let weights = std::mem::take(&mut *self.lock());
        let mut known = 0.0;
        let mut summed: Option<Tensor<1>> = None;
        for weight in &weights {
            match weight {
                Weight::Known(weight) => known += weight,
                Weight::Summed(weight) => {
                    let weight = weight.clone().to_device(device);
                    summed = Some(match summed {
                        Some(sum) => sum + weight,
                        None => weight,
                    });
                }
            }
        }
        match summed {
            Some(sum) => Some(Weight::Summed(Box::new(or_one(sum + known)))),
            None if weights.is_empty() || (known - 1.0).abs() < 1e-12 => None,
            None => Some(Weight::Known(known)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weight>> {
        let weights = self.weights.lock();
        weights.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Divides the gradients of a module's parameters.
pub(crate) fn divide<M: Module>(module: &M, gradients: &mut GradientsParams, by: &Weight) {
    module.visit(&mut Divide { gradients, by });
}

struct Divide<'a> {
    gradients: &'a mut GradientsParams,
    by: &'a Weight,
}

impl ModuleVisitor for Divide<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return;
        };
        let dtype = gradient.dtype();
        let gradient = single(gradient);
        let quotient = match self.by {
            Weight::Known(sum) => gradient / *sum,
            Weight::Summed(sum) => {
                let sum = sum.clone().to_device(&gradient.device());
                gradient / sum.reshape([1; D])
            }
        };
        self.gradients.register(param.id, quotient.cast(dtype));
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;

    use super::*;
    use crate::data::outputs::Outputs;
    use crate::data::targets::{Targets, Weights};

    fn outputs(rows: usize) -> Outputs {
        Outputs::new(Tensor::<2>::zeros([rows, 2], &Device::flex()))
    }

    fn number(weight: &Weight) -> f64 {
        match weight {
            Weight::Known(weight) => *weight,
            Weight::Summed(weight) => weight.clone().into_scalar::<f64>(),
        }
    }

    #[test]
    fn batches_alike_need_no_division() {
        let outputs = outputs(6);
        let context = LossContext::without_teacher(&outputs).with_indices(&[3, 1], 9);
        let window = Window::of(&context);
        let weights = [0.25, 0.75].map(|fraction| number(&window.add(fraction, &context)));
        assert_eq!(weights, [0.25, 0.75]);
        assert!(window.take(&Device::flex()).is_none());
    }

    #[test]
    fn rows_and_weights_are_what_counts() {
        let (few, many) = (outputs(2), outputs(6));
        let weights = Tensor::<1>::from_floats([0.5, 0.0], &Device::flex());
        let targets = Targets::new().with_weights(Weights::from(weights));
        let plain = |outputs| LossContext::without_teacher(outputs).with_indices(&[0, 1], 4);
        let window = Window::of(&plain(&few));
        assert_eq!(number(&window.add(0.5, &plain(&many))), 1.5);
        assert_eq!(number(&window.add(0.5, &plain(&few))), 0.5);
        assert_eq!(number(&window.take(&Device::flex()).unwrap()), 2.0);
        // Taken is gone.
        let weighted = plain(&few).with_targets(&targets);
        assert_eq!(number(&window.add(0.5, &weighted)), 0.125);
        assert_eq!(number(&window.add(0.5, &plain(&few))), 0.5);
        assert_eq!(number(&window.take(&Device::flex()).unwrap()), 0.625);
    }

    #[test]
    fn no_valid_row_is_no_division_by_zero() {
        let outputs = outputs(1);
        let weights = Tensor::<1>::zeros([1], &Device::flex());
        let targets = Targets::new().with_weights(Weights::from(weights));
        let context = LossContext::without_teacher(&outputs).with_indices(&[0], 1);
        let context = context.with_targets(&targets);
        let window = Window::of(&context);
        assert_eq!(number(&window.add(0.5, &context)), 0.0);
        assert_eq!(number(&window.take(&Device::flex()).unwrap()), 1.0);
    }

    #[test]
    fn gradients_are_divided_in_their_type() {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(2, 1).init(&device);
        let loss = linear.forward(Tensor::<2>::ones([1, 2], &device)).sum();
        let mut gradients = GradientsParams::from_grads(loss.backward(), &linear);
        let sum = Tensor::from_floats([4.0], &Device::flex());
        divide(&linear, &mut gradients, &Weight::Summed(Box::new(sum)));
        divide(&linear, &mut gradients, &Weight::Known(2.0));
        let gradient = gradients.get::<2>(linear.weight.id).unwrap();
        assert_eq!(
            gradient.into_data().iter::<f32>().collect::<Vec<_>>(),
            [0.125; 2]
        );
        assert_eq!(gradients.len(), 2);
    }
}
