use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::top_k::{MissingMass, TopK};
use crate::error::{Error, Result};
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::known::Known;
use crate::ops::single;
use crate::ops::vectors::mask_rows;
use crate::schedule::Schedule;

/// Sparse soft targets: soft targets of which the teacher's `k` most likely classes are known.
///
/// For language models, whose vocabulary makes whole distributions too much to keep or to send.
///
/// ```text
/// L(z_s, K, ℓ) = τ² · (1/N) Σ_n KL(p ‖ q)
///
/// q = softmax(z_s / τ) over all classes      K   the k classes known, ℓ their log-probabilities
/// p ∝ exp(ℓ · τ_K / τ)                       τ_K   the temperature ℓ was taken at
///
/// Renormalize   p sums to 1 over K, the sum is over K
/// Bucket        the classes outside of K are one more: q has 1 − Σ_K q there, p what ℓ leaves,
///               (1 − Σ_K e^ℓ)^(τ_K / τ) before p is normalised; both count as at least 1e-8.
///               At τ = τ_K, p is as it is
/// ```
///
/// With `Bucket` and `τ = τ_K` this is never more than soft targets with the whole distribution.
/// At another temperature the classes left out are softened as if they were one: take `ℓ` at the
/// temperature it is used at where you can. DistillKit computes the same, but not in single
/// precision where `k = C` or where the student gives `K` all but 1e-8; here the mass outside is
/// added up from the student's logits rather than subtracted from 1.
///
/// # Shapes
///
/// - student: `[N, C]`
/// - teacher: [`TopK`] of `[N, k]`, indices from 0 to C − 1; for `Renormalize`, logits do as well
///   as log-probabilities
/// - output: `[1]`
///
/// No tensor of the teacher has `C` columns.
///
/// # Gradient
///
/// With `m = 1 − Σ_K` on either side, `∂L/∂z_s = τ (q − p) / N` in `K`, and outside of it
/// `τ q / N` for `Renormalize`, `τ q (1 − m_t / m_s) / N` for `Bucket`; in closed form. A student's
/// `m` below 1e-8 has no gradient. None towards the teacher.
///
/// # Panics
///
/// Panics if the number of rows differs, if the shapes within the teacher do, or, where the backend
/// checks it, if an index is out of range.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::loss::{MissingMass, TopK, sparse_soft_target};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::zeros([1, 4], &device);
/// let teacher = TopK::new(
///     Tensor::<2, Int>::from_ints([[2]], &device),
///     Tensor::<2>::from_floats([[0.5f32.ln()]], &device),
/// );
///
/// // KL([1/2, 1/2] ‖ [1/4, 3/4]) = 1/2 · ln 2 + 1/2 · ln(2/3), and −ln 1/4
/// let bucket = sparse_soft_target(student.clone(), teacher.clone(), 1.0, MissingMass::Bucket);
/// assert!((bucket.into_scalar::<f32>() - 0.14384).abs() < 1e-5);
/// let renormalized = sparse_soft_target(student, teacher, 1.0, MissingMass::Renormalize);
/// assert!((renormalized.into_scalar::<f32>() - 4f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Top-k with and without the rest as a class: Anshumann et al.: Sparse Logit Sampling, 2025,
/// arXiv:2503.16870.
#[must_use]
pub fn sparse_soft_target(
    student: Tensor<2>,
    teacher: TopK,
    temperature: f64,
    missing_mass: MissingMass,
) -> Tensor<1> {
    let known = Known::from_top_k(teacher, temperature, missing_mass);
    comparison(&student, known, temperature, None).mean()
}

