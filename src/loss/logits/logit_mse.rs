use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;

/// How the squared errors of one row's logits become the value of the row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogitReduction {
    /// Their mean: what `mse_loss` computes in TextBrewer, KDZoo and Kim et al. The default.
    #[default]
    Mean,
    /// Their sum: `C` times the mean.
    Sum,
    /// Half their sum, as Ba and Caruana write it.
    HalfSum,
}

/// Squared error between logits.
///
/// Nothing is softened: the student learns the teacher's logits themselves, their level included.
/// It has no temperature to tune and often equals soft targets at a high one. Use it too where the
/// outputs are no logits at all but the values of a regression.
///
/// ```text
/// L(z_s, z_t) = (1/N) Σ_n (1/C) Σ_c (z_s − z_t)²      Mean
///               (1/N) Σ_n      Σ_c (z_s − z_t)²       Sum
///               (1/N) Σ_n  1/2 Σ_c (z_s − z_t)²       HalfSum
///
/// z_s, z_t   logits of student and teacher      N   rows that count      C   classes
/// ```
///
/// A class that either side rules out with −∞ adds nothing.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = 2 (z_s − z_t) / (N·C)` for `Mean`; none towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{LogitReduction, logit_mse};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0, 6.0]], &device);
/// let loss = logit_mse(student, teacher, LogitReduction::Mean);
/// assert_eq!(loss.into_scalar::<f32>(), 12.5); // (3² + 4²) / 2
/// ```
///
/// # References
///
/// Ba, Caruana: Do Deep Nets Really Need to be Deep?, 2014, arXiv:1312.6184. Kim et al.: Comparing
/// Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation, 2021,
/// arXiv:2105.08919.
#[must_use]
pub fn logit_mse(student: Tensor<2>, teacher: Tensor<2>, reduction: LogitReduction) -> Tensor<1> {
    comparison(&student, teacher, 1.0, reduction, None).mean()
}

/// [`logit_mse`] with one value per row, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ.
#[must_use]
pub fn logit_mse_no_reduction(
    student: Tensor<2>,
    teacher: Tensor<2>,
    reduction: LogitReduction,
) -> Tensor<1> {
    comparison(&student, teacher, 1.0, reduction, None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
    reduction: LogitReduction,
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    let reduced = match reduction {
        LogitReduction::Mean => 1.0 / student.dims()[1].max(1) as f64,
        LogitReduction::Sum => 1.0,
        LogitReduction::HalfSum => 0.5,
    };
    Comparison {
        formula: Formula::SquaredError,
        scale: reduced / (temperature * temperature),
        student,
        teacher: Some(teacher),
        known: None,
        labels: None,
        mask,
    }
}

/// Config of [`LogitMse`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0 | both logits are divided by it; the loss is not scaled back |
/// | `reduction` | `mean` | `mean`, `sum`, `half_sum` | how the classes of one row are reduced |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{LogitMseConfig, LogitReduction};
///
/// let config = LogitMseConfig::new().with_reduction(LogitReduction::HalfSum);
/// assert!(config.init().is_ok());
/// assert!(config.with_temperature(-1.0).init().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogitMseConfig {
    /// Both logits are divided by it.
    pub temperature: f64,
    /// How the classes of one row are reduced.
    pub reduction: LogitReduction,
}

impl Default for LogitMseConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            reduction: LogitReduction::default(),
        }
    }
}

impl LogitMseConfig {
    /// The mean squared error at temperature 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what both logits are divided by.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets how the classes of one row are reduced.
    #[must_use]
    pub fn with_reduction(mut self, reduction: LogitReduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if the temperature is not a number greater than 0.
    pub fn init(&self) -> Result<LogitMse> {
        match self.temperature.is_finite() && self.temperature > 0.0 {
            true => Ok(LogitMse {
                temperature: self.temperature,
                reduction: self.reduction,
            }),
            false => Err(Error::invalid(
                "logit_mse.temperature",
                self.temperature,
                "a number greater than 0",
            )),
        }
    }
}

/// Squared error between logits as a term of an objective; see [`logit_mse`] for the formula.
#[derive(Debug, Clone)]
pub struct LogitMse {
    temperature: f64,
    reduction: LogitReduction,
}

impl Loss for LogitMse {
    fn name(&self) -> String {
        "logit_mse".into()
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_logits(&self.name())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let teacher = context.teacher().logits.clone();
        let (student, mask) = (&context.student.logits, context.mask);
        comparison(student, teacher, self.temperature, self.reduction, mask).mean()
    }
}

#[cfg(test)]
#[path = "../tests/logit_mse.rs"]
mod tests;
