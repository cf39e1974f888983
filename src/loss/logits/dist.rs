use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::{Loss, LossContext};
use crate::ops::single;
use crate::ops::vectors::{mask_rows, mean_rows};
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
/// β, γ   weights of the two relations      N   rows that count      C   classes
/// ```
///
/// With a single row nothing varies along samples: intra is 1 and has no gradient. Equal outputs
/// give almost 0, not exactly, where a class varies so little that 1e-8 is felt.
///
/// image_classification_sota and mmrazor compute the same, and so does the authors' own code at
/// τ = 1; torchdistill bounds each norm from below instead of adding to their product.
///
/// There is no value per row, since intra belongs to the batch.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
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
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    beta: f64,
    gamma: f64,
) -> Tensor<1> {
    relations(student, teacher, temperature, [beta, gamma], None)
}

fn relations(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    [beta, gamma]: [f64; 2],
    mask: Option<&Tensor<1, Bool>>,
) -> Tensor<1> {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher logits have one shape"
    );
    let only_counting = |x: Tensor<2>| match mask {
        Some(mask) => mask_rows(x, &mask.clone().bool_not()),
        None => x,
    };
    let (student, teacher) = (single(student), single(teacher.without_autodiff()));
    // Before anything is computed of a row that may hold anything.
    let student = softmax(only_counting(student) / temperature, 1);
    let teacher = softmax(only_counting(teacher) / temperature, 1);

    let rows = [student.clone(), teacher.clone()].map(|x| x.clone() - x.mean_dim(1));
    let inter = mean_rows(1.0 - correlation(rows, 1).squeeze_dim(1), mask);

    let count = match mask {
        Some(mask) => mask.clone().int().sum().float().cast(student.dtype()),
        None => Tensor::full(
            [1],
            student.dims()[0] as f64,
            (&teacher.device(), teacher.dtype()),
        ),
    };
    let divisor: Tensor<2> = count.clone().clamp_min(1.0).unsqueeze();
    let columns = [student, teacher].map(|x| {
        let mean = only_counting(x.clone()).sum_dim(0) / divisor.clone();
        only_counting(x - mean)
    });
    let intra = 1.0 - correlation(columns, 0).mean();
    // A batch in which no row counts is worth 0, not 1.
    let intra = intra * count.clamp_max(1.0);

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

/// Config of [`Dist`].
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
/// use burn_distill::loss::DistConfig;
///
/// assert!(DistConfig::new(4.0).with_gamma(2.0).init().is_ok());
/// let error = DistConfig::new(4.0).with_gamma(f64::NAN).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "dist.gamma is NaN, expected a number of at least 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DistConfig {
    /// How far the probabilities are softened.
    pub temperature: Schedule,
    /// The weight of the relations between classes.
    pub beta: f64,
    /// The weight of the relations between samples.
    pub gamma: f64,
}

impl Default for DistConfig {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl DistConfig {
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

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if the temperature is not greater than 0 all the time, or a
    /// weight is not a number of at least 0.
    pub fn init(&self) -> Result<Dist> {
        self.temperature
            .check("dist.temperature", |t| t > 0.0, "a number greater than 0")?;
        for (name, value) in [("dist.beta", self.beta), ("dist.gamma", self.gamma)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::invalid(name, value, "a number of at least 0"));
            }
        }
        Ok(Dist {
            temperature: self.temperature.clone(),
            weights: [self.beta, self.gamma],
        })
    }
}

/// Relations as a term of an objective; see [`dist`](fn@dist) for the formula.
#[derive(Debug, Clone)]
pub struct Dist {
    temperature: Schedule,
    weights: [f64; 2],
}

impl Loss for Dist {
    fn name(&self) -> String {
        "dist".into()
    }

    fn temperature(&self) -> Option<&Schedule> {
        Some(&self.temperature)
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_logits(&self.name())?;
        context.check_two_classes(&self.name())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        relations(
            context.student.logits.clone(),
            context.teacher().logits.clone(),
            self.temperature.at(context.progress),
            self.weights,
            context.mask,
        )
    }
}

#[cfg(test)]
#[path = "../tests/dist.rs"]
mod tests;
