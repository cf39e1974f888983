//! Generalised Jensen-Shannon divergence.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::error::{Result, check};
use crate::loss::context::LossContext;
use crate::loss::logits::scale::TemperatureScale;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;
use crate::schedule::Schedule;

/// Generalised Jensen-Shannon divergence between softened class probabilities.
///
/// Both sides are compared with their mixture rather than with one another. It is bounded, so that
/// no row and no class can dominate the loss. Where β is small it behaves like soft targets, where
/// it is large like reverse KL. Use it for generative students and
/// where the plain divergences are unstable.
///
/// ```text
/// L(z_s, z_t) = k · (1/N) Σ_n [ β·KL(p_t ‖ m) + (1 − β)·KL(p_s ‖ m) ]    0 < β < 1
///               k · (1/N) Σ_n KL(p_t ‖ p_s)                              β = 0
///               k · (1/N) Σ_n KL(p_s ‖ p_t)                              β = 1
///
/// z_s, z_t   logits of student and teacher      m   β·p_t + (1 − β)·p_s
/// p_s, p_t   softmax(z / τ)                     τ   temperature
/// k          τ² for `Squared`, 1 for `None`     N   rows, weighted if there are weights
/// ```
///
/// At β = 1/2 this is the Jensen-Shannon divergence, at most ln 2. The two ends are a definition,
/// not a limit: towards either end the formula tends to zero, since it is not divided by β·(1 − β),
/// and jumps to the plain divergence there. A weight tuned at β = 0.1 does not hold at β = 0.
///
/// A class that one side or both mask with −∞ needs no rule of its own inside. At the ends, where a side
/// that masks it alone would make the divergence infinite, that side's probability is taken as 1.2e-38,
/// of which the logarithm is −87.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; also an output layer or, for the teacher, its top k
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = k·(1 − β)/(τ·N) · p_s · (u − Σ_c p_s·u)` with `u = log p_s − log m`, in closed form;
/// none towards the teacher.
///
/// # Panics
///
/// Panics if `beta` is not in [0, 1]. Reducing panics if the shapes differ.
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
/// let loss = jensen_shannon(student, teacher, 1.0, TemperatureScale::Squared, 0.5).mean();
/// assert!((loss.into_scalar::<f32>() - 2f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Agarwal et al.: On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes,
/// 2023, arXiv:2306.13649. With `None` it is the `generalized_jsd_loss` of trl; the `js_distance` of
/// distillm is the same with λ = 1 − β.
pub fn jensen_shannon(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    temperature: f64,
    scale: TemperatureScale,
    beta: f64,
) -> LossValue {
    LossValue::closed(RowLoss::between(
        form(temperature, scale, beta),
        student,
        teacher,
    ))
}

fn form(temperature: f64, scale: TemperatureScale, beta: f64) -> ClosedForm {
    assert!((0.0..=1.0).contains(&beta), "beta is in [0, 1], got {beta}");
    let formula = match beta {
        0.0 => Formula::Divergence { temperature },
        1.0 => Formula::Reverse { temperature },
        _ => Formula::Mixture { temperature, beta },
    };
    ClosedForm::new(formula, scale.factor(temperature))
}

/// Generalised Jensen-Shannon divergence as a term of an objective; see [`jensen_shannon`] for the
/// formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `beta` | 0.5 | [0, 1] | β, the teacher's fraction of the mixture; the ends are the plain divergences |
/// | `scale` | `squared` | `squared`, `none` | whether the loss is multiplied by the squared temperature |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::JensenShannon;
///
/// let objective = Objective::new().with(JensenShannon::new(1.0).with_beta(1.5), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "jensen_shannon.beta is 1.5, expected a number in [0, 1]"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JensenShannon {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The teacher's fraction of the mixture.
    pub beta: f64,
    /// Whether the loss is multiplied by the squared temperature.
    pub scale: TemperatureScale,
}

impl Default for JensenShannon {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl JensenShannon {
    /// The divergence at β = 1/2 and at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
            beta: 0.5,
            scale: TemperatureScale::default(),
        }
    }

    /// Sets the teacher's fraction of the mixture.
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

    fn form(&self, progress: f64) -> ClosedForm {
        form(self.temperature.at(progress), self.scale, self.beta)
    }
}

impl Loss for JensenShannon {
    fn name(&self) -> String {
        "jensen_shannon".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        self.temperature
            .check_positive("jensen_shannon.temperature")?;
        let is_valid = (0.0..=1.0).contains(&self.beta);
        check(
            "jensen_shannon.beta",
            self.beta,
            is_valid,
            "a number in [0, 1]",
        )
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
#[path = "../tests/jensen_shannon.rs"]
mod tests;
