use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::{Loss, LossContext};
use crate::ops::{Rows, single, symmetric_divergence, with_gradient};
use crate::schedule::Schedule;

/// Symmetric divergence: the mean of KL(teacher ‖ student) and KL(student ‖ teacher) between
/// softened class probabilities.
///
/// Soft targets make a student cover all that the teacher considers, reverse divergence makes it
/// leave out what it cannot do. This is the compromise without a weight to tune; where either order
/// should weigh more, use both as terms. The sum of the two, twice this, is Jeffreys' divergence.
///
/// ```text
/// L(z_s, z_t) = k · (1/N) Σ_n (KL(p_t ‖ p_s) + KL(p_s ‖ p_t)) / 2,   p = softmax(z / τ)
///
/// z_s, z_t   logits of student and teacher      τ   temperature
/// p_s, p_t   their softened probabilities       N   rows that count
/// k          τ² for `Squared`, 1 for `None`
/// ```
///
/// A class that one side alone rules out with −∞ would make it infinite. There that side's
/// probability counts as 1.2e-38, of which the logarithm is −87. Where the student is the one, the
/// class has no gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
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
/// let loss = symmetric_kl(student, teacher, 1.0, TemperatureScale::Squared);
/// assert!((loss.into_scalar::<f32>() - 3f32.ln() / 8.0).abs() < 1e-6);
/// ```
///
/// # References
///
/// Jeffreys: An Invariant Form for the Prior Probability in Estimation Problems, 1946.
#[must_use]
pub fn symmetric_kl(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
) -> Tensor<1> {
    symmetric_kl_no_reduction(student, teacher, temperature, scale).mean()
}

/// [`symmetric_kl`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn symmetric_kl_no_reduction(
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
    let rows = symmetric_divergence(&student, &single(teacher.without_autodiff()), temperature);
    rows.scaled(scale.factor(temperature))
}

/// Config of [`SymmetricKl`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `scale` | `squared` | `squared`, `none` | whether the loss is multiplied by the squared temperature |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{SymmetricKlConfig, TemperatureScale};
///
/// let config = SymmetricKlConfig::new(2.0).with_scale(TemperatureScale::None);
/// assert!(config.init().is_ok());
/// let error = SymmetricKlConfig::new(-1.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "symmetric_kl.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SymmetricKlConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for SymmetricKlConfig {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl SymmetricKlConfig {
    /// Symmetric divergence at a temperature, or at a [`Schedule`] of temperatures.
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
    pub fn init(&self) -> Result<SymmetricKl> {
        self.temperature.check(
            "symmetric_kl.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        Ok(SymmetricKl {
            temperature: self.temperature.clone(),
            scale: self.scale,
        })
    }
}

/// Symmetric divergence as a term of an objective; see [`symmetric_kl`] for the formula.
#[derive(Debug, Clone)]
pub struct SymmetricKl {
    temperature: Schedule,
    scale: TemperatureScale,
}

impl Loss for SymmetricKl {
    fn name(&self) -> String {
        "symmetric_kl".into()
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
#[path = "../tests/symmetric_kl.rs"]
mod tests;
