use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;
use crate::schedule::Schedule;

/// Hard labels and soft targets as one loss: the usual sum, α of the first and 1 − α of the second.
///
/// The objective of Hinton et al., and what most training scripts mean by distillation. It equals
/// [`hard_label`](fn@super::hard_label) and [`soft_target`](fn@super::soft_target) as two terms of
/// an objective, with α and 1 − α as their weights; as one loss it goes over the logits once, which
/// is cheaper where classes are many. Take two terms where each should have a line of its own in
/// the progress, a weight that follows a schedule, or smoothed labels.
///
/// ```text
/// L(z_s, z_t, y) = (1/N) Σ_n ( −α · log softmax(z_s)_y + (1 − α) · τ² · KL(p_t ‖ p_s) )
///
/// p = softmax(z / τ)      z_s, z_t   logits of student and teacher      y   true class
/// τ   temperature         α          weight of the labels               N   rows that count
/// ```
///
/// torchdistill's `KDLoss` computes the same, with this α, and so does the form common in PyTorch
/// tutorials, cross-entropy beside `KLDivLoss(reduction="batchmean")` times τ². Others put their α
/// on the soft part, such as the `distillation` of attention-transfer: there it is 1 − α.
///
/// Where the student rules the true class out with −∞, the value is infinite as that of hard labels
/// is, unless α is 0. Any other class is as in soft targets.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - labels: `[N]`, from 0 to C − 1
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = (α (softmax(z_s) − onehot(y)) + (1 − α) τ (p_s − p_t)) / N`, in closed form; none
/// towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::loss::hard_and_soft;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::zeros([1, 2], &device);
/// let teacher = Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0], &device);
///
/// // 1/4 · ln(2) + 3/4 · KL([3/4, 1/4] ‖ [1/2, 1/2])
/// let loss = hard_and_soft(student, teacher, labels, 1.0, 0.25);
/// assert!((loss.into_scalar::<f32>() - (0.25 * 0.69315 + 0.75 * 0.13081)).abs() < 1e-5);
/// ```
///
/// # References
///
/// Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
#[must_use]
pub fn hard_and_soft(
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    temperature: f64,
    alpha: f64,
) -> Tensor<1> {
    comparison(&student, teacher, &labels, temperature, alpha, None).mean()
}

/// [`hard_and_soft`](fn@hard_and_soft) with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn hard_and_soft_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    temperature: f64,
    alpha: f64,
) -> Tensor<1> {
    comparison(&student, teacher, &labels, temperature, alpha, None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    teacher: Tensor<2>,
    labels: &'a Tensor<1, Int>,
    temperature: f64,
    alpha: f64,
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    Comparison {
        formula: Formula::HardAndSoft { temperature, alpha },
        scale: 1.0,
        student,
        teacher: Some(teacher),
        known: None,
        labels: Some(labels),
        mask,
    }
}

/// Config of [`HardAndSoft`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened; the paper uses 1 to 20 |
/// | `alpha` | 0.1 | [0, 1] | weight of the labels; soft targets have the rest. The paper finds a low one best |
///
/// # Example
///
/// ```
/// use burn_distill::loss::HardAndSoftConfig;
///
/// assert!(HardAndSoftConfig::new(4.0).with_alpha(0.5).init().is_ok());
/// let error = HardAndSoftConfig::new(4.0).with_alpha(1.5).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "hard_and_soft.alpha is 1.5, expected a number in [0, 1]"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HardAndSoftConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The weight of the labels; soft targets have the rest.
    pub alpha: f64,
}

impl Default for HardAndSoftConfig {
    fn default() -> Self {
        Self::new(4.0)
    }
}

impl HardAndSoftConfig {
    /// Hard labels and soft targets at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
            alpha: 0.1,
        }
    }

    /// Sets the weight of the labels; soft targets have the rest.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if the temperature is not greater than 0 all the time, or α is
    /// not in [0, 1].
    pub fn init(&self) -> Result<HardAndSoft> {
        self.temperature.check(
            "hard_and_soft.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        match (0.0..=1.0).contains(&self.alpha) {
            true => Ok(HardAndSoft {
                temperature: self.temperature.clone(),
                alpha: self.alpha,
            }),
            false => Err(Error::invalid(
                "hard_and_soft.alpha",
                self.alpha,
                "a number in [0, 1]",
            )),
        }
    }
}

/// Hard labels and soft targets as one term of an objective; see
/// [`hard_and_soft`](fn@hard_and_soft) for the formula.
#[derive(Debug, Clone)]
pub struct HardAndSoft {
    temperature: Schedule,
    alpha: f64,
}

impl Loss for HardAndSoft {
    fn name(&self) -> String {
        "hard_and_soft".into()
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_logits(&self.name())?;
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
            self.alpha,
            context.mask,
        )
        .mean()
    }
}

#[cfg(test)]
#[path = "../tests/hard_and_soft.rs"]
mod tests;
