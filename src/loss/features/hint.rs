use burn::tensor::{Bool, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::Result;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::modules::projector::{Projector, Regressor};
use crate::loss::{Loss, LossContext};
use crate::ops::features::{counted, vectors};
use crate::ops::maps::at_one_size;
use crate::ops::vectors::{mask_rows, mean_square};

/// Hint: squared error between a feature of the student and one of the teacher.
///
/// The student learns not only what the teacher answers but how it gets there. Useful where both
/// have layers that mean the same, and for networks too deep to train on answers alone; across
/// unrelated architectures it can hurt, so compare with soft targets alone.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n (1/D) ‖ r(f_s) − f_t ‖²
///
/// f_s, f_t   features of student and teacher      r   projector to the teacher's width, if needed
/// N   samples that count                          D   elements of one sample's feature
/// ```
///
/// The paper writes ½‖·‖² and leaves the mean open; RepDistiller and KDZoo compute what is computed
/// here. Feature maps of different height or width are first brought to the smaller of the two by
/// adaptive average pooling.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂r = 2 (r − f_t) / (N·D)` towards student and projector; none towards the teacher.
///
/// # Panics
///
/// Panics if the ranks differ, or widths or tokens do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::hint;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0, 6.0]], &device);
/// let loss = hint(student.into(), teacher.into());
/// assert_eq!(loss.into_scalar::<f32>(), 12.5); // (3² + 4²) / 2
/// ```
///
/// # References
///
/// Romero et al.: FitNets: Hints for Thin Deep Nets, 2014, arXiv:1412.6550, eq. 3.
#[must_use]
pub fn hint(student: Feature, teacher: Feature) -> Tensor<1> {
    hint_no_reduction(student, teacher).mean()
}

/// [`hint`] with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the ranks differ, or widths or tokens do.
#[must_use]
pub fn hint_no_reduction(student: Feature, teacher: Feature) -> Tensor<1> {
    match at_one_size(student, teacher) {
        (Feature::Rank2(s), Feature::Rank2(t)) => mean_square(difference(s, t)),
        (Feature::Rank3(s), Feature::Rank3(t)) => mean_square(difference(s, t)),
        (Feature::Rank4(s), Feature::Rank4(t)) => mean_square(difference(s, t)),
        (s, t) => of_two_ranks(&s, &t),
    }
}

fn of_two_ranks(student: &Feature, teacher: &Feature) -> ! {
    panic!(
        "features have one rank: student has {:?}, teacher has {:?}",
        student.shape(),
        teacher.shape()
    )
}

fn difference<const D: usize>(student: Tensor<D>, teacher: Tensor<D>) -> Tensor<D> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher features have one shape"
    );
    student - teacher.without_autodiff()
}

/// Config of [`Hint`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
/// | `regressor` | `auto` | `auto`, `linear`, `conv1x1`, `conv_bn_relu`, `mlp` | the map `r`, a [`Regressor`] |
///
/// The regressor maps the student's width to the teacher's and is trained with the student. By
/// default there is one only where the widths differ: a linear layer, or a 1×1 convolution for
/// feature maps. It comes after pooling, so that it is always one map per place.
///
/// # Example
///
/// ```
/// use burn_distill::Regressor;
/// use burn_distill::loss::HintConfig;
///
/// let config = HintConfig::new("block2", "block4").with_regressor(Regressor::ConvBnRelu);
/// assert_eq!(config.teacher, "block4");
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HintConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// The map from the student's feature to the teacher's.
    #[serde(default)]
    pub regressor: Regressor,
}

impl HintConfig {
    /// A hint from the teacher's feature of one name to the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            regressor: Regressor::default(),
        }
    }

    /// Sets the map from the student's feature to the teacher's.
    #[must_use]
    pub fn with_regressor(mut self, regressor: Regressor) -> Self {
        self.regressor = regressor;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty. Whether the
    /// models have such features, and whether the regressor fits them, shows only when they run, in
    /// the check before training.
    pub fn init(&self) -> Result<Hint> {
        Ok(Hint {
            pair: FeaturePair::new("hint", &self.student, &self.teacher)?,
            regressor: self.regressor,
        })
    }
}

/// Feature matching as a term of an objective; see [`hint`](fn@hint) for the formula.
#[derive(Debug, Clone)]
pub struct Hint {
    pair: FeaturePair,
    regressor: Regressor,
}

impl Loss for Hint {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check(context, Common::AllButWidth)?;
        let (ranks, expected) = self.regressor.ranks();
        self.pair.check_ranks(context, ranks, expected)
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        Projector::of(self.regressor, &student, &teacher, device).map(Parts::from)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        match (context.parts, context.mask) {
            (Some(Parts::Projector(projector)), Some(mask)) if projector.mixes_samples() => {
                let (student, teacher) = self.pair.features(context);
                among_counted(student, teacher, projector, mask)
            }
            _ => {
                let (student, teacher) = self.pair.alike(context);
                mean_of_counted(student, teacher, context)
            }
        }
    }
}

/// The mean over rows that count, of features at one size and of one width.
fn mean_of_counted(student: Feature, teacher: Feature, context: &LossContext<'_>) -> Tensor<1> {
    match (student, teacher) {
        (Feature::Rank2(s), Feature::Rank2(t)) => masked_mean(difference(s, t), context),
        (Feature::Rank3(s), Feature::Rank3(t)) => {
            let x = difference(s, t);
            let [samples, tokens, _] = x.dims();
            match context.mask {
                // A mask of tokens: every token is a row of its own.
                Some(mask) if mask.dims()[0] == samples * tokens => {
                    masked_mean(x.flatten::<2>(0, 1), context)
                }
                _ => masked_mean(x, context),
            }
        }
        (Feature::Rank4(s), Feature::Rank4(t)) => masked_mean(difference(s, t), context),
        (s, t) => of_two_ranks(&s, &t),
    }
}

fn masked_mean<const D: usize>(x: Tensor<D>, context: &LossContext<'_>) -> Tensor<1> {
    let x = match context.mask {
        Some(mask) => mask_rows(x, &mask.clone().bool_not()),
        None => x,
    };
    context.mean(mean_square(x))
}

/// The hint among the samples that count alone: a projector that looks across samples must not see
/// the others.
fn among_counted(
    student: Feature,
    teacher: Feature,
    projector: &Projector,
    mask: &Tensor<1, Bool>,
) -> Tensor<1> {
    let (Some(s), Some(t)) = (counted(&student, mask), counted(&teacher, mask)) else {
        // The sum of nothing but zeros, which a backward pass can start from.
        return vectors(student, teacher, Some(mask)).0.sum();
    };
    let (s, t) = at_one_size(s, t);
    hint(projector.forward(s), t)
}

#[cfg(test)]
#[path = "../tests/hint.rs"]
mod tests;
