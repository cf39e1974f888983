//! A teacher of whom only some classes are known, at the temperature of the loss.

use std::ops::Range;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor};

use crate::data::top_k::{MissingMass, TopK};
use crate::ops::classes::{epsilon, log_sum_exp, lowest};
use crate::ops::formula::Formula;
use crate::ops::{LOG_OF_ZERO, Rows, divergence_of_logs, ruled_out, single};

/// The mass of all other classes counts as no less than this, on either side.
pub(crate) const LEAST_MASS: f64 = 1e-8;

/// What is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// `[N, k]`
    pub indices: Tensor<2, Int>,
    /// `[N, k]`; a class at −∞ does not count as known.
    pub log_p: Tensor<2>,
    /// The logarithm of the mass of all other classes, `[N, 1]`; where there is none, `log_p` is a
    /// distribution by itself.
    pub log_rest: Option<Tensor<2>>,
}

impl Known {
    pub fn from_top_k(top: TopK, temperature: f64, missing_mass: MissingMass) -> Self {
        let indices = top.indices.without_autodiff();
        let log_probs = single(top.log_probs.without_autodiff());
        assert_eq!(
            indices.dims(),
            log_probs.dims(),
            "indices and log-probabilities have one shape"
        );
        let [_, k] = indices.dims();
        let ratio = top.temperature / temperature;
        let (log_p, log_rest) = match missing_mass {
            MissingMass::Renormalize => (log_softmax(log_probs * ratio, 1), None),
            MissingMass::Bucket => {
                let rest: Tensor<2> = 1.0 - log_probs.clone().exp().sum_dim(1);
                let nothing = rest.clone().lower_elem(noise(&rest));
                let log_rest = rest.clone().clamp_min(noise(&rest)).log() * ratio;
                let log_rest = log_rest.mask_fill(nothing, lowest(&rest));
                // At its own temperature this is a distribution already, and where rounding on the
                // way here made it a little more than one, it is taken as it is.
                if ratio == 1.0 {
                    (log_probs, Some(log_rest))
                } else {
                    let all = Tensor::cat(vec![log_probs * ratio, log_rest], 1);
                    let all = log_softmax(all, 1);
                    (all.clone().narrow(1, 0, k), Some(all.narrow(1, k, 1)))
                }
            }
        };
        Self {
            indices,
            log_p,
            log_rest,
        }
    }

    /// The `k` most likely classes of a teacher whose logits are all there, and the exact rest.
    pub fn from_logits(
        logits: Tensor<2>,
        k: usize,
        temperature: f64,
        missing_mass: MissingMass,
    ) -> Self {
        let all = log_softmax(logits / temperature, 1);
        let (log_p, indices) = all.clone().topk_with_indices(k, 1);
        let (log_p, log_rest) = match missing_mass {
            MissingMass::Renormalize => (log_softmax(log_p, 1), None),
            MissingMass::Bucket => {
                let is_gap = log_p.clone().equal_elem(f32::NEG_INFINITY);
                let rest = without(all, indices.clone(), is_gap);
                (log_p, Some(log_sum_exp(rest)))
            }
        };
        Self {
            indices,
            log_p,
            log_rest,
        }
    }

    /// Some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let log_rest = self.log_rest.as_ref();
        Self {
            indices: self.indices.clone().slice(rows.clone()),
            log_p: self.log_p.clone().slice(rows.clone()),
            log_rest: log_rest.map(|log_rest| log_rest.clone().slice(rows.clone())),
        }
    }

    pub fn formula(&self, temperature: f64) -> Formula {
        Formula::Known {
            temperature,
            has_rest: self.log_rest.is_some(),
        }
    }
}

