//! The set of channels of feature maps: neuron selectivity transfer.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::features::{Samples, channels, unit};
use crate::ops::kernel::{Kernel, discrepancy};

/// Neuron selectivity transfer: the discrepancy between the sets of channels of two layers.
///
/// A channel is the pattern of positions that it responds to. The student's set of patterns shall be
/// distributed like the teacher's, whichever channel carries which, so widths may differ and there is
/// nothing to train. For convolutional networks.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n [ mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) − 2 mean_ij k(s_i, t_j) ]
///
/// s_i, t_j   channels of student and teacher over all positions, each at length 1
/// k   kernel, (⟨x, y⟩ + c)^d or exp(−‖x − y‖² / 2σ²)      N   samples, weighted if there are weights
/// σ²   mean squared distance ‖s_i − t_j‖² of a sample's channels, a constant
/// ```
///
/// RepDistiller, mdistiller and KDZoo compute this with the polynomial kernel, `d` = 2 and `c` = 0,
/// weighted with 50. Only inner products between channels are kept, `N·C²` numbers, never the
/// products of channels pixel by pixel. Feature maps of different height or width are first brought
/// to the smaller of the two by adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, C, H, W]` or both `[N, T, C]`; `C` may differ
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// Through the student's channels and their norms; not through `σ²`. None for a channel that is zero
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
/// use burn_distill::loss::{Kernel, nst};
///
/// let device = Device::flex();
/// // One channel each over two positions, with patterns [1, 0] and [0, 1].
/// let student = Tensor::<4>::from_floats([[[[3.0, 0.0]]]], &device);
/// let teacher = Tensor::<4>::from_floats([[[[0.0, 5.0]]]], &device);
/// let kernel = Kernel::Polynomial { degree: 2, offset: 0.0 };
/// let loss = nst(student, teacher, kernel).mean();
/// assert!((loss.into_scalar::<f32>() - 2.0).abs() < 1e-6); // 1 + 1 − 2·0
/// ```
///
/// # References
///
/// Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017,
/// arXiv:1707.01219.
pub fn nst(student: impl Into<Feature>, teacher: impl Into<Feature>, kernel: Kernel) -> LossValue {
    LossValue::composed(per_sample(student.into(), teacher.into(), None, kernel).0)
}

fn per_sample(
    student: Feature,
    teacher: Feature,
    weights: Option<&Weights>,
    kernel: Kernel,
) -> (Tensor<1>, Samples) {
    let (student, teacher, samples) = channels(student, teacher, weights);
    let (student, teacher) = (unit(student, 2), unit(teacher, 2));
    let values = discrepancy(student, teacher, kernel, |k| k.mean_dim(2).mean_dim(1));
    (values, samples)
}

/// Neuron selectivity transfer as a term of an objective; see [`nst`](fn@nst) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `kernel` | polynomial of degree 2, offset 0 | a [`Kernel`] | how channels are compared |
///
/// Tokens or positions of weight 0 are left out of the channels.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Kernel, Loss, Nst};
///
/// let loss = Nst::new("block3", "block3").with_kernel(Kernel::Gaussian);
/// assert!(loss.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Nst {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// How channels are compared.
    #[serde(default = "default_kernel")]
    pub kernel: Kernel,
}

fn default_kernel() -> Kernel {
    Kernel::Polynomial {
        degree: 2,
        offset: 0.0,
    }
}

impl Nst {
    /// The channels of the teacher's feature of one name for the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            kernel: default_kernel(),
        }
    }

    /// Sets how channels are compared.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("nst", &self.student, &self.teacher)
    }
}

impl Loss for Nst {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.kernel.check("nst.kernel")?;
        self.pair().validate("nst")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let expected = "[N, C, H, W] or [N, T, D]";
        self.pair().check_ranks(context, &[3, 4], expected)?;
        self.pair().check(context, Common::AllButWidth)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().features(context);
        let (values, samples) = per_sample(student, teacher, context.weights(), self.kernel);
        samples.mean(values)
    }
}

#[cfg(test)]
#[path = "../tests/nst.rs"]
mod tests;
