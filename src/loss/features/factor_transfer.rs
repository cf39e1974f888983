//! Paraphrases of feature maps: factor transfer.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::modules::translator::{Paraphraser, Translator};
use crate::loss::value::LossValue;
use crate::ops::features::{Samples, masked_at_one_size};
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
/// function compares any two factors; [`FactorTransfer`] trains the networks.
///
/// ```text
/// L = (1/N) Σ_n (1/D) Σ_d | u(f_s) − u(f_t) |       FlatL1
///     (1/N) Σ_n ‖ u(f_s) − u(f_t) ‖                 FlatL2
///     (1/N) Σ_n (1/P) Σ_p | u(a_s) − u(a_t) |       ChannelL1
///     (1/N) Σ_n (1/P) Σ_p ( u(a_s) − u(a_t) )²      ChannelSquare
///
/// f_s, f_t   factors of student and teacher           u(v) = v / ‖v‖ for one sample
/// a_p = (1/C) Σ_c f_cp²                               P    positions of a map
/// N    samples, weighted if there are weights          D    elements of one sample's factor
/// ```
///
/// Maps of different height or width are first brought to the smaller of the two by adaptive
/// average pooling. A factor of nothing but zeros has no direction and stays as it is.
///
/// # Shapes
///
/// - student, teacher: both `[N, D]`, both `[N, T, D]` or both `[N, C, H, W]`; `C` may differ in
///   the two channel forms
/// - output: one value per sample, `[N]`, and their mean, `[1]`
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
/// let loss = factor_transfer(student, teacher, FactorForm::FlatL1).mean();
/// assert!((loss.into_scalar::<f32>() - 0.4).abs() < 1e-6); // (0.6 + 0.2) / 2
/// ```
///
/// # References
///
/// Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer, 2018,
/// arXiv:1802.04977.
pub fn factor_transfer(
    student: impl Into<Feature>,
    teacher: impl Into<Feature>,
    form: FactorForm,
) -> LossValue {
    let (student, teacher) = as_maps(student.into(), teacher.into());
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
    LossValue::composed(match form {
        FactorForm::FlatL1 | FactorForm::ChannelL1 => difference.abs().mean_dim(1).squeeze_dim(1),
        FactorForm::FlatL2 => norm(difference, 1).squeeze_dim(1),
        FactorForm::ChannelSquare => mean_square(difference),
    })
}

/// Every row divided by its norm; a row shorter than 1e-12 stays as it is.
fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = norm(x.clone(), 1);
    let tiny = length.clone().lower_elem(1e-12);
    x / length.mask_fill(tiny, 1.0)
}

/// Factor transfer as a term of an objective; see [`factor_transfer`](fn@factor_transfer) for the
/// formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `form` | `flat_l1` | `flat_l1`, `flat_l2`, `channel_l1`, `channel_square` | what is compared, and how |
///
/// The student's maps pass through a translator, three 3×3 convolutions with batch norm, which is
/// trained with the student. The teacher's factor is what its [`Paraphraser`] makes of its features,
/// which is trained beforehand and joins by [`with_paraphraser`](Self::with_paraphraser). From a config
/// file there is none, and then the teacher's features themselves are the factor. That is not the
/// paper's method: it keeps the translator and the direction, and leaves the paraphrasing out.
///
/// Batch norm uses the statistics of the batch in training and running ones in validation: over the
/// first epochs, until the latter have arrived, the validation value of this term says little.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{FactorForm, FactorTransfer, Loss};
///
/// let loss = FactorTransfer::new("block2", "block4").with_form(FactorForm::FlatL2);
/// assert!(loss.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FactorTransfer {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// What is compared, and how.
    #[serde(default)]
    pub form: FactorForm,
}

impl FactorTransfer {
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

    /// The same with the factors of a trained paraphraser, which is taken as it is and not trained any
    /// further. A config file cannot hold this loss.
    #[must_use]
    pub fn with_paraphraser(self, paraphraser: &Paraphraser) -> impl Loss + Clone + use<> {
        self.paraphrased(paraphraser)
    }

    fn paraphrased(self, paraphraser: &Paraphraser) -> Paraphrased {
        Paraphrased {
            transfer: self,
            paraphraser: paraphraser.frozen(),
        }
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("factor_transfer", &self.student, &self.teacher)
    }

    fn translator(
        &self,
        context: &LossContext<'_>,
        factors: usize,
        device: &Device,
    ) -> Option<LossModules> {
        let (student, _) = self.pair().features(context);
        let translator = Translator::new(student.width(), factors, device);
        Some(LossModules::new(translator))
    }

    /// The value, where `factor` makes the teacher's factor of its maps.
    fn compare(
        &self,
        context: &LossContext<'_>,
        factor: impl FnOnce(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<1> {
        let weights = context.weights();
        let modules = context.modules.expect("a translator");
        let (student, teacher) = self.pair().maps(context);
        let student = modules.get::<Translator>().forward(student, weights);
        let teacher = factor(teacher.without_autodiff());
        // Convolutions reach into positions of weight 0, which are no part of a factor.
        let (student, teacher) = masked_at_one_size(student.into(), teacher.into(), weights);
        let samples = Samples::of(&student, &teacher, weights);
        samples.mean(factor_transfer(student, teacher, self.form).per_row())
    }
}

impl Loss for FactorTransfer {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("factor_transfer")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)?;
        self.pair().check_maps(context)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let (_, teacher) = self.pair().features(context);
        self.translator(context, teacher.width(), device)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        self.compare(context, |teacher| teacher)
    }
}

/// Factor transfer with the factors of a paraphraser.
#[derive(Debug, Clone)]
struct Paraphrased {
    transfer: FactorTransfer,
    paraphraser: Paraphraser,
}

impl Loss for Paraphrased {
    fn name(&self) -> String {
        self.transfer.name()
    }

    fn needs(&self) -> Needs {
        self.transfer.needs()
    }

    fn validate(&self) -> Result<()> {
        self.transfer.validate()
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.transfer.check(context)?;
        let (_, teacher) = self.transfer.pair().find(context)?;
        match self.paraphraser.width() == teacher.width() {
            true => Ok(()),
            false => Err(Error::invalid(
                format!("term {:?}: the width of the paraphraser", self.name()),
                self.paraphraser.width(),
                "the width of the teacher's feature",
            )),
        }
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let factors = self.paraphraser.factor_width();
        self.transfer.translator(context, factors, device)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let factor = |teacher| self.paraphraser.factor_on_device(teacher);
        self.transfer.compare(context, factor)
    }
}

#[cfg(test)]
#[path = "../tests/factor_transfer.rs"]
mod tests;
