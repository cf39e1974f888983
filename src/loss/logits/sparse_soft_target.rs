//! Sparse soft targets: the teacher's most likely classes alone.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{Head, HeadKind, Logits};
use crate::data::precision::single;
use crate::data::top_k::{MissingProbability, TopK};
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;
use crate::ops::sparse::SparseTeacher;
use crate::ops::vectors::mask_rows;
use crate::schedule::Schedule;

/// Sparse soft targets: soft targets on the teacher's `k` most likely classes.
///
/// For language models, whose vocabulary makes whole distributions too much to keep or to send.
///
/// ```text
/// L(z_s, K, ℓ) = τ² · (1/N) Σ_n KL(p ‖ q)
///
/// q = softmax(z_s / τ) over all classes      K   the top k classes, ℓ their log-probabilities
/// p ∝ exp(ℓ · τ_K / τ)                       τ_K   the temperature ℓ was taken at
///
/// Renormalize   p sums to 1 over K, the sum is over K
/// Bucket        the classes outside of K are one more: q has 1 − Σ_K q there, p what ℓ leaves,
///               (1 − Σ_K e^ℓ)^(τ_K / τ) before p is normalised; both are at least 1e-8.
///               At τ = τ_K, p is as it is
/// ```
///
/// With `Bucket` and `τ = τ_K` this is never more than soft targets with the whole distribution.
/// At another temperature the classes left out are softened as if they were one: take `ℓ` at the
/// temperature it is used at where you can. DistillKit computes the same, but not in single
/// precision where `k = C` or where the student gives `K` all but 1e-8; here the tail
/// probability is added up from the student's logits rather than subtracted from 1.
///
/// # Shapes
///
/// - student: `[N, C]`; also an output layer
/// - teacher: [`TopK`] of `[N, k]`, indices from 0 to C − 1; for `Renormalize`, logits do as well
///   as log-probabilities
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// No tensor of the teacher has `C` columns.
///
/// # Gradient
///
/// With the tail probability `m = 1 − Σ_K` on either side, `∂L/∂z_s = τ (q − p) / N` in `K`, and outside of it
/// `τ q / N` for `Renormalize`, `τ q (1 − m_t / m_s) / N` for `Bucket`; in closed form. A student's
/// `m` below 1e-8 has no gradient. None towards the teacher.
///
/// # Panics
///
/// Reducing panics if the number of rows differs, if the shapes within the teacher do, or, where the backend
/// checks it, if an index is out of range.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::loss::sparse_soft_target;
/// use burn_distill::{MissingProbability, TopK};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::zeros([1, 4], &device);
/// let teacher = TopK::new(
///     Tensor::<2, Int>::from_ints([[2]], &device),
///     Tensor::<2>::from_floats([[0.5f32.ln()]], &device),
///     4,
/// );
///
/// // KL([1/2, 1/2] ‖ [1/4, 3/4]) = 1/2 · ln 2 + 1/2 · ln(2/3), and −ln 1/4
/// let loss = |missing| sparse_soft_target(student.clone(), teacher.clone(), 1.0, missing).mean();
/// let bucket = loss(MissingProbability::Bucket);
/// assert!((bucket.into_scalar::<f32>() - 0.14384).abs() < 1e-5);
/// let renormalized = loss(MissingProbability::Renormalize);
/// assert!((renormalized.into_scalar::<f32>() - 4f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Top-k with and without the tail as a class: Anshumann et al.: Sparse Logit Sampling, 2025,
/// arXiv:2503.16870.
pub fn sparse_soft_target(
    student: impl Into<Logits>,
    teacher: TopK,
    temperature: f64,
    missing: MissingProbability,
) -> LossValue {
    LossValue::closed(RowLoss::between(
        form(temperature, missing),
        student,
        teacher,
    ))
}

/// Of a top-k teacher; of any other it is that of plain soft targets.
fn form(temperature: f64, missing: MissingProbability) -> ClosedForm {
    ClosedForm {
        missing,
        ..ClosedForm::new(
            Formula::Divergence { temperature },
            temperature * temperature,
        )
    }
}

