//! Intermediate features with a learnt variance per channel: variational information distillation.

use burn::module::{Initializer, Module, Param};
use burn::nn::LinearConfig;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::activation::{relu, softplus};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::error::{Result, check, check_positive};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::modules::projector::Projector;
use crate::loss::value::LossValue;
use crate::ops::features::Elements;
use crate::ops::maps::at_one_size;

/// Variational information distillation: how surprised a Gaussian, whose mean is predicted from the
/// student, is by a feature of the teacher.
///
/// Like a hint, but every channel of the teacher carries a variance that is learnt as well.
/// Channels that the student cannot predict get a large one and cease to matter, so that what can
/// be learnt is learnt. Useful where a plain hint pulls too hard.
///
/// ```text
/// L(μ, f_t) = (1/N) Σ_n (1/D) Σ_d ½ [ (μ − f_t)² / σ_c² + log σ_c² ]
///
/// σ_c² = log(1 + e^{α_c}) + ε
///
/// μ     what the student predicts of the teacher's feature      f_t   that feature
/// α_c   a trained number for each channel c of the teacher      σ_c²  its variance
/// N     samples, weighted if there are weights                  D     elements per sample
/// ε     keeps the variance above zero
/// ```
///
/// The constant ½ log 2π of the Gaussian is left out, and a variance may be below 1, so the value
/// may be negative. RepDistiller computes this with an ε of 10⁻⁵, KDZoo with 10⁻⁶; mdistiller has the formula but does not train its variances. Feature maps of
/// different height or width are first brought to the smaller of the two by adaptive average
/// pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`
/// - log_scale, α above: `[D]` or `[C]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂μ = (μ − f_t) / (σ_c²·N·D)`, and towards α; none towards the teacher.
///
/// # Panics
///
/// Panics if the ranks differ, or widths or tokens do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::vid;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0, 6.0]], &device);
/// // log(1 + e^α) = 1 at α = log(e − 1)
/// let log_scale = Tensor::<1>::full([2], 1f64.exp_m1().ln(), &device);
///
/// let loss = vid(student, teacher, log_scale, 1e-5).mean();
/// assert!((loss.into_scalar::<f32>() - 6.25).abs() < 1e-4); // ½ (3² + 4²) / 2
/// ```
///
/// # References
///
/// Ahn et al.: Variational Information Distillation for Knowledge Transfer, 2019, arXiv:1904.05835.
pub fn vid(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    log_scale: Tensor<1>,
    epsilon: f64,
) -> LossValue {
    let (student, teacher) = at_one_size(student.into(), teacher.into());
    LossValue::composed(surprise(student, teacher, log_scale, epsilon).means())
}

fn surprise(mean: Feature, teacher: Feature, log_scale: Tensor<1>, epsilon: f64) -> Elements {
    let variance = softplus(log_scale, 1.0) + epsilon;
    let variance = of_each_element(variance, &mean);
    Elements::between(mean, teacher, |mean, teacher| {
        let difference = mean - teacher;
        (difference.clone() * difference / variance.clone() + variance.log()) / 2.0
    })
}

/// `[1, elements of a sample]` from one number per channel.
fn of_each_element(channels: Tensor<1>, feature: &Feature) -> Tensor<2> {
    let width = channels.dims()[0];
    match feature.shape()[..] {
        [_, tokens, _] => {
            let all: Tensor<2> = channels.unsqueeze_dim(0);
            all.expand([tokens, width]).reshape([1, tokens * width])
        }
        [_, _, h, w] => {
            let all: Tensor<2> = channels.unsqueeze_dim(1);
            all.expand([width, h * w]).reshape([1, width * h * w])
        }
        _ => channels.unsqueeze_dim(0),
    }
}

