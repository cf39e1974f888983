use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::{Loss, LossContext};
use crate::ops::{self, Rows, single, with_gradient};
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
/// p_s, p_t   their softened probabilities       N   rows that count
/// k          τ² for `Squared`, 1 for `None`
/// ```
///
/// A class that only the student rules out with −∞ would make it infinite. There the student's
/// probability counts as 1.2e-38: the class adds `87 · p_t`, and no gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
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
/// let loss = soft_cross_entropy(student, teacher, 1.0, TemperatureScale::Squared);
/// assert!((loss.into_scalar::<f32>() - 2f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531. With
/// `None` it is the `kd_ce_loss` of TextBrewer and what distillm calls `forward_kl`.
#[must_use]
pub fn soft_cross_entropy(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
) -> Tensor<1> {
    soft_cross_entropy_no_reduction(student, teacher, temperature, scale).mean()
}

/// [`soft_cross_entropy`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn soft_cross_entropy_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
) -> Tensor<1> {
    with_gradient(rows(&student, teacher, temperature, scale), &student, None)
}

fn rows(
    student: &Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
) -> Rows {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher logits have one shape"
    );
    let student = single(student.clone().without_autodiff());
    let rows = ops::soft_cross_entropy(&student, &single(teacher.without_autodiff()), temperature);
    rows.scaled(scale.factor(temperature))
}

/// Config of [`SoftCrossEntropy`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `scale` | `squared` | `squared`, `none` | whether the loss is multiplied by the squared temperature |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{SoftCrossEntropyConfig, TemperatureScale};
///
/// let config = SoftCrossEntropyConfig::new(2.0).with_scale(TemperatureScale::None);
/// assert!(config.init().is_ok());
/// let error = SoftCrossEntropyConfig::new(-1.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "soft_cross_entropy.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SoftCrossEntropyConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for SoftCrossEntropyConfig {
    fn default() -> Self {
        Self::new(4.0)
    }
}

impl SoftCrossEntropyConfig {
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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if the temperature is not
    /// greater than 0 all the time.
    pub fn init(&self) -> Result<SoftCrossEntropy> {
        self.temperature.check(
            "soft_cross_entropy.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        Ok(SoftCrossEntropy {
            temperature: self.temperature.clone(),
            scale: self.scale,
        })
    }
}

/// Soft cross-entropy as a term of an objective; see [`soft_cross_entropy`] for the formula.
#[derive(Debug, Clone)]
pub struct SoftCrossEntropy {
    temperature: Schedule,
    scale: TemperatureScale,
}

impl Loss for SoftCrossEntropy {
    fn name(&self) -> String {
        "soft_cross_entropy".into()
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
        let rows = rows(student, teacher, temperature, self.scale);
        context.mean(with_gradient(rows, student, context.mask))
    }
}

#[cfg(test)]
#[path = "../tests/soft_cross_entropy.rs"]
mod tests;