/// Sparse soft targets as a term of an objective; see
/// [`sparse_soft_target`](fn@sparse_soft_target) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `k` | 64 | 1 to C | how many of the teacher's classes are compared one by one |
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `missing_probability` | `bucket` | `bucket`, `renormalize` | what is assumed of all other classes, a [`MissingProbability`] |
///
/// Of a teacher whose logits are all there it takes the `k` most likely classes itself, and the tail
/// probability exactly, at the temperature of the loss. Of a [top-k teacher](crate::Logits::TopK) it
/// takes the classes there are, whatever `k` is, and a student's output layer is never materialised.
///
/// # Example
///
/// ```
/// use burn_distill::loss::SparseSoftTarget;
/// use burn_distill::{MissingProbability, Objective};
///
/// let loss = SparseSoftTarget::new(0).with_missing_probability(MissingProbability::Renormalize);
/// let objective = Objective::new().with(loss, 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "sparse_soft_target.k is 0, expected at least 1"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SparseSoftTarget {
    /// How many of the teacher's classes are compared one by one.
    pub k: usize,
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// What is assumed of all other classes.
    pub missing_probability: MissingProbability,
}

impl Default for SparseSoftTarget {
    fn default() -> Self {
        Self::new(64)
    }
}

impl SparseSoftTarget {
    /// Soft targets of the teacher's `k` most likely classes, at temperature 1.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            temperature: 1.0.into(),
            missing_probability: MissingProbability::default(),
        }
    }

    /// Sets how far the probabilities are softened, a number or a [`Schedule`].
    #[must_use]
    pub fn with_temperature(mut self, temperature: impl Into<Schedule>) -> Self {
        self.temperature = temperature.into();
        self
    }

    /// Sets what is assumed of all other classes.
    #[must_use]
    pub fn with_missing_probability(mut self, missing: MissingProbability) -> Self {
        self.missing_probability = missing;
        self
    }
}

fn has_top_k_teacher(context: &LossContext<'_>) -> bool {
    let teacher = context.teacher_head().and_then(Head::logits);
    matches!(teacher, Some(Logits::TopK(_)))
}

impl Loss for SparseSoftTarget {
    fn name(&self) -> String {
        "sparse_soft_target".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        if self.k == 0 {
            return Err(Error::invalid("sparse_soft_target.k", self.k, "at least 1"));
        }
        self.temperature
            .check_positive("sparse_soft_target.temperature")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let classes = context.student_head().map_or(0, Head::width);
        match self.k <= classes || has_top_k_teacher(context) {
            true => Ok(()),
            false => Err(Error::invalid(
                "sparse_soft_target.k",
                self.k,
                "at most the number of classes",
            )),
        }
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    // Without a `closed_form`: whether there is one depends on the teacher.
    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let temperature = self.temperature.at(context.progress);
        let missing = self.missing_probability;
        if has_top_k_teacher(context) {
            return context.run(form(temperature, missing));
        }
        let student = context.logits();
        let mut teacher = single(context.teacher_logits().without_autodiff());
        assert_eq!(
            student.dims(),
            teacher.dims(),
            "student and teacher logits have one shape"
        );
        // A row that may hold anything cannot be sorted.
        if let Some(weights) = context.row_weights() {
            teacher = mask_rows(teacher, &weights.clone().equal_elem(0.0));
        }
        let sparse = SparseTeacher::from_logits(teacher, self.k, temperature, missing);
        let comparison = Comparison {
            formula: sparse.formula(temperature),
            scale: temperature * temperature,
            student: &student,
            teacher: None,
            sparse: Some(sparse),
            labels: None,
            weights: context.row_weights().cloned(),
        };
        comparison.mean()
    }
}

#[cfg(test)]
#[path = "../tests/sparse_soft_target.rs"]
mod tests;
