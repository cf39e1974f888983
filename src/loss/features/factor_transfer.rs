//! The loss between factors; the modules that make them are in `parts.rs`.

pub use crate::loss::modules::translator::{Paraphraser, Translator};

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::{Error, Result};
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::{Loss, LossContext};
use crate::ops::maps::as_maps;
use crate::ops::vectors::{mean_square, norm};

/// What of two factors is compared, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FactorForm {
    /// Whole factors of length 1, the mean of the absolute differences: the paper's with p = 1, as
    /// KDZoo and torchdistill compute it. The default.
    #[default]
    FlatL1,
    /// Whole factors of length 1, the Euclidean norm of the difference: torchdistill with p = 2.
    FlatL2,
    /// The mean of the squares over channels, as one map of length 1, the mean of the absolute
    /// differences: RepDistiller's default. It is a map of attention rather than a factor.
    ChannelL1,
    /// The same map, the mean of the squared differences.
    ChannelSquare,
}

/// Factor transfer: the distance between factors of student and teacher, of which only the
/// direction counts.
///
/// A factor is what a small network makes of a feature: the teacher's features are paraphrased, the
/// student's translated, so that the student need not copy the teacher's own notation. This
/// function compares any two factors; [`FactorTransfer`] holds the networks.
///
/// ```text
/// L = (1/N) Σ_n (1/D) Σ_d | u(f_s) − u(f_t) |       FlatL1
///     (1/N) Σ_n ‖ u(f_s) − u(f_t) ‖                 FlatL2
///     (1/N) Σ_n (1/P) Σ_p | u(a_s) − u(a_t) |       ChannelL1
///     (1/N) Σ_n (1/P) Σ_p ( u(a_s) − u(a_t) )²      ChannelSquare
///
/// f_s, f_t   factors of student and teacher           u(v) = v / ‖v‖ for one sample
/// a_p = (1/C) Σ_c f_cp²                               P    places of a map
/// N    samples that count                             D    elements of one sample's factor
/// ```
///
/// Maps of different height or width are first brought to the smaller of the two by adaptive
/// average pooling. A factor of nothing but zeros has no direction and stays as it is.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`; `C` may differ in
///   the two channel forms
/// - output: `[1]`
///
/// # Gradient
///
/// Through `u`, so at a right angle to the factor; none towards the teacher.
///
/// # Panics
///
/// Panics if the ranks differ, or what is compared has different shapes.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{FactorForm, factor_transfer};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[6.0, 8.0]], &device); // of length 1: 0.6, 0.8
/// let teacher = Tensor::<2>::from_floats([[0.0, 5.0]], &device); // of length 1: 0, 1
/// let loss = factor_transfer(student.into(), teacher.into(), FactorForm::FlatL1);
/// assert!((loss.into_scalar::<f32>() - 0.4).abs() < 1e-6); // (0.6 + 0.2) / 2
/// ```
///
/// # References
///
/// Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer, 2018,
/// arXiv:1802.04977.
#[must_use]
pub fn factor_transfer(student: Feature, teacher: Feature, form: FactorForm) -> Tensor<1> {
    factor_transfer_no_reduction(student, teacher, form).mean()
}

/// [`factor_transfer`](fn@factor_transfer) with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the ranks differ, or what is compared has different shapes.
#[must_use]
pub fn factor_transfer_no_reduction(
    student: Feature,
    teacher: Feature,
    form: FactorForm,
) -> Tensor<1> {
    let (student, teacher) = as_maps(student, teacher);
    let directions = [student, teacher].map(|x| {
        let seen = match form {
            FactorForm::FlatL1 | FactorForm::FlatL2 => x,
            FactorForm::ChannelL1 | FactorForm::ChannelSquare => (x.clone() * x).mean_dim(1),
        };
        unit(seen.flatten(1, 3))
    });
    let [student, teacher] = directions;
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher factors have one shape"
    );
    let difference = student - teacher;
    match form {
        FactorForm::FlatL1 | FactorForm::ChannelL1 => difference.abs().mean_dim(1).squeeze_dim(1),
        FactorForm::FlatL2 => norm(difference, 1).squeeze_dim(1),
        FactorForm::ChannelSquare => mean_square(difference),
    }
}

