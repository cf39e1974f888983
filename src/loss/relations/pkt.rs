//! Neighbourhoods within a batch.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::{Result, check_positive};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::relations::relative::relative;
use crate::ops::features::{Samples, length, vectors};

/// Probabilistic knowledge transfer: the divergence between the neighbourhoods within a batch.
///
/// Every sample has a probability of being the neighbour of another, from the cosine between their
/// features; the student learns these probabilities. Only they are compared, so widths, ranks and
/// sizes may differ and no auxiliary module is needed. It was made for retrieval and metric learning,
/// where neighbourhoods are what matters.
///
/// ```text
/// L(f_s, f_t) = (1/N²) Σ_ij p_ij log( (p_ij + ε) / (q_ij + ε) )
///
/// p_ij = k_ij / Σ_l k_il,   k_ij = (1 + cos(f_i, f_j)) / 2      q_ij   the student's p_ij
///
/// cos(x, y) = ⟨x, y⟩ / ((‖x‖ + ε)(‖y‖ + ε))      f_i   feature of sample i, flattened
/// ε   against division by zero                   N   valid samples
/// ```
///
/// As a term with weights the mean over pairs has the weights `w_i·w_j`, and `Σ_l` sums with the
/// weights `w · Σw / Σw²`, which are 1 where all are equal.
///
/// A sample is its own neighbour too, and the mean is over all `N²` pairs. The paper sums and leaves
/// the mean open; the authors' code, RepDistiller, mdistiller and torchdistill compute what is
/// computed here, weighted with 30000, and KDZoo with `ε` = 1e-6. Feature maps are flattened as
/// they are.
///
/// # Shapes
///
/// - student, teacher: `[N, ..]`, everything but `N` may differ
/// - output: `[1]`
///
/// # Gradient
///
/// Through cosines and row sums; `∂L/∂q_ij = −p_ij / (N² (q_ij + ε))`. None for a zero vector, whose
/// cosines are 0, and none towards the teacher.
///
/// # Panics
///
/// Panics if the numbers of samples differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::pkt;
///
/// let device = Device::flex();
/// // Opposite to the teacher, so p = [1, 0]; alike to the student, so q = [1/2, 1/2].
/// let student = Tensor::<2>::from_floats([[1.0], [1.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[1.0], [-1.0]], &device);
/// let loss = pkt(student, teacher, 1e-7);
/// // Two rows of ln 2, over 2².
/// assert!((loss.into_scalar::<f32>() - 2f32.ln() / 2.0).abs() < 1e-5);
/// ```
///
/// # References
///
/// Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer, 2018,
/// arXiv:1803.10837.
#[must_use]
pub fn pkt(student: impl Into<Feature>, teacher: impl Into<Feature>, eps: f64) -> Tensor<1> {
    among(student.into(), teacher.into(), None, eps)
}

fn among(student: Feature, teacher: Feature, weights: Option<&Weights>, eps: f64) -> Tensor<1> {
    let (student, teacher, samples) = vectors(student, teacher, weights);
    let q = neighbours(student, &samples, eps);
    let p = neighbours(teacher, &samples, eps);
    let ratio = (p.clone() + eps) / (q + eps);
    samples.mean(p * ratio.log())
}

/// The probability of each valid sample to be the neighbour of another, `[N, N]`.
fn neighbours(vectors: Tensor<2>, samples: &Samples, eps: f64) -> Tensor<2> {
    let length = length(vectors.clone(), 1);
    let zero = length.clone().equal_elem(0.0).expand(vectors.shape());
    // By its ε a zero vector has a gradient, of 1/ε.
    let direction = vectors.mask_fill(zero, 0.0) / (length + eps);
    let cosine = direction.clone().matmul(direction.transpose());
    // Rounding puts the cosine of opposite vectors below -1, and its probability below 0.
    let closeness = samples.keep(((cosine + 1.0) / 2.0).clamp_min(0.0));
    let sum = match relative(samples, &closeness) {
        Some(weights) => closeness.clone() * weights.unsqueeze_dim::<2>(0),
        None => closeness.clone(),
    };
    // 0/0 in the row of a sample of weight zero, which no mean takes in.
    closeness / sum.sum_dim(1)
}

/// Probabilistic knowledge transfer as a term of an objective; see [`pkt`](fn@pkt) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `eps` | 1e-7 | greater than 0 | keeps lengths and probabilities away from zero |
///
/// A mask of tokens leaves tokens out of the features, and samples without any out of the batch.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Loss, Pkt};
///
/// let loss = Pkt::new("hidden", "hidden");
/// assert_eq!(loss.eps, 1e-7);
/// assert!(loss.with_eps(0.0).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Pkt {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What keeps lengths and probabilities away from zero.
    #[serde(default = "default_eps")]
    pub eps: f64,
}

fn default_eps() -> f64 {
    1e-7
}

impl Pkt {
    /// The neighbourhoods in the teacher's feature of one name for the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            eps: default_eps(),
        }
    }

    /// Sets what keeps lengths and probabilities away from zero.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("pkt", &self.student, &self.teacher)
    }
}

impl Loss for Pkt {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        check_positive("pkt.eps", self.eps)?;
        self.pair().validate("pkt")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::Samples)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().features(context);
        among(student, teacher, context.weights(), self.eps)
    }
}

#[cfg(test)]
#[path = "../tests/pkt.rs"]
mod tests;
