//! Kernels between the samples of a batch.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::{Error, Result, check_positive};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::reduction::DifferenceReduction;
use crate::loss::relations::relative::relative;
use crate::ops::features::{Samples, length, unit, vectors};
use crate::ops::maps::at_one_size;
use crate::ops::vectors::or_one;

/// What the correlation of samples is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Correlation {
    /// A Gaussian of the distance of two samples, by its Taylor series, for all pairs. The default,
    /// with `γ` = 0.4 and `P` = 2.
    Gaussian {
        /// The factor `γ` of the squared distance, greater than 0.
        gamma: f64,
        /// The last power `P` of the series, at least 1.
        order: u32,
    },
    /// The inner product of two samples, for all pairs.
    Bilinear,
    /// The errors of each sample times those of the next, as RepDistiller computes it.
    Adjacent,
}

impl Default for Correlation {
    fn default() -> Self {
        Self::Gaussian {
            gamma: 0.4,
            order: 2,
        }
    }
}

/// Correlation congruence: how samples of a batch relate, by a kernel.
///
/// Like other losses on relations it compares how alike samples are, not what they look like; the
/// Gaussian tells near samples apart more finely than an inner product. Widths, ranks and sizes may
/// differ, except with `Adjacent`.
///
/// ```text
/// L(f_s, f_t) = (1/N²) ‖ K(f_s) − K(f_t) ‖²                        MeanSquare
///               (1/N²) ‖ K(f_s) − K(f_t) ‖                         Norm
///
/// K(f)_ij = e^(−2γ) Σ_{p=0..P} (2γ)^p/p! ⟨x_i, x_j⟩^p              Gaussian
///           ⟨x_i, x_j⟩                                             Bilinear
///
/// L(f_s, f_t) = (1/(N−1)) Σ_i Σ_d |s_i − t_i|_d |s_{i+1} − t_{i+1}|_d      Adjacent
///
/// x_i   feature of sample i, flattened, at length 1 if normalised      N   valid samples
/// s, t   the x of student and teacher      d   elements      γ, P   factor and order
/// ```
///
/// KDZoo computes the paper's form, `Gaussian`, normalised, `MeanSquare`. torchdistill computes
/// `Gaussian` or `Bilinear`, not normalised, `Norm`. RepDistiller computes `Adjacent`, not
/// normalised, which depends on the order of the samples and compares no matrices: `reduction` has
/// no say in it. For `Adjacent`, feature maps of different height or width are first brought to the
/// smaller of the two by adaptive average pooling; else they are flattened as they are.
///
/// As a term with weights each pair has the product of its samples', in `Norm` of their
/// `w · Σw / Σw²`, which are 1 where all are equal.
///
/// # Shapes
///
/// - student, teacher: `[N, ..]`, everything but `N` may differ; for `Adjacent` both `[N, D]`, both
///   `[N, T, D]` or both `[N, C, H, W]`
/// - output: `[1]`; 0 for `Adjacent` and `N` = 1
///
/// # Gradient
///
/// Through both factors of each inner product and, where normalised, through the lengths. None for a
/// zero vector that is normalised, none where matrices are equal or an error is 0, and none towards
/// the teacher.
///
/// # Panics
///
/// Panics if the numbers of samples differ, and for `Adjacent` if the elements do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Correlation, DifferenceReduction, correlation_congruence};
///
/// let device = Device::flex();
/// // To the student both samples are alike, to the teacher they have nothing in common.
/// let student = Tensor::<2>::from_floats([[2.0], [3.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
/// let reduction = DifferenceReduction::MeanSquare;
/// let loss = correlation_congruence(student, teacher, Correlation::Bilinear, true, reduction);
/// // [[1, 1], [1, 1]] against [[1, 0], [0, 1]]: two of four differ by 1.
/// assert!((loss.into_scalar::<f32>() - 0.5).abs() < 1e-6);
/// ```
///
/// # References
///
/// Peng et al.: Correlation Congruence for Knowledge Distillation, 2019, arXiv:1904.01802.
#[must_use]
pub fn correlation_congruence(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    correlation: Correlation,
    normalize: bool,
    reduction: DifferenceReduction,
) -> Tensor<1> {
    let (student, teacher) = (student.into(), teacher.into());
    let (student, teacher) = match correlation {
        Correlation::Adjacent => at_one_size(student, teacher),
        _ => (student, teacher),
    };
    let comparison = Comparison {
        correlation,
        normalize,
        reduction,
    };
    comparison.among(student, teacher, None)
}

/// How two features are compared.
struct Comparison {
    correlation: Correlation,
    normalize: bool,
    reduction: DifferenceReduction,
}

impl Comparison {
    fn among(&self, student: Feature, teacher: Feature, weights: Option<&Weights>) -> Tensor<1> {
        let (student, teacher, samples) = vectors(student, teacher, weights);
        let (student, teacher) = match self.normalize {
            true => (unit(student, 1), unit(teacher, 1)),
            false => (student, teacher),
        };
        let of = |vectors: Tensor<2>| -> Tensor<2> {
            let products = vectors.clone().matmul(vectors.transpose());
            match self.correlation {
                Correlation::Gaussian { gamma, order } => taylor(products, gamma, order),
                _ => products,
            }
        };
        match self.correlation {
            Correlation::Adjacent => adjacent(student, teacher, &samples),
            _ => reduced(of(student) - of(teacher), self.reduction, &samples),
        }
    }
}

