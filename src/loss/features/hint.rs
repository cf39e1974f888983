//! Feature matching by squared error: the hints of FitNets.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::modules::projector::{Projector, Regressor};
use crate::loss::value::LossValue;
use crate::ops::features::WeightedRows;
use crate::ops::maps::at_one_size;
use crate::ops::vectors::{mean_rows, mean_square};

/// Hint: squared error between a feature of the student and one of the teacher.
///
/// The student learns not only what the teacher predicts but how it gets there. Useful where both
/// have layers that mean the same, and for networks too deep to train on answers alone; across
/// unrelated architectures it can hurt, so compare with soft targets alone.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n (1/D) ‖ r(f_s) − f_t ‖²
///
/// f_s, f_t   features of student and teacher      r   projector to the teacher's width, if needed
/// N   samples, weighted if there are weights      D   elements of one sample's feature
/// ```
///
/// The paper writes ½‖·‖² and leaves the mean open; RepDistiller and KDZoo compute what is computed
/// here. Feature maps of different height or width are first brought to the smaller of the two by
/// adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂r = 2 (r − f_t) / (N·D)` towards student and projector; none towards the teacher.
///
/// # Panics
///
/// Panics if the ranks differ, or widths or tokens do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::hint;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0, 6.0]], &device);
/// let loss = hint(student, teacher).mean();
/// assert_eq!(loss.into_scalar::<f32>(), 12.5); // (3² + 4²) / 2
/// ```
///
/// # References
///
/// Romero et al.: FitNets: Hints for Thin Deep Nets, 2014, arXiv:1412.6550, eq. 3.
pub fn hint(student: impl Into<Feature>, teacher: impl Into<Feature>) -> LossValue {
    let (student, teacher) = at_one_size(student.into(), teacher.into());
    let rows = WeightedRows::new(student, teacher, None);
    LossValue::composed(mean_square(rows.student - rows.teacher))
}

/// Feature matching as a term of an objective; see [`hint`](fn@hint) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `regressor` | `auto` | `auto`, `linear`, `conv1x1`, `conv_bn_relu`, `mlp` | the map `r`, a [`Regressor`] |
///
/// The regressor maps the student's width to the teacher's and is trained with the student. By
/// default there is one only where the widths differ: a linear layer, or a 1×1 convolution for
/// feature maps. It comes after pooling, so that it is always one map per position.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Hint, Regressor};
///
/// let hint = Hint::new("block2", "block4").with_regressor(Regressor::ConvBnRelu);
/// assert_eq!(hint.teacher, "block4");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Hint {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// The map from the student's feature to the teacher's.
    #[serde(default)]
    pub regressor: Regressor,
}

impl Hint {
    /// A hint from the teacher's feature of one name to the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            regressor: Regressor::default(),
        }
    }

    /// Sets the map from the student's feature to the teacher's.
    #[must_use]
    pub fn with_regressor(mut self, regressor: Regressor) -> Self {
        self.regressor = regressor;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("hint", &self.student, &self.teacher)
    }
}

impl Loss for Hint {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("hint")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)?;
        let (ranks, expected) = self.regressor.ranks();
        self.pair().check_ranks(context, ranks, expected)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let (student, teacher) = self.pair().features(context);
        Projector::of(self.regressor, &student, &teacher, device).map(LossModules::new)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().aligned(context);
        let rows = WeightedRows::new(student, teacher, context.weights());
        mean_rows(
            mean_square(rows.student - rows.teacher),
            rows.weights.as_ref(),
        )
    }
}

#[cfg(test)]
#[path = "../tests/hint.rs"]
mod tests;
