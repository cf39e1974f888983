//! The distribution of features in a batch.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::ops::features::vectors;
use crate::ops::kernel::{Kernel, discrepancy};
use crate::ops::maps::at_one_size;

/// Maximum mean discrepancy: the distance between the distributions of two sets of features.
///
/// The features of a batch shall be distributed like the teacher's; which sample has which is left
/// open. Softer than matching sample by sample, and for the same reason no replacement for a loss
/// that does: add it to one.
///
/// ```text
/// L(f_s, f_t) = mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) − 2 mean_ij k(s_i, t_j)
///
/// s_i, t_j   features of student and teacher, one flattened vector per sample
/// k   kernel, ⟨x, y⟩, (⟨x, y⟩ + c)^d or exp(−‖x − y‖² / 2σ²)
/// σ²   mean squared distance ‖s_i − t_j‖² in the batch, a constant
/// ```
///
/// The square of the discrepancy, in its biased estimate, which is never below 0 but for rounding.
/// The means run over the valid samples, pairs of a sample with itself included; with weights a pair
/// has the product of its samples'. What TextBrewer calls `mmd` is another thing, a squared error
/// between inner products of tokens.
/// Feature maps of different height or width are first brought to the smaller of the two by adaptive
/// average pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`
/// - output: `[1]`
///
/// # Gradient
///
/// Through the student's vectors, not through `σ²`; none towards the teacher.
///
/// # Panics
///
/// Panics if the numbers of samples or, once flattened, of elements differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Kernel, mmd};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0], [3.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0], [2.0]], &device);
/// // To the linear kernel only the means count, 2 and 3.
/// let loss = mmd(student, teacher, Kernel::Linear);
/// assert!((loss.into_scalar::<f32>() - 1.0).abs() < 1e-5);
/// ```
///
/// # References
///
/// Gretton et al.: A Kernel Method for the Two-Sample Problem, 2008, arXiv:0805.2368. Huang, Wang:
/// Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017, arXiv:1707.01219,
/// for its use in distillation and for `σ²`.
#[must_use]
pub fn mmd(student: impl Into<Feature>, teacher: impl Into<Feature>, kernel: Kernel) -> Tensor<1> {
    let (student, teacher) = at_one_size(student.into(), teacher.into());
    among(student, teacher, None, kernel)
}

fn among(
    student: Feature,
    teacher: Feature,
    weights: Option<&Weights>,
    kernel: Kernel,
) -> Tensor<1> {
    let (student, teacher, samples) = vectors(student, teacher, weights);
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher features have one shape"
    );
    // One pair of sets: the batch.
    let (student, teacher) = (student.unsqueeze_dim(0), teacher.unsqueeze_dim(0));
    discrepancy(student, teacher, kernel, |k: Tensor<3>| {
        samples.mean::<2>(k.squeeze_dim(0)).reshape([1, 1, 1])
    })
}

/// Maximum mean discrepancy as a term of an objective; see [`mmd`](fn@mmd) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `kernel` | `gaussian` | a [`Kernel`] | how vectors are compared |
///
/// Where the widths differ, a projector from the student's to the teacher's is inserted and
/// trained with the student. A mask of tokens leaves tokens out of the features, and samples without
/// any out of the sets.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Kernel, Loss, Mmd};
///
/// let kernel = Kernel::Polynomial { degree: 3, offset: 1.0 };
/// let loss = Mmd::new("hidden", "hidden").with_kernel(kernel);
/// assert!(loss.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mmd {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// How vectors are compared.
    #[serde(default = "default_kernel")]
    pub kernel: Kernel,
}

fn default_kernel() -> Kernel {
    Kernel::Gaussian
}

impl Mmd {
    /// The distribution of the teacher's feature of one name for the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            kernel: default_kernel(),
        }
    }

    /// Sets how vectors are compared.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("mmd", &self.student, &self.teacher)
    }
}

impl Loss for Mmd {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.kernel.check("mmd.kernel")?;
        self.pair().validate("mmd")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        self.pair().projector(context, device)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().aligned(context);
        among(student, teacher, context.weights(), self.kernel)
    }
}

#[cfg(test)]
#[path = "../tests/mmd.rs"]
mod tests;
