//! Reverse KL: soft targets, mode-seeking.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;
use crate::schedule::Schedule;

/// Reverse KL: KL(student ‖ teacher) between softened class probabilities, mode-seeking.
///
/// Soft targets punish a student that gives little where the teacher gives much, so a student too
/// small to follow everywhere spreads itself over all of it. The reverse order punishes a student
/// that gives much where the teacher gives little: it picks what it can do and leaves the rest out.
/// Use it for generative students much smaller than their teacher, where the spread shows as answers
/// that the teacher would never give.
///
/// ```text
/// L(z_s, z_t) = k · (1/N) Σ_n KL(p_s ‖ p_t),   p = softmax(z / τ)
///
/// z_s, z_t   logits of student and teacher      τ   temperature
/// p_s, p_t   their softened probabilities       N   rows, weighted if there are weights
/// k          τ² for `Squared`, 1 for `None`
/// ```
///
/// A class that only the teacher masks with −∞ would make it infinite. There the teacher's
/// probability is taken as 1.2e-38: the class adds `p_s · (87 + log p_s)`, and the student is led away
/// from it. A class that the student masks adds nothing.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; also an output layer or, for the teacher, its top k
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = k/(τ·N) · p_s · (r − Σ_c p_s·r)` with `r = log p_s − log p_t`, in closed form; none
/// towards the teacher.
///
/// # Panics
///
/// Reducing panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{TemperatureScale, reverse_kl};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[0.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device);
///
/// // KL([1/2, 1/2] ‖ [3/4, 1/4]) = 1/2·ln(2/3) + 1/2·ln(2)
/// let loss = reverse_kl(student, teacher, 1.0, TemperatureScale::Squared).mean();
/// assert!((loss.into_scalar::<f32>() - 0.14384).abs() < 1e-5);
/// ```
///
/// # References
///
/// Gu et al.: MiniLLM: Knowledge Distillation of Large Language Models, 2023, arXiv:2306.08543,
/// which estimates it from samples. With `None` it is the `generalized_jsd_loss` of trl at β = 1 and
/// the `reverse_kl` of distillm.
pub fn reverse_kl(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    temperature: f64,
    scale: TemperatureScale,
) -> LossValue {
    LossValue::closed(RowLoss::between(form(temperature, scale), student, teacher))
}

fn form(temperature: f64, scale: TemperatureScale) -> ClosedForm {
    ClosedForm::new(Formula::Reverse { temperature }, scale.factor(temperature))
}

/// Reverse KL as a term of an objective; see [`reverse_kl`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `scale` | `squared` | `squared`, `none` | whether the loss is multiplied by the squared temperature |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::{ReverseKl, TemperatureScale};
///
/// let loss = ReverseKl::new(-1.0).with_scale(TemperatureScale::None);
/// let objective = Objective::new().with(loss, 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "reverse_kl.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReverseKl {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for ReverseKl {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl ReverseKl {
    /// Reverse KL at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
            scale: TemperatureScale::default(),
        }
    }

    /// Sets whether the loss is multiplied by the squared temperature.
    #[must_use]
    pub fn with_scale(mut self, scale: TemperatureScale) -> Self {
        self.scale = scale;
        self
    }

    fn form(&self, progress: f64) -> ClosedForm {
        form(self.temperature.at(progress), self.scale)
    }
}

impl Loss for ReverseKl {
    fn name(&self) -> String {
        "reverse_kl".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        self.temperature.check_positive("reverse_kl.temperature")
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
#[path = "../tests/reverse_kl.rs"]
mod tests;
