//! Squared error between logits, or between values.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::head::{Head, HeadKind, Logits};
use crate::error::{Result, check_positive};
use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};
use crate::loss::reduction::Reduction;
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;

/// Squared error between logits.
///
/// Nothing is softened: the student learns the teacher's logits themselves, their level included.
/// It has no temperature to tune and often equals soft targets at a high one. It fits the
/// values of a regression as well, a [continuous head](crate::Head::Continuous).
///
/// ```text
/// L(z_s, z_t) = (1/N) Σ_n (1/C) Σ_c (z_s − z_t)²      Mean
///               (1/N) Σ_n      Σ_c (z_s − z_t)²       Sum
///
/// z_s, z_t   logits of student and teacher      C   classes
/// N          rows, weighted if there are weights
/// ```
///
/// `Mean` is what TextBrewer, KDZoo and Kim et al. compute. Ba and Caruana write half of `Sum`, which is a
/// weight of 0.5. A class that either side masks with −∞ adds nothing.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`; also an output layer or, for the teacher, its top k
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = 2 (z_s − z_t) / (N·C)` for `Mean`; none towards the teacher.
///
/// # Panics
///
/// Reducing panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Reduction, logit_mse};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[4.0, 6.0]], &device);
/// let loss = logit_mse(student, teacher, Reduction::Mean).mean();
/// assert_eq!(loss.into_scalar::<f32>(), 12.5); // (3² + 4²) / 2
/// ```
///
/// # References
///
/// Ba, Caruana: Do Deep Nets Really Need to be Deep?, 2014, arXiv:1312.6184. Kim et al.: Comparing
/// Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation, 2021,
/// arXiv:2105.08919.
pub fn logit_mse(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    reduction: Reduction,
) -> LossValue {
    let student = student.into();
    let [_, classes] = student.shape();
    LossValue::closed(RowLoss::between(
        form(1.0, reduction, classes),
        student,
        teacher,
    ))
}

fn form(temperature: f64, reduction: Reduction, classes: usize) -> ClosedForm {
    let reduced = match reduction {
        Reduction::Mean => 1.0 / classes.max(1) as f64,
        Reduction::Sum => 1.0,
    };
    ClosedForm::new(Formula::SquaredError, reduced / (temperature * temperature))
}

/// Squared error between logits, or between the values of a continuous head, as a term of an objective;
/// see [`logit_mse`] for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `temperature` | 1 | greater than 0 | both logits are divided by it; the loss is not scaled back |
/// | `reduction` | `mean` | `mean`, `sum` | how the classes of one row are reduced, a [`Reduction`] |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::{LogitMse, Reduction};
///
/// let loss = LogitMse::new().with_reduction(Reduction::Sum);
/// assert!(Objective::new().with(loss.clone(), 1).validate().is_ok());
/// let objective = Objective::new().with(loss.with_temperature(-1.0), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "logit_mse.temperature is -1, expected a number greater than 0"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogitMse {
    /// Both logits are divided by it.
    pub temperature: f64,
    /// How the classes of one row are reduced.
    pub reduction: Reduction,
}

impl Default for LogitMse {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            reduction: Reduction::default(),
        }
    }
}

impl LogitMse {
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
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    fn form(&self, classes: usize) -> ClosedForm {
        form(self.temperature, self.reduction, classes)
    }
}

impl Loss for LogitMse {
    fn name(&self) -> String {
        "logit_mse".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher()
            .with_head(HeadKind::Categorical)
            .with_head(HeadKind::Continuous)
    }

    fn validate(&self) -> Result<()> {
        check_positive("logit_mse.temperature", self.temperature)
    }

    fn closed_form(&self, _progress: f64) -> Option<ClosedForm> {
        // The factor of a mean over classes shows only with the logits.
        let is_mean = matches!(self.reduction, Reduction::Mean);
        (!is_mean).then(|| self.form(1))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let classes = context.student_head().map_or(1, Head::width);
        context.run(self.form(classes))
    }
}

#[cfg(test)]
#[path = "../tests/logit_mse.rs"]
mod tests;
