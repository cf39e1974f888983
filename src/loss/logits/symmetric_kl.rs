//! Symmetric KL: the mean of both directions.

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

/// Symmetric KL: the mean of KL(teacher ‖ student) and KL(student ‖ teacher) between
/// softened class probabilities.
///
/// Soft targets make a student cover all that the teacher considers, reverse KL makes it
/// leave out what it cannot do. This is the compromise without a weight to tune; where either order
/// should weigh more, use both as terms. The sum of the two, twice this, is Jeffreys' divergence.
///
/// ```text
/// L(z_s, z_t) = k · (1/N) Σ_n (KL(p_t ‖ p_s) + KL(p_s ‖ p_t)) / 2,   p = softmax(z / τ)
///
/// z_s, z_t   logits of student and teacher      τ   temperature
/// p_s, p_t   their softened probabilities       N   rows, weighted if there are weights
/// k          τ² for `Squared`, 1 for `None`
/// ```
///
/// A class that one side alone masks with −∞ would make it infinite. There that side's probability is
/// taken as 1.2e-38, of which the logarithm is −87. Where that side is the student, the class has no
/// gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; an output layer is materialised
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = k/(2τ·N) · (p_s − p_t + p_s · (r − Σ_c p_s·r))` with `r = log p_s − log p_t`, in
/// closed form; none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{TemperatureScale, symmetric_kl};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[0.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device);
///
/// // 1/2 · Σ (p_t − p_s)·(log p_t − log p_s) = 1/2 · (1/4·ln(3/2) − 1/4·ln(1/2)) = ln(3)/8
/// let loss = symmetric_kl(student, teacher, 1.0, TemperatureScale::Squared).mean();
/// assert!((loss.into_scalar::<f32>() - 3f32.ln() / 8.0).abs() < 1e-6);
/// ```
///
/// # References
///
/// Jeffreys: An Invariant Form for the Prior Probability in Estimation Problems, 1946.
pub fn symmetric_kl(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    temperature: f64,
    scale: TemperatureScale,
) -> LossValue {
    LossValue::composed(composed::compare(student, teacher, |student, teacher| {
        ops::symmetric_divergence(student, teacher, temperature).scaled(scale.factor(temperature))
    }))
}

/// Symmetric KL as a term of an objective; see [`symmetric_kl`] for the formula.
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
/// use burn_distill::loss::{SymmetricKl, TemperatureScale};
///
/// let loss = SymmetricKl::new(-1.0).with_scale(TemperatureScale::None);
/// let objective = Objective::new().with(loss, 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "symmetric_kl.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SymmetricKl {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for SymmetricKl {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl SymmetricKl {
    /// Symmetric KL at a temperature, or at a [`Schedule`] of temperatures.
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

impl Loss for SymmetricKl {
    fn name(&self) -> String {
        "symmetric_kl".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        self.temperature.check_positive("symmetric_kl.temperature")
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = (context.logits(), context.teacher_logits());
        let temperature = self.temperature.at(context.progress);
        let value = symmetric_kl(student, teacher, temperature, self.scale);
        composed::mean(value, context)
    }
}

#[cfg(test)]
#[path = "../tests/symmetric_kl.rs"]
mod tests;
