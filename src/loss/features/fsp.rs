//! How two features of one model go together: the flow of the solution procedure.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::error::{Result, Side};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::features::{Samples, are_of_positions, masked, pooled};
use crate::ops::maps::{max_pooled, to_map};
use crate::ops::vectors::{mean_square, norm, or_one};

/// How two matrices of [`fsp`](fn@fsp) are compared, and how maps of two sizes are brought to one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FspForm {
    /// The mean of the squared differences, after average pooling: RepDistiller, KDZoo and, for
    /// sequences, TextBrewer. The paper takes their sum, which differs by a constant. The default.
    #[default]
    MeanSquare,
    /// The sum over the second feature's channels of the Euclidean norm over the first's, after
    /// maximum pooling: torchdistill.
    ColumnNorm,
}

/// Flow of the solution procedure: how two features of one model go together, compared between
/// student and teacher.
///
/// The student is asked for the teacher's step from one layer to a later one rather than for the
/// layers themselves. Take the two ends of a stage, such as the first and the last block of one
/// resolution. The paper trains on this alone first and on labels after.
///
/// ```text
/// L = (1/N) Σ_n (1/AB) Σ_ab (G_s − G_t)²        MeanSquare
///     (1/N) Σ_n Σ_b √( Σ_a (G_s − G_t)² )       ColumnNorm
///
/// G_ab = (1/P) Σ_p x_ap · y_bp
///
/// x, y   two features of one model, widths A and B      P   positions of a map, or tokens
/// N      samples, weighted if there are weights
/// ```
///
/// Within one model, maps of different height or width are first brought to the smaller of the two.
/// Student and teacher may differ in it.
///
/// # Shapes
///
/// - student, teacher: twice `[N, C, H, W]`, `[N, T, D]` or `[N, D]`, with the widths of the
///   student equal to those of the teacher
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂G_s = 2 (G_s − G_t) / (N·A·B)` for `MeanSquare`, zero where a column of `ColumnNorm` is
/// already met; none towards the teacher.
///
/// # Panics
///
/// Panics if the ranks, the widths or the numbers of samples differ, or the tokens of one model do.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{FspForm, fsp};
///
/// let device = Device::flex();
/// let vector = |x: f32, y: f32| Tensor::<2>::from_floats([[x, y]], &device).into();
/// let student = [vector(1.0, 0.0), vector(1.0, 1.0)]; // G = [[1, 1], [0, 0]]
/// let teacher = [vector(1.0, 0.0), vector(3.0, 1.0)]; // G = [[3, 1], [0, 0]]
/// let loss = fsp(student, teacher, FspForm::MeanSquare).mean();
/// assert_eq!(loss.into_scalar::<f32>(), 1.0); // 2² / 4
/// ```
///
/// # References
///
/// Yim et al.: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
/// Transfer Learning, CVPR 2017.
pub fn fsp(student: [Feature; 2], teacher: [Feature; 2], form: FspForm) -> LossValue {
    LossValue::composed(per_sample(student, teacher, None, form))
}

/// One value per sample, `[N]`.
fn per_sample(
    student: [Feature; 2],
    teacher: [Feature; 2],
    weights: Option<&Weights>,
    form: FspForm,
) -> Tensor<1> {
    let [student, teacher] = [student, teacher].map(|side| matrix(side, weights, form));
    compared(student, teacher, form)
}

/// `[N, A, B]`, the weighted mean over positions of the products of two features of one model.
fn matrix([x, y]: [Feature; 2], weights: Option<&Weights>, form: FspForm) -> Tensor<3> {
    let (x, y) = match form {
        FspForm::MeanSquare => mean_pooled(x, y, weights),
        FspForm::ColumnNorm => largest_pooled(x, y, weights),
    };
    let of_positions = weights.and_then(|weights| position_weights(&x, weights));
    let [x, y] = [x, y].map(|x| to_map(masked(x, weights)).flatten::<3>(2, 3));
    let [samples, _, positions] = x.dims();
    match of_positions {
        None => x.matmul(y.swap_dims(1, 2)) / positions as f64,
        Some(weights) => {
            let weights: Tensor<3> = weights.cast(x.dtype()).unsqueeze_dim(1);
            let total = or_one(weights.clone().sum_dim(2).flatten(0, 2));
            (x * weights).matmul(y.swap_dims(1, 2)) / total.reshape([samples, 1, 1])
        }
    }
}

/// `[N, P]`, where weights tell the positions or tokens of a feature apart.
fn position_weights(feature: &Feature, weights: &Weights) -> Option<Tensor<2>> {
    match feature.shape()[..] {
        [n, tokens, _] if tokens > 1 && weights.rows() == n * tokens => {
            Some(weights.by_token(n, tokens).reshape([n, tokens]))
        }
        [n, _, h, w] if are_of_positions(weights, n, [h, w]) => {
            Some(weights.by_position(n, [h, w]).flatten(1, 2))
        }
        _ => None,
    }
}

