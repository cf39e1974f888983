//! A loss from a closure.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};

/// Turns a closure into a loss.
///
/// The closure returns a tensor of shape `[1]`; [`LossContext::mean`] averages one value per row with
/// the weights of the batch. What it needs is checked before training.
///
/// # Example
///
/// The total variation between the two distributions, `½ Σ |p − q|`:
///
/// ```
/// use burn::tensor::activation::softmax;
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Loss, LossContext, Needs, loss_fn};
/// use burn_distill::{HeadKind, Outputs};
///
/// let needs = Needs::teacher().with_head(HeadKind::Categorical);
/// let total_variation = loss_fn("total_variation", needs, |context: &LossContext<'_>| {
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
pub fn loss_fn<F>(name: impl Into<String>, needs: Needs, forward: F) -> impl Loss + Clone
where
    F: Fn(&LossContext<'_>) -> Tensor<1> + Send + Sync + 'static,
{
    CustomLoss {
        name: name.into(),
        needs,
        forward: Arc::new(forward),
    }
}

struct CustomLoss<F> {
    name: String,
    needs: Needs,
    forward: Arc<F>,
}

impl<F> Clone for CustomLoss<F> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            needs: self.needs.clone(),
            forward: self.forward.clone(),
        }
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
