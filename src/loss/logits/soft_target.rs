use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;
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
/// p_s, p_t   their softened probabilities       N   rows that count
/// ```
///
/// At τ = 1 this is the plain divergence; as τ grows it tends to `1/(2C) · ‖ẑ_s − ẑ_t‖²`, the
/// squared error between centred logits.
///
/// A class that only the student rules out with −∞ would make it infinite. There the student's
/// probability counts as 1.2e-38: the class adds `p_t · (87 + log p_t)`, and no gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = τ · (p_s − p_t) / N`, in closed form; none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
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
/// let loss = soft_target(student.clone(), teacher, 1.0);
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
#[must_use]
pub fn soft_target(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    comparison(&student, teacher, temperature, None).mean()
}

/// [`soft_target`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn soft_target_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
) -> Tensor<1> {
    comparison(&student, teacher, temperature, None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    Comparison {
        formula: Formula::Divergence { temperature },
        scale: temperature * temperature,
        student,
        teacher: Some(teacher),
        known: None,
        labels: None,
        mask,
    }
}

/// Config of [`SoftTarget`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened; the paper uses 1 to 20 |
///
/// # Example
///
/// ```
/// use burn_distill::loss::SoftTargetConfig;
///
/// assert!(SoftTargetConfig::new(8.0).init().is_ok());
/// let error = SoftTargetConfig::new(0.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "soft_target.temperature is 0, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SoftTargetConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
}

impl Default for SoftTargetConfig {
    fn default() -> Self {
        Self::new(4.0)
    }
}

impl SoftTargetConfig {
    /// Soft targets at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if the temperature is not
    /// greater than 0 all the time.
    pub fn init(&self) -> Result<SoftTarget> {
        self.temperature.check(
            "soft_target.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        Ok(SoftTarget {
            temperature: self.temperature.clone(),
        })
    }
}

/// Soft targets as a term of an objective; see [`soft_target`] for the formula.
#[derive(Debug, Clone)]
pub struct SoftTarget {
    temperature: Schedule,
}

impl Loss for SoftTarget {
    fn name(&self) -> String {
        "soft_target".into()
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
        comparison(student, teacher, temperature, context.mask).mean()
    }
}

#[cfg(test)]
#[path = "../tests/soft_target.rs"]
mod tests;
