//! Similarities within a batch.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::relations::relative::relative;
use crate::ops::features::{Samples, Scaled, at_scale, vectors};

/// What each row of similarities is divided by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SimilarityNorm {
    /// Its length, as the paper writes it. The default.
    #[default]
    L2,
    /// The sum of its magnitudes, as torchdistill computes it.
    L1,
}

/// Similarity preserving: squared error between the similarities within a batch.
///
/// Samples that look alike to the teacher shall look alike to the student. Only the similarities
/// are compared, never the features, so widths, ranks and sizes may differ and no auxiliary module is
/// needed. It lives off the variety of a batch, so small batches teach little.
///
/// ```text
/// L(f_s, f_t) = (1/N²) ‖ G(f_s) − G(f_t) ‖²,   G(f)_i = (F Fᵀ)_i / ‖(F Fᵀ)_i‖
///
/// f_s, f_t   features of student and teacher      F   one flattened feature per row, [N, D]
/// G_i   row i of G                                N   valid samples
/// ```
///
/// As a term with weights the mean over pairs has the weights `w_i·w_j`, and `‖·‖` sums over samples
/// with the weights `w · Σw / Σw²`, which are 1 where all are equal.
///
/// RepDistiller, mdistiller and KDZoo compute this with `L2`, weighted with 3000. torchdistill
/// passes the order 1 to its norm and computes `L1`. Feature maps are flattened as they are.
///
/// # Shapes
///
/// - student, teacher: `[N, ..]`, everything but `N` may differ
/// - output: `[1]`
///
/// # Gradient
///
/// Through both factors of `F Fᵀ` and through the norms. None for a zero row of `F Fᵀ`, which stays
/// zero, and none towards the teacher.
///
/// # Panics
///
/// Panics if the numbers of samples differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{SimilarityNorm, similarity_preserving};
///
/// let device = Device::flex();
/// // To the student both samples are alike, to the teacher they have nothing in common.
/// let student = Tensor::<2>::from_floats([[1.0], [1.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
/// let loss = similarity_preserving(student, teacher, SimilarityNorm::L1);
/// // Rows [1/2, 1/2] against [1, 0] and [0, 1]: four times 1/4, over 2².
/// assert!((loss.into_scalar::<f32>() - 0.25).abs() < 1e-6);
/// ```
///
/// # References
///
/// Tung, Mori: Similarity-Preserving Knowledge Distillation, 2019, arXiv:1907.09682.
#[must_use]
pub fn similarity_preserving(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    norm: SimilarityNorm,
) -> Tensor<1> {
    among(student.into(), teacher.into(), None, norm)
}

fn among(
    student: Feature,
    teacher: Feature,
    weights: Option<&Weights>,
    norm: SimilarityNorm,
) -> Tensor<1> {
    let (student, teacher, samples) = vectors(student, teacher, weights);
    let of = |vectors| similarities(vectors, norm, &samples);
    samples.mean((of(student) - of(teacher)).square())
}

/// Row-normalised similarities, `[N, N]`. A sample of weight zero is a zero vector here, and adds
/// nothing to any row.
fn similarities(vectors: Tensor<2>, norm: SimilarityNorm, samples: &Samples) -> Tensor<2> {
    let gram = vectors.clone().matmul(vectors.transpose());
    // No power of a quotient overflows.
    let Scaled { x, zero, .. } = at_scale(gram, 1);
    let size = match norm {
        SimilarityNorm::L2 => x.clone() * x.clone(),
        SimilarityNorm::L1 => x.clone().abs(),
    };
    let size = match relative(samples, &size) {
        Some(weights) => size * weights.unsqueeze_dim::<2>(0),
        None => size,
    };
    let sum = size.sum_dim(1).mask_fill(zero, 1.0);
    match norm {
        SimilarityNorm::L2 => x / sum.sqrt(),
        SimilarityNorm::L1 => x / sum,
    }
}

/// Similarity preserving as a term of an objective; see [`similarity_preserving`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `norm` | `l2` | `l2`, `l1` | what each row of similarities is divided by |
///
/// A mask of tokens leaves tokens out of the features, and samples without any out of the batch.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{SimilarityNorm, SimilarityPreserving};
///
/// let loss = SimilarityPreserving::new("hidden", "hidden").with_norm(SimilarityNorm::L1);
/// assert_eq!(loss.norm, SimilarityNorm::L1);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SimilarityPreserving {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What each row of similarities is divided by.
    #[serde(default)]
    pub norm: SimilarityNorm,
}

impl SimilarityPreserving {
    /// The similarities in the teacher's feature of one name for the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            norm: SimilarityNorm::default(),
        }
    }

    /// Sets what each row of similarities is divided by.
    #[must_use]
    pub fn with_norm(mut self, norm: SimilarityNorm) -> Self {
        self.norm = norm;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("similarity_preserving", &self.student, &self.teacher)
    }
}

impl Loss for SimilarityPreserving {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("similarity_preserving")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::Samples)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().features(context);
        among(student, teacher, context.weights(), self.norm)
    }
}

#[cfg(test)]
#[path = "../tests/similarity_preserving.rs"]
mod tests;
