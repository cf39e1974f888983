use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::pair::{FeaturePair, check_mask};
use super::{Loss, LossContext, Parts};
use crate::ops::mask_rows;
use crate::{Feature, Projector, Result};

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
/// here. For the hidden states of a transformer, `[N, T, D]`, it is the mean squared error of hidden
/// states of TinyBERT, TextBrewer and DistillKit: as a term with a mask of tokens, it is the mean over
/// the elements of the tokens that count. Feature maps of different height or width are first brought to the smaller of the two by
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
/// Romero et al.: FitNets: Hints for Thin Deep Nets, 2014, arXiv:1412.6550, eq. 3. For hidden states:
/// Jiao et al.: TinyBERT: Distilling BERT for Natural Language Understanding, 2019, arXiv:1909.10351,
/// eq. 8.
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
    match matched(student, teacher) {
        (Feature::Rank2(s), Feature::Rank2(t)) => mean_square(difference(s, t)),
        (Feature::Rank3(s), Feature::Rank3(t)) => mean_square(difference(s, t)),
        (Feature::Rank4(s), Feature::Rank4(t)) => mean_square(difference(s, t)),
        (s, t) => panic!(
            "features have one rank: student has {:?}, teacher has {:?}",
            s.shape(),
            t.shape()
        ),
    }
}

/// Feature maps at the smaller height and the smaller width of the two, everything else as it is.
fn matched(student: Feature, teacher: Feature) -> (Feature, Feature) {
    match (student, teacher) {
        (Feature::Rank4(s), Feature::Rank4(t)) => {
            let ([_, _, hs, ws], [_, _, ht, wt]) = (s.dims(), t.dims());
            let size = [hs.min(ht), ws.min(wt)];
            let pool = |x: Tensor<4>| match [x.dims()[2], x.dims()[3]] == size {
                true => x,
                false => adaptive_avg_pool2d(x, size),
            };
            (pool(s).into(), pool(t).into())
        }
        same => same,
    }
}

fn difference<const D: usize>(student: Tensor<D>, teacher: Tensor<D>) -> Tensor<D> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher features have one shape"
    );
    student - teacher.without_autodiff()
}

/// The mean of the squares along all axes but the first.
fn mean_square<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let x: Tensor<2> = x.flatten(1, D - 1);
    (x.clone() * x).mean_dim(1).squeeze_dim(1)
}

/// Config of [`Hint`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives |
///
/// Where the widths differ, a [`Projector`] from the student's to the teacher's is inserted and
/// trained with the student: a linear layer, or a 1×1 convolution for feature maps.
///
/// # Example
///
/// ```
/// use burn_distill::loss::HintConfig;
///
/// let config = HintConfig::new("block2", "block4");
/// assert_eq!(config.teacher, "block4");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HintConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
}

impl HintConfig {
    /// A hint from the teacher's feature of one name to the student's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty. Whether the models have such features shows
    /// only when they run, in the check before training.
    pub fn init(&self) -> Result<Hint> {
        Ok(Hint {
            pair: FeaturePair::new("hint", &self.student, &self.teacher)?,
        })
    }
}

/// Feature matching as a term of an objective; see [`hint`](fn@hint) for the formula.
#[derive(Debug, Clone)]
pub struct Hint {
    pair: FeaturePair,
}

impl Hint {
    fn features<'a>(&self, context: &LossContext<'a>) -> Result<(&'a Feature, &'a Feature)> {
        self.pair.find(&self.name(), context)
    }
}

impl Loss for Hint {
    fn name(&self) -> String {
        format!("hint_{}", self.pair.student)
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let (student, teacher) = self.features(context)?;
        let (s, t) = (student.shape(), teacher.shape());
        // Width is the projector's business, height and width of a map are pooling's.
        let fixed = match s.len() {
            4 => 0..1,
            rank => 0..rank - 1,
        };
        if s.len() != t.len() || s[fixed.clone()] != t[fixed] {
            return Err(self.pair.mismatch(&self.name(), s, t));
        }
        let tokens = match s.len() {
            3 => s[1],
            _ => 1,
        };
        check_mask(context, s[0], tokens)
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        let (student, teacher) = self.features(context).expect("checked beforehand");
        Projector::between(student, teacher, device).map(Parts::from)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.features(context).expect("checked beforehand");
        // Pooling before projecting is the same map and the cheaper order.
        let (student, teacher) = matched(student.clone(), teacher.clone());
        let student = match context.parts {
            Some(Parts::Projector(projector)) => projector.forward(student),
            _ => student,
        };
        match (student, teacher) {
            (Feature::Rank2(s), Feature::Rank2(t)) => masked(difference(s, t), context),
            (Feature::Rank3(s), Feature::Rank3(t)) => {
                let x = difference(s, t);
                let [samples, tokens, _] = x.dims();
                match context.mask {
                    // A mask of tokens: every token is a row of its own.
                    Some(mask) if mask.dims()[0] == samples * tokens => {
                        masked(x.flatten::<2>(0, 1), context)
                    }
                    _ => masked(x, context),
                }
            }
            (Feature::Rank4(s), Feature::Rank4(t)) => masked(difference(s, t), context),
            (s, t) => panic!(
                "features have one rank: student has {:?}, teacher has {:?}",
                s.shape(),
                t.shape()
            ),
        }
    }
}

fn masked<const D: usize>(x: Tensor<D>, context: &LossContext<'_>) -> Tensor<1> {
    let x = match context.mask {
        Some(mask) => mask_rows(x, &mask.clone().bool_not()),
        None => x,
    };
    context.mean(mean_square(x))
}

#[cfg(test)]
mod tests;
