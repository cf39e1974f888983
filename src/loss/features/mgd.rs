use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Bool, Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Feature;
use crate::error::{Error, Result};
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::modules::Parts;
use crate::loss::modules::projector::Projector;
use crate::loss::{Loss, LossContext};
use crate::ops::maps::{expect_maps, matched};
use crate::ops::vectors::mean_square;

/// How the squared errors of one sample become the value of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MgdReduction {
    /// Their sum times `alpha`: the authors and mmrazor, with an `alpha` of 2·10⁻⁵ for detection.
    Sum {
        /// The factor, greater than 0.
        alpha: f64,
    },
    /// Their mean, which is the sum divided by `C·H·W`: NVIDIA's Model Optimizer.
    Mean,
}

impl Default for MgdReduction {
    /// The sum times 2·10⁻⁵.
    fn default() -> Self {
        Self::Sum { alpha: 2e-5 }
    }
}

/// Masked generative distillation: squared error between the teacher's maps and what was generated
/// from the student's.
///
/// The distance alone. In [`Mgd`] random places of the student's map are set to zero and the
/// teacher's whole map is generated from the rest, so that every place of the student has to know
/// about its surroundings.
///
/// ```text
/// L(g, f_t) = α · (1/N) Σ_n Σ_chw (g − f_t)²          Sum
///             (1/N) Σ_n (1/CHW) Σ_chw (g − f_t)²      Mean
///
/// g   maps generated from the student's      f_t   maps of the teacher      N   samples that count
/// ```
///
/// # Shapes
///
/// - generated, teacher: `[N, C, H, W]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂g = 2α (g − f_t) / N` for `Sum`; none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{MgdReduction, mgd};
///
/// let device = Device::flex();
/// let generated = Tensor::<4>::full([1, 2, 3, 3], 2.0, &device);
/// let teacher = Tensor::<4>::zeros([1, 2, 3, 3], &device);
/// let loss = mgd(generated.clone(), teacher.clone(), MgdReduction::Mean);
/// assert_eq!(loss.into_scalar::<f32>(), 4.0);
/// let loss = mgd(generated, teacher, MgdReduction::Sum { alpha: 0.5 });
/// assert_eq!(loss.into_scalar::<f32>(), 36.0); // 18 · 4 / 2
/// ```
///
/// # References
///
/// Yang et al.: Masked Generative Distillation, 2022, arXiv:2205.01529.
#[must_use]
pub fn mgd(generated: Tensor<4>, teacher: Tensor<4>, reduction: MgdReduction) -> Tensor<1> {
    mgd_no_reduction(generated, teacher, reduction).mean()
}

/// [`mgd`](fn@mgd) with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn mgd_no_reduction(
    generated: Tensor<4>,
    teacher: Tensor<4>,
    reduction: MgdReduction,
) -> Tensor<1> {
    assert_eq!(
        generated.dims(),
        teacher.dims(),
        "generated maps and the teacher's have one shape"
    );
    let difference = generated - teacher.without_autodiff();
    match reduction {
        MgdReduction::Mean => mean_square(difference),
        MgdReduction::Sum { alpha } => {
            let difference: Tensor<2> = difference.flatten(1, 3);
            (difference.clone() * difference).sum_dim(1).squeeze_dim(1) * alpha
        }
    }
}

/// Config of [`Mgd`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature map of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature map of the teacher | the name its `outputs` gives |
/// | `mask_ratio` | 0.65 | from 0, below 1 | the share of places that is set to zero: at 0.65 about 35 % of the map remain |
/// | `reduction` | `{ sum = { alpha = 2e-5 } }` | `sum` with an `alpha` greater than 0, `mean` | how the elements of one sample are reduced |
///
/// The generator, two 3×3 convolutions with ReLU between them, is trained with the student, and so
/// is a [`Projector`] to the teacher's width where the widths differ. Places are drawn anew in
/// every step, each by itself and for all channels at once, from the random numbers of the device.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{MgdConfig, MgdReduction};
///
/// let config = MgdConfig::new("block2", "block4").with_reduction(MgdReduction::Mean);
/// assert_eq!(config.mask_ratio, 0.65);
/// assert!(config.with_mask_ratio(1.0).init().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MgdConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// The share of places that is set to zero.
    #[serde(default = "most")]
    pub mask_ratio: f64,
    /// How the elements of one sample are reduced.
    #[serde(default)]
    pub reduction: MgdReduction,
}

fn most() -> f64 {
    0.65
}

impl MgdConfig {
    /// A generation of the teacher's feature of one name from the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            mask_ratio: most(),
            reduction: MgdReduction::default(),
        }
    }

    /// Sets the share of places that is set to zero.
    #[must_use]
    pub fn with_mask_ratio(mut self, mask_ratio: f64) -> Self {
        self.mask_ratio = mask_ratio;
        self
    }

    /// Sets how the elements of one sample are reduced.
    #[must_use]
    pub fn with_reduction(mut self, reduction: MgdReduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if a name is empty, the ratio is not from 0 to below 1, or alpha
    /// is not a number greater than 0. Whether the models have such features shows only when they
    /// run, in the check before training.
    pub fn init(&self) -> Result<Mgd> {
        let pair = FeaturePair::new("mgd", &self.student, &self.teacher)?;
        if !(0.0..1.0).contains(&self.mask_ratio) {
            return Err(Error::invalid(
                "mgd.mask_ratio",
                self.mask_ratio,
                "a number from 0 to below 1",
            ));
        }
        match self.reduction {
            MgdReduction::Sum { alpha } if !(alpha.is_finite() && alpha > 0.0) => {
                let expected = "a number greater than 0";
                Err(Error::invalid("mgd.reduction.sum.alpha", alpha, expected))
            }
            reduction => Ok(Mgd {
                pair,
                mask_ratio: self.mask_ratio,
                reduction,
            }),
        }
    }
}

/// What [`Mgd`] trains along: a projector, where the widths differ, and the generator.
#[derive(Module, Debug)]
pub struct MgdGenerator {
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

    /// The teacher's maps from those of the student, of which only the places in `kept`,
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

    pub(crate) fn describe(&self) -> String {
        let [width, _, _, _] = self.convolutions[0].weight.val().dims();
        let projector = self.projector.as_ref().map(Projector::describe);
        let generator = format!("2 conv 3x3 {width} -> {width}");
        projector
            .into_iter()
            .chain([generator])
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Masked generative distillation as a term of an objective; see [`mgd`](fn@mgd) for the formula.
#[derive(Debug, Clone)]
pub struct Mgd {
    pair: FeaturePair,
    mask_ratio: f64,
    reduction: MgdReduction,
}

impl Loss for Mgd {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check(context, Common::AllButWidth)?;
        self.pair.check_maps(context)
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.pair.features(context);
        Some(Parts::Mgd(MgdGenerator::new(&student, &teacher, device)))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let Some(Parts::Mgd(generator)) = context.parts else {
            panic!("{} runs with the parts that it asked for", self.name())
        };
        let (student, teacher) = self.pair.maps(context);
        let (student, teacher) = matched(student, teacher);
        let [samples, _, height, width] = student.dims();
        let chance = Tensor::<3>::random(
            [samples, height, width],
            Distribution::Uniform(0.0, 1.0),
            &student.device().inner(),
        );
        // A draw is below 1 and may be 0, so that at a ratio of 0 every place is kept.
        let kept = chance.greater_equal_elem(self.mask_ratio);
        let generated = generator.forward(student, kept);
        context.mean(mgd_no_reduction(generated, teacher, self.reduction))
    }
}

#[cfg(test)]
#[path = "../tests/mgd.rs"]
mod tests;
