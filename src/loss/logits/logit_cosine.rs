//! Cosine distance between rows of logits.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::loss::context::LossContext;
use crate::loss::logits::composed;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::cosine_distance;

/// Cosine distance between rows of logits.
///
/// Only the direction counts: a student may be less sure than its teacher about everything, as a
/// small one is, as long as it ranks and spaces the classes alike. There is no temperature to tune,
/// since no factor on the logits changes anything. Use it beside a term that sets the size, such as
/// hard labels; alone it leaves the student's confidence open.
///
/// ```text
/// L(z_s, z_t) = (1/N) Σ_n 1 − ⟨ẑ_s, ẑ_t⟩ / (‖ẑ_s‖ · ‖ẑ_t‖),   ẑ = z
///                                                             ẑ = z − (1/C) Σ_c z   where centred
///
/// z_s, z_t   logits of student and teacher      C   classes
/// N          rows, weighted if there are weights
/// ```
///
/// It goes from 0 to 2. Probabilities do not depend on the level of a row's logits, the cosine
/// does, as other libraries compute it. Centred, the level is taken out: one minus Pearson's correlation.
///
/// A class that either side masks with −∞ is left out of the row. A row without a direction, all
/// zeros or, centred, all equal up to rounding, is at a distance of 1 and has no gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; an output layer is materialised
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = (u_s · ⟨u_s, u_t⟩ − u_t) / (N·‖ẑ_s‖)` with `u = ẑ / ‖ẑ‖`, in closed form; none towards
/// the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::logit_cosine;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[3.0, 4.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0, 3.0]], &device);
///
/// // (3·4 + 4·3) / (5·5); without their mean the two point in opposite directions.
/// let loss = |centred| logit_cosine(student.clone(), teacher.clone(), centred).mean();
/// assert!((loss(false).into_scalar::<f32>() - 0.04).abs() < 1e-6);
/// assert!((loss(true).into_scalar::<f32>() - 2.0).abs() < 1e-6);
/// ```
///
/// # References
///
/// Not centred it is the soft part of the cosine loss of Liger-Kernel. Pearson's correlation between
/// probabilities: Huang et al.: Knowledge Distillation from A Stronger Teacher, 2022,
/// arXiv:2205.10536.
pub fn logit_cosine(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    centred: bool,
) -> LossValue {
    LossValue::composed(composed::compare(student, teacher, |student, teacher| {
        cosine_distance(student, teacher, centred)
    }))
}

/// Cosine distance between logits as a term of an objective; see [`logit_cosine`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `centred` | false | | whether the mean of each row of logits is subtracted first |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::LogitCosine;
///
/// let loss = LogitCosine::new().with_centred(true);
/// let objective = Objective::new().with(loss, 1);
/// assert!(objective.validate().is_ok());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogitCosine {
    /// Whether the mean of each row of logits is subtracted first.
    pub centred: bool,
}

impl LogitCosine {
    /// The cosine of the logits as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the mean of each row of logits is subtracted first.
    #[must_use]
    pub fn with_centred(mut self, centred: bool) -> Self {
        self.centred = centred;
        self
    }
}

impl Loss for LogitCosine {
    fn name(&self) -> String {
        "logit_cosine".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = (context.logits(), context.teacher_logits());
        composed::mean(logit_cosine(student, teacher, self.centred), context)
    }
}

#[cfg(test)]
#[path = "../tests/logit_cosine.rs"]
mod tests;
