//! Soft cross-entropy: soft targets with the teacher's entropy left in the value.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::logits::composed;
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops;
use crate::schedule::Schedule;

/// Soft cross-entropy: the cross-entropy between the teacher's and the student's softened class
/// probabilities.
///
/// Soft targets in the form in which older code writes them. It exceeds their divergence by the
/// entropy of the teacher, which no student can change: the gradient is the same, but the value is
/// not zero at the optimum and does not tell how far away that is. Use it to reproduce a result or a
/// learning curve, and soft targets otherwise.
///
/// ```text
/// L(z_s, z_t) = −k · (1/N) Σ_n Σ_c p_t · log p_s,   p = softmax(z / τ)
///
/// z_s, z_t   logits of student and teacher      τ   temperature
/// p_s, p_t   their softened probabilities       N   rows, weighted if there are weights
/// k          τ² for `Squared`, 1 for `None`
/// ```
///
/// A class that only the student masks with −∞ would make it infinite. There the student's
/// probability is taken as 1.2e-38: the class adds `87 · p_t`, and no gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; an output layer is materialised
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = k/(τ·N) · (p_s − p_t)`, in closed form; none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{TemperatureScale, soft_cross_entropy};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[0.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device);
///
/// // −3/4·ln(1/2) − 1/4·ln(1/2)
/// let loss = soft_cross_entropy(student, teacher, 1.0, TemperatureScale::Squared).mean();
/// assert!((loss.into_scalar::<f32>() - 2f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531. With
/// `None` it is the `kd_ce_loss` of TextBrewer and what distillm calls `forward_kl`.
pub fn soft_cross_entropy(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    temperature: f64,
    scale: TemperatureScale,
) -> LossValue {
    LossValue::composed(composed::compare(student, teacher, |student, teacher| {
        ops::soft_cross_entropy(student, teacher, temperature).scaled(scale.factor(temperature))
    }))
}

/// Soft cross-entropy as a term of an objective; see [`soft_cross_entropy`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `scale` | `squared` | `squared`, `none` | whether the loss is multiplied by the squared temperature |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::{SoftCrossEntropy, TemperatureScale};
///
/// let loss = SoftCrossEntropy::new(-1.0).with_scale(TemperatureScale::None);
/// let objective = Objective::new().with(loss, 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "soft_cross_entropy.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SoftCrossEntropy {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for SoftCrossEntropy {
    fn default() -> Self {
        Self::new(4.0)
    }
}

impl SoftCrossEntropy {
    /// Soft cross-entropy at a temperature, or at a [`Schedule`] of temperatures.
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
}

impl Loss for SoftCrossEntropy {
    fn name(&self) -> String {
        "soft_cross_entropy".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        self.temperature
            .check_positive("soft_cross_entropy.temperature")
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = (context.logits(), context.teacher_logits());
        let temperature = self.temperature.at(context.progress);
        let value = soft_cross_entropy(student, teacher, temperature, self.scale);
        composed::mean(value, context)
    }
}

#[cfg(test)]
#[path = "../tests/soft_cross_entropy.rs"]
mod tests;
