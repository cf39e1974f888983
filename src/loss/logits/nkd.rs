//! Normalised distillation: the other classes as a distribution of their own.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::data::targets::TargetKind;
use crate::error::{Result, check_not_negative};
use crate::loss::context::LossContext;
use crate::loss::logits::composed;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::Rows;
use crate::ops::classes::{at_labels, without_classes};
use crate::schedule::Schedule;

/// Normalised distillation: the true class, weighted by the teacher's trust in it, and the other
/// classes as a distribution of their own.
///
/// Soft cross-entropy compares the probabilities of the other classes although their sums differ
/// between teacher and student, which holds both back. Here each side's other classes are brought
/// to the sum 1 first. The first part is ordinary cross-entropy, of less weight where the teacher
/// doubts the label, so this loss can stand for hard and soft targets at once.
///
/// ```text
/// L(z_s, z_t, y) = (1/N) Σ_n ( − p_t(y) · log p_s(y) − γ τ² Σ_{c≠y} p'_t(c) · log p'_s(c) )
///
/// p = softmax(z)                       not softened
/// p' = softmax(z / τ) over c ≠ y       the other classes among themselves
/// z_s, z_t   logits of student and teacher      y   true class      τ   temperature
/// γ          weight of the other classes        N   rows that have a label, weighted if there are weights
/// ```
///
/// It is a cross-entropy, not a divergence: it is not 0 where student and teacher agree. With two
/// classes the second part is 0. cls_KD computes the same.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; an output layer is materialised
/// - labels: `[N]`, from 0 to C − 1; below 0, the row has none and is left out
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = (p_t(y) (p_s − onehot(y)) + γ τ (p'_s − p'_t)) / N`, in closed form; none towards
/// the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::loss::nkd;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::zeros([1, 3], &device);
/// let teacher = Tensor::<2>::from_floats([[2f32.ln(), 0.0, 0.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0], &device);
///
/// // The teacher gives 1/2 to the true class: 1/2 · ln 3, and ln 2 for the two others.
/// let loss = nkd(student, teacher, labels, 1.0, 1.5).mean();
/// let expected = 0.5 * 3f32.ln() + 1.5 * 2f32.ln();
/// assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
/// ```
///
/// # References
///
/// Yang et al.: From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
/// Normalized Loss and Customized Soft Labels, 2023, arXiv:2303.13005.
pub fn nkd(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    labels: Tensor<1, Int>,
    temperature: f64,
    gamma: f64,
) -> LossValue {
    let student = student.into().dense();
    let is_true = at_labels(&labels, student.dims()[1], None);
    let rows = composed::compare(student, teacher, |student, teacher| {
        normalised(
            student.clone(),
            teacher.clone(),
            is_true,
            temperature,
            gamma,
        )
    });
    LossValue::labelled(rows, labels)
}

fn normalised(
    student: Tensor<2>,
    teacher: Tensor<2>,
    is_true: Tensor<2, Bool>,
    temperature: f64,
    gamma: f64,
) -> Rows {
    let one_hot = is_true.clone().float().cast(student.dtype());
    let of_true = |log: &Tensor<2>| {
        let others = is_true.clone().bool_not();
        log.clone().mask_fill(others, 0.0).sum_dim(1)
    };
    let log_q = log_softmax(student.clone(), 1);
    let trust = of_true(&log_softmax(teacher.clone(), 1)).exp();
    let target = -trust.clone() * of_true(&log_q);

    let others =
        |logits: Tensor<2>| log_softmax(without_classes(logits / temperature, is_true.clone()), 1);
    let (log_q_others, p_others) = (others(student), others(teacher).exp());
    // The true class, and whatever else the teacher masks, is not there to be compared.
    let is_masked = p_others.clone().equal_elem(0.0);
    let cross = p_others.clone() * log_q_others.clone().mask_fill(is_masked, 0.0);
    let non_target = -cross.sum_dim(1);

    let scale = gamma * temperature;
    Rows {
        value: (target + non_target * (scale * temperature)).squeeze_dim(1),
        gradient: trust * (log_q.exp() - one_hot) + (log_q_others.exp() - p_others) * scale,
    }
}

/// Normalised distillation as a term of an objective; see [`nkd`](fn@nkd) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the other classes are softened |
/// | `gamma` | 1.5 | at least 0 | weight of the other classes |
///
/// The defaults are the paper's for ImageNet.
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::Nkd;
///
/// let objective = Objective::new().with(Nkd::new(1.0).with_gamma(-1.0), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "nkd.gamma is -1, expected a number of at least 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Nkd {
    /// How far the other classes are softened.
    pub temperature: Schedule,
    /// The weight of the other classes.
    pub gamma: f64,
}

impl Default for Nkd {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl Nkd {
    /// Normalised distillation at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
            gamma: 1.5,
        }
    }

    /// Sets the weight of the other classes.
    #[must_use]
    pub fn with_gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }
}

impl Loss for Nkd {
    fn name(&self) -> String {
        "nkd".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher()
            .with_head(HeadKind::Categorical)
            .with_target(TargetKind::Class)
    }

    fn validate(&self) -> Result<()> {
        self.temperature.check_positive("nkd.temperature")?;
        check_not_negative("nkd.gamma", self.gamma)
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = (context.logits(), context.teacher_logits());
        let labels = context.labels().expect("checked beforehand").clone();
        let temperature = self.temperature.at(context.progress);
        let value = nkd(student, teacher, labels, temperature, self.gamma);
        composed::mean(value, context)
    }
}

#[cfg(test)]
#[path = "../tests/nkd.rs"]
mod tests;
