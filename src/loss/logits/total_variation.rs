//! Total variation: half the absolute difference between probabilities.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::logits::composed;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops;
use crate::schedule::Schedule;

/// Total variation: half the sum of the absolute differences between softened class probabilities.
///
/// The largest difference that the two can have about any set of classes, from 0 to 1. It is
/// bounded and symmetric, and a class on which a row is badly off adds no more than its
/// probability: use it where soft targets are dominated by a few rows, or by teacher probabilities that
/// are mostly noise. Where a student starts far away its gradient is small.
///
/// ```text
/// L(z_s, z_t) = (1/N) Σ_n 1/2 Σ_c |p_s − p_t|,   p = softmax(z / τ)
///
/// z_s, z_t   logits of student and teacher      τ   temperature
/// p_s, p_t   their softened probabilities       N   rows, weighted if there are weights
/// ```
///
/// There is no factor to undo the temperature. τ² belongs to divergences, which fall with the square
/// of a difference; this falls with the difference itself.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; an output layer is materialised
/// - output: one value per row, `[N]`, and their mean, `[1]`
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
/// let loss = total_variation(student, teacher, 1.0).mean();
/// assert!((loss.into_scalar::<f32>() - 0.25).abs() < 1e-6);
/// ```
///
/// # References
///
/// Wen et al.: f-Divergence Minimization for Sequence-Level Knowledge Distillation, 2023,
/// arXiv:2307.15190. It is the `tv_distance` of distillm.
pub fn total_variation(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    temperature: f64,
) -> LossValue {
    LossValue::composed(composed::compare(student, teacher, |student, teacher| {
        ops::total_variation(student, teacher, temperature)
    }))
}

/// Total variation as a term of an objective; see [`total_variation`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::TotalVariation;
///
/// let objective = Objective::new().with(TotalVariation::new(-1.0), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "total_variation.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TotalVariation {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
}

impl Default for TotalVariation {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl TotalVariation {
    /// Total variation at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
        }
    }
}

impl Loss for TotalVariation {
    fn name(&self) -> String {
        "total_variation".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        self.temperature
            .check_positive("total_variation.temperature")
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = (context.logits(), context.teacher_logits());
        let temperature = self.temperature.at(context.progress);
        composed::mean(total_variation(student, teacher, temperature), context)
    }
}

#[cfg(test)]
#[path = "../tests/total_variation.rs"]
mod tests;
