use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::{Loss, LossContext};
use crate::ops::{
    Rows, divergence_of_logs, epsilon, log_sum_exp, lowest, mask_rows, single, with_gradient,
};
use crate::{Error, Result, Schedule};

/// The mass of all other classes counts as no less than this, on either side.
const LEAST_MASS: f64 = 1e-8;

/// What a teacher gives the `k` classes it finds most likely, and nothing about the others.
///
/// This is what fits on a disk where the vocabulary has a hundred thousand words.
///
/// # Example
///
/// ```
/// use burn::tensor::activation::log_softmax;
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::TopK;
///
/// let logits = Tensor::<2>::from_floats([[0.0, 3.0, 1.0, 2.0]], &Device::flex());
/// let (log_probs, indices) = log_softmax(logits / 2.0, 1).topk_with_indices(2, 1);
/// let top = TopK::new(indices, log_probs).at_temperature(2.0);
/// let classes: Vec<i64> = top.indices.into_data().iter().collect();
/// assert_eq!(classes, [1, 3]);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopK {
    /// The classes, `[N, k]`, all different within a row.
    pub indices: Tensor<2, Int>,
    /// The logarithms of their probabilities among all classes, `[N, k]`.
    pub log_probs: Tensor<2>,
    /// The temperature at which the probabilities were taken.
    pub temperature: f64,
}

impl TopK {
    /// Log-probabilities of some classes, taken at temperature 1.
    pub fn new(indices: Tensor<2, Int>, log_probs: Tensor<2>) -> Self {
        Self {
            indices,
            log_probs,
            temperature: 1.0,
        }
    }

    /// The same at the temperature at which the probabilities were taken.
    #[must_use]
    pub fn at_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }
}

/// What is assumed of the classes that a [`TopK`] leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissingMass {
    /// Together they are one more class, on both sides. The default: a student that agrees with the
    /// teacher has nothing to gain. DistillKit's `symmetric_uniform`.
    #[default]
    Bucket,
    /// The teacher gives them nothing, its probabilities are brought to the sum 1. A student is
    /// taught to be surer than the teacher is. DistillKit's `zero`.
    Renormalize,
}

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
    sparse_soft_target_no_reduction(student, teacher, temperature, missing_mass).mean()
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
    with_gradient(compare(&student, known, temperature), &student, None)
}

/// What is known of the teacher at the temperature of the loss.
struct Known {
    /// `[N, k]`
    indices: Tensor<2, Int>,
    /// `[N, k]`
    log_p: Tensor<2>,
    /// The logarithm of the mass of all other classes, `[N, 1]`; where there is none, `log_p` is a
    /// distribution by itself.
    log_rest: Option<Tensor<2>>,
}

impl Known {
    fn from_top_k(top: TopK, temperature: f64, missing_mass: MissingMass) -> Self {
        let indices = top.indices.without_autodiff();
        let log_probs = single(top.log_probs.without_autodiff());
        assert_eq!(
            indices.dims(),
            log_probs.dims(),
            "indices and log-probabilities have one shape"
        );
        let [_, k] = indices.dims();
        let ratio = top.temperature / temperature;
        let (log_p, log_rest) = match missing_mass {
            MissingMass::Renormalize => (log_softmax(log_probs * ratio, 1), None),
            MissingMass::Bucket => {
                let rest: Tensor<2> = 1.0 - log_probs.clone().exp().sum_dim(1);
                let nothing = rest.clone().lower_elem(noise(&rest));
                let log_rest = rest.clone().clamp_min(noise(&rest)).log() * ratio;
                let log_rest = log_rest.mask_fill(nothing, lowest(&rest));
                // At its own temperature this is a distribution already, and where rounding on the
                // way here made it a little more than one, it is taken as it is.
                if ratio == 1.0 {
                    (log_probs, Some(log_rest))
                } else {
                    let all = Tensor::cat(vec![log_probs * ratio, log_rest], 1);
                    let all = log_softmax(all, 1);
                    (all.clone().narrow(1, 0, k), Some(all.narrow(1, k, 1)))
                }
            }
        };
        Self {
            indices,
            log_p,
            log_rest,
        }
    }

    /// The `k` most likely classes of a teacher whose logits are all there, and the exact rest.
    fn from_logits(
        logits: Tensor<2>,
        k: usize,
        temperature: f64,
        missing_mass: MissingMass,
    ) -> Self {
        let all = log_softmax(logits / temperature, 1);
        let (log_p, indices) = all.clone().topk_with_indices(k, 1);
        let (log_p, log_rest) = match missing_mass {
            MissingMass::Renormalize => (log_softmax(log_p, 1), None),
            MissingMass::Bucket => {
                let rest = without(all, indices.clone());
                (log_p, Some(log_sum_exp(rest)))
            }
        };
        Self {
            indices,
            log_p,
            log_rest,
        }
    }
}

