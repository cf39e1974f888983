use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::modules::projector::Projector;
use crate::loss::{Loss, LossContext};
use crate::ops::maps::{expect_maps, matched};
use crate::ops::{Rows, divergence, single, with_gradient};
use crate::schedule::Schedule;

/// Channel-wise distillation: the divergence between where student and teacher look, channel by
/// channel.
///
/// Each channel of a feature map, softened, becomes a distribution over places. Made for dense
/// prediction, where it says which places matter; on the maps of logits of a segmentation as well
/// as on features.
///
/// ```text
/// L(f_s, f_t) = τ² · (1/(N·C)) Σ_n Σ_c KL(p_t ‖ p_s),   p = softmax over places of f_c / τ
///
/// f_s, f_t   feature maps of student and teacher      τ   temperature
/// p_s, p_t   a distribution over the H·W places       C   channels      N   samples that count
/// ```
///
/// mmrazor computes the same. Maps of different height or width are first brought to the smaller of
/// the two by adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: `[N, C, H, W]`
/// - output: `[1]`
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
/// let loss = channel_wise(student, teacher, 1.0);
/// assert!((loss.into_scalar::<f32>() - 0.13081).abs() < 1e-5);
/// ```
///
/// # References
///
/// Shu et al.: Channel-wise Knowledge Distillation for Dense Prediction, 2020, arXiv:2011.13256.
#[must_use]
pub fn channel_wise(student: Tensor<4>, teacher: Tensor<4>, temperature: f64) -> Tensor<1> {
    channel_wise_no_reduction(student, teacher, temperature).mean()
}

/// [`channel_wise`](fn@channel_wise) with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the numbers of samples or channels differ.
#[must_use]
pub fn channel_wise_no_reduction(
    student: Tensor<4>,
    teacher: Tensor<4>,
    temperature: f64,
) -> Tensor<1> {
    let (student, teacher) = matched(single(student), single(teacher.without_autodiff()));
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher maps have one shape"
    );
    let [samples, channels, height, width] = student.dims();
    let shape = [samples * channels, height * width];
    let (student, teacher) = (student.reshape(shape), teacher.reshape(shape));
    let rows = divergence(&student.clone().without_autodiff(), &teacher, temperature);
    let scale = temperature * temperature;
    let rows = Rows {
        value: rows.value * scale,
        gradient: rows.gradient * scale,
    };
    let rows = with_gradient(rows, &student, None).reshape([samples, channels]);
    rows.mean_dim(1).squeeze_dim(1)
}

/// Config of [`ChannelWise`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `temperature` | 4 | greater than 0, may follow a [`Schedule`] | how far the distributions are softened; the paper uses 4 |
///
/// Where the widths differ, a [`Projector`] from the student's to the teacher's is inserted and
/// trained with the student. mmrazor's own default for the temperature is 1.
///
/// # Example
///
/// ```
/// use burn_distill::loss::ChannelWiseConfig;
///
/// let config = ChannelWiseConfig::new("block2", "block4").with_temperature(1.0);
/// assert!(config.init().is_ok());
/// assert!(config.with_temperature(0.0).init().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChannelWiseConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// How far the distributions are softened.
    #[serde(default = "four")]
    pub temperature: Schedule,
}

fn four() -> Schedule {
    Schedule::Constant(4.0)
}

impl ChannelWiseConfig {
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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty or the
    /// temperature is not greater than 0 all the time. Whether the models have such features shows
    /// only when they run, in the check before training.
    pub fn init(&self) -> Result<ChannelWise> {
        let pair = FeaturePair::new("channel_wise", &self.student, &self.teacher)?;
        self.temperature.check(
            "channel_wise.temperature",
            |t| t > 0.0,
            "a number greater than 0",
        )?;
        Ok(ChannelWise {
            pair,
            temperature: self.temperature.clone(),
        })
    }
}

/// Channel-wise distillation as a term of an objective; see [`channel_wise`](fn@channel_wise) for
/// the formula.
#[derive(Debug, Clone)]
pub struct ChannelWise {
    pair: FeaturePair,
    temperature: Schedule,
}

impl Loss for ChannelWise {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check(context, Common::AllButWidth)?;
        self.pair.check_maps(context)
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        Projector::between(&student, &teacher, device).map(Parts::from)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair.maps(context);
        // Pooling before projecting is the same map and the cheaper order.
        let (student, teacher) = matched(student, teacher);
        let student = match context.parts {
            Some(Parts::Projector(projector)) => expect_maps(&projector.forward(student.into())),
            _ => student,
        };
        let temperature = self.temperature.at(context.progress);
        context.mean(channel_wise_no_reduction(student, teacher, temperature))
    }
}

#[cfg(test)]
#[path = "../tests/channel_wise.rs"]
mod tests;
