//! Where feature maps are active: attention transfer.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::reduction::DifferenceReduction;
use crate::loss::value::LossValue;
use crate::ops::features::{Samples, Scaled, at_scale, channels, length, unit};

/// Attention transfer: where in the image, or on which tokens, a layer is active.
///
/// The student learns at which positions the teacher is active and is free in what its channels say
/// there, so widths may differ and there is nothing to train. Useful between convolutional networks
/// of one family; a layer must have positions, so it is not for single vectors.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n       ‖ A(f_s) − A(f_t) ‖       Norm
///               (1/N) Σ_n (1/P) ‖ A(f_s) − A(f_t) ‖²      MeanSquare
///
/// A(f) = a / ‖a‖,   a_i = (1/C) Σ_c |f_ci|^p       (f_ci^p where signed)
///
/// f_s, f_t   features of student and teacher      N   samples, weighted if there are weights
/// p   power                                       C   channels      P   positions, H·W or T
/// ```
///
/// The paper writes `|f|^p` and `Norm`, which torchdistill computes in its mode `paper`. Most code has
/// signed powers, which make no difference where `p` is even. `MeanSquare` is what the authors' code,
/// RepDistiller, mdistiller and torchdistill's mode `code` compute, and KDZoo but for 1e-6 that it
/// adds to the norm. Its value is smaller by orders of magnitude: those libraries weight it with
/// 1000. Feature maps of different height or width are first brought to the smaller of the two by
/// adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, C, H, W]` or both `[N, T, C]`; `C` may differ
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// Of `Norm` with respect to the student's map: the direction of the difference, divided by `N`,
/// whatever its length; zero where the maps are equal. None for a sample whose feature is zero
/// everywhere, and none towards the teacher.
///
/// # Panics
///
/// Panics if the ranks, the numbers of samples or of tokens differ, or if the rank is 2.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{DifferenceReduction, attention_transfer};
///
/// let device = Device::flex();
/// // One channel over two positions: attention [1, 0] and [0, 1].
/// let student = Tensor::<4>::from_floats([[[[3.0, 0.0]]]], &device);
/// let teacher = Tensor::<4>::from_floats([[[[0.0, 5.0]]]], &device);
/// let loss = attention_transfer(student, teacher, 2, false, DifferenceReduction::Norm).mean();
/// assert!((loss.into_scalar::<f32>() - 2f32.sqrt()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Zagoruyko, Komodakis: Paying More Attention to Attention: Improving the Performance of
/// Convolutional Neural Networks via Attention Transfer, 2017, arXiv:1612.03928.
pub fn attention_transfer(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    power: u32,
    signed: bool,
    reduction: DifferenceReduction,
) -> LossValue {
    let (student, teacher) = (student.into(), teacher.into());
    LossValue::composed(per_sample(student, teacher, None, power, signed, reduction).0)
}

fn per_sample(
    student: Feature,
    teacher: Feature,
    weights: Option<&Weights>,
    power: u32,
    signed: bool,
    reduction: DifferenceReduction,
) -> (Tensor<1>, Samples) {
    let (student, teacher, samples) = channels(student, teacher, weights);
    let difference = attention(student, power, signed) - attention(teacher, power, signed);
    let value = match reduction {
        DifferenceReduction::Norm => length(difference, 1),
        DifferenceReduction::MeanSquare => difference.square().mean_dim(1),
    };
    (value.squeeze_dim(1), samples)
}

/// The attention map of each sample at length 1, `[N, P]` from `[N, C, P]`.
fn attention(feature: Tensor<3>, power: u32, signed: bool) -> Tensor<2> {
    let shape = feature.dims();
    // Its scale leaves the map as it is, and powers of what is at most 1 do not overflow.
    let Scaled { x, .. } = at_scale::<2>(feature.flatten(1, 2), 1);
    let powers: Tensor<3> = x.reshape(shape).powi_scalar(power as i32);
    let powers = match signed {
        true => powers,
        false => powers.abs(),
    };
    unit(powers.mean_dim(1).squeeze_dim(1), 1)
}

/// Attention transfer as a term of an objective; see [`attention_transfer`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `power` | 2 | at least 1 | the higher, the more the strongest position outweighs the others |
/// | `signed` | false | | whether an odd power keeps the sign of the activations |
/// | `reduction` | `norm` | `norm`, `mean_square` | how maps are compared |
///
/// Tokens or positions of weight 0 have no attention.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{DifferenceReduction, AttentionTransfer, Loss};
///
/// let loss = AttentionTransfer::new("block2", "block4")
///     .with_reduction(DifferenceReduction::MeanSquare);
/// assert!(loss.validate().is_ok());
/// assert!(loss.with_power(0).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AttentionTransfer {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// The power of the activations.
    #[serde(default = "default_power")]
    pub power: u32,
    /// Whether an odd power keeps the sign of the activations.
    #[serde(default)]
    pub signed: bool,
    /// How maps are compared.
    #[serde(default = "default_reduction")]
    pub reduction: DifferenceReduction,
}

fn default_power() -> u32 {
    2
}

fn default_reduction() -> DifferenceReduction {
    DifferenceReduction::Norm
}

impl AttentionTransfer {
    /// The paper's attention transfer from the teacher's feature of one name to the student's of
    /// another, with squared activations.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            power: default_power(),
            signed: false,
            reduction: default_reduction(),
        }
    }

    /// Sets the power of the activations.
    #[must_use]
    pub fn with_power(mut self, power: u32) -> Self {
        self.power = power;
        self
    }

    /// Sets whether an odd power keeps the sign of the activations.
    #[must_use]
    pub fn with_signed(mut self, signed: bool) -> Self {
        self.signed = signed;
        self
    }

    /// Sets how maps are compared.
    #[must_use]
    pub fn with_reduction(mut self, reduction: DifferenceReduction) -> Self {
        self.reduction = reduction;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("attention_transfer", &self.student, &self.teacher)
    }
}

impl Loss for AttentionTransfer {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        if self.power == 0 {
            return Err(Error::invalid(
                "attention_transfer.power",
                self.power,
                "a whole number of at least 1",
            ));
        }
        self.pair().validate("attention_transfer")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let expected = "[N, C, H, W] or [N, T, D]";
        self.pair().check_ranks(context, &[3, 4], expected)?;
        self.pair().check(context, Common::AllButWidth)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().features(context);
        let (values, samples) = per_sample(
            student,
            teacher,
            context.weights(),
            self.power,
            self.signed,
            self.reduction,
        );
        samples.mean(values)
    }
}

#[cfg(test)]
#[path = "../tests/attention_transfer.rs"]
mod tests;
