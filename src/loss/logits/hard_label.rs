//! Hard labels: the cross-entropy with the true classes.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::head::{HeadKind, Logits};
use crate::data::targets::TargetKind;
use crate::error::{Result, check};
use crate::loss::context::LossContext;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;

/// Hard labels: cross-entropy between the student and the true classes, with label smoothing.
///
/// The ordinary loss of a classifier. Beside soft targets, a small weight of it corrects the
/// teacher's mistakes where labels exist; alone it is the baseline that distillation has to beat.
///
/// ```text
/// L(z_s, y) = −(1/N) Σ_n Σ_c t_c · log softmax(z_s)_c,   t = (1 − ε)·onehot(y) + ε/C
///
/// z_s   the student's logits      ε   label smoothing
/// y     true class                C   classes
/// N     rows that have a label, weighted if there are weights
/// ```
///
/// # Shapes
///
/// - student: `[N, C]`; also an output layer
/// - labels: `[N]`, from 0 to C − 1; below 0, the row has none and is left out
/// - output: one value per row, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = (softmax(z_s) − t) / N`, in closed form.
///
/// # Panics
///
/// Reducing panics if the numbers of rows differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::loss::hard_label;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::zeros([1, 4], &device);
/// let labels = Tensor::<1, Int>::from_ints([2], &device);
/// let loss = hard_label(student, labels, 0.0).mean();
/// assert!((loss.into_scalar::<f32>() - 4f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Label smoothing: Szegedy et al.: Rethinking the Inception Architecture for Computer Vision,
/// 2015, arXiv:1512.00567, section 7.
pub fn hard_label(student: impl Into<Logits>, labels: Tensor<1, Int>, smoothing: f64) -> LossValue {
    LossValue::closed(RowLoss {
        form: form(smoothing),
        student: student.into(),
        teacher: None,
        labels: Some(labels),
        weights: None,
    })
}

fn form(smoothing: f64) -> ClosedForm {
    ClosedForm::new(Formula::HardLabel { smoothing }, 1.0)
}

/// Hard labels as a term of an objective; see [`hard_label`] for the formula. It needs no teacher.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `smoothing` | 0 | [0, 1) | ε, the fraction of the target spread evenly over all classes; 0.1 in the paper |
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::HardLabel;
///
/// let objective = Objective::new().with(HardLabel::new().with_smoothing(1.0), 1);
/// assert_eq!(
///     objective.validate().unwrap_err().to_string(),
///     "hard_label.smoothing is 1, expected a number in [0, 1)"
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HardLabel {
    /// The fraction of the target that is spread evenly over all classes.
    pub smoothing: f64,
}

impl HardLabel {
    /// Plain cross-entropy, without smoothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the fraction of the target that is spread evenly over all classes.
    #[must_use]
    pub fn with_smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }
}

impl Loss for HardLabel {
    fn name(&self) -> String {
        "hard_label".into()
    }

    fn needs(&self) -> Needs {
        Needs::nothing()
            .with_head(HeadKind::Categorical)
            .with_target(TargetKind::Class)
    }

    fn validate(&self) -> Result<()> {
        let is_valid = (0.0..1.0).contains(&self.smoothing);
        check(
            "hard_label.smoothing",
            self.smoothing,
            is_valid,
            "a number in [0, 1)",
        )
    }

    fn closed_form(&self, _progress: f64) -> Option<ClosedForm> {
        Some(form(self.smoothing))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        context.run(form(self.smoothing))
    }
}

#[cfg(test)]
#[path = "../tests/hard_label.rs"]
mod tests;
