//! Soft targets, the distillation loss of Hinton et al.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;
use crate::schedule::Schedule;

/// Soft targets: the divergence between softened class probabilities, τ² · KL(teacher ‖ student).
///
/// The distillation loss of Hinton et al., and the first to try. The sum is over classes, the mean
/// over rows. The factor τ² keeps the size of the gradient nearly independent of τ, so that a
/// weight tuned at one temperature holds at another; it belongs to the definition and is always
/// there.
///
/// ```text
/// L(z_s, z_t) = τ² · (1/N) Σ_n KL(p_t ‖ p_s),   p = softmax(z / τ)
///
/// z_s, z_t   logits of student and teacher      τ   temperature
/// p_s, p_t   their softened probabilities       N   rows, weighted if there are weights
/// ```
///
/// At τ = 1 this is the plain divergence; as τ grows it tends to `1/(2C) · ‖ẑ_s − ẑ_t‖²`, the
/// squared error between centred logits.
///
/// A class that only the student masks with −∞ would make it infinite. There the student's
/// probability is taken as 1.2e-38: the class adds `p_t · (87 + log p_t)`, and no gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; also an output layer or, for the teacher, its top k
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = τ · (p_s − p_t) / N`, in closed form; none towards the teacher.
///
/// # Panics
///
/// Reducing panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::soft_target;
///
/// let device = Device::flex().autodiff();
/// let student = Tensor::<2>::from_floats([[0.0, 0.0]], &device).require_grad();
/// let teacher = Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device);
///
/// // KL([3/4, 1/4] ‖ [1/2, 1/2]) = 3/4·ln(3/2) + 1/4·ln(1/2)
/// let loss = soft_target(student.clone(), teacher, 1.0).mean();
/// let gradients = loss.backward();
/// assert!((loss.into_scalar::<f32>() - 0.13081).abs() < 1e-5);
/// let gradient = student.grad(&gradients).unwrap();
/// gradient.into_data().assert_approx_eq::<f32>(
///     &[[-0.25, 0.25]].into(),
///     burn::tensor::Tolerance::default(),
/// );
/// ```
///
/// # References
///
/// Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
pub fn soft_target(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    temperature: f64,
) -> LossValue {
    LossValue::closed(RowLoss::between(form(temperature), student, teacher))
}

fn form(temperature: f64) -> ClosedForm {
    ClosedForm::new(
        Formula::Divergence { temperature },
        temperature * temperature,
    )
}

/// Soft targets as a term of an objective; see [`soft_target`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened; the paper uses 1 to 20 |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::SoftTarget;
///
/// let objective = Objective::new().with(SoftTarget::new(0), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "soft_target.temperature is 0, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SoftTarget {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
}

impl Default for SoftTarget {
    fn default() -> Self {
        Self::new(4.0)
    }
}

impl SoftTarget {
    /// Soft targets at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
        }
    }

    fn form(&self, progress: f64) -> ClosedForm {
        form(self.temperature.at(progress))
    }
}

impl Loss for SoftTarget {
    fn name(&self) -> String {
        "soft_target".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        self.temperature.check_positive("soft_target.temperature")
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn closed_form(&self, progress: f64) -> Option<ClosedForm> {
        Some(self.form(progress))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        context.run(self.form(context.progress))
    }
}

#[cfg(test)]
#[path = "../tests/soft_target.rs"]
mod tests;
