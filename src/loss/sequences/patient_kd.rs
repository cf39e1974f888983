//! The direction of first tokens, over several layers.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::features::pair::FeaturePair;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
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
/// h_s, h_t   states of the first token in student and teacher
/// N   samples, weighted if there are weights
/// ```
///
/// TextBrewer computes the same, and NaN for a zero vector, which here stays zero. [`PatientKd`]
/// sums over its pairs of layers, as the paper does; a sample has the weight of its first token.
///
/// # Shapes
///
/// - student, teacher: `[N, T, D]`, of which token 0 is compared, or `[N, D]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`, from 0 to 4
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
/// // The second token is not looked at.
/// let student = Tensor::<3>::from_floats([[[3.0, 4.0], [7.0, 7.0]]], &device);
/// let teacher = Tensor::<2>::from_floats([[5.0, 0.0]], &device);
/// let loss = patient_kd(student, teacher).mean();
/// assert!((loss.into_scalar::<f32>() - 0.8).abs() < 1e-6); // (3/5 − 1)² + (4/5)²
/// ```
///
/// # References
///
/// Sun, Cheng, Gan, Liu: Patient Knowledge Distillation for BERT Model Compression, 2019,
/// arXiv:1908.09355, eq. 7.
pub fn patient_kd(student: impl Into<Feature>, teacher: impl Into<Feature>) -> LossValue {
    LossValue::composed(distance(first(student.into()), first(teacher.into())))
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

/// Patient distillation as a term of an objective, the sum over its pairs; see
/// [`patient_kd`](fn@patient_kd) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `pairs` | required | at least one | a feature of the student and one of the teacher each |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Loss, PatientKd};
///
/// // Every other layer of a teacher of six.
/// let loss = PatientKd::new("layer1", "layer2").with_pair("layer2", "layer4");
/// assert_eq!(loss.pairs.len(), 2);
/// assert!(loss.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PatientKd {
    /// The features that are compared, the student's first.
    pub pairs: Vec<(String, String)>,
}

impl PatientKd {
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

    fn feature_pairs(&self) -> impl Iterator<Item = FeaturePair> {
        let pairs = self.pairs.iter();
        pairs.map(|(student, teacher)| FeaturePair::new(NAME, student, teacher).named(NAME))
    }
}

impl Loss for PatientKd {
    fn name(&self) -> String {
        NAME.into()
    }

    fn needs(&self) -> Needs {
        FeaturePair::needs_of_all(self.feature_pairs())
    }

    fn validate(&self) -> Result<()> {
        if self.pairs.is_empty() {
            return Err(Error::invalid(
                "patient_kd.pairs",
                "[]",
                "at least one pair of features",
            ));
        }
        self.feature_pairs()
            .try_for_each(|pair| pair.validate(NAME))
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.feature_pairs().try_for_each(|pair| {
            pair.check_ranks(context, &[2, 3], "[N, D] or [N, T, D]")?;
            let (student, teacher) = pair.find(context)?;
            let (s, t) = (student.shape(), teacher.shape());
            match s[0] == t[0] && s.last() == t.last() {
                true => Ok(()),
                false => Err(pair.mismatch(s, t)),
            }
        })
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let values = self.feature_pairs().map(|pair| {
            let (student, teacher) = pair.features(context);
            let (mut student, mut teacher) = (first(student), first(teacher));
            let weights = context.weights();
            let weights = weights.map(|weights| of_first(weights, student.dims()[0]));
            if let Some(weights) = &weights {
                let ignored = weights.clone().equal_elem(0.0);
                (student, teacher) = (mask_rows(student, &ignored), mask_rows(teacher, &ignored));
            }
            mean_rows(distance(student, teacher), weights.as_ref())
        });
        values
            .reduce(|sum, value| sum + value)
            .expect("at least one pair")
    }
}

/// The weight of each sample: that of its first row.
fn of_first(weights: &Weights, samples: usize) -> Tensor<1> {
    let rows = weights.values().clone();
    let per_sample = weights.rows() / samples.max(1);
    let rows: Tensor<2> = rows.reshape([samples, per_sample]);
    rows.narrow(1, 0, 1).squeeze_dim(1)
}

#[cfg(test)]
#[path = "../tests/patient_kd.rs"]
mod tests;
