use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::Result;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::{Loss, LossContext};
use crate::ops::features::{Samples, channels, unit};
use crate::ops::kernel::{Kernel, discrepancy};

/// Neuron selectivity transfer: the discrepancy between the sets of channels of two layers.
///
/// A channel is the pattern of places that it responds to. The student's set of patterns shall be
/// distributed like the teacher's, whichever channel carries which, so widths may differ and nothing
/// is trained along. For convolutional networks.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n [ mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) − 2 mean_ij k(s_i, t_j) ]
///
/// s_i, t_j   channels of student and teacher over all places, each at length 1
/// k   kernel, (⟨x, y⟩ + c)^d or exp(−‖x − y‖² / 2σ²)      N   samples that count
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
/// - output: `[1]`
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
/// // One channel each over two places, with patterns [1, 0] and [0, 1].
/// let student = Tensor::<4>::from_floats([[[[3.0, 0.0]]]], &device);
/// let teacher = Tensor::<4>::from_floats([[[[0.0, 5.0]]]], &device);
/// let kernel = Kernel::Polynomial { degree: 2, offset: 0.0 };
/// let loss = nst(student.into(), teacher.into(), kernel);
/// assert!((loss.into_scalar::<f32>() - 2.0).abs() < 1e-6); // 1 + 1 − 2·0
/// ```
///
/// # References
///
/// Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017,
/// arXiv:1707.01219.
#[must_use]
pub fn nst(student: Feature, teacher: Feature, kernel: Kernel) -> Tensor<1> {
    nst_no_reduction(student, teacher, kernel).mean()
}

/// [`nst`] with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the ranks, the numbers of samples or of tokens differ, or if the rank is 2.
#[must_use]
pub fn nst_no_reduction(student: Feature, teacher: Feature, kernel: Kernel) -> Tensor<1> {
    per_sample(student, teacher, None, kernel).0
}

fn per_sample(
    student: Feature,
    teacher: Feature,
    mask: Option<&Tensor<1, Bool>>,
    kernel: Kernel,
) -> (Tensor<1>, Samples) {
    let (student, teacher, samples) = channels(student, teacher, mask);
    let (student, teacher) = (unit(student, 2), unit(teacher, 2));
    let values = discrepancy(student, teacher, kernel, |k| k.mean_dim(2).mean_dim(1));
    (values, samples)
}

/// Config of [`Nst`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `kernel` | polynomial of degree 2, offset 0 | a [`Kernel`] | how channels are compared |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Kernel, NstConfig};
///
/// let config = NstConfig::new("block3", "block3").with_kernel(Kernel::Gaussian);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NstConfig {
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

impl NstConfig {
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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty or a number of
    /// the kernel is out of range.
    pub fn init(&self) -> Result<Nst> {
        self.kernel.check("nst.kernel")?;
        Ok(Nst {
            pair: FeaturePair::new("nst", &self.student, &self.teacher)?,
            kernel: self.kernel,
        })
    }
}

/// Neuron selectivity transfer as a term of an objective; see [`nst`](fn@nst) for the formula.
///
/// A mask of tokens leaves tokens out of the channels, and samples without any out of the mean.
#[derive(Debug, Clone)]
pub struct Nst {
    pair: FeaturePair,
    kernel: Kernel,
}

impl Loss for Nst {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let expected = "[N, C, H, W] or [N, T, D]";
        self.pair.check_ranks(context, &[3, 4], expected)?;
        self.pair.check(context, Common::AllButWidth)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair.features(context);
        let (values, samples) = per_sample(student, teacher, context.mask, self.kernel);
        samples.mean(values)
    }
}

#[cfg(test)]
#[path = "../tests/nst.rs"]
mod tests;
