use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::modules::conv_norm::ConvNorm;
use crate::loss::{Loss, LossContext};
use crate::ops::maps::matched;

/// How the values of the samples become the value of the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OverhaulReduction {
    /// Their mean: mdistiller. The default.
    #[default]
    Mean,
    /// Their sum: the authors' own code, which scales it elsewhere. It grows with the batch.
    Sum,
}

/// Overhaul of feature distillation: a squared error that follows only what the teacher's ReLU lets
/// through.
///
/// The teacher's feature is taken *before* its ReLU and cut off at a negative margin per channel,
/// which [`margins`] gives. Where the teacher's neuron is off, the student is only asked to be off
/// too: being further below zero than the teacher costs nothing.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n Σ_chw d(f_s, max(f_t, m_c))
///
/// d(s, t) = 0          where s ≤ t and f_t ≤ 0
///           (s − t)²   elsewhere
///
/// f_s, f_t   feature maps of student and teacher before their ReLU      m_c   margin of channel c
/// N   samples that count
/// ```
///
/// The sum over all elements of a sample makes this large: mdistiller and the authors weigh it by
/// 0.001, and layer `i` of `L`, counted from 0, by another `2^(i + 1 − L)`. Maps of different
/// height or width are first brought to the smaller of the two by adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: `[N, C, H, W]`
/// - margin: `[C]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂f_s = 2 (f_s − max(f_t, m_c)) / N` where an element counts; none towards the teacher or the
/// margins.
///
/// # Panics
///
/// Panics if the numbers of samples or channels differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{OverhaulReduction, overhaul};
///
/// let device = Device::flex();
/// let map = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device).reshape([1, 1, 2, 2]);
/// let student = map([1.0, 2.0, -3.0, -1.0]);
/// let teacher = map([3.0, -9.0, -0.2, -0.2]);
/// let margin = Tensor::<1>::from_floats([-0.5], &device);
///
/// // (1 − 3)² + (2 + 0.5)², and nothing for the two that are off on both sides
/// let loss = overhaul(student, teacher, margin, OverhaulReduction::Mean);
/// assert_eq!(loss.into_scalar::<f32>(), 10.25);
/// ```
///
/// # References
///
/// Heo et al.: A Comprehensive Overhaul of Feature Distillation, 2019, arXiv:1904.01866.
#[must_use]
pub fn overhaul(
    student: Tensor<4>,
    teacher: Tensor<4>,
    margin: Tensor<1>,
    reduction: OverhaulReduction,
) -> Tensor<1> {
    let rows = overhaul_no_reduction(student, teacher, margin);
    match reduction {
        OverhaulReduction::Mean => rows.mean(),
        OverhaulReduction::Sum => rows.sum(),
    }
}

/// [`overhaul`](fn@overhaul) with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the numbers of samples or channels differ.
#[must_use]
pub fn overhaul_no_reduction(
    student: Tensor<4>,
    teacher: Tensor<4>,
    margin: Tensor<1>,
) -> Tensor<1> {
    let (student, teacher) = matched(student, teacher.without_autodiff());
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher maps have one shape"
    );
    let channels = margin.dims()[0];
    let margin = margin.without_autodiff().reshape([1, channels, 1, 1]);
    let on = teacher.clone().greater_elem(0.0);
    let target = teacher.max_pair(margin.expand(student.dims()));
    let difference = student - target;
    let counts = difference.clone().greater_elem(0.0).bool_or(on);
    let difference: Tensor<2> = difference.mask_fill(counts.bool_not(), 0.0).flatten(1, 3);
    (difference.clone() * difference).sum_dim(1).squeeze_dim(1)
}

/// The margins of [`overhaul`](fn@overhaul) from the batch norm in front of the teacher's ReLU: for
/// each channel the mean of what is negative.
///
/// ```text
/// m_c = E[x | x < 0] = β − |γ|·φ(β/|γ|) / Φ(−β/|γ|),   x normal with mean β and deviation |γ|
///
/// γ, β   scale and shift of the batch norm      φ, Φ   density and distribution of the normal
/// ```
///
/// Where at most one value in a thousand is negative, `m_c = −3·|γ|` as in the authors' code. A
/// channel without deviation, γ = 0, has the margin `min(β, 0)`. Computed in double precision.
///
/// # Shapes
///
/// - gamma, beta: `[C]`
/// - output: `C` numbers of at most 0
///
/// # Panics
///
/// Panics if the lengths differ.
///
/// # Example
///
/// ```
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::Device;
/// use burn_distill::loss::{OverhaulConfig, margins};
///
/// // A batch norm of the teacher; a fresh one has γ = 1 and β = 0.
/// let norm = BatchNormConfig::new(3).init(&Device::flex());
/// let margins = margins(norm.gamma.val(), norm.beta.val());
/// let half_normal = -(2.0 / std::f64::consts::PI).sqrt();
/// assert!(margins.iter().all(|m| (m - half_normal).abs() < 1e-12));
///
/// assert!(OverhaulConfig::new("block2", "block4", margins).init().is_ok());
/// ```
///
/// # References
///
/// Heo et al.: A Comprehensive Overhaul of Feature Distillation, 2019, arXiv:1904.01866.
#[must_use]
pub fn margins(gamma: Tensor<1>, beta: Tensor<1>) -> Vec<f64> {
    assert_eq!(gamma.dims(), beta.dims(), "scale and shift have one length");
    let read = |x: Tensor<1>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    let channels = read(gamma).into_iter().zip(read(beta));
    channels
        .map(|(scale, shift)| negative_mean(shift, scale.abs()))
        .collect()
}

