use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;
use crate::schedule::Schedule;

/// Generalised Jensen-Shannon divergence between softened class probabilities.
///
/// Both sides are compared with their mixture rather than with one another. It is bounded, so that
/// no row and no class can rule the loss, and β leads from the nature of soft targets, where it is
/// small, to that of the reverse divergence, where it is large. Use it for generative students and
/// where the plain divergences are unstable.
///
/// ```text
/// L(z_s, z_t) = k · (1/N) Σ_n [ β·KL(p_t ‖ m) + (1 − β)·KL(p_s ‖ m) ]    0 < β < 1
///               k · (1/N) Σ_n KL(p_t ‖ p_s)                              β = 0
///               k · (1/N) Σ_n KL(p_s ‖ p_t)                              β = 1
///
/// z_s, z_t   logits of student and teacher      m   β·p_t + (1 − β)·p_s
/// p_s, p_t   softmax(z / τ)                     τ   temperature
/// k          τ² for `Squared`, 1 for `None`     N   rows that count
/// ```
///
/// At β = 1/2 this is the Jensen-Shannon divergence, at most ln 2. The two ends are a definition,
/// not a limit: towards either end the formula tends to zero, since it is not divided by β·(1 − β),
/// and jumps to the plain divergence there. A weight tuned at β = 0.1 does not hold at β = 0.
///
/// A class that one side or both rule out with −∞ needs no rule of its own inside. At the ends, where
/// the one that rules it out alone would make the divergence infinite, its probability counts as
/// 1.2e-38, of which the logarithm is −87.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = k·(1 − β)/(τ·N) · p_s · (u − Σ_c p_s·u)` with `u = log p_s − log m`, in closed form;
/// none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ or if `beta` is not in [0, 1].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{TemperatureScale, jensen_shannon};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[100.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[0.0, 100.0]], &device);
///
/// // Nothing in common: m is [1/2, 1/2], and each side is ln 2 away from it.
/// let loss = jensen_shannon(student, teacher, 1.0, TemperatureScale::Squared, 0.5);
/// assert!((loss.into_scalar::<f32>() - 2f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Agarwal et al.: On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes,
/// 2023, arXiv:2306.13649. With `None` it is the `generalized_jsd_loss` of trl; the `js_distance` of
/// distillm is the same with λ = 1 − β.
#[must_use]
pub fn jensen_shannon(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
    beta: f64,
) -> Tensor<1> {
    comparison(&student, teacher, [temperature, beta], scale, None).mean()
}

/// [`jensen_shannon`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ or if `beta` is not in [0, 1].
#[must_use]
pub fn jensen_shannon_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    scale: TemperatureScale,
    beta: f64,
) -> Tensor<1> {
    comparison(&student, teacher, [temperature, beta], scale, None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    teacher: Tensor<2>,
    [temperature, beta]: [f64; 2],
    scale: TemperatureScale,
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    assert!((0.0..=1.0).contains(&beta), "beta is in [0, 1], got {beta}");
    let formula = match beta {
        0.0 => Formula::Divergence { temperature },
        1.0 => Formula::Reverse { temperature },
        _ => Formula::Mixture { temperature, beta },
    };
    Comparison {
        formula,
        scale: scale.factor(temperature),
        student,
        teacher: Some(teacher),
        known: None,
        labels: None,
        mask,
    }
}

/// Config of [`JensenShannon`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `beta` | 0.5 | [0, 1] | β, the teacher's share of the mixture; the ends are the plain divergences |
/// | `scale` | `squared` | `squared`, `none` | whether the loss is multiplied by the squared temperature |
///
/// # Example
///
/// ```
/// use burn_distill::loss::JensenShannonConfig;
///
/// assert!(JensenShannonConfig::new(1.0).with_beta(0.1).init().is_ok());
/// let error = JensenShannonConfig::new(1.0).with_beta(1.5).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "jensen_shannon.beta is 1.5, expected a number in [0, 1]"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JensenShannonConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The teacher's share of the mixture.
    pub beta: f64,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for JensenShannonConfig {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl JensenShannonConfig {
    /// The divergence at β = 1/2 and at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
            beta: 0.5,
            scale: TemperatureScale::default(),
        }
    }

    /// Sets the teacher's share of the mixture.
    #[must_use]
    pub fn with_beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
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
    /// [`Error::InvalidParameter`] if the temperature is not
    /// greater than 0 all the time, or if `beta` is not in [0, 1].
    pub fn init(&self) -> Result<JensenShannon> {
        self.temperature.check(
            "jensen_shannon.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        if !(0.0..=1.0).contains(&self.beta) {
            return Err(Error::invalid(
                "jensen_shannon.beta",
                self.beta,
                "a number in [0, 1]",
            ));
        }
        Ok(JensenShannon {
            temperature: self.temperature.clone(),
            beta: self.beta,
            scale: self.scale,
        })
    }
}

/// Generalised Jensen-Shannon divergence as a term of an objective; see [`jensen_shannon`] for the formula.
#[derive(Debug, Clone)]
pub struct JensenShannon {
    temperature: Schedule,
    beta: f64,
    scale: TemperatureScale,
}

impl Loss for JensenShannon {
    fn name(&self) -> String {
        "jensen_shannon".into()
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
        let parameters = [self.temperature.at(context.progress), self.beta];
        comparison(student, teacher, parameters, self.scale, context.mask).mean()
    }
}

#[cfg(test)]
#[path = "../tests/jensen_shannon.rs"]
mod tests;
