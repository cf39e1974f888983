//! Feature maps before their ReLU, above a margin: the overhaul of feature distillation.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::modules::conv_norm::ConvNorm;
use crate::loss::reduction::Reduction;
use crate::loss::value::LossValue;
use crate::ops::features::{Elements, Samples};
use crate::ops::maps::matched;

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
/// N   samples, weighted if there are weights
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
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂f_s = 2 (f_s − max(f_t, m_c)) / N` where an element is compared; none towards the teacher or the
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
/// use burn_distill::loss::overhaul;
///
/// let device = Device::flex();
/// let map = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device).reshape([1, 1, 2, 2]);
/// let student = map([1.0, 2.0, -3.0, -1.0]);
/// let teacher = map([3.0, -9.0, -0.2, -0.2]);
/// let margin = Tensor::<1>::from_floats([-0.5], &device);
///
/// // (1 − 3)² + (2 + 0.5)², and nothing for the two that are off on both sides
/// let loss = overhaul(student, teacher, margin).mean();
/// assert_eq!(loss.into_scalar::<f32>(), 10.25);
/// ```
///
/// # References
///
/// Heo et al.: A Comprehensive Overhaul of Feature Distillation, 2019, arXiv:1904.01866.
pub fn overhaul(student: Tensor<4>, teacher: Tensor<4>, margin: Tensor<1>) -> LossValue {
    let (student, teacher) = matched(student, teacher);
    LossValue::composed(partial_errors(student, teacher, margin).sums(None))
}

/// The squared errors where the student is not off enough, of maps of one size.
fn partial_errors(student: Tensor<4>, teacher: Tensor<4>, margin: Tensor<1>) -> Elements {
    let shape = student.dims();
    assert_eq!(
        shape,
        teacher.dims(),
        "student and teacher maps have one shape"
    );
    let [_, channels, height, width] = shape;
    let margin = margin.without_autodiff().reshape([1, channels, 1, 1]);
    let margin: Tensor<4> = margin.expand([1, channels, height, width]);
    let margin: Tensor<2> = margin.reshape([1, channels * height * width]);
    Elements::between(student.into(), teacher.into(), |student, teacher| {
        let on = teacher.clone().greater_elem(0.0);
        let target = teacher.max_pair(margin.expand(student.dims()));
        let difference = student - target;
        let is_below = difference.clone().lower_equal_elem(0.0);
        let difference = difference.mask_fill(is_below.bool_and(on.bool_not()), 0.0);
        difference.clone() * difference
    })
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
/// use burn_distill::loss::{Loss, Overhaul, margins};
///
/// // A batch norm of the teacher; a fresh one has γ = 1 and β = 0.
/// let norm = BatchNormConfig::new(3).init(&Device::flex());
/// let margins = margins(norm.gamma.val(), norm.beta.val());
/// let half_normal = -(2.0 / std::f64::consts::PI).sqrt();
/// assert!(margins.iter().all(|m| (m - half_normal).abs() < 1e-12));
///
/// assert!(Overhaul::new("block2", "block4", margins).validate().is_ok());
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

/// The overhaul of feature distillation as a term of an objective; see [`overhaul`](fn@overhaul)
/// for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `margins` | required | at most 0 each, one per channel of the teacher | where the teacher's feature is cut off; see [`margins`] |
/// | `reduction` | `mean` | `mean`, `sum` | how the samples are reduced: mdistiller takes their mean, the authors' own code their sum, which grows with the batch and is scaled elsewhere |
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
/// use burn_distill::loss::{Loss, Overhaul};
///
/// assert!(Overhaul::new("block2", "block4", vec![-0.5, -1.0]).validate().is_ok());
/// assert!(Overhaul::new("block2", "block4", vec![0.5]).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Overhaul {
    /// The student's feature, before its ReLU.
    pub student: String,
    /// The teacher's feature, before its ReLU.
    pub teacher: String,
    /// Where the teacher's feature is cut off, one number per channel.
    pub margins: Vec<f64>,
    /// How the samples are reduced.
    #[serde(default)]
    pub reduction: Reduction,
}

impl Overhaul {
    /// The teacher's feature of one name for the student's of another, with the teacher's
    /// [`margins`].
    pub fn new(student: impl Into<String>, teacher: impl Into<String>, margins: Vec<f64>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            margins,
            reduction: Reduction::default(),
        }
    }

    /// Sets how the samples are reduced.
    #[must_use]
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("overhaul", &self.student, &self.teacher)
    }
}

/// What [`Overhaul`] trains: a 1×1 convolution to the teacher's width and batch norm.
#[derive(Module, Debug)]
struct OverhaulRegressor {
    layer: ConvNorm,
}

impl Loss for Overhaul {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("overhaul")?;
        match self.margins.iter().find(|m| !(m.is_finite() && **m <= 0.0)) {
            None => Ok(()),
            Some(margin) => {
                let expected = "a number of at most 0";
                Err(Error::invalid("overhaul.margins", margin, expected))
            }
        }
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)?;
        self.pair().check_maps(context)?;
        let (_, teacher) = self.pair().find(context)?;
        match self.margins.len() == teacher.width() {
            true => Ok(()),
            false => Err(Error::invalid(
                format!("term {:?}: the number of margins", self.name()),
                self.margins.len(),
                "one for each channel of the teacher's feature",
            )),
        }
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let (student, teacher) = self.pair().features(context);
        let layer = ConvNorm::new([student.width(), teacher.width()], 1, device);
        Some(LossModules::new(OverhaulRegressor { layer }))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let regressor: &OverhaulRegressor = context.modules.expect("a regressor").get();
        let (student, teacher) = self.pair().aligned_maps(context);
        let weights = context.weights();
        let student = regressor.layer.forward(student, weights);
        let samples = Samples::of(&student.clone().into(), &teacher.clone().into(), weights);
        let options = (&teacher.device(), teacher.dtype());
        let margin = Tensor::<1>::from_data(self.margins.as_slice(), options);
        let values = partial_errors(student, teacher, margin).sums(weights);
        match self.reduction {
            Reduction::Mean => samples.mean(values),
            Reduction::Sum => samples.weighted(values).sum(),
        }
    }
}

#[cfg(test)]
#[path = "../tests/overhaul.rs"]
mod tests;