/// The mean of the negative values of a normal distribution.
fn negative_mean(mean: f64, deviation: f64) -> f64 {
    if deviation == 0.0 {
        return mean.min(0.0);
    }
    let ratio = mean / deviation;
    let negative = distribution(-ratio);
    match negative > 0.001 {
        true => mean - deviation * density(ratio) / negative,
        false => -3.0 * deviation,
    }
}

/// φ, the density of the standard normal.
fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

/// Φ, the distribution of the standard normal: ½ + φ(x)·(x + x³/3 + x⁵/(3·5) + …).
fn distribution(x: f64) -> f64 {
    // Beyond, it is 0 or 1 to 15 digits.
    if x.abs() > 8.0 {
        return f64::from(x > 0.0);
    }
    let (mut sum, mut term, mut odd) = (0.0, x, 1.0);
    while sum + term != sum {
        sum += term;
        odd += 2.0;
        term *= x * x / odd;
    }
    0.5 + density(x) * sum
}

/// Config of [`Overhaul`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `margins` | required | at most 0 each, one per channel of the teacher | where the teacher's feature is cut off; see [`margins`] |
/// | `reduction` | `mean` | `mean`, `sum` | how the samples are reduced |
///
/// The student's maps pass through a 1×1 convolution to the teacher's width and batch norm, which
/// are trained with the student, also where the widths agree.
///
/// Batch norm uses the statistics of the batch in training and running ones in validation: over the
/// first epochs, until the latter have arrived, the validation value of this term says little.
///
/// # Example
///
/// ```
/// use burn_distill::loss::OverhaulConfig;
///
/// assert!(OverhaulConfig::new("block2", "block4", vec![-0.5, -1.0]).init().is_ok());
/// assert!(OverhaulConfig::new("block2", "block4", vec![0.5]).init().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OverhaulConfig {
    /// The student's feature, before its ReLU.
    pub student: String,
    /// The teacher's feature, before its ReLU.
    pub teacher: String,
    /// Where the teacher's feature is cut off, one number per channel.
    pub margins: Vec<f64>,
    /// How the samples are reduced.
    #[serde(default)]
    pub reduction: OverhaulReduction,
}

impl OverhaulConfig {
    /// The teacher's feature of one name for the student's of another, with the teacher's
    /// [`margins`].
    pub fn new(student: impl Into<String>, teacher: impl Into<String>, margins: Vec<f64>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            margins,
            reduction: OverhaulReduction::default(),
        }
    }

    /// Sets how the samples are reduced.
    #[must_use]
    pub fn with_reduction(mut self, reduction: OverhaulReduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if a name is empty, or a margin is not a number of at most 0.
    /// Whether the models have such features, and as many channels as there are margins, shows only
    /// when they run, in the check before training.
    pub fn init(&self) -> Result<Overhaul> {
        let pair = FeaturePair::new("overhaul", &self.student, &self.teacher)?;
        match self.margins.iter().find(|m| !(m.is_finite() && **m <= 0.0)) {
            None => Ok(Overhaul {
                pair,
                margins: self.margins.clone(),
                reduction: self.reduction,
            }),
            Some(margin) => {
                let expected = "a number of at most 0";
                Err(Error::invalid("overhaul.margins", margin, expected))
            }
        }
    }
}

/// What [`Overhaul`] trains along: a 1×1 convolution to the teacher's width and batch norm.
#[derive(Module, Debug)]
pub struct OverhaulRegressor {
    layer: ConvNorm,
}

impl OverhaulRegressor {
    fn forward(&self, x: Tensor<4>, mask: Option<&Tensor<1, Bool>>) -> Tensor<4> {
        self.layer.forward(x, mask)
    }

    pub(crate) fn describe(&self) -> String {
        self.layer.describe()
    }
}

/// The overhaul of feature distillation as a term of an objective; see [`overhaul`](fn@overhaul)
/// for the formula.
#[derive(Debug, Clone)]
pub struct Overhaul {
    pair: FeaturePair,
    margins: Vec<f64>,
    reduction: OverhaulReduction,
}

impl Loss for Overhaul {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check(context, Common::AllButWidth)?;
        self.pair.check_maps(context)?;
        let (_, teacher) = self.pair.find(context)?;
        match self.margins.len() == teacher.width() {
            true => Ok(()),
            false => Err(Error::invalid(
                format!("term {:?}: the number of margins", self.name()),
                self.margins.len(),
                "one for each channel of the teacher's feature",
            )),
        }
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        let layer = ConvNorm::new([student.width(), teacher.width()], 1, device);
        Some(Parts::Overhaul(OverhaulRegressor { layer }))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let Some(Parts::Overhaul(regressor)) = context.parts else {
            panic!("{} runs with the parts that it asked for", self.name())
        };
        let (student, teacher) = self.pair.maps(context);
        let (student, teacher) = matched(student, teacher);
        let student = regressor.forward(student, context.mask);
        let margin = Tensor::<1>::from_floats(self.margins.as_slice(), &teacher.device());
        let margin = margin.cast(teacher.dtype());
        let rows = overhaul_no_reduction(student, teacher, margin);
        match (self.reduction, context.mask) {
            (OverhaulReduction::Mean, _) => context.mean(rows),
            (OverhaulReduction::Sum, None) => rows.sum(),
            (OverhaulReduction::Sum, Some(mask)) => {
                rows.mask_fill(mask.clone().bool_not(), 0.0).sum()
            }
        }
    }
}

#[cfg(test)]
#[path = "../tests/overhaul.rs"]
mod tests;
