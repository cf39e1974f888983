use proptest::prelude::*;

use super::*;
use crate::knowledge::testing::dense;

fn top(precision: ValuePrecision) -> Values {
    let header = Header {
        logits: LogitsFormat::TopK {
            k: 1,
            temperature: 1.0,
            precision,
        },
        ..dense()
    };
    Values::new(&header).unwrap()
}

fn round_trip(values: &Values, log_probs: &[f32], log_rest: f32) -> (Vec<f32>, f32) {
    let (mut whole, mut back) = (Vec::new(), Vec::new());
    let log_rest = values.quantise(log_probs, log_rest, &mut whole).unwrap();
    values.log_probs(&whole, log_rest, &mut back).unwrap();
    (back, log_rest)
}

/// Log-probabilities of which the last is the mass left out.
fn distribution(logits: &[f64]) -> (Vec<f32>, f32) {
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|z| (z - most).exp()).sum();
    let mut all: Vec<f32> = logits
        .iter()
        .map(|z| (z - most - sum.ln()) as f32)
        .collect();
    let rest = all.pop().unwrap();
    (all, rest)
}

fn mass(log_probs: &[f32], log_rest: f32) -> f64 {
    let all = log_probs.iter().chain([&log_rest]);
    all.map(|l| f64::from(*l).exp()).sum()
}

proptest! {
    /// The stated error: differences within a step, each within a step, mass 1.
    #[test]
    fn steps_keep_what_they_promise(
        logits in prop::collection::vec(-12f64..12.0, 2..40),
        step in prop::sample::select(vec![0.001, 0.05, 0.1, 0.2, 0.5, 5.0]),
    ) {
        let (log_probs, log_rest) = distribution(&logits);
        let (back, rest) = round_trip(&top(ValuePrecision::Step(step)), &log_probs, log_rest);
        // Log-probabilities down to −28 are off by 2e-6 in single precision.
        let slack = 1e-5;
        prop_assert_eq!(rest, log_rest.min(rest));
        prop_assert!((mass(&back, rest) - 1.0).abs() < 1e-5);
        let off: Vec<f64> = back.iter().zip(&log_probs).map(|(b, l)| f64::from(b - l)).collect();
        let (least, most) = off.iter().fold((f64::MAX, f64::MIN), |(a, b), o| (a.min(*o), b.max(*o)));
        prop_assert!(most - least <= step + slack, "{off:?}");
        prop_assert!(off.iter().all(|o| o.abs() <= step + slack), "{off:?}");
    }

    #[test]
    fn half_precision_is_off_by_no_more_than_it_states(logits in prop::collection::vec(-8f64..8.0, 2..40)) {
        let (log_probs, log_rest) = distribution(&logits);
        let (back, rest) = round_trip(&top(ValuePrecision::F16), &log_probs, log_rest);
        for (back, exact) in back.iter().zip(&log_probs) {
            // 2^-11 relative, and the smallest step of half precision near zero.
            prop_assert!((back - exact).abs() <= exact.abs() / 2048.0 + 3e-8);
        }
        // At −19.7 and above: 19.7 / 2048 = 0.96 %, of classes that unlikely; 0.5 % of all is stated.
        prop_assert!((mass(&back, rest) - 1.0).abs() < 0.005);
    }

    #[test]
    fn single_precision_is_exact(logits in prop::collection::vec(-80f64..8.0, 2..40)) {
        let (log_probs, log_rest) = distribution(&logits);
        prop_assume!(log_rest < 0.0);
        let back = round_trip(&top(ValuePrecision::F32), &log_probs, log_rest);
        prop_assert_eq!(back, (log_probs, log_rest));
    }
}

#[test]
fn the_divergence_lost_is_a_24th_of_the_squared_step() {
    // An error that is even within a step has the variance step²/12; the divergence is half of it, weighted
    // with the probabilities. 4000 classes of equal range of logits average over the errors.
    let logits: Vec<f64> = (0..4001).map(|n| n as f64 * 0.001_234).collect();
    let (log_probs, log_rest) = distribution(&logits);
    let (back, _) = round_trip(&top(ValuePrecision::Step(0.2)), &log_probs, log_rest);
    let lost: f64 = log_probs
        .iter()
        .zip(&back)
        .map(|(l, b)| f64::from(*l).exp() * f64::from(l - b))
        .sum();
    let expected = 0.2f64.powi(2) / 24.0;
    assert!((lost / expected - 1.0).abs() < 0.05, "{lost} {expected}");
}

#[test]
fn extremes_stay_finite_in_steps() {
    let step = top(ValuePrecision::Step(0.1));
    // A class ruled out counts as the least normal number, e^-87.34.
    let (back, _) = round_trip(&step, &[0.0, f32::NEG_INFINITY], f32::NEG_INFINITY);
    assert_eq!(back[0], 0.0);
    assert!((back[1] + 87.34).abs() < 0.05 + 0.01, "{back:?}");
    // Two of very many classes alike: what the rest leaves is kept, 2e-7, not rounded away.
    let (back, rest) = round_trip(&step, &[1e-7f32.ln(), 1e-7f32.ln()], -2e-7);
    assert_eq!(rest, -2e-7);
    assert!((back[0] - 1e-7f32.ln()).abs() < 1e-5);
    // A rest that rounding made 1 is what the classes kept leave.
    let (back, rest) = round_trip(&step, &[1e-9f32.ln()], 0.0);
    assert!((rest + 1e-9).abs() < 1e-15 && (back[0] - 1e-9f32.ln()).abs() < 1e-5);
}

#[test]
fn what_is_no_distribution_is_refused() {
    let mut out = Vec::new();
    let mut refused = |log_probs: &[f32], rest: f32| {
        let values = top(ValuePrecision::Step(0.1));
        values.quantise(log_probs, rest, &mut out).unwrap_err()
    };
    // Logits in place of log-probabilities: e^1 + e^-1 + 0.
    assert_eq!(
        refused(&[1.0, -1.0], f32::NEG_INFINITY),
        "the probabilities kept add up to 3.0862, the rest is 0.0000, together not 1"
    );
    assert_eq!(
        refused(&[0.5f32.ln()], f32::NAN),
        "the probabilities kept add up to 0.5000, the rest is NaN, together not 1"
    );
    assert_eq!(
        refused(&[f32::NAN, 0.0], -1.0),
        "a log-probability is not a number below infinity"
    );
    assert_eq!(
        refused(&[f32::NEG_INFINITY], 0.0),
        "no class kept has a probability"
    );
}

#[test]
fn counts_are_shares_of_the_draws() {
    let header = Header {
        logits: LogitsFormat::Sampled {
            draws: 4,
            temperature: 1.0,
        },
        ..dense()
    };
    let counts = Values::new(&header).unwrap();
    let mut out = Vec::new();
    counts
        .log_probs(&[0, 2], f32::NEG_INFINITY, &mut out)
        .unwrap();
    assert_eq!(out, [0.25f32.ln(), 0.75f32.ln()]);
    let wrong = counts.log_probs(&[0, 1], f32::NEG_INFINITY, &mut out);
    assert_eq!(
        wrong.unwrap_err(),
        "the counts of a row do not add up to the draws"
    );
}
