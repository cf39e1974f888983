use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::Result;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::modules::projector::Projector;
use crate::loss::{Loss, LossContext};
use crate::ops::features::token_mask;
use crate::ops::vectors::{mask_rows, mean_rows};

/// What keeps the cosine of a zero vector finite.
///
/// The two agree to all digits of single precision unless a norm is tiny.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CosineNorm {
    /// 1e-12 added to each squared norm, as DistilBERT and TextBrewer compute it. The default.
    #[default]
    Added,
    /// Each norm at least 1e-8, as DistillKit computes it.
    Clamped,
}

/// Cosine distance between the hidden states of student and teacher, token by token.
///
/// The student's states learn the direction of the teacher's and are free in their length. Use it
/// between transformers, often beside soft targets, where the size of the states differs by layer
/// or model; where their size matters too, match the states themselves.
///
/// ```text
/// L(h_s, h_t) = 1/(N·T) Σ_n Σ_i (1 − cos(h_s, h_t))
///
/// cos(s, t) = ⟨s, t⟩ / √((‖s‖² + ε)(‖t‖² + ε)),     ε = 1e-12      Added
///             ⟨s, t⟩ / (max(‖s‖, ε) · max(‖t‖, ε)),   ε = 1e-8       Clamped
///
/// h_s, h_t   hidden states of student and teacher      N   samples      T   tokens
/// ```
///
/// DistilBERT and TextBrewer compute `Added`, DistillKit computes `Clamped`. As a term with a mask of
/// tokens, the mean is over the tokens that count.
///
/// # Shapes
///
/// - student, teacher: both `[N, T, D]` or both `[N, D]`
/// - output: `[1]`, from 0 to 2
///
/// # Gradient
///
/// `∂L/∂h_s = (cos · ĥ_s − ĥ_t) / (‖h_s‖·N·T)` with unit vectors `ĥ`; none towards the teacher.
/// At a zero vector it is finite but large, 1e6 (`Added`) or 1e8 (`Clamped`) in size.
///
/// # Panics
///
/// Panics if the shapes differ, or for feature maps `[N, C, H, W]`.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{CosineNorm, hidden_cosine};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[3.0, 4.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[10.0, 0.0]], &device);
/// let loss = hidden_cosine(student.into(), teacher.into(), CosineNorm::Added);
/// assert!((loss.into_scalar::<f32>() - 0.4).abs() < 1e-6); // 1 − 3/5
/// ```
///
/// # References
///
/// Sanh et al.: DistilBERT, a distilled version of BERT, 2019, arXiv:1910.01108, section 2.
#[must_use]
pub fn hidden_cosine(student: Feature, teacher: Feature, norm: CosineNorm) -> Tensor<1> {
    hidden_cosine_no_reduction(student, teacher, norm).mean()
}

/// [`hidden_cosine`] with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ, or for feature maps `[N, C, H, W]`.
#[must_use]
pub fn hidden_cosine_no_reduction(
    student: Feature,
    teacher: Feature,
    norm: CosineNorm,
) -> Tensor<1> {
    let samples = student.shape()[0];
    let (student, teacher) = (states(student), states(teacher));
    let tokens = student.dims()[0] / samples;
    let rows = distance(student, teacher, norm);
    rows.reshape([samples, tokens]).mean_dim(1).squeeze_dim(1)
}

/// One hidden state per row, `[N · T, D]`.
fn states(feature: Feature) -> Tensor<2> {
    match feature {
        Feature::Rank2(x) => x,
        Feature::Rank3(x) => x.flatten(0, 1),
        other => panic!("hidden states have rank 2 or 3, got {:?}", other.shape()),
    }
}

fn distance(student: Tensor<2>, teacher: Tensor<2>, norm: CosineNorm) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher hidden states have one shape"
    );
    let teacher = teacher.without_autodiff();
    let length = |x: &Tensor<2>| {
        let squares = (x.clone() * x.clone()).sum_dim(1);
        match norm {
            CosineNorm::Added => squares + 1e-12,
            // Clamped before the root, whose derivative at zero is infinite.
            CosineNorm::Clamped => squares.clamp_min(1e-16),
        }
        .sqrt()
    };
    // Divided one by the other, so that no product of two norms overflows.
    let student = student.clone() / length(&student);
    let teacher = teacher.clone() / length(&teacher);
    let cosine: Tensor<1> = (student * teacher).sum_dim(1).squeeze_dim(1);
    1.0 - cosine
}

/// Config of [`HiddenCosine`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `norm` | `added` | `added`, `clamped` | what keeps the cosine of a zero vector finite |
///
/// Where the widths differ, a linear [`Projector`] from the student's to the teacher's is inserted
/// and trained with the student.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{CosineNorm, HiddenCosineConfig};
///
/// let config = HiddenCosineConfig::new("layer3", "layer6").with_norm(CosineNorm::Clamped);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HiddenCosineConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What keeps the cosine of a zero vector finite.
    #[serde(default)]
    pub norm: CosineNorm,
}

impl HiddenCosineConfig {
    /// The cosine distance of the student's feature of one name to the teacher's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            norm: CosineNorm::default(),
        }
    }

    /// Sets what keeps the cosine of a zero vector finite.
    #[must_use]
    pub fn with_norm(mut self, norm: CosineNorm) -> Self {
        self.norm = norm;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty. Whether the
    /// models have such features shows only when they run, in the check before training.
    pub fn init(&self) -> Result<HiddenCosine> {
        Ok(HiddenCosine {
            pair: FeaturePair::new("hidden_cosine", &self.student, &self.teacher)?,
            norm: self.norm,
        })
    }
}

/// Cosine distance of hidden states as a term of an objective; see
/// [`hidden_cosine`](fn@hidden_cosine) for the formula.
#[derive(Debug, Clone)]
pub struct HiddenCosine {
    pair: FeaturePair,
    norm: CosineNorm,
}

impl Loss for HiddenCosine {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair
            .check_ranks(context, &[2, 3], "[N, D] or [N, T, D]")?;
        self.pair.check(context, Common::AllButWidth)
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        Projector::between(&student, &teacher, device).map(Parts::from)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair.features(context);
        let samples = student.shape()[0];
        let (mut student, mut teacher) = (states(student), states(teacher));
        let mask = token_mask(context.mask, samples, student.dims()[0] / samples);
        if let Some(mask) = &mask {
            let ignored = mask.clone().bool_not();
            (student, teacher) = (mask_rows(student, &ignored), mask_rows(teacher, &ignored));
        }
        let student = match context.parts {
            Some(Parts::Projector(projector)) => states(projector.forward(student.into())),
            _ => student,
        };
        mean_rows(distance(student, teacher, self.norm), mask.as_ref())
    }
}

#[cfg(test)]
#[path = "../tests/hidden_cosine.rs"]
mod tests;
