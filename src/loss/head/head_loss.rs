use serde::{Deserialize, Serialize};

use crate::data::top_k::{MissingMass, TopK};
use crate::loss::logits::scale::TemperatureScale;
use crate::ops::formula::Formula;
use crate::ops::known::Known;

/// What is compared at the output of a language model: the losses of this module whose gradient
/// at the logits has a closed form.
///
/// `p_s = softmax(z_s / τ)` and `p_t = softmax(z_t / τ)`; every variant has the value of the loss
/// that it names.
///
/// | variant | formula per row | equals | needs |
/// |---|---|---|---|
/// | `SoftTarget` | `τ² · KL(p_t ‖ p_s)` | [`soft_target`](crate::loss::soft_target) | teacher |
/// | `ReverseKl` | `k · KL(p_s ‖ p_t)`, `k` is τ² or 1 | [`reverse_kl`](crate::loss::reverse_kl) | teacher |
/// | `JensenShannon` | `k · (β · KL(p_t ‖ m) + (1 − β) · KL(p_s ‖ m))` | [`jensen_shannon`](crate::loss::jensen_shannon) | teacher |
/// | `HardLabel` | `−log softmax(z_s)_y`, smoothed | [`hard_label`](crate::loss::hard_label) | labels |
/// | `HardAndSoft` | `α · HardLabel + (1 − α) · SoftTarget` | the sum of both | teacher, labels |
/// | `Dkd` | `τ² · (α · TCKD + β · NCKD)` | [`dkd`](fn@crate::loss::dkd) | teacher, labels |
/// | `SparseSoftTarget` | `SoftTarget` of the classes known | [`sparse_soft_target`](fn@crate::loss::sparse_soft_target) | top k |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum HeadLoss {
    /// The divergence from the teacher's softened probabilities.
    SoftTarget {
        /// τ, greater than 0.
        temperature: f64,
    },
    /// The divergence the other way round.
    ReverseKl {
        /// τ, greater than 0.
        temperature: f64,
        /// Whether it is multiplied by τ².
        scale: TemperatureScale,
    },
    /// The divergences of both sides from their mixture.
    JensenShannon {
        /// τ, greater than 0.
        temperature: f64,
        /// Whether it is multiplied by τ².
        scale: TemperatureScale,
        /// β in [0, 1], the teacher's share of the mixture; the ends are the plain divergences.
        beta: f64,
    },
    /// Cross-entropy with the true classes.
    HardLabel {
        /// ε in [0, 1), the share of the target that is spread evenly over all classes.
        smoothing: f64,
    },
    /// Cross-entropy and soft targets in one pass: `α · CE + (1 − α) · τ² · KL`.
    HardAndSoft {
        /// τ of the soft targets, greater than 0.
        temperature: f64,
        /// α, the share of the cross-entropy.
        alpha: f64,
    },
    /// Soft targets split at the true class.
    Dkd {
        /// τ, greater than 0.
        temperature: f64,
        /// α, the weight of the true class against all others.
        alpha: f64,
        /// β, the weight of the other classes among themselves.
        beta: f64,
    },
    /// Soft targets of the classes that are known of the teacher, who needs no head then.
    SparseSoftTarget {
        /// τ, greater than 0.
        temperature: f64,
        /// What is assumed of all other classes.
        missing_mass: MissingMass,
    },
}

impl HeadLoss {
    /// The formula, and the factor it is multiplied by.
    pub(crate) fn formula(self) -> (Formula, f64) {
        match self {
            Self::SoftTarget { temperature } => {
                let formula = Formula::Divergence { temperature };
                (formula, TemperatureScale::Squared.factor(temperature))
            }
            Self::ReverseKl { temperature, scale } => {
                (Formula::Reverse { temperature }, scale.factor(temperature))
            }
            Self::JensenShannon {
                temperature,
                scale,
                beta,
            } => {
                assert!((0.0..=1.0).contains(&beta), "beta is in [0, 1], got {beta}");
                let formula = match beta {
                    0.0 => Formula::Divergence { temperature },
                    1.0 => Formula::Reverse { temperature },
                    _ => Formula::Mixture { temperature, beta },
                };
                (formula, scale.factor(temperature))
            }
            Self::HardLabel { smoothing } => (Formula::HardLabel { smoothing }, 1.0),
            Self::HardAndSoft { temperature, alpha } => {
                (Formula::HardAndSoft { temperature, alpha }, 1.0)
            }
            Self::Dkd {
                temperature,
                alpha,
                beta,
            } => {
                let formula = Formula::Decoupled {
                    temperature,
                    alpha,
                    beta,
                };
                (formula, TemperatureScale::Squared.factor(temperature))
            }
            Self::SparseSoftTarget {
                temperature,
                missing_mass,
            } => {
                let has_rest = missing_mass == MissingMass::Bucket;
                let formula = Formula::Known {
                    temperature,
                    has_rest,
                };
                (formula, TemperatureScale::Squared.factor(temperature))
            }
        }
    }

    pub(crate) fn needs_teacher(self) -> bool {
        !matches!(self, Self::HardLabel { .. } | Self::SparseSoftTarget { .. })
    }

    /// The classes known at the temperature of the loss, where it asks for them.
    pub(crate) fn known(self, top_k: &TopK) -> Option<Known> {
        match self {
            Self::SparseSoftTarget {
                temperature,
                missing_mass,
            } => Some(Known::from_top_k(top_k.clone(), temperature, missing_mass)),
            _ => None,
        }
    }

    pub(crate) fn needs_labels(self) -> bool {
        matches!(
            self,
            Self::HardLabel { .. } | Self::HardAndSoft { .. } | Self::Dkd { .. }
        )
    }
}
