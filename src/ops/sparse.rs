//! A top-k teacher as a sparse distribution, at the temperature of the loss.

use std::ops::Range;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, DType, IndexingUpdateOp, Int, Tensor};

use crate::data::precision::single;
use crate::data::top_k::{MissingProbability, TopK};
use crate::ops::classes::{epsilon, log_sum_exp, lowest};
use crate::ops::formula::Formula;
use crate::ops::{LOG_OF_ZERO, Rows, divergence_of_logs, masked_classes};

/// A floor of the tail probability, on either side.
pub(crate) const LEAST_TAIL: f64 = 1e-8;

/// The probabilities of `k` classes of each row, and of all others together.
#[derive(Debug, Clone)]
pub(crate) struct SparseTeacher {
    /// `[N, k]`
    pub indices: Tensor<2, Int>,
    /// `[N, k]`; an entry at −∞ is a gap, which is ignored.
    pub log_p: Tensor<2>,
    /// The logarithm of the tail probability, `[N, 1]`; where there is none, `log_p` is a distribution
    /// by itself.
    pub log_tail: Option<Tensor<2>>,
}

impl SparseTeacher {
    pub fn from_top_k(top: TopK, temperature: f64, missing: MissingProbability) -> Self {
        let indices = top.indices.without_autodiff();
        let log_probs = single(top.log_probs.without_autodiff());
        assert_eq!(
            indices.dims(),
            log_probs.dims(),
            "indices and log-probabilities have one shape"
        );
        let [_, k] = indices.dims();
        let ratio = top.temperature / temperature;
        let (log_p, log_tail) = match missing {
            MissingProbability::Renormalize => (log_softmax(log_probs * ratio, 1), None),
            MissingProbability::Bucket => {
                let rest: Tensor<2> = 1.0 - log_probs.clone().exp().sum_dim(1);
                let nothing = rest.clone().lower_elem(noise(&rest));
                let log_tail = rest.clone().clamp_min(noise(&rest)).log() * ratio;
                let log_tail = log_tail.mask_fill(nothing, lowest(&rest));
                // At its own temperature this is a distribution already, and where rounding on the
                // way here made it a little more than one, it is taken as it is.
                if ratio == 1.0 {
                    (log_probs, Some(log_tail))
                } else {
                    let all = Tensor::cat(vec![log_probs * ratio, log_tail], 1);
                    let all = log_softmax(all, 1);
                    (all.clone().narrow(1, 0, k), Some(all.narrow(1, k, 1)))
                }
            }
        };
        Self {
            indices,
            log_p,
            log_tail,
        }
    }

    /// The `k` most likely classes of dense logits, and the exact tail probability.
    pub fn from_logits(
        logits: Tensor<2>,
        k: usize,
        temperature: f64,
        missing: MissingProbability,
    ) -> Self {
        let all = log_softmax(logits / temperature, 1);
        let (log_p, indices) = all.clone().topk_with_indices(k, 1);
        let (log_p, log_tail) = match missing {
            MissingProbability::Renormalize => (log_softmax(log_p, 1), None),
            MissingProbability::Bucket => {
                let is_gap = log_p.clone().equal_elem(f32::NEG_INFINITY);
                let rest = without(all, indices.clone(), is_gap);
                (log_p, Some(log_sum_exp(rest)))
            }
        };
        Self {
            indices,
            log_p,
            log_tail,
        }
    }

    /// The rows with these numbers.
    pub fn select(self, rows: &Tensor<1, Int>) -> Self {
        Self {
            indices: self.indices.select(0, rows.clone()),
            log_p: self.log_p.select(0, rows.clone()),
            log_tail: self.log_tail.map(|rest| rest.select(0, rows.clone())),
        }
    }

    /// Some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let log_tail = self.log_tail.as_ref();
        Self {
            indices: self.indices.clone().slice(rows.clone()),
            log_p: self.log_p.clone().slice(rows.clone()),
            log_tail: log_tail.map(|log_tail| log_tail.clone().slice(rows.clone())),
        }
    }

    /// The same in another type of numbers.
    pub fn cast(&self, dtype: DType) -> Self {
        Self {
            indices: self.indices.clone(),
            log_p: self.log_p.clone().cast(dtype),
            log_tail: (self.log_tail.clone()).map(|log_tail| log_tail.cast(dtype)),
        }
    }

    pub fn formula(&self, temperature: f64) -> Formula {
        Formula::Sparse {
            temperature,
            has_tail: self.log_tail.is_some(),
        }
    }
}