fn compare(student: &Tensor<2>, teacher: Known, temperature: f64) -> Rows {
    let Known {
        indices,
        log_p,
        log_rest,
    } = teacher;
    assert_eq!(
        student.dims()[0],
        indices.dims()[0],
        "student and teacher have the same number of rows"
    );
    let student = single(student.clone().without_autodiff());
    let log_q = log_softmax(student.clone() / temperature, 1);
    let log_q_known = log_q.clone().gather(1, indices.clone());
    let log_q_others = without(log_q, indices.clone());
    let (q_known, p) = (log_q_known.clone().exp(), log_p.clone().exp());
    let q_others = log_q_others.clone().exp();

    let (value, known, others) = match log_rest {
        None => {
            // KL(p ‖ q) = KL(p ‖ q / Σq) − log Σq. Rounding must not lift Σq above 1, nor move it
            // off 1 where all classes are known: τ² would make something of that.
            let log_sum = match indices.dims()[1] == student.dims()[1] {
                true => log_q_known.clone().narrow(1, 0, 1).zeros_like(),
                false => log_sum_exp(log_q_known.clone()).clamp_max(0.0),
            };
            let among = divergence_of_logs(log_q_known - log_sum.clone(), log_p).value;
            (among - log_sum.squeeze_dim(1), q_known - p, q_others)
        }
        Some(log_rest) => {
            let log_mass = log_sum_exp(log_q_others);
            let least = LEAST_MASS.ln();
            let counts = log_mass.clone().greater_elem(least);
            let counts = counts.float().cast(log_mass.dtype());
            let (log_mass, log_rest) = (log_mass.clamp_min(least), log_rest.clamp_min(least));
            let of_rest = log_rest.clone().exp();
            let ratio = (log_rest.clone() - log_mass.clone()).exp();
            // By how much more than 1 the teacher's probabilities sum to.
            let surplus = p.clone().sum_dim(1) - 1.0;
            let none = surplus.clone().lower_elem(noise(&surplus));
            let surplus = surplus.mask_fill(none, 0.0);
            // What p sums to, as far as its counterpart in q can still move.
            let sum: Tensor<2> = surplus.clone() + 1.0 - of_rest * (1.0 - counts.clone());
            let value = divergence_of_logs(
                Tensor::cat(vec![log_q_known, log_mass], 1),
                Tensor::cat(vec![log_p, log_rest], 1),
            )
            .value;
            (
                value + surplus.squeeze_dim(1),
                q_known * sum.clone() - p,
                q_others * (sum - counts * ratio),
            )
        }
    };
    // Outside of the known classes `known` is not there, inside of them `others` is 0.
    let gradient = others.scatter(1, indices, known, IndexingUpdateOp::Add);
    Rows {
        value: value * (temperature * temperature),
        gradient: gradient * temperature,
    }
}

/// What a sum of probabilities in single precision cannot tell from 0 or 1. A power of a mass as
/// small as this, as another temperature takes it, would be far from small.
fn noise(probabilities: &Tensor<2>) -> f64 {
    4.0 * epsilon(probabilities)
}

/// Logarithms of probabilities with the given classes as good as at −∞.
fn without(log: Tensor<2>, indices: Tensor<2, Int>) -> Tensor<2> {
    let lowest = Tensor::full(indices.dims(), lowest(&log), (&log.device(), log.dtype()));
    log.scatter(1, indices, lowest, IndexingUpdateOp::Add)
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
/// exactly, at the temperature of the loss.
#[derive(Debug, Clone)]
pub struct SparseSoftTarget {
    config: SparseSoftTargetConfig,
}

impl Loss for SparseSoftTarget {
    fn name(&self) -> String {
        "sparse_soft_target".into()
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
        let mut teacher = single(context.teacher().logits.clone().without_autodiff());
        // A row that may hold anything cannot be sorted.
        if let Some(mask) = context.mask {
            teacher = mask_rows(teacher, &mask.clone().bool_not());
        }
        let known = Known::from_logits(teacher, k, temperature, missing_mass);
        let student = &context.student.logits;
        let rows = compare(student, known, temperature);
        context.mean(with_gradient(rows, student, context.mask))
    }
}

#[cfg(test)]
mod tests;
