use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::{Error, Result};
use crate::loss::features::pair::{FeaturePair, check_mask};
use crate::loss::{Loss, LossContext};
use crate::ops::vectors::{mask_rows, mean_rows, unit};

/// Patient distillation: squared distance between the normalised \[CLS\] states of one layer of
/// student and teacher.
///
/// What a BERT-like classifier knows about a text is in the state of its first token. The student
/// follows the teacher there through several layers, not only at the end; only the direction of a
/// state counts. Use it between transformers of one width, beside soft targets and labels, with a
/// pair for every layer of the student: the last ones of the teacher or every other one.
///
/// ```text
/// L(h_s, h_t) = (1/N) Σ_n ‖ h_s/‖h_s‖ − h_t/‖h_t‖ ‖²
///
/// h_s, h_t   states of the first token in student and teacher      N   samples that count
/// ```
///
/// TextBrewer computes the same, and NaN for a zero vector, which here stays zero. [`PatientKd`]
/// sums over its pairs of layers, as the paper does.
///
/// # Shapes
///
/// - student, teacher: `[N, T, D]`, of which token 0 is compared, or `[N, D]`
/// - output: `[1]`, from 0 to 4
///
/// # Gradient
///
/// `∂L/∂h_s = 2 (⟨ĥ_s, ĥ_t⟩ ĥ_s − ĥ_t) / (‖h_s‖·N)` with unit vectors `ĥ`; none towards the teacher.
/// At a zero vector it is `−2 ĥ_t / N`.
///
/// # Panics
///
/// Panics if samples or widths differ, or for feature maps `[N, C, H, W]`.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::patient_kd;
///
/// let device = Device::flex();
/// // The second token does not count.
/// let student = Tensor::<3>::from_floats([[[3.0, 4.0], [7.0, 7.0]]], &device);
/// let teacher = Tensor::<2>::from_floats([[5.0, 0.0]], &device);
/// let loss = patient_kd(student.into(), teacher.into());
/// assert!((loss.into_scalar::<f32>() - 0.8).abs() < 1e-6); // (3/5 − 1)² + (4/5)²
/// ```
///
/// # References
///
/// Sun, Cheng, Gan, Liu: Patient Knowledge Distillation for BERT Model Compression, 2019,
/// arXiv:1908.09355, eq. 7.
#[must_use]
pub fn patient_kd(student: Feature, teacher: Feature) -> Tensor<1> {
    patient_kd_no_reduction(student, teacher).mean()
}

/// [`patient_kd`] with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if samples or widths differ, or for feature maps `[N, C, H, W]`.
#[must_use]
pub fn patient_kd_no_reduction(student: Feature, teacher: Feature) -> Tensor<1> {
    distance(first(student), first(teacher))
}

/// The state of the first token, `[N, D]`.
fn first(feature: Feature) -> Tensor<2> {
    match feature {
        Feature::Rank2(x) => x,
        Feature::Rank3(x) => x.narrow(1, 0, 1).squeeze_dim(1),
        other => panic!("hidden states have rank 2 or 3, got {:?}", other.shape()),
    }
}

fn distance(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher states have one shape"
    );
    let difference = unit(student) - unit(teacher.without_autodiff());
    (difference.clone() * difference).sum_dim(1).squeeze_dim(1)
}

/// The name of the term, whatever its features.
const NAME: &str = "patient_kd";

/// Config of [`PatientKd`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `pairs` | required | at least one | a feature of the student and one of the teacher each |
///
/// # Example
///
/// ```
/// use burn_distill::loss::PatientKdConfig;
///
/// // Every other layer of a teacher of six.
/// let config = PatientKdConfig::new("layer1", "layer2").with_pair("layer2", "layer4");
/// assert_eq!(config.pairs.len(), 2);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PatientKdConfig {
    /// The features that are compared, the student's first.
    pub pairs: Vec<(String, String)>,
}

impl PatientKdConfig {
    /// Compares the student's feature of one name with the teacher's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self { pairs: Vec::new() }.with_pair(student, teacher)
    }

    /// Adds a pair of layers.
    #[must_use]
    pub fn with_pair(mut self, student: impl Into<String>, teacher: impl Into<String>) -> Self {
        self.pairs.push((student.into(), teacher.into()));
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if there is no pair or a name is empty. Whether the models have
    /// such features shows only when they run, in the check before training.
    pub fn init(&self) -> Result<PatientKd> {
        if self.pairs.is_empty() {
            return Err(Error::invalid(
                "patient_kd.pairs",
                "[]",
                "at least one pair of features",
            ));
        }
        let pair = |(student, teacher): &(String, String)| {
            Ok(FeaturePair::new(NAME, student, teacher)?.of_term(NAME))
        };
        Ok(PatientKd {
            pairs: self.pairs.iter().map(pair).collect::<Result<_>>()?,
        })
    }
}

/// Patient distillation as a term of an objective, the sum over its pairs; see
/// [`patient_kd`](fn@patient_kd) for the formula.
#[derive(Debug, Clone)]
pub struct PatientKd {
    pairs: Vec<FeaturePair>,
}

impl Loss for PatientKd {
    fn name(&self) -> String {
        NAME.into()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        self.pairs.iter().map(FeaturePair::names).collect()
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pairs.iter().try_for_each(|pair| {
            pair.check_ranks(context, &[2, 3], "[N, D] or [N, T, D]")?;
            let (student, teacher) = pair.find(context)?;
            let (s, t) = (student.shape(), teacher.shape());
            if s[0] != t[0] || s.last() != t.last() {
                return Err(pair.mismatch(s, t));
            }
            check_mask(context, s[0], s[1..s.len() - 1].iter().product())
        })
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let values = self.pairs.iter().map(|pair| {
            let (student, teacher) = pair.features(context);
            let (mut student, mut teacher) = (first(student), first(teacher));
            let mask = context.mask.map(|mask| of_samples(mask, student.dims()[0]));
            if let Some(mask) = &mask {
                let ignored = mask.clone().bool_not();
                (student, teacher) = (mask_rows(student, &ignored), mask_rows(teacher, &ignored));
            }
            mean_rows(distance(student, teacher), mask.as_ref())
        });
        values
            .reduce(|sum, value| sum + value)
            .expect("at least one pair")
    }
}

/// A sample counts where its first token does.
fn of_samples(mask: &Tensor<1, Bool>, samples: usize) -> Tensor<1, Bool> {
    let tokens = mask.dims()[0] / samples;
    let mask = mask.clone().reshape([samples, tokens]);
    mask.narrow(1, 0, 1).squeeze_dim(1)
}

#[cfg(test)]
#[path = "../tests/patient_kd.rs"]
mod tests;
