//! Relations: correlations of probabilities along classes and along samples.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::data::precision::single;
use crate::error::{Result, check_not_negative};
use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};
use crate::ops::vectors::{mask_rows, mean_rows, or_one};
use crate::schedule::Schedule;

/// Keeps the quotient of a correlation finite where a row or a column does not vary.
const EPS: f64 = 1e-8;

/// Relations: correlation of the probabilities along classes and along samples.
///
/// The student has to reproduce which class comes before which within a sample, and which sample
/// comes before which within a class, but not the probabilities themselves. That is less to ask
/// than equality, which helps where the teacher is much stronger than the student.
///
/// ```text
/// L(z_s, z_t) = τ² · ( β · inter + γ · intra )
///
/// inter = 1 − (1/N) Σ_n r(p_s[n, ·], p_t[n, ·])      classes within each sample
/// intra = 1 − (1/C) Σ_c r(p_s[·, c], p_t[·, c])      samples within each class
/// r(a, b) = ⟨ã, b̃⟩ / (‖ã‖ ‖b̃‖ + 1e-8),  ã = a − mean(a)      Pearson's correlation
/// p = softmax(z / τ)      z_s, z_t   logits of student and teacher      τ   temperature
/// β, γ   weights of the two relations      C   classes
/// N      rows; weights of theirs are those of the means and of the correlation along samples
/// ```
///
/// With a single row nothing varies along samples: intra is 1 and has no gradient. Equal outputs
/// give almost 0, not exactly, where a class varies so little that 1e-8 shows.
///
/// image_classification_sota and mmrazor compute the same, and so does the authors' own code at
/// τ = 1; torchdistill bounds each norm from below instead of adding to their product.
///
/// There is no value per row, since intra belongs to the batch.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; an output layer is materialised
/// - output: `[1]`
///
/// # Gradient
///
/// That of the formula, 0 for the norm of a row or column that does not vary; none towards the
/// teacher. Where the student's row is uniform, as with a last layer of zeros, and the teacher's is
/// not, 1e-8 is the whole denominator and the gradient is as large as that makes it: clip it, or
/// start from a last layer that is not zero.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::dist;
///
/// let device = Device::flex();
/// // Correlated in each row, and in each column the other way round.
/// let student = Tensor::<2>::from_floats([[1.0, 0.0], [2.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[2.0, 0.0], [1.0, 0.0]], &device);
///
/// // inter = 1 − 1, intra = 1 − (−1)
/// let loss = dist(student, teacher, 1.0, 1.0, 1.0);
/// assert!((loss.into_scalar::<f32>() - 2.0).abs() < 1e-5);
/// ```
///
/// # References
///
/// Huang et al.: Knowledge Distillation from A Stronger Teacher, 2022, arXiv:2205.10536.
#[must_use]
pub fn dist(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    temperature: f64,
    beta: f64,
    gamma: f64,
) -> Tensor<1> {
    let (student, teacher) = (student.into().dense(), teacher.into().dense());
    relations(student, teacher, temperature, [beta, gamma], None)
}

fn relations(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    [beta, gamma]: [f64; 2],
    weights: Option<&Tensor<1>>,
) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher logits have one shape"
    );
    let (student, teacher) = (single(student), single(teacher.without_autodiff()));
    let weights = match weights {
        Some(weights) => weights.clone(),
        None => Tensor::ones([teacher.dims()[0]], (&teacher.device(), DType::F32)),
    };
    let weights = weights.cast(teacher.dtype());
    // Before anything is computed of a row that may hold anything.
    let ignored = weights.clone().equal_elem(0.0);
    let [student, teacher] =
        [student, teacher].map(|z| softmax(mask_rows(z, &ignored) / temperature, 1));

    let rows = [student.clone(), teacher.clone()].map(|x| x.clone() - x.mean_dim(1));
    let inter = 1.0 - correlation(rows, 1).squeeze_dim::<1>(1);
    let inter = mean_rows(inter, Some(&weights));

    let sum: Tensor<2> = or_one(weights.clone().sum()).unsqueeze();
    let by_row: Tensor<2> = weights.clone().unsqueeze_dim(1);
    let root = by_row.clone().sqrt();
    let columns = [student, teacher].map(|x| {
        let mean = (x.clone() * by_row.clone()).sum_dim(0) / sum.clone();
        (x - mean) * root.clone()
    });
    let intra: Tensor<1> = 1.0 - correlation(columns, 0).mean();
    // A batch without a valid row is worth 0, not 1.
    let nothing = weights.sum().equal_elem(0.0);
    let intra = intra.mask_fill(nothing, 0.0);

    (inter * beta + intra * gamma) * (temperature * temperature)
}

/// Pearson's correlation along an axis of two tensors that are centred along it.
fn correlation([a, b]: [Tensor<2>; 2], axis: usize) -> Tensor<2> {
    let product = (a.clone() * b.clone()).sum_dim(axis);
    product / (norm(a, axis) * norm(b, axis) + EPS)
}

/// The length along an axis. The root has no slope at 0: below 1e-15 the length is taken for that,
/// where it does not show beside [`EPS`], and has the gradient 0.
fn norm(x: Tensor<2>, axis: usize) -> Tensor<2> {
    (x.clone() * x).sum_dim(axis).clamp_min(1e-30).sqrt()
}

/// Relations as a term of an objective; see [`dist`](fn@dist) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0, may follow a [`Schedule`] | how far the probabilities are softened; the paper uses 4 for CIFAR-100 |
/// | `beta` | 1 | at least 0 | weight of the relations between classes |
/// | `gamma` | 1 | at least 0 | weight of the relations between samples |
///
/// The relations between samples are those within one batch: the larger it is, the more they say.
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::Dist;
///
/// let objective = Objective::new().with(Dist::new(4.0).with_gamma(f64::NAN), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "dist.gamma is NaN, expected a number of at least 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Dist {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The weight of the relations between classes.
    pub beta: f64,
    /// The weight of the relations between samples.
    pub gamma: f64,
}

impl Default for Dist {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl Dist {
    /// Relations at a temperature, or at a [`Schedule`] of temperatures.
    pub fn new(temperature: impl Into<Schedule>) -> Self {
        Self {
            temperature: temperature.into(),
            beta: 1.0,
            gamma: 1.0,
        }
    }

    /// Sets the weight of the relations between classes.
    #[must_use]
    pub fn with_beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets the weight of the relations between samples.
    #[must_use]
    pub fn with_gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }
}

impl Loss for Dist {
    fn name(&self) -> String {
        "dist".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_head(HeadKind::Categorical)
    }

    fn validate(&self) -> Result<()> {
        self.temperature.check_positive("dist.temperature")?;
        check_not_negative("dist.beta", self.beta)?;
        check_not_negative("dist.gamma", self.gamma)
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        relations(
            context.logits(),
            context.teacher_logits(),
            self.temperature.at(context.progress),
            [self.beta, self.gamma],
            context.row_weights(),
        )
    }
}

#[cfg(test)]
#[path = "../tests/dist.rs"]
mod tests;
