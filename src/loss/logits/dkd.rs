//! Decoupled distillation: the true class and the other classes, weighted apart.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::data::targets::TargetKind;
use crate::error::{Result, check_not_negative};
use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;
use crate::schedule::Schedule;

/// Decoupled distillation: soft targets split at the true class, each part with a weight of its
/// own.
///
/// Soft targets are the sum of two divergences: one that asks how sure the teacher is of the true
/// class (`TCKD`), and one that compares all other classes among themselves (`NCKD`). In that sum
/// the second is weighted by the teacher's doubt, so a teacher that is sure hardly passes on what
/// it knows about the other classes. Here the second has a fixed weight. Use it for classification
/// with labels and a confident teacher.
///
/// ```text
/// L(z_s, z_t, y) = τ² · (1/N) Σ_n ( α · KL(b_t ‖ b_s) + β · KL(p'_t ‖ p'_s) )
///
/// b = (p_y, 1 − p_y)                   p = softmax(z / τ): the true class against all others
/// p' = softmax(z / τ) over c ≠ y       the other classes among themselves
/// z_s, z_t   logits of student and teacher      y   true class      τ   temperature
/// α, β       weights of TCKD and NCKD           N   rows that have a label, weighted if there are weights
/// ```
///
/// With α = 1 and β = 1 − p_t(y), row by row, these are soft targets. With two classes there is one
/// other class, and NCKD is 0.
///
/// mdistiller and cls_KD compute the same where logits are moderate. They leave out the true class
/// by subtracting 1000 from its logit, which is not finite in single precision beyond margins of
/// about 100 τ; here it is left out exactly.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; also an output layer
/// - labels: `[N]`, from 0 to C − 1; below 0, the row has none and is left out
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = τ · (α (p_s(y) − p_t(y)) (onehot(y) − p'_s) + β (p'_s − p'_t)) / N`, in closed form;
/// none towards the teacher.
///
/// # Panics
///
/// Reducing panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::loss::dkd;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::zeros([1, 3], &device);
/// // Probabilities 1/2 of the true class, 3/8 and 1/8 of the others.
/// let teacher = Tensor::<2>::from_floats([[4f32.ln(), 3f32.ln(), 0.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0], &device);
///
/// // KL([1/2, 1/2] ‖ [1/3, 2/3]) + 2 · KL([3/4, 1/4] ‖ [1/2, 1/2])
/// let loss = dkd(student, teacher, labels, 1.0, 1.0, 2.0).mean();
/// assert!((loss.into_scalar::<f32>() - (0.05889 + 2.0 * 0.13081)).abs() < 1e-4);
/// ```
///
/// # References
///
/// Zhao et al.: Decoupled Knowledge Distillation, 2022, arXiv:2203.08679.
pub fn dkd(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    labels: Tensor<1, Int>,
    temperature: f64,
    alpha: f64,
    beta: f64,
) -> LossValue {
    LossValue::closed(RowLoss {
        labels: Some(labels),
        ..RowLoss::between(form(temperature, alpha, beta), student, teacher)
    })
}

fn form(temperature: f64, alpha: f64, beta: f64) -> ClosedForm {
    let formula = Formula::Decoupled {
        temperature,
        alpha,
        beta,
    };
    ClosedForm::new(formula, temperature * temperature)
}

/// Decoupled distillation as a term of an objective; see [`dkd`](fn@dkd) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `alpha` | 1 | at least 0 | weight of the true class against all others |
/// | `beta` | 8 | at least 0 | weight of the other classes among themselves |
///
/// The defaults are the paper's for CIFAR-100; it takes β from 2 to 8, and lets the weight of the
/// whole term rise over the first epochs, which is `Schedule::from(1.0).warm_up(0.1)` as the weight
/// in an objective.
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::Dkd;
///
/// let objective = Objective::new().with(Dkd::new(4.0).with_beta(-1.0), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "dkd.beta is -1, expected a number of at least 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Dkd {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The weight of the true class against all others.
    pub alpha: f64,
    /// The weight of the other classes among themselves.
    pub beta: f64,
}

impl Default for Dkd {
    fn default() -> Self {
        Self::new(4.0)
    }
}

impl Dkd {
    /// Decoupled distillation at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
            alpha: 1.0,
            beta: 8.0,
        }
    }

    /// Sets the weight of the true class against all others.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets the weight of the other classes among themselves.
    #[must_use]
    pub fn with_beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    fn form(&self, progress: f64) -> ClosedForm {
        form(self.temperature.at(progress), self.alpha, self.beta)
    }
}

impl Loss for Dkd {
    fn name(&self) -> String {
        "dkd".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher()
            .with_head(HeadKind::Categorical)
            .with_target(TargetKind::Class)
    }

    fn validate(&self) -> Result<()> {
        self.temperature.check_positive("dkd.temperature")?;
        check_not_negative("dkd.alpha", self.alpha)?;
        check_not_negative("dkd.beta", self.beta)
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
#[path = "../tests/dkd.rs"]
mod tests;
