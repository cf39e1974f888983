//! Feature maps of several levels, fused from below: knowledge review.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::targets::Weights;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::modules::fusion::ReviewKdFusion;
use crate::loss::value::LossValue;
use crate::ops::features::{Elements, masked, pooled};
use crate::ops::maps::expect_maps;

/// Heights and widths at which maps are compared besides their own.
const LEVELS: [usize; 3] = [4, 2, 1];

/// Hierarchical context loss: squared error between feature maps at their own size and, with
/// halving weights, at 4×4, 2×2 and 1×1.
///
/// The distance of [`ReviewKd`]; useful by itself as a hint that sees coarse structure too.
///
/// ```text
/// L(f_s, f_t) = Σ_l w_l · (1/N) Σ_n mean( (pool_l(f_s) − pool_l(f_t))² ) / Σ_l w_l
///
/// f_s, f_t   feature maps of student and teacher      pool_l   adaptive average pooling to l × l
/// w   1 for the full size, then ½, ¼, ⅛               N        samples, weighted if there are weights
/// ```
///
/// A size that is not smaller than both height and width is left out and takes no weight: the next
/// one gets what it would have had. The authors' code and mdistiller compute the same; they look at
/// the height only, which for square maps is no difference.
///
/// # Shapes
///
/// - student, teacher: `[N, C, H, W]`
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// Through the pooling at every size; none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::hcl;
///
/// let device = Device::flex();
/// let student = Tensor::<4>::from_floats([[[[3.0, 1.0], [1.0, 1.0]]]], &device);
/// let teacher = Tensor::<4>::from_floats([[[[1.0, 1.0], [1.0, 1.0]]]], &device);
/// // At full size 2²/4 = 1, at 1×1 (2/4)² = ¼ with half the weight.
/// let loss = hcl(student, teacher).mean();
/// assert_eq!(loss.into_scalar::<f32>(), (1.0 + 0.125) / 1.5);
/// ```
///
/// # References
///
/// Chen et al.: Distilling Knowledge via Knowledge Review, 2021, arXiv:2104.09044.
pub fn hcl(student: Tensor<4>, teacher: Tensor<4>) -> LossValue {
    let sizes = at_each_size(student, teacher, None);
    LossValue::composed(weighted_sum(sizes, Elements::means))
}

/// The squared errors at each size, with the weight of the size.
fn at_each_size(
    student: Tensor<4>,
    teacher: Tensor<4>,
    weights: Option<&Weights>,
) -> Vec<(Elements, f64)> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher maps have one shape"
    );
    // Pooling is linear, so the difference is pooled once instead of both sides.
    let difference = student - teacher.without_autodiff();
    let difference = expect_maps(&masked(difference.into(), weights));
    let [_, _, height, width] = difference.dims();
    let own = [(height, width)].into_iter();
    let smaller = LEVELS.into_iter().filter(|l| *l < height.min(width));
    let sizes = own.chain(smaller.map(|level| (level, level)));
    let squares = |x: Tensor<4>| Elements::of(x.clone() * x);
    let all = sizes.zip(std::iter::successors(Some(1.0), |w| Some(w / 2.0)));
    all.map(|((h, w), weight)| (squares(pooled(difference.clone(), [h, w], weights)), weight))
        .collect()
}

/// The weighted mean over sizes of what `reduce` makes of the errors at each.
fn weighted_sum(sizes: Vec<(Elements, f64)>, reduce: impl Fn(Elements) -> Tensor<1>) -> Tensor<1> {
    let total: f64 = sizes.iter().map(|(_, weight)| weight).sum();
    let values = sizes.into_iter().map(|(errors, w)| reduce(errors) * w);
    let sum = values.reduce(|sum, value| sum + value);
    sum.expect("the own size at least") / total
}