/// [`sparse_soft_target`](fn@sparse_soft_target) with one value per row, `[N]`, instead of their
/// mean.
///
/// # Panics
///
/// Panics if the number of rows differs, if the shapes within the teacher do, or, where the backend
/// checks it, if an index is out of range.
#[must_use]
pub fn sparse_soft_target_no_reduction(
    student: Tensor<2>,
    teacher: TopK,
    temperature: f64,
    missing_mass: MissingMass,
) -> Tensor<1> {
    let known = Known::from_top_k(teacher, temperature, missing_mass);
    comparison(&student, known, temperature, None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    known: Known,
    temperature: f64,
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    Comparison {
        formula: known.formula(temperature),
        scale: temperature * temperature,
        student,
        teacher: None,
        known: Some(known),
        labels: None,
        mask,
    }
}

/// Config of [`SparseSoftTarget`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `k` | 64 | 1 to C | how many of the teacher's classes are compared one by one |
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened |
/// | `missing_mass` | `bucket` | `bucket`, `renormalize` | what is assumed of all other classes |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{MissingMass, SparseSoftTargetConfig};
///
/// let config = SparseSoftTargetConfig::new(16).with_missing_mass(MissingMass::Renormalize);
/// assert!(config.init().is_ok());
/// let error = SparseSoftTargetConfig::new(0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "sparse_soft_target.k is 0, expected at least 1"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SparseSoftTargetConfig {
    /// How many of the teacher's classes are compared one by one.
    pub k: usize,
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// What is assumed of all other classes.
    pub missing_mass: MissingMass,
}

impl Default for SparseSoftTargetConfig {
    fn default() -> Self {
        Self::new(64)
    }
}

impl SparseSoftTargetConfig {
    /// Soft targets of the teacher's `k` most likely classes, at temperature 1.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            temperature: 1.0.into(),
            missing_mass: MissingMass::default(),
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
    pub fn with_missing_mass(mut self, missing_mass: MissingMass) -> Self {
        self.missing_mass = missing_mass;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if `k` is 0, or the temperature is not greater than 0 all the
    /// time. Whether there are `k` classes shows only when the models run, in the check before
    /// training.
    pub fn init(&self) -> Result<SparseSoftTarget> {
        if self.k == 0 {
            return Err(Error::invalid("sparse_soft_target.k", self.k, "at least 1"));
        }
        self.temperature.check(
            "sparse_soft_target.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        Ok(SparseSoftTarget {
            config: self.clone(),
        })
    }
}

/// Sparse soft targets as a term of an objective; see
/// [`sparse_soft_target`](fn@sparse_soft_target) for the formula.
///
/// It takes the `k` most likely classes of the teacher's logits itself, and the mass of the others
/// exactly, at the temperature of the loss. Where only [some classes were recorded](crate::Recorded), it
/// takes these, whatever `k` is.
#[derive(Debug, Clone)]
pub struct SparseSoftTarget {
    config: SparseSoftTargetConfig,
}

impl Loss for SparseSoftTarget {
    fn name(&self) -> String {
        "sparse_soft_target".into()
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.config.temperature)
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_logits(&self.name())?;
        match self.config.k <= context.student.logits.dims()[1] {
            true => Ok(()),
            false => Err(Error::invalid(
                "sparse_soft_target.k",
                self.config.k,
                "at most the number of classes",
            )),
        }
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let SparseSoftTargetConfig {
            k, missing_mass, ..
        } = self.config;
        let temperature = self.config.temperature.at(context.progress);
        if let Some(top_k) = context.teacher().top_k() {
            let known = Known::from_top_k(top_k.clone(), temperature, missing_mass);
            let student = &context.student.logits;
            return comparison(student, known, temperature, context.mask).mean();
        }
        let mut teacher = single(context.teacher().logits.clone().without_autodiff());
        // A row that may hold anything cannot be sorted.
        if let Some(mask) = context.mask {
            teacher = mask_rows(teacher, &mask.clone().bool_not());
        }
        let known = Known::from_logits(teacher, k, temperature, missing_mass);
        comparison(&context.student.logits, known, temperature, context.mask).mean()
    }
}

#[cfg(test)]
#[path = "../tests/sparse_soft_target.rs"]
mod tests;
