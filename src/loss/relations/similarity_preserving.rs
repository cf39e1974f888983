use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::Result;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::{Loss, LossContext};
use crate::ops::features::{Scaled, at_scale, unit, vectors};

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
/// are compared, never the features, so widths, ranks and sizes may differ and nothing is trained
/// along. It lives off the variety of a batch, so small batches teach little.
///
/// ```text
/// L(f_s, f_t) = (1/N²) ‖ G(f_s) − G(f_t) ‖²,   G(f)_i = (F Fᵀ)_i / ‖(F Fᵀ)_i‖
///
/// f_s, f_t   features of student and teacher      F   one flattened feature per row, [N, D]
/// G_i   row i of G                                N   samples that count
/// ```
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
/// let loss = similarity_preserving(student.into(), teacher.into(), SimilarityNorm::L1);
/// // Rows [1/2, 1/2] against [1, 0] and [0, 1]: four times 1/4, over 2².
/// assert!((loss.into_scalar::<f32>() - 0.25).abs() < 1e-6);
/// ```
///
/// # References
///
/// Tung, Mori: Similarity-Preserving Knowledge Distillation, 2019, arXiv:1907.09682.
#[must_use]
pub fn similarity_preserving(
    student: Feature,
    teacher: Feature,
    norm: SimilarityNorm,
) -> Tensor<1> {
    among(student, teacher, None, norm)
}

fn among(
    student: Feature,
    teacher: Feature,
    mask: Option<&Tensor<1, Bool>>,
    norm: SimilarityNorm,
) -> Tensor<1> {
    let (student, teacher, samples) = vectors(student, teacher, mask);
    samples.mean((similarities(student, norm) - similarities(teacher, norm)).square())
}

/// Row-normalised similarities, `[N, N]`. A sample that does not count is a zero vector here, and
/// adds nothing to any row.
fn similarities(vectors: Tensor<2>, norm: SimilarityNorm) -> Tensor<2> {
    let gram = vectors.clone().matmul(vectors.transpose());
    match norm {
        SimilarityNorm::L2 => unit(gram, 1),
        SimilarityNorm::L1 => {
            let Scaled { x, zero, .. } = at_scale(gram, 1);
            let sum = x.clone().abs().sum_dim(1).mask_fill(zero, 1.0);
            x / sum
        }
    }
}

/// Config of [`SimilarityPreserving`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `norm` | `l2` | `l2`, `l1` | what each row of similarities is divided by |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{SimilarityNorm, SimilarityPreservingConfig};
///
/// let config = SimilarityPreservingConfig::new("hidden", "hidden").with_norm(SimilarityNorm::L1);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SimilarityPreservingConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What each row of similarities is divided by.
    #[serde(default)]
    pub norm: SimilarityNorm,
}

impl SimilarityPreservingConfig {
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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty.
    pub fn init(&self) -> Result<SimilarityPreserving> {
        Ok(SimilarityPreserving {
            pair: FeaturePair::new("similarity_preserving", &self.student, &self.teacher)?,
            norm: self.norm,
        })
    }
}

/// Similarity preserving as a term of an objective; see [`similarity_preserving`] for the formula.
///
/// A mask of tokens leaves tokens out of the features, and samples without any out of the batch.
#[derive(Debug, Clone)]
pub struct SimilarityPreserving {
    pair: FeaturePair,
    norm: SimilarityNorm,
}

impl Loss for SimilarityPreserving {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check(context, Common::Samples)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair.features(context);
        among(student, teacher, context.mask, self.norm)
    }
}

#[cfg(test)]
#[path = "../tests/similarity_preserving.rs"]
mod tests;
