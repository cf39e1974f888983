//! Which of the teacher's neurons are on: activation boundaries.

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::error::{Result, check_positive};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::reduction::Reduction;
use crate::loss::value::LossValue;
use crate::ops::features::{Elements, Samples};
use crate::ops::maps::at_one_size;

/// Activation boundaries: which of the teacher's neurons are on, and which are off.
///
/// The student's neuron is pushed past a margin on the teacher's side of zero and left alone from
/// there: what counts is whether a neuron fires, not how strongly. Give features *before* their
/// ReLU. The paper trains on this alone first, to initialise a student, and on labels after.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n (1/D) Σ_d max(0, m − g·f_s)²      Mean
///               (1/N) Σ_n       Σ_d max(0, m − g·f_s)²      Sum
///
/// g = 1 where f_t > 0, else −1
///
/// f_s, f_t   features of student and teacher before their ReLU      m   margin
/// N   samples, weighted if there are weights                        D   elements per sample
/// ```
///
/// Feature maps of different height or width are first brought to the smaller of the two by
/// adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂f_s = −2 g · max(0, m − g·f_s) / (N·D)` for `Mean`: zero beyond the margin; none towards
/// the teacher.
///
/// # Panics
///
/// Panics if the ranks differ, or widths or tokens do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Reduction, activation_boundary};
///
/// let device = Device::flex();
/// // On where it should be off, too weakly on, and far enough on.
/// let student = Tensor::<2>::from_floats([[1.0, 0.5, 7.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[-3.0, 0.1, 2.0]], &device);
/// let loss = activation_boundary(student, teacher, 1.0, Reduction::Sum).mean();
/// assert_eq!(loss.into_scalar::<f32>(), 4.25); // 2² + 0.5²
/// ```
///
/// # References
///
/// Heo et al.: Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
/// Neurons, 2018, arXiv:1811.03233.
pub fn activation_boundary(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    margin: f64,
    reduction: Reduction,
) -> LossValue {
    let (student, teacher) = at_one_size(student.into(), teacher.into());
    let missing = missing(student, teacher, margin);
    LossValue::composed(reduction.per_sample(missing))
}

/// The square of what each neuron is short of the margin on the teacher's side.
fn missing(student: Feature, teacher: Feature, margin: f64) -> Elements {
    Elements::between(student, teacher, |student, teacher| {
        // 1 where the teacher's neuron is on, −1 where it is off: zero is off.
        let side = teacher
            .clone()
            .greater_elem(0.0)
            .float()
            .cast(student.dtype())
            * 2.0
            - 1.0;
        // What is neither is seen.
        let side = side.mask_where(teacher.clone().is_nan(), teacher);
        let missing = relu(-(student * side) + margin);
        missing.clone() * missing
    })
}

/// Activation boundaries as a term of an objective; see
/// [`activation_boundary`](fn@activation_boundary) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `margin` | 1 | greater than 0 | how far from zero a neuron has to be |
/// | `reduction` | `mean` | `mean`, `sum` | how the elements of one sample are reduced |
///
/// Where the widths differ, a linear layer, or a 1×1 convolution for feature maps, from the student's
/// to the teacher's is inserted and trained with the student; the paper has batch norm behind it, which
/// is left out here. Tokens or positions of weight 0 are left out of the mean or the sum.
///
/// For several layers add one term for each. RepDistiller weighs the sums of layer `i` of `L` by
/// `0.003 · 2^(i − L + 1)`, counted from 0.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{ActivationBoundary, Loss};
///
/// let loss = ActivationBoundary::new("block2", "block4").with_margin(2.0);
/// assert!(loss.validate().is_ok());
/// assert!(loss.with_margin(0.0).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ActivationBoundary {
    /// The student's feature, before its ReLU.
    pub student: String,
    /// The teacher's feature, before its ReLU.
    pub teacher: String,
    /// How far from zero a neuron has to be.
    #[serde(default = "one")]
    pub margin: f64,
    /// How the elements of one sample are reduced.
    #[serde(default)]
    pub reduction: Reduction,
}

fn one() -> f64 {
    1.0
}

impl ActivationBoundary {
    /// The boundaries of the teacher's feature of one name for the student's of another, at a
    /// margin of 1.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            margin: one(),
            reduction: Reduction::default(),
        }
    }

    /// Sets how far from zero a neuron has to be.
    #[must_use]
    pub fn with_margin(mut self, margin: f64) -> Self {
        self.margin = margin;
        self
    }

    /// Sets how the elements of one sample are reduced.
    #[must_use]
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("activation_boundary", &self.student, &self.teacher)
    }
}

impl Loss for ActivationBoundary {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("activation_boundary")?;
        check_positive("activation_boundary.margin", self.margin)
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        self.pair().projector(context, device)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().aligned(context);
        let weights = context.weights();
        let samples = Samples::of(&student, &teacher, weights);
        let missing = missing(student, teacher, self.margin);
        self.reduction.mean(missing, &samples, weights)
    }
}

#[cfg(test)]
#[path = "../tests/activation_boundary.rs"]
mod tests;