/// Every row divided by its norm; a row shorter than 1e-12 stays as it is.
fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = norm(x.clone(), 1);
    let tiny = length.clone().lower_elem(1e-12);
    x / length.mask_fill(tiny, 1.0)
}

/// Config of [`FactorTransfer`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `form` | `flat_l1` | `flat_l1`, `flat_l2`, `channel_l1`, `channel_square` | what is compared, and how |
///
/// The student's [`Translator`] is trained with the student. The teacher's [`Paraphraser`] is
/// trained beforehand and joins by [`FactorTransfer::with_paraphraser`].
///
/// Batch norm uses the statistics of the batch in training and running ones in validation: over the
/// first epochs, until the latter have arrived, the validation value of this term says little.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{FactorForm, FactorTransferConfig};
///
/// let config = FactorTransferConfig::new("block2", "block4").with_form(FactorForm::FlatL2);
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FactorTransferConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What is compared, and how.
    #[serde(default)]
    pub form: FactorForm,
}

impl FactorTransferConfig {
    /// A transfer from the teacher's feature of one name to the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            form: FactorForm::default(),
        }
    }

    /// Sets what is compared, and how.
    #[must_use]
    pub fn with_form(mut self, form: FactorForm) -> Self {
        self.form = form;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if a name is empty. Whether the models have such features shows
    /// only when they run, in the check before training.
    pub fn init(&self) -> Result<FactorTransfer> {
        Ok(FactorTransfer {
            pair: FeaturePair::new("factor_transfer", &self.student, &self.teacher)?,
            form: self.form,
            paraphraser: None,
        })
    }
}

/// Factor transfer as a term of an objective; see [`factor_transfer`](fn@factor_transfer) for the
/// formula.
///
/// The student's features pass through a [`Translator`] that is trained with the student. The
/// teacher's factor is what its [`Paraphraser`] makes of its features. Training one is a matter of
/// its own and comes first; from a config file there is none, and then the teacher's features
/// themselves are the factor. That is not the paper's method: it keeps the translator and the
/// direction, and leaves the paraphrasing out.
#[derive(Debug, Clone)]
pub struct FactorTransfer {
    pair: FeaturePair,
    form: FactorForm,
    paraphraser: Option<Paraphraser>,
}

impl FactorTransfer {
    /// Compares with the factors of a trained paraphraser, which is taken as it is and not trained
    /// any further.
    #[must_use]
    pub fn with_paraphraser(mut self, paraphraser: &Paraphraser) -> Self {
        self.paraphraser = Some(paraphraser.frozen());
        self
    }

    /// The teacher's factor.
    fn factor(&self, teacher: Tensor<4>) -> Tensor<4> {
        match &self.paraphraser {
            Some(paraphraser) => paraphraser.factor_at_its_place(teacher),
            None => teacher,
        }
    }
}

impl Loss for FactorTransfer {
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
        match &self.paraphraser {
            Some(paraphraser) if paraphraser.width() != teacher.width() => Err(Error::invalid(
                format!("term {:?}: the width of the paraphraser", self.name()),
                paraphraser.width(),
                "the width of the teacher's feature",
            )),
            _ => Ok(()),
        }
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        let width = match &self.paraphraser {
            Some(paraphraser) => paraphraser.factor_width(),
            None => teacher.width(),
        };
        let translator = Translator::new(student.width(), width, device);
        Some(Parts::FactorTransfer(translator))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let Some(Parts::FactorTransfer(translator)) = context.parts else {
            panic!("{} runs with the parts that it asked for", self.name())
        };
        let (student, teacher) = self.pair.maps(context);
        let student = translator.forward(student, context.mask);
        let teacher = self.factor(teacher.without_autodiff());
        let rows = factor_transfer_no_reduction(student.into(), teacher.into(), self.form);
        context.mean(rows)
    }
}

#[cfg(test)]
#[path = "../tests/factor_transfer.rs"]
mod tests;
