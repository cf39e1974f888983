use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::{Loss, LossContext};
use crate::ops::classes::at_labels;
use crate::ops::{Rows, divergence, single, with_gradient};
use crate::schedule::Schedule;

/// Virtual teacher: soft targets from a hand-made teacher, right every time and equally unsure of
/// all other classes.
///
/// A regulariser for where there is no teacher, beside [hard labels](super::HardLabel). The teacher
/// gives the true class a probability and shares the rest evenly; both sides are softened and
/// compared as soft targets are.
///
/// ```text
/// L(z_s, y) = τ² · (1/N) Σ_n KL(p_d ‖ p_s),   p_s = softmax(z_s / τ)
///
/// p_d(c) ∝ a^(1/τ) at c = y, ((1 − a) / (C − 1))^(1/τ) elsewhere
/// z_s   the student's logits      y   true class      a   probability of the true class
/// τ     temperature               C   classes         N   rows that count
/// ```
///
/// At τ = 1 it has the gradient of label smoothing, which is
/// [`HardLabelConfig::with_smoothing`](super::HardLabelConfig::with_smoothing), with
/// `ε = (1 − a) · C / (C − 1)`; its value is less by the entropy of the teacher. At higher
/// temperatures it tends to the squared error between the centred logits and those of the teacher,
/// which pulls with the distance alone. The student it asks for is the same at all of them.
///
/// This is the paper's formula. The authors' code takes `softmax(p / τ)` of the teacher's
/// probabilities instead, leaves the student unsoftened and averages over classes without τ²: its
/// weights do not carry over.
///
/// # Shapes
///
/// - student: `[N, C]`, of at least two classes
/// - labels: `[N]`, from 0 to C − 1
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = τ · (p_s − p_d) / N`, in closed form.
///
/// # Panics
///
/// Panics if there is only one class.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor, Tolerance};
/// use burn_distill::loss::{hard_label, virtual_teacher};
///
/// let device = Device::flex().autodiff();
/// let student = Tensor::<2>::from_floats([[0.5, -1.0, 2.0]], &device).require_grad();
/// let labels = Tensor::<1, Int>::from_ints([1], &device);
///
/// // At temperature 1, the gradient of label smoothing: ε = 0.1 · 3 / 2.
/// let ours = virtual_teacher(student.clone(), labels.clone(), 1.0, 0.9).backward();
/// let smoothed = hard_label(student.clone(), labels, 0.15).backward();
/// student.grad(&ours).unwrap().into_data().assert_approx_eq::<f32>(
///     &student.grad(&smoothed).unwrap().into_data(),
///     Tolerance::absolute(1e-6),
/// );
/// ```
///
/// # References
///
/// Yuan et al.: Revisiting Knowledge Distillation via Label Smoothing Regularization, 2019,
/// arXiv:1909.11723, the method Tf-KD_reg.
#[must_use]
pub fn virtual_teacher(
    student: Tensor<2>,
    labels: Tensor<1, Int>,
    temperature: f64,
    correct: f64,
) -> Tensor<1> {
    virtual_teacher_no_reduction(student, labels, temperature, correct).mean()
}

/// [`virtual_teacher`](fn@virtual_teacher) with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if there is only one class.
#[must_use]
pub fn virtual_teacher_no_reduction(
    student: Tensor<2>,
    labels: Tensor<1, Int>,
    temperature: f64,
    correct: f64,
) -> Tensor<1> {
    let rows = taught(&student, &labels, temperature, correct, None);
    with_gradient(rows, &student, None)
}

fn taught(
    student: &Tensor<2>,
    labels: &Tensor<1, Int>,
    temperature: f64,
    correct: f64,
    mask: Option<&Tensor<1, Bool>>,
) -> Rows {
    let [_, classes] = student.dims();
    assert!(classes >= 2, "a virtual teacher has at least two classes");
    let student = single(student.clone().without_autodiff());
    // Logits whose softmax is the teacher: 0 but for the true class.
    let margin = (correct / (1.0 - correct) * (classes - 1) as f64).ln();
    let is_true = at_labels(labels, classes, mask);
    let teacher = student.zeros_like().mask_fill(is_true, margin);
    divergence(&student, &teacher, temperature).scaled(temperature * temperature)
}

/// Config of [`VirtualTeacher`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 20 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened; 20 or more in the paper |
/// | `correct` | 0.99 | (0, 1) | the teacher's probability of the true class; at least 0.9 in the paper |
///
/// # Example
///
/// ```
/// use burn_distill::loss::VirtualTeacherConfig;
///
/// assert!(VirtualTeacherConfig::new().with_correct(0.95).init().is_ok());
/// let error = VirtualTeacherConfig::new().with_correct(1.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "virtual_teacher.correct is 1, expected a number in (0, 1)"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VirtualTeacherConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The teacher's probability of the true class.
    pub correct: f64,
}

impl Default for VirtualTeacherConfig {
    fn default() -> Self {
        Self {
            temperature: 20.0.into(),
            correct: 0.99,
        }
    }
}

impl VirtualTeacherConfig {
    /// The paper's teacher: 0.99 for the true class, at temperature 20.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how far the probabilities are softened, a number or a [`Schedule`].
    #[must_use]
    pub fn with_temperature(mut self, temperature: impl Into<Schedule>) -> Self {
        self.temperature = temperature.into();
        self
    }

    /// Sets the teacher's probability of the true class.
    #[must_use]
    pub fn with_correct(mut self, correct: f64) -> Self {
        self.correct = correct;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if the temperature is not greater than 0 all the time, or the
    /// probability is not in (0, 1).
    pub fn init(&self) -> Result<VirtualTeacher> {
        self.temperature.check(
            "virtual_teacher.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        match self.correct > 0.0 && self.correct < 1.0 {
            true => Ok(VirtualTeacher {
                temperature: self.temperature.clone(),
                correct: self.correct,
            }),
            false => Err(Error::invalid(
                "virtual_teacher.correct",
                self.correct,
                "a number in (0, 1)",
            )),
        }
    }
}

/// A virtual teacher as a term of an objective; see [`virtual_teacher`](fn@virtual_teacher) for the
/// formula.
#[derive(Debug, Clone)]
pub struct VirtualTeacher {
    temperature: Schedule,
    correct: f64,
}

impl Loss for VirtualTeacher {
    fn name(&self) -> String {
        "virtual_teacher".into()
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn needs_teacher(&self) -> bool {
        false
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_two_classes(&self.name())?;
        context.check_class_targets(&self.name())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let labels = context.targets.classes().expect("checked beforehand");
        let student = &context.student.logits;
        let temperature = self.temperature.at(context.progress);
        let rows = taught(student, labels, temperature, self.correct, context.mask);
        context.mean(with_gradient(rows, student, context.mask))
    }
}

#[cfg(test)]
#[path = "../tests/virtual_teacher.rs"]
mod tests;
