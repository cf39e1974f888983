use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;
use crate::schedule::Schedule;

/// Reverse divergence: KL(student ‖ teacher) between softened class probabilities.
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
/// p_s, p_t   their softened probabilities       N   rows that count
/// k          τ² for `Squared`, 1 for `None`
/// ```
///
/// A class that only the teacher rules out with −∞ would make it infinite. There the teacher's
/// probability counts as 1.2e-38: the class adds `p_s · (87 + log p_s)`, and the student is led away
/// from it. A class that the student rules out adds nothing.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = k/(τ·N) · p_s · (r − Σ_c p_s·r)` with `r = log p_s − log p_t`, in closed form; none
/// towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
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
/// let loss = reverse_kl(student, teacher, 1.0, TemperatureScale::Squared);
/// assert!((loss.into_scalar::<f32>() - 0.14384).abs() < 1e-5);
/// ```
///
/// # References
///
/// Gu et al.: MiniLLM: Knowledge Distillation of Large Language Models, 2023, arXiv:2306.08543,
/// which estimates it from samples. With `None` it is the `generalized_jsd_loss` of trl at β = 1 and
/// the `reverse_kl` of distillm.
#[must_use]
pub fn reverse_kl(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
) -> Tensor<1> {
    comparison(&student, teacher, temperature, scale, None).mean()
}

/// [`reverse_kl`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn reverse_kl_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
) -> Tensor<1> {
    comparison(&student, teacher, temperature, scale, None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    Comparison {
        formula: Formula::Reverse { temperature },
        scale: scale.factor(temperature),
        student,
        teacher: Some(teacher),
        known: None,
        labels: None,
        mask,
    }
}

/// Config of [`ReverseKl`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `scale` | `squared` | `squared`, `none` | whether the loss is multiplied by the squared temperature |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{ReverseKlConfig, TemperatureScale};
///
/// let config = ReverseKlConfig::new(2.0).with_scale(TemperatureScale::None);
/// assert!(config.init().is_ok());
/// let error = ReverseKlConfig::new(-1.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "reverse_kl.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReverseKlConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for ReverseKlConfig {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl ReverseKlConfig {
    /// Reverse divergence at a temperature, or at a [`Schedule`] of temperatures.
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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if the temperature is not
    /// greater than 0 all the time.
    pub fn init(&self) -> Result<ReverseKl> {
        self.temperature.check(
            "reverse_kl.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        Ok(ReverseKl {
            temperature: self.temperature.clone(),
            scale: self.scale,
        })
    }
}

/// Reverse divergence as a term of an objective; see [`reverse_kl`] for the formula.
#[derive(Debug, Clone)]
pub struct ReverseKl {
    temperature: Schedule,
    scale: TemperatureScale,
}

impl Loss for ReverseKl {
    fn name(&self) -> String {
        "reverse_kl".into()
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_logits(&self.name())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let student = &context.student.logits;
        let teacher = context.teacher().logits.clone();
        let temperature = self.temperature.at(context.progress);
        comparison(student, teacher, temperature, self.scale, context.mask).mean()
    }
}

#[cfg(test)]
#[path = "../tests/reverse_kl.rs"]
mod tests;
