//! Feature maps, generated from a masked one: masked generative distillation.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Bool, Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::error::{Result, check};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::modules::projector::Projector;
use crate::loss::reduction::Reduction;
use crate::loss::value::LossValue;
use crate::ops::features::{Elements, Samples};
use crate::ops::maps::expect_maps;

/// Masked generative distillation: squared error between the teacher's maps and what was generated
/// from the student's.
///
/// The distance alone. In [`Mgd`] random positions of the student's map are set to zero and the
/// teacher's whole map is generated from the rest, so that every position of the student has to know
/// about its surroundings.
///
/// ```text
/// L(g, f_t) = (1/N) Σ_n (1/CHW) Σ_chw (g − f_t)²      Mean
///             (1/N) Σ_n         Σ_chw (g − f_t)²      Sum
///
/// g   maps generated from the student's      f_t   maps of the teacher
/// N   samples, weighted if there are weights
/// ```
///
/// NVIDIA's Model Optimizer computes `Mean`. The authors and mmrazor compute `Sum` and weight it, with
/// 2·10⁻⁵ for detection.
///
/// # Shapes
///
/// - generated, teacher: `[N, C, H, W]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂g = 2 (g − f_t) / (N·CHW)` for `Mean`; none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Reduction, mgd};
///
/// let device = Device::flex();
/// let generated = Tensor::<4>::full([1, 2, 3, 3], 2.0, &device);
/// let teacher = Tensor::<4>::zeros([1, 2, 3, 3], &device);
/// let loss = mgd(generated.clone(), teacher.clone(), Reduction::Mean).mean();
/// assert_eq!(loss.into_scalar::<f32>(), 4.0);
/// let loss = mgd(generated, teacher, Reduction::Sum).mean();
/// assert_eq!(loss.into_scalar::<f32>(), 72.0); // 18 · 4
/// ```
///
/// # References
///
/// Yang et al.: Masked Generative Distillation, 2022, arXiv:2205.01529.
pub fn mgd(generated: Tensor<4>, teacher: Tensor<4>, reduction: Reduction) -> LossValue {
    LossValue::composed(reduction.per_sample(squared_errors(generated, teacher)))
}

fn squared_errors(generated: Tensor<4>, teacher: Tensor<4>) -> Elements {
    assert_eq!(
        generated.dims(),
        teacher.dims(),
        "generated maps and the teacher's have one shape"
    );
    Elements::between(generated.into(), teacher.into(), |generated, teacher| {
        let difference = generated - teacher;
        difference.clone() * difference
    })
}

/// Masked generative distillation as a term of an objective; see [`mgd`](fn@mgd) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `mask_ratio` | 0.65 | from 0, below 1 | the fraction of positions that is set to zero: at 0.65 about 35 % of the map remain |
/// | `reduction` | `mean` | `mean`, `sum` | how the elements of one sample are reduced |
///
/// The generator, two 3×3 convolutions with ReLU between them, is trained with the student, and so
/// is a 1×1 convolution to the teacher's width where the widths differ. Positions are drawn anew in
/// every step, each by itself and for all channels at once, from the random numbers of the device.
/// Positions of weight 0 are not seen by the generator and not compared.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Loss, Mgd, Reduction};
///
/// let loss = Mgd::new("block2", "block4").with_reduction(Reduction::Sum);
/// assert_eq!(loss.mask_ratio, 0.65);
/// assert!(loss.with_mask_ratio(1.0).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mgd {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// The fraction of positions that is set to zero.
    #[serde(default = "most")]
    pub mask_ratio: f64,
    /// How the elements of one sample are reduced.
    #[serde(default)]
    pub reduction: Reduction,
}

fn most() -> f64 {
    0.65
}

impl Mgd {
    /// A generation of the teacher's feature of one name from the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            mask_ratio: most(),
            reduction: Reduction::default(),
        }
    }

    /// Sets the fraction of positions that is set to zero.
    #[must_use]
    pub fn with_mask_ratio(mut self, mask_ratio: f64) -> Self {
        self.mask_ratio = mask_ratio;
        self
    }

    /// Sets how the elements of one sample are reduced.
    #[must_use]
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("mgd", &self.student, &self.teacher)
    }
}

/// What [`Mgd`] trains: a projector, where the widths differ, and the generator.
#[derive(Module, Debug)]
struct MgdGenerator {
    projector: Option<Projector>,
    /// Two of them.
    convolutions: Vec<Conv2d>,
}

impl MgdGenerator {
    fn new(student: &Feature, teacher: &Feature, device: &Device) -> Self {
        let width = teacher.width();
        let convolution = || {
            let config = Conv2dConfig::new([width, width], [3, 3]);
            config.with_padding(PaddingConfig2d::Same).init(device)
        };
        Self {
            projector: Projector::between(student, teacher, device),
            convolutions: vec![convolution(), convolution()],
        }
    }

    /// The teacher's maps from those of the student, of which only the positions in `kept`,
    /// `[N, H, W]`, are seen.
    fn forward(&self, student: Tensor<4>, kept: Tensor<3, Bool>) -> Tensor<4> {
        let student = match &self.projector {
            Some(projector) => expect_maps(&projector.forward(student.into())),
            None => student,
        };
        let hidden = kept.bool_not().unsqueeze_dim::<4>(1).expand(student.dims());
        let seen = student.mask_fill(hidden, 0.0);
        self.convolutions[1].forward(relu(self.convolutions[0].forward(seen)))
    }
}

impl Loss for Mgd {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("mgd")?;
        let (ratio, expected) = (self.mask_ratio, "a number from 0 to below 1");
        check(
            "mgd.mask_ratio",
            ratio,
            (0.0..1.0).contains(&ratio),
            expected,
        )
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::AllButWidth)?;
        self.pair().check_maps(context)
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let (student, teacher) = self.pair().features(context);
        let generator = MgdGenerator::new(&student, &teacher, device);
        Some(LossModules::new(generator))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let modules = context.modules.expect("a generator");
        let (student, teacher) = self.pair().aligned_maps(context);
        let weights = context.weights();
        let samples = Samples::of(&student.clone().into(), &teacher.clone().into(), weights);
        let [n, _, height, width] = student.dims();
        let chance = Tensor::<3>::random(
            [n, height, width],
            Distribution::Uniform(0.0, 1.0),
            (&student.device().inner(), student.dtype()),
        );
        // A draw is below 1 and may be 0, so that at a ratio of 0 every position is kept.
        let kept = chance.greater_equal_elem(self.mask_ratio);
        let generated = modules.get::<MgdGenerator>().forward(student, kept);
        let errors = squared_errors(generated, teacher);
        self.reduction.mean(errors, &samples, weights)
    }
}

#[cfg(test)]
#[path = "../tests/mgd.rs"]
mod tests;
