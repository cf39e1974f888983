//! The direction of hidden states.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::value::LossValue;
use crate::ops::features::masked;
use crate::ops::vectors::mean_rows;

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
/// DistilBERT and TextBrewer compute `Added`, DistillKit computes `Clamped`. As a term with weights of
/// tokens, the mean is a weighted one over tokens.
///
/// # Shapes
///
/// - student, teacher: both `[N, T, D]` or both `[N, D]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`, from 0 to 2
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
/// let loss = hidden_cosine(student, teacher, CosineNorm::Added).mean();
/// assert!((loss.into_scalar::<f32>() - 0.4).abs() < 1e-6); // 1 − 3/5
/// ```
///
/// # References
///
/// Sanh et al.: DistilBERT, a distilled version of BERT, 2019, arXiv:1910.01108, section 2.
pub fn hidden_cosine(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    norm: CosineNorm,
) -> LossValue {
    let (student, teacher): (Feature, Feature) = (student.into(), teacher.into());
    let samples = student.shape()[0];
    let (student, teacher) = (states(student), states(teacher));
    let tokens = student.dims()[0] / samples.max(1);
    let rows = distance(student, teacher, norm).reshape([samples, tokens]);
    LossValue::composed(rows.mean_dim(1).squeeze_dim(1))
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

/// Cosine distance of hidden states as a term of an objective; see
/// [`hidden_cosine`](fn@hidden_cosine) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `norm` | `added` | `added`, `clamped` | what keeps the cosine of a zero vector finite |
///
/// Where the widths differ, a linear projector from the student's to the teacher's is inserted
/// and trained with the student.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{CosineNorm, HiddenCosine};
///
/// let loss = HiddenCosine::new("layer3", "layer6").with_norm(CosineNorm::Clamped);
/// assert_eq!(loss.norm, CosineNorm::Clamped);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HiddenCosine {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What keeps the cosine of a zero vector finite.
    #[serde(default)]
    pub norm: CosineNorm,
}

impl HiddenCosine {
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

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("hidden_cosine", &self.student, &self.teacher)
    }
}

impl Loss for HiddenCosine {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("hidden_cosine")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let pair = self.pair();
        pair.check_ranks(context, &[2, 3], "[N, D] or [N, T, D]")?;
        pair.check(context, Common::AllButWidth)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        self.pair().projector(context, device)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().aligned(context);
        let samples = student.shape()[0];
        let teacher = states(masked(teacher, context.weights()));
        let tokens = teacher.dims()[0] / samples.max(1);
        let weights = context.weights().map(|w| w.by_token(samples, tokens));
        mean_rows(
            distance(states(student), teacher, self.norm),
            weights.as_ref(),
        )
    }
}

#[cfg(test)]
#[path = "../tests/hidden_cosine.rs"]
mod tests;