/// Both at the smaller size, by means.
fn mean_pooled(x: Feature, y: Feature, weights: Option<&Weights>) -> (Feature, Feature) {
    match (masked(x, weights), masked(y, weights)) {
        (Feature::Rank4(x), Feature::Rank4(y)) => {
            let size = [2, 3].map(|axis| x.dims()[axis].min(y.dims()[axis]));
            let (x, y) = (pooled(x, size, weights), pooled(y, size, weights));
            (x.into(), y.into())
        }
        same => same,
    }
}

/// Both at the smaller size, by maxima, to which a position of weight 0 is nothing.
fn largest_pooled(x: Feature, y: Feature, weights: Option<&Weights>) -> (Feature, Feature) {
    let lowest = |x: Feature| match (x, weights) {
        (Feature::Rank4(x), Some(weights)) => {
            let [n, _, h, w] = x.dims();
            let ignored = weights.by_position(n, [h, w]).equal_elem(0.0);
            let ignored: Tensor<4, Bool> = ignored.unsqueeze_dim::<4>(1).expand(x.shape());
            // A maximum of nothing else is zeroed with its weight, which is 0 as well.
            x.mask_fill(ignored, f32::NEG_INFINITY).into()
        }
        (x, _) => x,
    };
    max_pooled(lowest(x), lowest(y))
}

/// One value per sample from the matrices `[N, A, B]`.
fn compared(student: Tensor<3>, teacher: Tensor<3>, form: FspForm) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher features have the same widths"
    );
    let difference = student - teacher.without_autodiff();
    match form {
        FspForm::MeanSquare => mean_square(difference),
        FspForm::ColumnNorm => norm(difference, 1).sum_dim(2).flatten(0, 2),
    }
}

/// Flow of the solution procedure as a term of an objective; see [`fsp`](fn@fsp) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | two features of the student | the names its `outputs` gives, the earlier first |
/// | `teacher` | required | two features of the teacher | the names its `outputs` gives, the earlier first |
/// | `form` | `mean_square` | `mean_square`, `column_norm` | how the matrices are compared |
///
/// Where there are weights of tokens or pixels, the matrix of a sample is the weighted mean over its
/// tokens or positions; over the valid tokens of a sequence, as in TextBrewer.
///
/// For several steps add one term for each: the losses of RepDistiller, KDZoo and torchdistill are
/// sums over steps.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Fsp, FspForm, Loss};
///
/// let loss = Fsp::new(["first", "second"], ["first", "fourth"]);
/// assert_eq!(loss.form, FspForm::MeanSquare);
/// assert!(loss.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fsp {
    /// The student's features, the earlier first.
    pub student: [String; 2],
    /// The teacher's features, the earlier first.
    pub teacher: [String; 2],
    /// How the matrices are compared.
    #[serde(default)]
    pub form: FspForm,
}

impl Fsp {
    /// The step between two features of the student and the step between two of the teacher.
    pub fn new(student: [impl Into<String>; 2], teacher: [impl Into<String>; 2]) -> Self {
        Self {
            student: student.map(Into::into),
            teacher: teacher.map(Into::into),
            form: FspForm::default(),
        }
    }

    /// Sets how the matrices are compared.
    #[must_use]
    pub fn with_form(mut self, form: FspForm) -> Self {
        self.form = form;
        self
    }

    fn pairs(&self) -> [FeaturePair; 2] {
        let term = self.name();
        [0, 1].map(|i| FeaturePair::new("fsp", &self.student[i], &self.teacher[i]).named(&term))
    }

    fn sides(&self, context: &LossContext<'_>) -> [[Feature; 2]; 2] {
        let [first, second] = self.pairs().map(|pair| pair.features(context));
        [[first.0, second.0], [first.1, second.1]]
    }
}

impl Loss for Fsp {
    fn name(&self) -> String {
        format!("fsp_{}", self.student.join("_"))
    }

    fn needs(&self) -> Needs {
        FeaturePair::needs_of_all(self.pairs())
    }

    fn validate(&self) -> Result<()> {
        self.pairs()
            .iter()
            .try_for_each(|pair| pair.validate("fsp"))
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let pairs = self.pairs();
        for pair in &pairs {
            pair.check(context, Common::AllButWidth)?;
            pair.check_width(context)?;
        }
        // Each of the teacher's features goes with one of the student's, so this holds for both.
        let [[first, second], _] = self.sides(context);
        let rows = |feature: &Feature| match feature.shape()[..] {
            [samples, tokens, _] => (3, samples, tokens),
            ref shape => (shape.len(), shape[0], 1),
        };
        match rows(&first) == rows(&second) {
            true => Ok(()),
            false => {
                let expected = "the rank, the samples and the tokens of the first feature";
                Err(pairs[1].shape_error(Side::Student, second.shape(), expected))
            }
        }
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let [student, teacher] = self.sides(context);
        let weights = context.weights();
        let samples = Samples::of(&student[0], &teacher[0], weights);
        samples.mean(per_sample(student, teacher, weights, self.form))
    }
}

#[cfg(test)]
#[path = "../tests/fsp.rs"]
mod tests;