/// `KL(p ‖ q)` per row with `q = softmax(z_s / τ)`, and its gradient with respect to `z_s`, composed of
/// tensor operations.
pub(crate) fn known_divergence(student: &Tensor<2>, known: &Known, temperature: f64) -> Rows {
    let Known {
        indices,
        log_p,
        log_rest,
    } = known.clone();
    // Gaps are no classes: nothing on either side, and nothing in the gradient.
    let is_gap = log_p.clone().equal_elem(f32::NEG_INFINITY);
    let out = ruled_out(student);
    let is_out = out
        .clone()
        .float()
        .gather(1, indices.clone())
        .greater_elem(0.5);
    let log_q = log_softmax(student.clone() / temperature, 1).mask_fill(out, LOG_OF_ZERO);
    let log_q_known = log_q.clone().gather(1, indices.clone());
    let log_q_known = log_q_known.mask_fill(is_gap.clone(), lowest(&log_q));
    let log_q_others = without(log_q, indices.clone(), is_gap.clone());
    let (q_known, p) = (log_q_known.clone().exp(), log_p.clone().exp());
    let q_others = log_q_others.clone().exp();
    // A class that the student rules out is a constant, as in soft targets.
    let lost = p.clone().mask_fill(is_out.bool_not(), 0.0).sum_dim(1);

    let (value, known, others) = match log_rest {
        None => {
            // KL(p ‖ q) = KL(p ‖ q / Σq) − log Σq. Rounding must not lift Σq above 1, nor move it
            // off 1 where all classes are known: τ² would make something of that.
            let log_sum = log_sum_exp(log_q_known.clone()).clamp_max(0.0);
            let classes = student.dims()[1] as i64;
            let are_all = is_gap
                .clone()
                .bool_not()
                .int()
                .sum_dim(1)
                .equal_elem(classes);
            let log_sum = log_sum.mask_fill(are_all, 0.0);
            let among = divergence_of_logs(log_q_known - log_sum.clone(), log_p).value;
            let moving: Tensor<2> = 1.0 - lost;
            let known = q_known * moving.clone() - p;
            (among - log_sum.squeeze_dim(1), known, q_others * moving)
        }
        Some(log_rest) => {
            let log_mass = log_sum_exp(log_q_others);
            let least = LEAST_MASS.ln();
            let counts = log_mass.clone().greater_elem(least);
            let counts = counts.float().cast(log_mass.dtype());
            let (log_mass, log_rest) = (log_mass.clamp_min(least), log_rest.clamp_min(least));
            let of_rest = log_rest.clone().exp();
            let ratio = (log_rest.clone() - log_mass.clone()).exp();
            // By how much more than 1 the teacher's probabilities sum to.
            let surplus = p.clone().sum_dim(1) - 1.0;
            let none = surplus.clone().lower_elem(noise(&surplus));
            let surplus = surplus.mask_fill(none, 0.0);
            // What p sums to, as far as its counterpart in q can still move.
            let moving: Tensor<2> = surplus.clone() + 1.0 - of_rest * (1.0 - counts.clone()) - lost;
            let value = divergence_of_logs(
                Tensor::cat(vec![log_q_known, log_mass], 1),
                Tensor::cat(vec![log_p, log_rest], 1),
            )
            .value;
            (
                value + surplus.squeeze_dim(1),
                q_known * moving.clone() - p,
                q_others * (moving - counts * ratio),
            )
        }
    };
    // Outside of the known classes `known` is not there, inside of them `others` is 0.
    let known = known.mask_fill(is_gap, 0.0);
    let gradient = others.scatter(1, indices, known, IndexingUpdateOp::Add);
    Rows {
        value,
        gradient: gradient / temperature,
    }
}

/// What is left of a sum of probabilities in single precision above 1, where it is more than rounding.
#[cfg(feature = "flex")]
pub(crate) fn surplus(sum: f32) -> f32 {
    let surplus = sum - 1.0;
    if surplus < 4.0 * f32::EPSILON {
        0.0
    } else {
        surplus
    }
}

/// What a sum of probabilities in single precision cannot tell from 0 or 1. A power of a mass as
/// small as this, as another temperature takes it, would be far from small.
fn noise(probabilities: &Tensor<2>) -> f64 {
    4.0 * epsilon(probabilities)
}

/// Logarithms of probabilities with the given classes as good as at −∞, save for the gaps.
fn without(log: Tensor<2>, indices: Tensor<2, Int>, is_gap: Tensor<2, Bool>) -> Tensor<2> {
    let lowest = Tensor::full(indices.dims(), lowest(&log), (&log.device(), log.dtype()));
    log.scatter(
        1,
        indices,
        lowest.mask_fill(is_gap, 0.0),
        IndexingUpdateOp::Add,
    )
}