/// Variational information distillation as a term of an objective; see [`vid`](fn@vid) for the
/// formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `has_regressor` | true | | whether a regressor predicts the teacher's feature; else the student's is the prediction, of equal width |
/// | `epsilon` | 1e-5 | greater than 0 | the least variance, ε |
/// | `initial_variance` | 5 | greater than `epsilon` | all variances before training |
///
/// The regressor has three linear maps of the width without bias, ReLU between them: 1×1 convolutions for
/// feature maps, as the paper and RepDistiller train them. It and the variances are trained with the student.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Loss, Vid};
///
/// let loss = Vid::new("block2", "block4").with_regressor(false);
/// assert!(loss.validate().is_ok());
/// assert!(loss.with_epsilon(0.0).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Vid {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// Whether a regressor predicts the teacher's feature.
    #[serde(default = "yes")]
    pub has_regressor: bool,
    /// The least variance.
    #[serde(default = "small")]
    pub epsilon: f64,
    /// All variances before training.
    #[serde(default = "five")]
    pub initial_variance: f64,
}

fn yes() -> bool {
    true
}

fn small() -> f64 {
    1e-5
}

fn five() -> f64 {
    5.0
}

impl Vid {
    /// A prediction of the teacher's feature of one name from the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            has_regressor: yes(),
            epsilon: small(),
            initial_variance: five(),
        }
    }

    /// Sets whether a regressor predicts the teacher's feature.
    #[must_use]
    pub fn with_regressor(mut self, has_regressor: bool) -> Self {
        self.has_regressor = has_regressor;
        self
    }

    /// Sets the least variance.
    #[must_use]
    pub fn with_epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets all variances before training.
    #[must_use]
    pub fn with_initial_variance(mut self, variance: f64) -> Self {
        self.initial_variance = variance;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("vid", &self.student, &self.teacher)
    }
}

/// What [`Vid`] trains: the regressor and a variance for each channel of the teacher.
#[derive(Module, Debug)]
struct VidModules {
    /// The layers of the regressor; none where the student's feature is the prediction.
    layers: Vec<Projector>,
    /// α of the formula, `[D]` or `[C]`.
    log_scale: Param<Tensor<1>>,
}

impl VidModules {
    fn new(loss: &Vid, student: &Feature, width: usize, device: &Device) -> Self {
        let layer = |from: usize, to: usize| match student {
            Feature::Rank4(_) => {
                let config = Conv2dConfig::new([from, to], [1, 1]).with_bias(false);
                Projector::Conv1x1(config.init(device))
            }
            _ => Projector::Linear(LinearConfig::new(from, to).with_bias(false).init(device)),
        };
        let layers = match loss.has_regressor {
            true => vec![
                layer(student.width(), width),
                layer(width, width),
                layer(width, width),
            ],
            false => Vec::new(),
        };
        // log(e^v − 1), which for a large v is v.
        let variance = loss.initial_variance - loss.epsilon;
        let value = variance + (-(-variance).exp_m1()).ln();
        Self {
            layers,
            log_scale: Initializer::Constant { value }.init([width], device),
        }
    }

    /// Predicts the teacher's feature.
    fn predict(&self, feature: Feature) -> Feature {
        let layers = self.layers.iter().enumerate();
        layers.fold(feature, |feature, (i, layer)| match i {
            0 => layer.forward(feature),
            _ => layer.forward(rectified(feature)),
        })
    }
}

fn rectified(feature: Feature) -> Feature {
    match feature {
        Feature::Rank2(x) => relu(x).into(),
        Feature::Rank3(x) => relu(x).into(),
        Feature::Rank4(x) => relu(x).into(),
    }
}

impl Loss for Vid {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("vid")?;
        check_positive("vid.epsilon", self.epsilon)?;
        check(
            "vid.initial_variance",
            self.initial_variance,
            self.initial_variance.is_finite() && self.initial_variance > self.epsilon,
            "a number greater than vid.epsilon",
        )
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)?;
        match self.has_regressor {
            true => Ok(()),
            false => self.pair().check_width(context),
        }
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let (student, teacher) = self.pair().features(context);
        let modules = VidModules::new(self, &student, teacher.width(), device);
        Some(LossModules::new(modules))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let modules: &VidModules = context.modules.expect("a regressor").get();
        // A regressor that bends does not commute with the mean; RepDistiller pools first as well.
        let (student, teacher) = self.pair().aligned(context);
        let mean = modules.predict(student);
        let surprise = surprise(mean, teacher, modules.log_scale.val(), self.epsilon);
        surprise.mean(context.weights())
    }
}

#[cfg(test)]
#[path = "../tests/vid.rs"]
mod tests;
