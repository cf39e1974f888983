use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::{Loss, LossContext};
use crate::ops::{self, Rows, single, with_gradient};
use crate::schedule::Schedule;

/// Total variation: half the sum of the absolute differences between softened class probabilities.
///
/// The largest difference that the two can have about any set of classes, from 0 to 1. It is
/// bounded and symmetric, and a class on which a row is badly off counts no more than its
/// probability: use it where soft targets are ruled by a few rows, or by teacher probabilities that
/// are mostly noise. Where a student starts far away its gradient is small.
///
/// ```text
/// L(z_s, z_t) = (1/N) Σ_n 1/2 Σ_c |p_s − p_t|,   p = softmax(z / τ)
///
/// z_s, z_t   logits of student and teacher      τ   temperature
/// p_s, p_t   their softened probabilities       N   rows that count
/// ```
///
/// There is no factor to undo the temperature. τ² belongs to divergences, which fall with the square
/// of a difference; this falls with the difference itself.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = 1/(2τ·N) · p_s · (s − Σ_c p_s·s)` with `s = sign(p_s − p_t)`, in closed form; none
/// towards the teacher. It jumps where the two are equal, and is zero where they are equal exactly.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::total_variation;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[0.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device);
///
/// // 1/2 · (|1/2 − 3/4| + |1/2 − 1/4|)
/// let loss = total_variation(student, teacher, 1.0);
/// assert!((loss.into_scalar::<f32>() - 0.25).abs() < 1e-6);
/// ```
///
/// # References
///
/// Wen et al.: f-Divergence Minimization for Sequence-Level Knowledge Distillation, 2023,
/// arXiv:2307.15190. It is the `tv_distance` of distillm.
#[must_use]
pub fn total_variation(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    total_variation_no_reduction(student, teacher, temperature).mean()
}

/// [`total_variation`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn total_variation_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
) -> Tensor<1> {
    with_gradient(rows(&student, teacher, temperature), &student, None)
}

fn rows(student: &Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Rows {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher logits have one shape"
    );
    let student = single(student.clone().without_autodiff());
    ops::total_variation(&student, &single(teacher.without_autodiff()), temperature)
}

/// Config of [`TotalVariation`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
///
/// # Example
///
/// ```
/// use burn_distill::loss::TotalVariationConfig;
///
/// assert!(TotalVariationConfig::new(2.0).init().is_ok());
/// let error = TotalVariationConfig::new(-1.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "total_variation.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TotalVariationConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
}

impl Default for TotalVariationConfig {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl TotalVariationConfig {
    /// Total variation at a temperature, or at a [`Schedule`] of temperatures.
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
    pub fn init(&self) -> Result<TotalVariation> {
        self.temperature.check(
            "total_variation.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        Ok(TotalVariation {
            temperature: self.temperature.clone(),
        })
    }
}

/// Total variation as a term of an objective; see [`total_variation`] for the formula.
#[derive(Debug, Clone)]
pub struct TotalVariation {
    temperature: Schedule,
}

impl Loss for TotalVariation {
    fn name(&self) -> String {
        "total_variation".into()
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
        let rows = rows(student, teacher, self.temperature.at(context.progress));
        context.mean(with_gradient(rows, student, context.mask))
    }
}

#[cfg(test)]
#[path = "../tests/total_variation.rs"]
mod tests;
