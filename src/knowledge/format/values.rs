//! What the whole numbers of a row mean: log-probabilities, in steps or as they are, and counts.

use half::f16;

use crate::knowledge::format::bits::Sound;
use crate::knowledge::format::header::{Header, LogitsFormat, ValuePrecision};

/// Less likely than this does not exist: the logarithm of the least normal number.
const LEAST: f32 = -87.336_54;
/// How far probabilities and rest of a row may be from 1: what is further off is no distribution, or one
/// of another temperature. A teacher in half precision is off by 3 % at a log-probability of −10.
const TOLERANCE: f64 = 0.05;
/// The differences in steps for which the exponential is kept.
const KNOWN: usize = 2048;

/// The meaning of values, one for all rows of a store.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    /// Log-probabilities.
    F32,
    /// Log-probabilities, rounded.
    F16,
    /// Steps above the least likely class.
    Step {
        /// A step, in nats.
        step: f64,
        /// exp(−n · step) for small n.
        exp: Vec<f32>,
    },
    /// Counts less one, among so many.
    Counts {
        /// How many draws.
        draws: u32,
        /// Their logarithms: ln(count / draws).
        log: Vec<f32>,
    },
}

impl Values {
    /// The meaning of a header's values, `None` where logits are dense.
    pub(crate) fn new(header: &Header) -> Option<Self> {
        match header.logits {
            LogitsFormat::Dense { .. } => None,
            LogitsFormat::TopK { precision, .. } => Some(match precision {
                ValuePrecision::F32 => Values::F32,
                ValuePrecision::F16 => Values::F16,
                ValuePrecision::Step(step) => {
                    let exp = (0..KNOWN).map(|n| (-step * n as f64).exp() as f32);
                    Values::Step {
                        step,
                        exp: exp.collect(),
                    }
                }
            }),
            LogitsFormat::Sampled { draws, .. } => {
                let log = (1..=draws).map(|n| (n as f64 / draws as f64).ln() as f32);
                Some(Values::Counts {
                    draws: draws as u32,
                    log: log.collect(),
                })
            }
        }
    }

    /// Log-probabilities as whole numbers, and the mass left out as it is to be kept.
    pub(crate) fn quantise(
        &self,
        log_probs: &[f32],
        log_rest: f32,
        out: &mut Vec<u32>,
    ) -> Result<f32, String> {
        if log_probs.iter().any(|l| l.is_nan() || *l == f32::INFINITY) {
            return Err("a log-probability is not a number below infinity".into());
        }
        let kept: f64 = log_probs.iter().map(|l| f64::from(*l).exp()).sum();
        let rest = f64::from(log_rest).exp();
        let off = (kept + rest - 1.0).abs();
        if off.is_nan() || off > TOLERANCE {
            return Err(format!(
                "the probabilities kept add up to {kept:.4}, the rest is {rest:.4}, together not 1"
            ));
        }
        out.clear();
        match self {
            Values::F32 => out.extend(log_probs.iter().map(|l| l.to_bits())),
            Values::F16 => out.extend(
                log_probs
                    .iter()
                    .map(|l| u32::from(f16::from_f32(*l).to_bits())),
            ),
            Values::Step { step, .. } => {
                let least = log_probs.iter().copied().fold(f32::INFINITY, f32::min);
                let least = f64::from(least.max(LEAST));
                let steps = |l: &f32| ((f64::from(l.max(LEAST)) - least) / step).round() as u32;
                out.extend(log_probs.iter().map(steps));
            }
            Values::Counts { .. } => {
                return Err("draws have counts, not log-probabilities".into());
            }
        }
        // A rest of 1 would leave nothing for the classes kept: then it is what they leave.
        Ok(if log_rest < 0.0 {
            log_rest
        } else if kept > 0.0 {
            (-kept.min(1.0)).ln_1p() as f32
        } else {
            return Err("no class kept has a probability".into());
        })
    }

    /// Appends the log-probabilities that whole numbers stand for.
    pub(crate) fn log_probs(&self, values: &[u32], log_rest: f32, out: &mut Vec<f32>) -> Sound<()> {
        match self {
            Values::F32 => out.extend(values.iter().map(|v| f32::from_bits(*v))),
            Values::F16 => {
                out.extend(values.iter().map(|v| f16::from_bits(*v as u16).to_f32()));
            }
            Values::Step { step, exp } => {
                let most = values.iter().max().copied().unwrap_or(0);
                let share = |value: &u32| {
                    let below = most - value;
                    match exp.get(below as usize) {
                        Some(share) => f64::from(*share),
                        None => (-step * f64::from(below)).exp(),
                    }
                };
                let sum: f64 = values.iter().map(share).sum();
                let kept = -f64::from(log_rest).exp_m1();
                let first = kept.ln() - sum.ln();
                out.extend(
                    values
                        .iter()
                        .map(|value| (first - step * f64::from(most - value)) as f32),
                );
            }
            Values::Counts { draws, log } => {
                let counts = || values.iter().map(|value| u64::from(*value) + 1);
                if counts().sum::<u64>() != u64::from(*draws) {
                    return Err("the counts of a row do not add up to the draws".into());
                }
                out.extend(values.iter().map(|value| log[*value as usize]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "../tests/values.rs"]
mod tests;
