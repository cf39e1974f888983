use pulp::Simd;

use crate::ops::LOG_OF_ZERO;
use crate::ops::flex::side::{NEXT_TO_NOTHING, Side};

/// The label against all other classes, in double precision: a row has only one.
pub(crate) struct Choice {
    pub label: f64,
    log_label: f64,
    others: f64,
    log_others: f64,
}

impl Choice {
    /// Leaves the label out of the side, and takes the exponentials of the rest.
    #[inline(always)]
    pub fn new<S: Simd>(simd: S, side: &mut Side<'_, S>, label: usize) -> Self {
        let is_masked = side.masked.contains(&label);
        let of_label = f64::from(side.get(label));
        side.masked.retain(|&c| c != label);
        side.leave_out(simd, label);
        side.exponentiate(simd);
        side.set(label, NEXT_TO_NOTHING);
        if is_masked {
            side.masked.push(label);
            return Self {
                label: LOG_OF_ZERO.exp(),
                log_label: LOG_OF_ZERO,
                others: 1.0,
                log_others: 0.0,
            };
        }
        let distance = of_label - f64::from(side.max) - f64::from(side.log_sum);
        let log_label = -softplus(-distance);
        let log_others = -softplus(distance);
        Self {
            label: log_label.exp(),
            log_label,
            others: log_others.exp(),
            log_others,
        }
    }

    pub fn divergence_to(&self, q: &Self) -> f64 {
        let label = self.label * (self.log_label - q.log_label);
        (label + self.others * (self.log_others - q.log_others)).max(0.0)
    }
}

/// `log(1 + e^x)`
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
