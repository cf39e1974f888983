//! Inner products of tokens.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::ops::features::masked;
use crate::ops::vectors::or_one;

/// Gram matching: squared error between the inner products of the tokens of two layers.
///
/// The inner products of every token of one layer with every token of another say how the layers
/// build on each other, or, for one layer given twice, how alike its tokens are. Only they are
/// compared, so widths may differ and no auxiliary module is needed. For transformers.
///
/// ```text
/// L(s, t) = (1/Σ_n T_n²) Σ_n Σ_ij (G(s)_nij − G(t)_nij)²,   G(x)_nij = ⟨x⁰_ni, x¹_nj⟩ / D
///
/// s, t   pairs of layers x⁰, x¹ of student and teacher      D   width of the layers of one side
/// i, j   valid tokens of sample n                           T_n   how many these are
/// ```
///
/// With weights of tokens a pair has the product of both, `w_ni·w_nj`, with weights of samples that of
/// its sample, and the value is `Σ w·(…)² / Σ w`.
///
/// TextBrewer computes this and calls it `mmd` among its losses and `nst` among its presets, though
/// it is not a maximum mean discrepancy between sets. Each side needs two layers where other losses
/// take one.
///
/// # Shapes
///
/// - student, teacher: two tensors each, all `[N, T, D]`, the two of one side alike; `D` may differ
///   between the sides
/// - weights: of tokens, `[N, T]`, or of samples, `[N]`; a mask is weights of 0 and 1
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂G(s) = 2 (G(s) − G(t)) / Σ_n T_n²`, towards both layers of the student; none towards the
/// teacher.
///
/// # Panics
///
/// Panics if numbers of samples or tokens differ, or the widths of the two layers of one side do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::gram_mse;
///
/// let device = Device::flex();
/// // One sample of one token.
/// let student = Tensor::<3>::from_floats([[[1.0, 2.0]]], &device);
/// let teacher = Tensor::<3>::from_floats([[[3.0]]], &device);
/// let loss = gram_mse([student.clone(), student], [teacher.clone(), teacher], None);
/// assert_eq!(loss.into_scalar::<f32>(), 42.25); // (5/2 − 9)²
/// ```
///
/// # References
///
/// Yang et al.: TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language
/// Processing, 2020, arXiv:2002.12620.
#[must_use]
pub fn gram_mse(
    student: [Tensor<3>; 2],
    teacher: [Tensor<3>; 2],
    weights: Option<&Weights>,
) -> Tensor<1> {
    let zeroed = |x: Tensor<3>| match masked(x.into(), weights) {
        Feature::Rank3(x) => x,
        _ => unreachable!("masking keeps the rank"),
    };
    let gram = |[first, second]: [Tensor<3>; 2]| {
        assert_eq!(
            first.dims(),
            second.dims(),
            "the two layers of one side have one shape"
        );
        let width = first.dims()[2] as f64;
        zeroed(first).matmul(zeroed(second).swap_dims(1, 2)) / width
    };
    let (student, teacher) = (gram(student), gram(teacher.map(Tensor::without_autodiff)));
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher have one number of samples and of tokens"
    );
    let square = (student - teacher).square();
    let Some(weights) = weights else {
        return square.mean();
    };
    let pairs = pair_weights(weights, square.dims()).cast(square.dtype());
    (square * pairs.clone()).sum() / or_one(pairs.sum())
}

/// The weight of each pair of tokens, `[N, T, T]`.
fn pair_weights(weights: &Weights, [samples, tokens, others]: [usize; 3]) -> Tensor<3> {
    if weights.rows() != samples * tokens || tokens == 1 {
        let by_sample = weights.by_sample(samples).reshape([samples, 1, 1]);
        return by_sample.expand([samples, tokens, others]);
    }
    let by_token = weights.by_token(samples, tokens);
    by_token.clone().reshape([samples, tokens, 1]) * by_token.reshape([samples, 1, others])
}

/// Gram matching as a term of an objective; see [`gram_mse`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | two features of the student | the names its `outputs` gives |
/// | `teacher` | required | two features of the teacher | the names its `outputs` gives |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{GramMse, Loss};
///
/// let loss = GramMse::new(["layer0", "layer1"], ["layer0", "layer3"]);
/// assert!(loss.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct GramMse {
    /// The student's two features.
    pub student: [String; 2],
    /// The teacher's two features.
    pub teacher: [String; 2],
}

impl GramMse {
    /// The inner products between two features of the teacher for those between two of the student.
    /// The same name twice is one layer with itself.
    pub fn new(student: [impl Into<String>; 2], teacher: [impl Into<String>; 2]) -> Self {
        Self {
            student: student.map(Into::into),
            teacher: teacher.map(Into::into),
        }
    }

    fn pairs(&self) -> [FeaturePair; 2] {
        let pair = |i: usize| FeaturePair::new("gram_mse", &self.student[i], &self.teacher[i]);
        [pair(0), pair(1).named(self.name())]
    }

    /// Both layers of the student, then both of the teacher.
    fn layers(&self, context: &LossContext<'_>) -> [[Tensor<3>; 2]; 2] {
        let [(s0, t0), (s1, t1)] = self.pairs().map(|pair| pair.features(context));
        [[s0, s1], [t0, t1]].map(|side| {
            side.map(|feature| match feature {
                Feature::Rank3(x) => x,
                other => panic!("a feature [N, T, D] has shape {:?}", other.shape()),
            })
        })
    }
}

impl Loss for GramMse {
    fn name(&self) -> String {
        format!("gram_mse_{}", self.student[0])
    }

    fn needs(&self) -> Needs {
        FeaturePair::needs_of_all(self.pairs())
    }

    fn validate(&self) -> Result<()> {
        let mut pairs = self.pairs().into_iter();
        pairs.try_for_each(|pair| pair.validate("gram_mse"))
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        for pair in self.pairs() {
            pair.check_ranks(context, &[3], "[N, T, D]")?;
            pair.check(context, Common::AllButWidth)?;
        }
        let [student, teacher] = self.layers(context);
        let shapes = [student, teacher].map(|side| side.map(|layer| layer.dims()));
        let [[s0, s1], [t0, t1]] = shapes;
        match s0 == s1 && t0 == t1 {
            true => Ok(()),
            false => Err(Error::ShapeMismatch {
                what: format!("term {:?}: the two features of one side", self.name()),
                student: [s0, s1].concat(),
                teacher: [t0, t1].concat(),
            }),
        }
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let [student, teacher] = self.layers(context);
        gram_mse(student, teacher, context.weights())
    }
}

#[cfg(test)]
#[path = "../tests/gram_mse.rs"]
mod tests;
