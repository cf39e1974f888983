use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::outputs::Outputs;
use crate::error::{Error, Result, Side};
use crate::loss::modules::Parts;
use crate::loss::{Loss, LossContext};
use crate::objective::{IntoLoss, LossConfig};
use crate::ops::single;
use crate::ops::vectors::mask_rows;
use crate::schedule::Schedule;

/// Logits as z-scores: every row minus its mean, over its standard deviation.
///
/// A small student cannot reach the range of its teacher's logits, and need not: what is to be
/// learned is their order and their relative distance. A loss between standardized logits asks for
/// no more than that. [`StandardizedConfig`] puts any loss on outputs behind it.
///
/// ```text
/// Z(z)_c = (z_c − mean(z)) / (std(z) + ε),   std(z)² = 1/(C − 1) Σ_c (z_c − mean(z))²
///
/// z   the logits of one row      C   classes      ε   keeps the quotient finite
/// ```
///
/// A row of equal logits becomes zeros. LSKD, CTKD and torchdistill compute the same.
///
/// # Shapes
///
/// - logits: `[N, C]`, finite, of at least two classes
/// - output: `[N, C]`
///
/// # Gradient
///
/// Through mean and standard deviation; at a row of equal logits 0 for the standard deviation, and
/// so `1/ε` times the centred gradient of `Z`. Two classes have none to speak of: their z-scores
/// are `±1/√2`, whatever the logits.
///
/// # Panics
///
/// Panics if there is only one class, which has no standard deviation.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor, Tolerance};
/// use burn_distill::loss::standardize;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::from_floats([[1.0, 3.0, 5.0], [7.0, 7.0, 7.0]], &device);
/// let standardized = standardize(logits, 1e-7).into_data();
/// let expected = [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]; // mean 3, std √((4 + 0 + 4) / 2)
/// standardized.assert_approx_eq::<f32>(&expected.into(), Tolerance::default());
/// ```
///
/// # References
///
/// Sun et al.: Logit Standardization in Knowledge Distillation, 2024, arXiv:2403.01427.
#[must_use]
pub fn standardize(logits: Tensor<2>, eps: f64) -> Tensor<2> {
    let [_, classes] = logits.dims();
    assert!(classes >= 2, "one class has no standard deviation");
    let logits = single(logits);
    // The level drops out anyway. Without it, equal logits have exactly the mean 0, and far from 0
    // the differences keep their digits.
    let level = logits.clone().detach().max_dim(1);
    let logits = logits - level;
    let centred = logits.clone() - logits.mean_dim(1);
    let squares = (centred.clone() * centred.clone()).sum_dim(1);
    let variance = squares / (classes - 1) as f64;
    // The root has no slope at 0: there it is taken of 1, which hands no gradient on.
    let constant = variance.clone().equal_elem(0.0);
    let std = variance.mask_fill(constant.clone(), 1.0).sqrt();
    centred / (std.mask_fill(constant, 0.0) + eps)
}

/// Config of [`Standardized`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `loss` | required | a [`LossConfig`] that compares logits | what compares the standardized logits |
/// | `eps` | 1e-7 | greater than 0 | ε, keeps the z-score of a row of equal logits finite |
///
/// The paper takes soft targets at temperature 2 with a weight of 9 beside hard labels of weight
/// 0.1. The hard labels are a term of their own, on the logits as they are: standardized
/// logits are at most √C apart, which lets no student give the true one of ten classes more than
/// 0.72, however well it does. That is why a loss without a teacher is refused here, and so is one
/// on features, which standardized logits do not touch.
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::{HardLabelConfig, SoftTargetConfig, StandardizedConfig};
///
/// # fn main() -> burn_distill::Result<()> {
/// let objective = Objective::new()
///     .with(StandardizedConfig::new(SoftTargetConfig::new(2.0)), 9.0)?
///     .with(HardLabelConfig::new(), 0.1)?;
/// assert_eq!(
///     objective.to_string(),
///     "9 · standardized_soft_target + 0.1 · hard_label"
/// );
///
/// let error = StandardizedConfig::new(HardLabelConfig::new()).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "standardized.loss is hard_label, expected a loss between the logits of student and teacher"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StandardizedConfig {
    /// What compares the standardized logits.
    pub loss: Box<LossConfig>,
    /// Keeps the z-score of a row of equal logits finite.
    #[serde(default = "eps")]
    pub eps: f64,
}

fn eps() -> f64 {
    1e-7
}

impl StandardizedConfig {
    /// The loss that is to see standardized logits.
    pub fn new(loss: impl Into<LossConfig>) -> Self {
        Self {
            loss: Box::new(loss.into()),
            eps: eps(),
        }
    }

    /// Sets what keeps the z-score of a row of equal logits finite.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// What the inner loss's `init` says, or [`Error::InvalidParameter`] if that loss does not
    /// compare logits with a teacher's, or if `eps` is not a number greater than 0.
    pub fn init(&self) -> Result<Standardized> {
        let loss = self.loss.as_ref().clone().into_loss()?;
        if !loss.needs_teacher() || !loss.feature_pairs().is_empty() {
            return Err(Error::invalid(
                "standardized.loss",
                loss.name(),
                "a loss between the logits of student and teacher",
            ));
        }
        match self.eps.is_finite() && self.eps > 0.0 {
            true => Ok(Standardized {
                loss,
                eps: self.eps,
            }),
            false => Err(Error::invalid(
                "standardized.eps",
                self.eps,
                "a number greater than 0",
            )),
        }
    }
}

/// A loss behind standardized logits, as a term of an objective; see [`standardize`] for the
/// formula.
#[derive(Debug, Clone)]
pub struct Standardized {
    loss: Arc<dyn Loss>,
    eps: f64,
}

impl Standardized {
    fn outputs(&self, outputs: &Outputs, context: &LossContext<'_>) -> Outputs {
        let mut standardized = outputs.clone();
        standardized.logits = standardize(that_count(outputs, context), self.eps);
        standardized
    }
}

/// The logits, with zeros in the rows that do not count: those may hold anything, and the root of a
/// NaN has no gradient that a later mask could stop.
fn that_count(outputs: &Outputs, context: &LossContext<'_>) -> Tensor<2> {
    let logits = outputs.logits.clone();
    match context.mask {
        Some(mask) => mask_rows(logits, &mask.clone().bool_not()),
        None => logits,
    }
}

impl Loss for Standardized {
    fn name(&self) -> String {
        format!("standardized_{}", self.loss.name())
    }

    fn temperature(&self) -> Option<&Schedule> {
        self.loss.temperature()
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        context.check_two_classes(&self.name())?;
        // A class at −∞ is fine elsewhere, but leaves no mean here.
        for (side, outputs) in [
            (Side::Student, context.student),
            (Side::Teacher, context.teacher()),
        ] {
            let finite = that_count(outputs, context).is_finite().all();
            if !finite.into_scalar::<bool>() {
                return Err(Error::NonFinite {
                    what: format!("term {:?}: a logit of the {side}", self.name()),
                    value: "NaN or infinite".into(),
                });
            }
        }
        self.loss.check(context)
    }

    fn parts(&self, context: &LossContext<'_>, device: &Device) -> Option<Parts> {
        self.loss.parts(context, device)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let student = self.outputs(context.student, context);
        let teacher = self.outputs(context.teacher(), context);
        self.loss.forward(&LossContext {
            student: &student,
            teacher: Some(&teacher),
            ..context.clone()
        })
    }
}

#[cfg(test)]
#[path = "../tests/standardized.rs"]
mod tests;
