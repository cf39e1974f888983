use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;
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
/// α, β       weights of TCKD and NCKD           N   rows that count
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
/// - student, teacher: `[N, C]`
/// - labels: `[N]`, from 0 to C − 1
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = τ · (α (p_s(y) − p_t(y)) (onehot(y) − p'_s) + β (p'_s − p'_t)) / N`, in closed form;
/// none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
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
/// let loss = dkd(student, teacher, labels, 1.0, 1.0, 2.0);
/// assert!((loss.into_scalar::<f32>() - (0.05889 + 2.0 * 0.13081)).abs() < 1e-4);
/// ```
///
/// # References
///
/// Zhao et al.: Decoupled Knowledge Distillation, 2022, arXiv:2203.08679.
#[must_use]
pub fn dkd(
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    temperature: f64,
    alpha: f64,
    beta: f64,
) -> Tensor<1> {
    comparison(&student, teacher, &labels, temperature, [alpha, beta], None).mean()
}

/// [`dkd`](fn@dkd) with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn dkd_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    temperature: f64,
    alpha: f64,
    beta: f64,
) -> Tensor<1> {
    comparison(&student, teacher, &labels, temperature, [alpha, beta], None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    teacher: Tensor<2>,
    labels: &'a Tensor<1, Int>,
    temperature: f64,
    [alpha, beta]: [f64; 2],
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    Comparison {
        formula: Formula::Decoupled {
            temperature,
            alpha,
            beta,
        },
        scale: temperature * temperature,
        student,
        teacher: Some(teacher),
        known: None,
        labels: Some(labels),
        mask,
    }
}

/// Config of [`Dkd`].
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
/// use burn_distill::loss::DkdConfig;
///
/// assert!(DkdConfig::new(4.0).with_beta(2.0).init().is_ok());
/// let error = DkdConfig::new(4.0).with_beta(-1.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "dkd.beta is -1, expected a number of at least 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DkdConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The weight of the true class against all others.
    pub alpha: f64,
    /// The weight of the other classes among themselves.
    pub beta: f64,
}

impl Default for DkdConfig {
    fn default() -> Self {
        Self::new(4.0)
    }
}

impl DkdConfig {
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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if the temperature is not greater than 0 all the time, or a
    /// weight is not a number of at least 0.
    pub fn init(&self) -> Result<Dkd> {
        self.temperature
            .check("dkd.temperature", |t| t > 0.0, "a number greater than 0")?;
        for (name, value) in [("dkd.alpha", self.alpha), ("dkd.beta", self.beta)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::invalid(name, value, "a number of at least 0"));
            }
        }
        Ok(Dkd {
            temperature: self.temperature.clone(),
            weights: [self.alpha, self.beta],
        })
    }
}

/// Decoupled distillation as a term of an objective; see [`dkd`](fn@dkd) for the formula.
#[derive(Debug, Clone)]
pub struct Dkd {
    temperature: Schedule,
    weights: [f64; 2],
}

impl Loss for Dkd {
    fn name(&self) -> String {
        "dkd".into()
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_logits(&self.name())?;
        context.check_two_classes(&self.name())?;
        context.check_class_targets(&self.name())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let labels = context.targets.classes().expect("checked beforehand");
        let student = &context.student.logits;
        let teacher = context.teacher().logits.clone();
        let temperature = self.temperature.at(context.progress);
        comparison(
            student,
            teacher,
            labels,
            temperature,
            self.weights,
            context.mask,
        )
        .mean()
    }
}

#[cfg(test)]
#[path = "../tests/dkd.rs"]
mod tests;