/// The Gaussian kernel of unit vectors from their inner products, by its series up to `order`.
fn taylor(products: Tensor<2>, gamma: f64, order: u32) -> Tensor<2> {
    let x = products * (2.0 * gamma);
    let mut series = x.ones_like();
    for p in (1..=order).rev() {
        series = series * x.clone() / f64::from(p) + 1.0;
    }
    series * (-2.0 * gamma).exp()
}

fn reduced(difference: Tensor<2>, reduction: DifferenceReduction, samples: &Samples) -> Tensor<1> {
    match reduction {
        DifferenceReduction::MeanSquare => samples.mean(difference.square()),
        DifferenceReduction::Norm => {
            let difference = samples.keep(difference);
            let Some(weights) = relative(samples, &difference) else {
                return samples.per_tuple(length(difference.flatten(0, 1), 0), 2);
            };
            let root = weights.clone().sqrt();
            let rooted = difference * root.clone().unsqueeze_dim(0) * root.unsqueeze_dim(1);
            length(rooted.flatten(0, 1), 0) / or_one(weights.sum().square())
        }
    }
}

fn adjacent(student: Tensor<2>, teacher: Tensor<2>, samples: &Samples) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher features have one shape"
    );
    let error = (student - teacher).abs();
    let next = samples.weighted(samples.next(&error));
    let pairs = or_one(next.clone().sum());
    (error.clone() * next.matmul(error)).sum() / pairs
}

/// Correlation congruence as a term of an objective; see [`correlation_congruence`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `correlation` | `gaussian`, `gamma` 0.4, `order` 2 | `gaussian`, `bilinear`, `adjacent` | what correlation is |
/// | `normalize` | true | | whether features are brought to length 1 first |
/// | `reduction` | `mean_square` | `mean_square`, `norm` | how matrices are compared; not with `adjacent` |
///
/// With `adjacent`, where the widths differ, a projector from the student's to the teacher's is
/// inserted and trained with the student.
///
/// A mask of tokens leaves tokens out of the features, and samples without any out of the batch. The
/// next sample of `Adjacent` is the next valid one.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Correlation, CorrelationCongruence, DifferenceReduction, Loss};
///
/// // What torchdistill computes.
/// let loss = CorrelationCongruence::new("hidden", "hidden")
///     .with_correlation(Correlation::Bilinear)
///     .with_normalize(false)
///     .with_reduction(DifferenceReduction::Norm);
/// assert!(loss.validate().is_ok());
/// assert!(loss.with_correlation(Correlation::Adjacent).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CorrelationCongruence {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What the correlation of samples is.
    #[serde(default)]
    pub correlation: Correlation,
    /// Whether features are brought to length 1 first.
    #[serde(default = "default_normalize")]
    pub normalize: bool,
    /// How correlation matrices are compared.
    #[serde(default = "default_reduction")]
    pub reduction: DifferenceReduction,
}

fn default_normalize() -> bool {
    true
}

fn default_reduction() -> DifferenceReduction {
    DifferenceReduction::MeanSquare
}

impl CorrelationCongruence {
    /// The paper's correlations in the teacher's feature of one name for the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            correlation: Correlation::default(),
            normalize: default_normalize(),
            reduction: default_reduction(),
        }
    }

    /// Sets what the correlation of samples is.
    #[must_use]
    pub fn with_correlation(mut self, correlation: Correlation) -> Self {
        self.correlation = correlation;
        self
    }

    /// Sets whether features are brought to length 1 first.
    #[must_use]
    pub fn with_normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Sets how correlation matrices are compared.
    #[must_use]
    pub fn with_reduction(mut self, reduction: DifferenceReduction) -> Self {
        self.reduction = reduction;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("correlation_congruence", &self.student, &self.teacher)
    }

    fn is_adjacent(&self) -> bool {
        self.correlation == Correlation::Adjacent
    }
}

impl Loss for CorrelationCongruence {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        if let Correlation::Gaussian { gamma, .. } = self.correlation {
            check_positive("correlation_congruence.correlation.gamma", gamma)?;
        }
        match self.correlation {
            Correlation::Gaussian { order: 0, .. } => {
                return Err(Error::invalid(
                    "correlation_congruence.correlation.order",
                    0,
                    "a whole number of at least 1",
                ));
            }
            // There is no matrix to reduce.
            Correlation::Adjacent if self.reduction != default_reduction() => {
                return Err(Error::invalid(
                    "correlation_congruence.reduction",
                    "norm",
                    "its default where correlation is adjacent",
                ));
            }
            _ => {}
        }
        self.pair().validate("correlation_congruence")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let common = match self.is_adjacent() {
            true => Common::AllButWidth,
            false => Common::Samples,
        };
        self.pair().check(context, common)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        match self.is_adjacent() {
            true => self.pair().projector(context, device),
            false => None,
        }
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = match self.is_adjacent() {
            true => self.pair().aligned(context),
            false => self.pair().features(context),
        };
        let comparison = Comparison {
            correlation: self.correlation,
            normalize: self.normalize,
            reduction: self.reduction,
        };
        comparison.among(student, teacher, context.weights())
    }
}

#[cfg(test)]
#[path = "../tests/correlation_congruence.rs"]
mod tests;
