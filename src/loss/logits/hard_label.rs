use burn::tensor::{Bool, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::{Loss, LossContext};
use crate::ops::comparison::Comparison;
use crate::ops::formula::Formula;

/// Hard labels: cross-entropy between the student and the true classes, with label smoothing.
///
/// The ordinary loss of a classifier. Beside soft targets, a small weight of it corrects the
/// teacher's mistakes where labels exist; alone it is the baseline that distillation has to beat.
///
/// ```text
/// L(z_s, y) = −(1/N) Σ_n Σ_c t_c · log softmax(z_s)_c,   t = (1 − ε)·onehot(y) + ε/C
///
/// z_s   the student's logits      y   true class      ε   label smoothing      C   classes
/// ```
///
/// # Shapes
///
/// - student: `[N, C]`
/// - labels: `[N]`, from 0 to C − 1
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂z_s = (softmax(z_s) − t) / N`, in closed form.
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
/// let loss = hard_label(student, labels, 0.0);
/// assert!((loss.into_scalar::<f32>() - 4f32.ln()).abs() < 1e-6);
/// ```
///
/// # References
///
/// Label smoothing: Szegedy et al.: Rethinking the Inception Architecture for Computer Vision,
/// 2015, arXiv:1512.00567, section 7.
#[must_use]
pub fn hard_label(student: Tensor<2>, labels: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
    comparison(&student, &labels, smoothing, None).mean()
}

/// [`hard_label`] with one value per row, `[N]`, instead of their mean.
#[must_use]
pub fn hard_label_no_reduction(
    student: Tensor<2>,
    labels: Tensor<1, Int>,
    smoothing: f64,
) -> Tensor<1> {
    comparison(&student, &labels, smoothing, None).per_row()
}

fn comparison<'a>(
    student: &'a Tensor<2>,
    labels: &'a Tensor<1, Int>,
    smoothing: f64,
    mask: Option<&'a Tensor<1, Bool>>,
) -> Comparison<'a> {
    Comparison {
        formula: Formula::HardLabel { smoothing },
        scale: 1.0,
        student,
        teacher: None,
        known: None,
        labels: Some(labels),
        mask,
    }
}

/// Config of [`HardLabel`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `smoothing` | 0 | [0, 1) | ε, the share of the target spread evenly over all classes; 0.1 in the paper |
///
/// # Example
///
/// ```
/// use burn_distill::loss::HardLabelConfig;
///
/// assert!(HardLabelConfig::new().with_smoothing(0.1).init().is_ok());
/// let error = HardLabelConfig::new().with_smoothing(1.0).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "hard_label.smoothing is 1, expected a number in [0, 1)"
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HardLabelConfig {
    /// The share of the target that is spread evenly over all classes.
    pub smoothing: f64,
}

impl HardLabelConfig {
    /// Plain cross-entropy, without smoothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the share of the target that is spread evenly over all classes.
    #[must_use]
    pub fn with_smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if the smoothing is not in [0, 1).
    pub fn init(&self) -> Result<HardLabel> {
        match (0.0..1.0).contains(&self.smoothing) {
            true => Ok(HardLabel {
                smoothing: self.smoothing,
            }),
            false => Err(Error::invalid(
                "hard_label.smoothing",
                self.smoothing,
                "a number in [0, 1)",
            )),
        }
    }
}

/// Hard labels as a term of an objective; see [`hard_label`] for the formula.
#[derive(Debug, Clone)]
pub struct HardLabel {
    smoothing: f64,
}

impl Loss for HardLabel {
    fn name(&self) -> String {
        "hard_label".into()
    }

    fn needs_teacher(&self) -> bool {
        false
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_class_targets(&self.name())
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let labels = context.targets.classes().expect("checked beforehand");
        let student = &context.student.logits;
        comparison(student, labels, self.smoothing, context.mask).mean()
    }
}

#[cfg(test)]
#[path = "../tests/hard_label.rs"]
mod tests;