/// Knowledge review as a term of an objective: the teacher's levels, each taught to the student's
/// level of the same position and all deeper ones together.
///
/// Going from the deepest level to the shallowest, each of the student's maps is fused with what
/// came from below by attention, brought to the shape of the teacher's map and compared with it by
/// [`hcl`]; the value is the sum over levels.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | feature maps of the student | the names its `outputs` gives, from shallow to deep |
/// | `teacher` | required | as many feature maps of the teacher | the names its `outputs` gives, from shallow to deep |
/// | `width` | absent | at least 1 | channels in which the student's levels are fused; if absent, those of its deepest level, at most 512 |
///
/// The fusion is trained with the student. The authors raise the weight of the loss over the first
/// epochs: [`Schedule::warm_up`](crate::Schedule::warm_up).
///
/// Batch norm uses the statistics of the batch in training and running ones in validation: over the
/// first epochs, until the latter have arrived, the validation value of this term says little.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Loss, ReviewKd};
///
/// let loss = ReviewKd::new(["block1", "block2"], ["block1", "block3"]);
/// assert!(loss.validate().is_ok());
/// assert!(ReviewKd::new(["block1"], ["block1", "block3"]).validate().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ReviewKd {
    /// The student's features, from shallow to deep.
    pub student: Vec<String>,
    /// The teacher's features, from shallow to deep.
    pub teacher: Vec<String>,
    /// Channels in which the student's levels are fused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
}

impl ReviewKd {
    /// A review of the teacher's levels by the student's, both from shallow to deep.
    pub fn new<S: Into<String>, T: Into<String>>(
        student: impl IntoIterator<Item = S>,
        teacher: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            student: student.into_iter().map(Into::into).collect(),
            teacher: teacher.into_iter().map(Into::into).collect(),
            width: None,
        }
    }

    /// Sets in how many channels the student's levels are fused.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        self.width = Some(width);
        self
    }

    fn levels(&self) -> impl Iterator<Item = FeaturePair> {
        let names = self.student.iter().zip(&self.teacher);
        names.map(|(s, t)| FeaturePair::new("review_kd", s, t).named(self.name()))
    }
}

impl Loss for ReviewKd {
    fn name(&self) -> String {
        format!("review_kd_{}", self.student.join("_"))
    }

    fn needs(&self) -> Needs {
        FeaturePair::needs_of_all(self.levels())
    }

    fn validate(&self) -> Result<()> {
        if self.student.is_empty() {
            let expected = "at least one name";
            return Err(Error::invalid("review_kd.student", "empty", expected));
        }
        if self.student.len() != self.teacher.len() {
            return Err(Error::invalid(
                "review_kd.teacher",
                format!("{:?}", self.teacher),
                "as many names as review_kd.student",
            ));
        }
        if self.width == Some(0) {
            return Err(Error::invalid("review_kd.width", 0, "at least 1"));
        }
        self.levels()
            .try_for_each(|pair| pair.validate("review_kd"))
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.levels().try_for_each(|pair| {
            pair.check(context, Common::AllButWidth)?;
            pair.check_maps(context)
        })
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let levels = self.levels().map(|pair| {
            let (student, teacher) = pair.features(context);
            [student.width(), teacher.width()]
        });
        let levels: Vec<_> = levels.collect();
        let deepest = levels.last().expect("at least one level")[0];
        let width = self.width.unwrap_or(deepest.min(512));
        let fusion = ReviewKdFusion::new(&levels, width, device);
        Some(LossModules::new(fusion))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let fusion: &ReviewKdFusion = context.modules.expect("a fusion").get();
        let weights = context.weights();
        let maps = self.levels().map(|pair| pair.maps(context));
        let (student, teacher): (Vec<_>, Vec<_>) = maps.unzip();
        let sizes = teacher.iter().map(|map| [map.dims()[2], map.dims()[3]]);
        let fused = fusion.forward(student, sizes.collect(), weights);
        let levels = fused.into_iter().zip(teacher);
        let values = levels.map(|(student, teacher)| {
            let sizes = at_each_size(student, teacher, weights);
            weighted_sum(sizes, |errors| errors.mean(weights))
        });
        let sum = values.reduce(|sum, value| sum + value);
        sum.expect("at least one level")
    }
}

#[cfg(test)]
#[path = "../tests/review_kd.rs"]
mod tests;
