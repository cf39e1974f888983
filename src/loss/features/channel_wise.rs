//! Where each channel of a feature map looks: channel-wise distillation.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::targets::Weights;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::value::LossValue;
use crate::ops::features::{Samples, are_of_positions};
use crate::ops::maps::matched;
use crate::ops::{divergence, single, with_gradient};
use crate::schedule::Schedule;

/// Channel-wise distillation: the divergence between where student and teacher look, channel by
/// channel.
///
/// Each channel of a feature map, softened, becomes a distribution over positions. Made for
/// dense prediction, where it says which positions matter; on the maps of logits of a segmentation as
/// well as on features.
///
/// ```text
/// L(f_s, f_t) = τ² · (1/(N·C)) Σ_n Σ_c KL(p_t ‖ p_s),   p = softmax over positions of f_c / τ
///
/// f_s, f_t   feature maps of student and teacher      τ   temperature
/// p_s, p_t   a distribution over the H·W positions    C   channels
/// N          samples, weighted if there are weights
/// ```
///
/// mmrazor computes the same. Maps of different height or width are first brought to the smaller of
/// the two by adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: `[N, C, H, W]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂f_s = τ · (p_s − p_t) / (N·C)`, in closed form; none towards the teacher.
///
/// # Panics
///
/// Panics if the numbers of samples or channels differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::channel_wise;
///
/// let device = Device::flex();
/// let student = Tensor::<4>::from_floats([[[[0.0, 0.0]]]], &device);
/// let teacher = Tensor::<4>::from_floats([[[[3f32.ln(), 0.0]]]], &device);
/// // KL([3/4, 1/4] ‖ [1/2, 1/2]) = 3/4·ln(3/2) + 1/4·ln(1/2)
/// let loss = channel_wise(student, teacher, 1.0).mean();
/// assert!((loss.into_scalar::<f32>() - 0.13081).abs() < 1e-5);
/// ```
///
/// # References
///
/// Shu et al.: Channel-wise Knowledge Distillation for Dense Prediction, 2020, arXiv:2011.13256.
pub fn channel_wise(student: Tensor<4>, teacher: Tensor<4>, temperature: f64) -> LossValue {
    let (student, teacher) = matched(single(student), single(teacher.without_autodiff()));
    LossValue::composed(per_sample(student, teacher, None, temperature))
}

/// One value per sample, `[N]`, of maps of one size.
fn per_sample(
    student: Tensor<4>,
    teacher: Tensor<4>,
    weights: Option<&Weights>,
    temperature: f64,
) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher maps have one shape"
    );
    let [samples, channels, height, width] = student.dims();
    let shape = [samples * channels, height * width];
    let (mut student, mut teacher) = (student.reshape(shape), teacher.reshape(shape));
    if let Some(weights) = weights
        && are_of_positions(weights, samples, [height, width])
    {
        // As often as its weight says: w·exp(f/τ) = exp((f + τ·log w)/τ). The logit of weight 0 is −∞.
        let weights = weights.by_position(samples, [height, width]);
        let shift: Tensor<4> = (weights.log() * temperature).unsqueeze_dim(1);
        let shift = shift.expand([samples, channels, height, width]);
        let shift: Tensor<2> = shift.reshape(shape).cast(student.dtype());
        student = student + shift.clone();
        teacher = teacher + shift;
    }
    let rows = divergence(&student.clone().without_autodiff(), &teacher, temperature);
    let rows = rows.scaled(temperature * temperature);
    let rows = with_gradient(rows, &student, None).reshape([samples, channels]);
    rows.mean_dim(1).squeeze_dim(1)
}

/// Channel-wise distillation as a term of an objective; see [`channel_wise`](fn@channel_wise) for
/// the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the distributions are softened; the paper uses 4 |
///
/// Where the widths differ, a 1×1 convolution from the student's to the teacher's is inserted and
/// trained with the student. mmrazor's own default for the temperature is 1. Where there are weights of
/// pixels, a position has its weight in both distributions, and one of weight 0 the probability 0.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{ChannelWise, Loss};
///
/// let loss = ChannelWise::new("block2", "block4").with_temperature(1.0);
/// assert!(loss.validate().is_ok());
/// assert!(loss.with_temperature(0.0).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChannelWise {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// How far the distributions are softened.
    #[serde(default = "four")]
    pub temperature: Schedule,
}

fn four() -> Schedule {
    Schedule::from(4.0)
}

impl ChannelWise {
    /// The channels of the teacher's feature of one name for those of the student's of another, at
    /// temperature 4.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            temperature: four(),
        }
    }

    /// Sets how far the distributions are softened, a number or a [`Schedule`].
    #[must_use]
    pub fn with_temperature(mut self, temperature: impl Into<Schedule>) -> Self {
        self.temperature = temperature.into();
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("channel_wise", &self.student, &self.teacher)
    }
}

impl Loss for ChannelWise {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("channel_wise")?;
        self.temperature.check_positive("channel_wise.temperature")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)?;
        self.pair().check_maps(context)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        self.pair().projector(context, device)
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().aligned_maps(context);
        let (student, teacher) = (single(student), single(teacher));
        let weights = context.weights();
        let samples = Samples::of(&student.clone().into(), &teacher.clone().into(), weights);
        let temperature = self.temperature.at(context.progress);
        samples.mean(per_sample(student, teacher, weights, temperature))
    }
}

#[cfg(test)]
#[path = "../tests/channel_wise.rs"]
mod tests;
