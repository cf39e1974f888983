//! A loss from a closure.

use burn::tensor::Tensor;

use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};

/// A loss made of a closure; see [`loss_fn`].
#[derive(Clone)]
pub struct CustomLoss<F> {
    name: String,
    needs: Needs,
    forward: F,
}

/// Turns a closure into a loss.
///
/// The closure returns a tensor of shape `[1]`; [`LossContext::mean`] averages one value per row with
/// the weights of the batch. Say what it needs with [`CustomLoss::needing`], and it is checked before
/// training.
///
/// # Example
///
/// The total variation between the two distributions, `½ Σ |p − q|`:
///
/// ```
/// use burn::tensor::activation::softmax;
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Loss, LossContext, loss_fn};
/// use burn_distill::Outputs;
///
/// let total_variation = loss_fn("total_variation", |context: &LossContext<'_>| {
///     let p = softmax(context.teacher_logits(), 1);
///     let q = softmax(context.logits(), 1);
///     context.mean((p - q).abs().sum_dim(1).squeeze_dim(1) / 2.0)
/// });
///
/// let device = Device::flex();
/// let student = Outputs::new(Tensor::<2>::from_floats([[100.0, 0.0]], &device));
/// let teacher = Outputs::new(Tensor::<2>::from_floats([[0.0, 100.0]], &device));
/// let value = total_variation.forward(&LossContext::new(&student, &teacher));
/// assert_eq!(value.into_scalar::<f32>(), 1.0);
/// ```
pub fn loss_fn<F>(name: impl Into<String>, forward: F) -> CustomLoss<F>
where
    F: Fn(&LossContext<'_>) -> Tensor<1> + Send + Sync + 'static,
{
    CustomLoss {
        name: name.into(),
        needs: Needs::teacher(),
        forward,
    }
}

impl<F> CustomLoss<F> {
    /// Says what the closure needs; by default it is a teacher and nothing else.
    #[must_use]
    pub fn needing(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }
}

impl<F> std::fmt::Debug for CustomLoss<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CustomLoss")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<F> Loss for CustomLoss<F>
where
    F: Fn(&LossContext<'_>) -> Tensor<1> + Send + Sync + 'static,
{
    fn name(&self) -> String {
        self.name.clone()
    }

    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        (self.forward)(context)
    }
}
