use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::{Error, Result};
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::modules::projector::Projector;
use crate::loss::{Loss, LossContext};
use crate::ops::features::rows;
use crate::ops::maps::{as_maps, at_one_size};

/// How the elements of one sample become the value of the sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BoundaryReduction {
    /// Their mean: KDZoo. The default, whose size does not depend on the size of the feature.
    #[default]
    Mean,
    /// Their sum: the paper, torchdistill and, with weights for the layers, RepDistiller.
    Sum,
}

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
/// N   samples that count                                            D   elements per sample
/// ```
///
/// Feature maps of different height or width are first brought to the smaller of the two by
/// adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`
/// - output: `[1]`
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
/// use burn_distill::loss::{BoundaryReduction, activation_boundary};
///
/// let device = Device::flex();
/// // On where it should be off, too weakly on, and far enough on.
/// let student = Tensor::<2>::from_floats([[1.0, 0.5, 7.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[-3.0, 0.1, 2.0]], &device);
/// let reduction = BoundaryReduction::Sum;
/// let loss = activation_boundary(student.into(), teacher.into(), 1.0, reduction);
/// assert_eq!(loss.into_scalar::<f32>(), 4.25); // 2² + 0.5²
/// ```
///
/// # References
///
/// Heo et al.: Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
/// Neurons, 2018, arXiv:1811.03233.
#[must_use]
pub fn activation_boundary(
    student: Feature,
    teacher: Feature,
    margin: f64,
    reduction: BoundaryReduction,
) -> Tensor<1> {
    activation_boundary_no_reduction(student, teacher, margin, reduction).mean()
}

/// [`activation_boundary`](fn@activation_boundary) with one value per sample, `[N]`, instead of
/// their mean.
///
/// # Panics
///
/// Panics if the ranks differ, or widths or tokens do.
#[must_use]
pub fn activation_boundary_no_reduction(
    student: Feature,
    teacher: Feature,
    margin: f64,
    reduction: BoundaryReduction,
) -> Tensor<1> {
    let (student, teacher) = as_maps(student, teacher);
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher features have one shape"
    );
    // 1 where the teacher's neuron is on, −1 where it is off: zero is off.
    let side = teacher.greater_elem(0.0).float().cast(student.dtype()) * 2.0 - 1.0;
    let missing: Tensor<2> = relu(-(student * side) + margin).flatten(1, 3);
    let squares = missing.clone() * missing;
    match reduction {
        BoundaryReduction::Mean => squares.mean_dim(1),
        BoundaryReduction::Sum => squares.sum_dim(1),
    }
    .squeeze_dim(1)
}

/// Config of [`ActivationBoundary`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `margin` | 1 | greater than 0 | how far from zero a neuron has to be |
/// | `reduction` | `mean` | `mean`, `sum` | how the elements of one sample are reduced |
///
/// Where the widths differ, a [`Projector`] from the student's to the teacher's is inserted and
/// trained with the student; the paper has batch norm behind it, which is left out here.
///
/// For several layers add one term for each. RepDistiller weighs the sums of layer `i` of `L` by
/// `0.003 · 2^(i − L + 1)`, counted from 0.
///
/// # Example
///
/// ```
/// use burn_distill::loss::ActivationBoundaryConfig;
///
/// let config = ActivationBoundaryConfig::new("block2", "block4").with_margin(2.0);
/// assert!(config.init().is_ok());
/// assert!(config.with_margin(0.0).init().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ActivationBoundaryConfig {
    /// The student's feature, before its ReLU.
    pub student: String,
    /// The teacher's feature, before its ReLU.
    pub teacher: String,
    /// How far from zero a neuron has to be.
    #[serde(default = "one")]
    pub margin: f64,
    /// How the elements of one sample are reduced.
    #[serde(default)]
    pub reduction: BoundaryReduction,
}

fn one() -> f64 {
    1.0
}

impl ActivationBoundaryConfig {
    /// The boundaries of the teacher's feature of one name for the student's of another, at a
    /// margin of 1.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            margin: one(),
            reduction: BoundaryReduction::default(),
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
    pub fn with_reduction(mut self, reduction: BoundaryReduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if a name is empty or the margin is not a number greater than 0.
    /// Whether the models have such features shows only when they run, in the check before
    /// training.
    pub fn init(&self) -> Result<ActivationBoundary> {
        let pair = FeaturePair::new("activation_boundary", &self.student, &self.teacher)?;
        match self.margin.is_finite() && self.margin > 0.0 {
            true => Ok(ActivationBoundary {
                pair,
                margin: self.margin,
                reduction: self.reduction,
            }),
            false => Err(Error::invalid(
                "activation_boundary.margin",
                self.margin,
                "a number greater than 0",
            )),
        }
    }
}

/// Activation boundaries as a term of an objective; see
/// [`activation_boundary`](fn@activation_boundary) for the formula.
#[derive(Debug, Clone)]
pub struct ActivationBoundary {
    pair: FeaturePair,
    margin: f64,
    reduction: BoundaryReduction,
}

impl Loss for ActivationBoundary {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check(context, Common::AllButWidth)
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        Projector::between(&student, &teacher, device).map(Parts::from)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair.features(context);
        let student = rows(student, context.mask);
        let teacher = rows(teacher, context.mask);
        // Pooling before projecting is the same map and the cheaper order.
        let (student, teacher) = at_one_size(student, teacher);
        let student = match context.parts {
            Some(Parts::Projector(projector)) => projector.forward(student),
            _ => student,
        };
        let (margin, reduction) = (self.margin, self.reduction);
        context.mean(activation_boundary_no_reduction(
            student, teacher, margin, reduction,
        ))
    }
}

#[cfg(test)]
#[path = "../tests/activation_boundary.rs"]
mod tests;
