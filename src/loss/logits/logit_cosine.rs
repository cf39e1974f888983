use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::{Loss, LossContext};
use crate::ops::{Rows, cosine_distance, single, with_gradient};

/// What is taken off each row of logits first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Centring {
    /// Nothing: the cosine of the logits as they are. The default.
    #[default]
    None,
    /// Their mean: one minus Pearson's correlation, which a constant on all logits of a row does
    /// not change.
    Mean,
}

/// Cosine distance between rows of logits.
///
/// Only the direction counts: a student may be less sure than its teacher about everything, as a
/// small one is, as long as it ranks and spaces the classes alike. There is no temperature to tune,
/// since no factor on the logits changes anything. Use it beside a term that sets the size, such as
/// hard labels; alone it leaves the student's confidence open.
///
/// ```text
/// L(z_s, z_t) = (1/N) Σ_n 1 − ⟨ẑ_s, ẑ_t⟩ / (‖ẑ_s‖ · ‖ẑ_t‖),   ẑ = z                 None
///                                                             ẑ = z − (1/C) Σ_c z   Mean
///
/// z_s, z_t   logits of student and teacher      N   rows that count      C   classes
/// ```
///
/// It goes from 0 to 2. Probabilities do not depend on the level of a row's logits, the cosine
/// does: `Mean` takes the level out, `None` keeps it and is what other libraries compute.
///
/// A class that either side rules out with −∞ is left out of the row. A row without a direction, all
/// zeros or with `Mean` all equal up to rounding, is at a distance of 1 and has no gradient.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
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
/// use burn_distill::loss::{Centring, logit_cosine};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[3.0, 4.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0, 3.0]], &device);
///
/// // (3·4 + 4·3) / (5·5); without their mean the two point in opposite directions.
/// let loss = |centring| logit_cosine(student.clone(), teacher.clone(), centring);
/// assert!((loss(Centring::None).into_scalar::<f32>() - 0.04).abs() < 1e-6);
/// assert!((loss(Centring::Mean).into_scalar::<f32>() - 2.0).abs() < 1e-6);
/// ```
///
/// # References
///
/// With `None` it is the soft part of the cosine loss of Liger-Kernel. Pearson's correlation between
/// probabilities: Huang et al.: Knowledge Distillation from A Stronger Teacher, 2022,
/// arXiv:2205.10536.
#[must_use]
pub fn logit_cosine(student: Tensor<2>, teacher: Tensor<2>, centring: Centring) -> Tensor<1> {
    logit_cosine_no_reduction(student, teacher, centring).mean()
}

/// [`logit_cosine`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn logit_cosine_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    centring: Centring,
) -> Tensor<1> {
    with_gradient(rows(&student, teacher, centring), &student, None)
}

fn rows(student: &Tensor<2>, teacher: Tensor<2>, centring: Centring) -> Rows {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher logits have one shape"
    );
    let student = single(student.clone().without_autodiff());
    let is_centred = matches!(centring, Centring::Mean);
    cosine_distance(&student, &single(teacher.without_autodiff()), is_centred)
}

/// Config of [`LogitCosine`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `centring` | `none` | `none`, `mean` | what is taken off each row of logits first |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Centring, LogitCosineConfig};
///
/// let config = LogitCosineConfig::new().with_centring(Centring::Mean);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogitCosineConfig {
    /// What is taken off each row of logits first.
    pub centring: Centring,
}

impl LogitCosineConfig {
    /// The cosine of the logits as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is taken off each row of logits first.
    #[must_use]
    pub fn with_centring(mut self, centring: Centring) -> Self {
        self.centring = centring;
        self
    }

    /// Makes the loss.
    ///
    /// # Errors
    ///
    /// None at present: every config is valid.
    pub fn init(&self) -> Result<LogitCosine> {
        Ok(LogitCosine {
            centring: self.centring,
        })
    }
}

/// Cosine distance between logits as a term of an objective; see [`logit_cosine`] for the formula.
#[derive(Debug, Clone)]
pub struct LogitCosine {
    centring: Centring,
}

impl Loss for LogitCosine {
    fn name(&self) -> String {
        "logit_cosine".into()
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_logits(&self.name())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let student = &context.student.logits;
        let teacher = context.teacher().logits.clone();
        let rows = rows(student, teacher, self.centring);
        context.mean(with_gradient(rows, student, context.mask))
    }
}

#[cfg(test)]
#[path = "../tests/logit_cosine.rs"]
mod tests;
