//! Virtual teacher: soft targets of a hand-made teacher.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::data::targets::TargetKind;
use crate::error::{Result, check};
use crate::loss::context::LossContext;
use crate::loss::logits::composed;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::classes::at_labels;
use crate::ops::divergence;
use crate::schedule::Schedule;

/// Virtual teacher: soft targets from a hand-made teacher, right every time and equally unsure of
/// all other classes.
///
/// A regulariser for where there is no teacher, beside [hard labels](crate::loss::HardLabel). The teacher
/// gives the true class a probability and shares the rest evenly; both sides are softened and
/// compared as soft targets are.
///
/// ```text
/// L(z_s, y) = τ² · (1/N) Σ_n KL(p_d ‖ p_s),   p_s = softmax(z_s / τ)
///
/// p_d(c) ∝ a^(1/τ) at c = y, ((1 − a) / (C − 1))^(1/τ) elsewhere
/// z_s   the student's logits      y   true class      a   probability of the true class
/// τ     temperature               C   classes         N   rows that have a label, weighted if there are weights
/// ```
///
/// At τ = 1 it has the gradient of label smoothing, which is
/// [`HardLabel::with_smoothing`](crate::loss::HardLabel::with_smoothing), with
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
/// - student: `[N, C]`, of at least two classes; an output layer is materialised
/// - labels: `[N]`, from 0 to C − 1; below 0, the row has none and is left out
/// - output: one value per row, `[N]`, and their mean, `[1]`
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
/// let ours = virtual_teacher(student.clone(), labels.clone(), 1.0, 0.9).mean().backward();
/// let smoothed = hard_label(student.clone(), labels, 0.15).mean().backward();
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
pub fn virtual_teacher(
    student: impl Into<Logits>,
    labels: Tensor<1, Int>,
    temperature: f64,
    correct: f64,
) -> LossValue {
    let student = student.into().dense();
    let [_, classes] = student.dims();
    assert!(classes >= 2, "a virtual teacher has at least two classes");
    // Logits whose softmax is the teacher: 0 but for the true class.
    let margin = (correct / (1.0 - correct) * (classes - 1) as f64).ln();
    let is_true = at_labels(&labels, classes, None);
    let rows = composed::per_row(&student, |student| {
        let teacher = student.zeros_like().mask_fill(is_true, margin);
        divergence(student, &teacher, temperature).scaled(temperature * temperature)
    });
    LossValue::labelled(rows, labels)
}

/// A virtual teacher as a term of an objective; see [`virtual_teacher`](fn@virtual_teacher) for the
/// formula. It needs no other teacher.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 20 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened; 20 or more in the paper |
/// | `correct` | 0.99 | (0, 1) | the teacher's probability of the true class; at least 0.9 in the paper |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::VirtualTeacher;
///
/// let objective = Objective::new().with(VirtualTeacher::new().with_correct(1.0), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "virtual_teacher.correct is 1, expected a number in (0, 1)"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VirtualTeacher {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The teacher's probability of the true class.
    pub correct: f64,
}

impl Default for VirtualTeacher {
    fn default() -> Self {
        Self {
            temperature: 20.0.into(),
            correct: 0.99,
        }
    }
}

impl VirtualTeacher {
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
}

impl Loss for VirtualTeacher {
    fn name(&self) -> String {
        "virtual_teacher".into()
    }

    fn needs(&self) -> Needs {
        Needs::nothing()
            .with_head(HeadKind::Categorical)
            .with_target(TargetKind::Class)
    }

    fn validate(&self) -> Result<()> {
        self.temperature
            .check_positive("virtual_teacher.temperature")?;
        let is_valid = self.correct > 0.0 && self.correct < 1.0;
        check(
            "virtual_teacher.correct",
            self.correct,
            is_valid,
            "a number in (0, 1)",
        )
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let labels = context.labels().expect("checked beforehand").clone();
        let temperature = self.temperature.at(context.progress);
        let value = virtual_teacher(context.logits(), labels, temperature, self.correct);
        composed::mean(value, context)
    }
}

#[cfg(test)]
#[path = "../tests/virtual_teacher.rs"]
mod tests;
