use burn::module::{Initializer, Module, Param};
use burn::nn::LinearConfig;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::activation::{relu, softplus};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::Result;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::modules::projector::Projector;
use crate::loss::{Loss, LossContext};
use crate::ops::features::rows;
use crate::ops::maps::{as_maps, at_one_size};

/// Added to the variance, which keeps it above zero.
const EPSILON: f64 = 1e-5;
/// The variance before training.
const INITIAL_VARIANCE: f64 = 5.0;

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
/// σ_c² = log(1 + e^{α_c}) + 10⁻⁵
///
/// μ     what the student predicts of the teacher's feature      f_t   that feature
/// α_c   a trained number for each channel c of the teacher      σ_c²  its variance
/// N     samples that count                                      D     elements per sample
/// ```
///
/// The constant ½ log 2π of the Gaussian is left out, and a variance may be below 1, so the value
/// may be negative. RepDistiller computes what is computed here, KDZoo the same with 10⁻⁶ in
/// place of 10⁻⁵; mdistiller has the formula but does not train its variances. Feature maps of
/// different height or width are first brought to the smaller of the two by adaptive average
/// pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`
/// - log_scale, α above: `[D]` or `[C]`
/// - output: `[1]`
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
/// let loss = vid(student.into(), teacher.into(), log_scale);
/// assert!((loss.into_scalar::<f32>() - 6.25).abs() < 1e-4); // ½ (3² + 4²) / 2
/// ```
///
/// # References
///
/// Ahn et al.: Variational Information Distillation for Knowledge Transfer, 2019, arXiv:1904.05835.
#[must_use]
pub fn vid(student: Feature, teacher: Feature, log_scale: Tensor<1>) -> Tensor<1> {
    vid_no_reduction(student, teacher, log_scale).mean()
}

/// [`vid`](fn@vid) with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the ranks differ, or widths or tokens do.
#[must_use]
pub fn vid_no_reduction(student: Feature, teacher: Feature, log_scale: Tensor<1>) -> Tensor<1> {
    let (mean, teacher) = as_maps(student, teacher);
    assert_eq!(
        mean.dims(),
        teacher.dims(),
        "student and teacher features have one shape"
    );
    let channels = log_scale.dims()[0];
    let variance = (softplus(log_scale, 1.0) + EPSILON).reshape([1, channels, 1, 1]);
    let difference = mean - teacher;
    let surprise = difference.clone() * difference / variance.clone() + variance.log();
    let surprise: Tensor<2> = surprise.flatten(1, 3);
    (surprise / 2.0).mean_dim(1).squeeze_dim(1)
}

/// How [`Vid`] predicts the teacher's feature from the student's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VidRegressor {
    /// Three linear maps of the width without bias, ReLU between them: 1×1 convolutions for feature
    /// maps. What the paper and RepDistiller train. The default.
    #[default]
    ThreeLayers,
    /// The student's feature itself, where the widths agree.
    Identity,
}

/// Config of [`Vid`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `regressor` | `three_layers` | `three_layers`, `identity` | how the teacher's feature is predicted |
///
/// The regressor and the variances, all of them 5 at first, are trained with the student.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{VidConfig, VidRegressor};
///
/// let config = VidConfig::new("block2", "block4").with_regressor(VidRegressor::Identity);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct VidConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// How the teacher's feature is predicted.
    #[serde(default)]
    pub regressor: VidRegressor,
}

impl VidConfig {
    /// A prediction of the teacher's feature of one name from the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            regressor: VidRegressor::default(),
        }
    }

    /// Sets how the teacher's feature is predicted.
    #[must_use]
    pub fn with_regressor(mut self, regressor: VidRegressor) -> Self {
        self.regressor = regressor;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty. Whether the
    /// models have such features shows only when they run, in the check before training.
    pub fn init(&self) -> Result<Vid> {
        Ok(Vid {
            pair: FeaturePair::new("vid", &self.student, &self.teacher)?,
            regressor: self.regressor,
        })
    }
}

/// What [`Vid`] trains along: the regressor and a variance for each channel of the teacher.
#[derive(Module, Debug)]
#[non_exhaustive]
pub struct VidParts {
    /// The layers of the regressor; none where the student's feature is the prediction.
    pub layers: Vec<Projector>,
    /// α of the formula, `[D]` or `[C]`.
    pub log_scale: Param<Tensor<1>>,
}

impl VidParts {
    fn new(regressor: VidRegressor, student: &Feature, width: usize, device: &Device) -> Self {
        let layer = |from: usize, to: usize| match student {
            Feature::Rank4(_) => {
                let config = Conv2dConfig::new([from, to], [1, 1]).with_bias(false);
                Projector::Conv1x1(config.init(device))
            }
            _ => Projector::Linear(LinearConfig::new(from, to).with_bias(false).init(device)),
        };
        let layers = match regressor {
            VidRegressor::ThreeLayers => vec![
                layer(student.width(), width),
                layer(width, width),
                layer(width, width),
            ],
            VidRegressor::Identity => Vec::new(),
        };
        let value = (INITIAL_VARIANCE - EPSILON).exp_m1().ln();
        Self {
            layers,
            log_scale: Initializer::Constant { value }.init([width], device),
        }
    }

    /// Predicts the teacher's feature.
    ///
    /// # Panics
    ///
    /// Panics if the feature has another rank or width than the one these parts were made for.
    pub fn predict(&self, feature: Feature) -> Feature {
        let layers = self.layers.iter().enumerate();
        layers.fold(feature, |feature, (i, layer)| match i {
            0 => layer.forward(feature),
            _ => layer.forward(rectified(feature)),
        })
    }

    pub(crate) fn describe(&self) -> String {
        let layers: Vec<String> = self.layers.iter().map(Projector::describe).collect();
        let variances = format!("{} variances", self.log_scale.val().dims()[0]);
        [layers, vec![variances]].concat().join(", ")
    }
}

fn rectified(feature: Feature) -> Feature {
    match feature {
        Feature::Rank2(x) => relu(x).into(),
        Feature::Rank3(x) => relu(x).into(),
        Feature::Rank4(x) => relu(x).into(),
    }
}

/// Variational information distillation as a term of an objective; see [`vid`](fn@vid) for the
/// formula.
#[derive(Debug, Clone)]
pub struct Vid {
    pair: FeaturePair,
    regressor: VidRegressor,
}

impl Loss for Vid {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check(context, Common::AllButWidth)?;
        match self.regressor {
            VidRegressor::ThreeLayers => Ok(()),
            VidRegressor::Identity => self.pair.check_width(context),
        }
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        let parts = VidParts::new(self.regressor, &student, teacher.width(), device);
        Some(Parts::Vid(parts))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let Some(Parts::Vid(parts)) = context.parts else {
            panic!("{} runs with the parts that it asked for", self.name())
        };
        let (student, teacher) = self.pair.features(context);
        let student = rows(student, context.mask);
        let teacher = rows(teacher, context.mask);
        // A regressor that bends does not commute with the mean; RepDistiller pools first as well.
        let (student, teacher) = at_one_size(student, teacher);
        let rows = vid_no_reduction(parts.predict(student), teacher, parts.log_scale.val());
        context.mean(rows)
    }
}

#[cfg(test)]
#[path = "../tests/vid.rs"]
mod tests;