/// `KL(p ‖ q)` per row with `q = softmax(z_s / τ)`, and its gradient with respect to `z_s`, composed of
/// tensor operations.
pub(crate) fn sparse_divergence(
    student: &Tensor<2>,
    sparse: &SparseTeacher,
    temperature: f64,
) -> Rows {
    let SparseTeacher {
        indices,
        log_p,
        log_tail,
    } = sparse.clone();
    // A gap is not a class: no probability on either side, no gradient.
    let is_gap = log_p.clone().equal_elem(f32::NEG_INFINITY);
    let out = masked_classes(student);
    let is_out = out
        .clone()
        .float()
        .gather(1, indices.clone())
        .greater_elem(0.5);
    let log_q = log_softmax(student.clone() / temperature, 1).mask_fill(out, LOG_OF_ZERO);
    let log_q_top = log_q.clone().gather(1, indices.clone());
    let log_q_top = log_q_top.mask_fill(is_gap.clone(), lowest(&log_q));
    let log_q_others = without(log_q, indices.clone(), is_gap.clone());
    let (q_top, p) = (log_q_top.clone().exp(), log_p.clone().exp());
    let q_others = log_q_others.clone().exp();
    // A class that the student masks is a constant, as in soft targets.
    let lost = p.clone().mask_fill(is_out.bool_not(), 0.0).sum_dim(1);

    let (value, top, others) = match log_tail {
        None => {
            // KL(p ‖ q) = KL(p ‖ q / Σq) − log Σq. Rounding must not lift Σq above 1, nor move it
            // off 1 where the top k are all classes: τ² would amplify that.
            let log_sum = log_sum_exp(log_q_top.clone()).clamp_max(0.0);
            let classes = student.dims()[1] as i64;
            let are_all = is_gap
                .clone()
                .bool_not()
                .int()
                .sum_dim(1)
                .equal_elem(classes);
            let log_sum = log_sum.mask_fill(are_all, 0.0);
            let among = divergence_of_logs(log_q_top - log_sum.clone(), log_p).value;
            let moving: Tensor<2> = 1.0 - lost;
            let top = q_top * moving.clone() - p;
            (among - log_sum.squeeze_dim(1), top, q_others * moving)
        }
        Some(log_tail) => {
            let log_q_tail = log_sum_exp(log_q_others);
            let least = LEAST_TAIL.ln();
            let is_free = log_q_tail.clone().greater_elem(least);
            let is_free = is_free.float().cast(log_q_tail.dtype());
            let (log_q_tail, log_tail) = (log_q_tail.clamp_min(least), log_tail.clamp_min(least));
            let p_tail = log_tail.clone().exp();
            let ratio = (log_tail.clone() - log_q_tail.clone()).exp();
            // By how much more than 1 the teacher's probabilities sum to.
            let surplus = p.clone().sum_dim(1) - 1.0;
            let none = surplus.clone().lower_elem(noise(&surplus));
            let surplus = surplus.mask_fill(none, 0.0);
            // What p sums to, as far as its counterpart in q can still move.
            let moving: Tensor<2> = surplus.clone() + 1.0 - p_tail * (1.0 - is_free.clone()) - lost;
            let value = divergence_of_logs(
                Tensor::cat(vec![log_q_top, log_q_tail], 1),
                Tensor::cat(vec![log_p, log_tail], 1),
            )
            .value;
            (
                value + surplus.squeeze_dim(1),
                q_top * moving.clone() - p,
                q_others * (moving - is_free * ratio),
            )
        }
    };
    // `others` is 0 at the top k.
    let top = top.mask_fill(is_gap, 0.0);
    let gradient = others.scatter(1, indices, top, IndexingUpdateOp::Add);
    Rows {
        value,
        gradient: gradient / temperature,
    }
}

/// By how much a sum of probabilities in single precision exceeds 1, where it is more than rounding.
#[cfg(feature = "flex")]
pub(crate) fn surplus(sum: f32) -> f32 {
    let surplus = sum - 1.0;
    if surplus < 4.0 * f32::EPSILON {
        0.0
    } else {
        surplus
    }
}

/// What a sum of probabilities in single precision cannot tell from 0 or 1. A power of a
/// probability as small as this, as another temperature takes it, would be far from small.
fn noise(probabilities: &Tensor<2>) -> f64 {
    4.0 * epsilon(probabilities)
}

/// Logarithms of probabilities with the given classes next to −∞, except for gaps.
fn without(log: Tensor<2>, indices: Tensor<2, Int>, is_gap: Tensor<2, Bool>) -> Tensor<2> {
    let lowest = Tensor::full(indices.dims(), lowest(&log), (&log.device(), log.dtype()));
    log.scatter(
        1,
        indices,
        lowest.mask_fill(is_gap, 0.0),
        IndexingUpdateOp::Add,
    )
}
