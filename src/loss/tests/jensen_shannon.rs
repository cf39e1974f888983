use super::*;
use crate::loss::testing::logits;
use crate::loss::testing::properties::{self, backward, kl, random, softmax, tensor, value};

fn at(temperature: f64, scale: TemperatureScale, beta: f64) -> JensenShannon {
    JensenShannon::new(temperature)
        .with_scale(scale)
        .with_beta(beta)
}

fn plain(beta: f64) -> JensenShannon {
    at(1.0, TemperatureScale::None, beta)
}

const BETAS: [f64; 5] = [0.01, 0.1, 0.5, 0.9, 0.99];

#[test]
fn follows_its_formula() {
    for t in [0.5, 1.0, 4.0] {
        for beta in BETAS {
            let formula = |s: &[f64], z: &[f64]| {
                let (q, p) = (softmax(s, t), softmax(z, t));
                let both = p.iter().zip(&q);
                let m: Vec<f64> = both.map(|(p, q)| beta * p + (1.0 - beta) * q).collect();
                beta * kl(&p, &m) + (1.0 - beta) * kl(&q, &m)
            };
            properties::follows(&at(t, TemperatureScale::None, beta), formula);
            let scaled = |s: &[f64], z: &[f64]| t * t * formula(s, z);
            properties::follows(&at(t, TemperatureScale::Squared, beta), scaled);
        }
    }
}

#[test]
fn the_ends_are_the_plain_divergences() {
    for t in [1.0, 4.0] {
        let forward = |s: &[f64], z: &[f64]| kl(&softmax(z, t), &softmax(s, t));
        properties::follows(&at(t, TemperatureScale::None, 0.0), forward);
        let reverse = |s: &[f64], z: &[f64]| kl(&softmax(s, t), &softmax(z, t));
        properties::follows(&at(t, TemperatureScale::None, 1.0), reverse);
    }
    // Towards them the formula is β, or 1 − β, times the divergence, and β has no smallest value.
    // It is small where no ratio of probabilities comes near 1/β.
    let (student, teacher) = (random(1, 1, 5) / 3.0, random(2, 1, 5) / 3.0);
    for (end, near) in [(0.0, 1e-4), (1.0, 1.0 - 1e-4)] {
        let whole = value(&plain(end), student.clone(), teacher.clone());
        let found = value(&plain(near), student.clone(), teacher.clone());
        assert!(
            (found / (1e-4 * whole) - 1.0).abs() < 0.02,
            "{found} and {whole}"
        );
    }
    for tiny in [1e-12, 1.0 - 1e-12] {
        let (found, gradient) = backward(&plain(tiny), student.clone(), teacher.clone());
        assert!((0.0..1e-6).contains(&found), "{found}");
        assert!(gradient.iter().all(|g| g.abs() < 1e-3), "{gradient:?}");
        logits::extremes_are_finite(&plain(tiny));
    }
}

#[test]
fn swapping_student_and_teacher_swaps_the_shares() {
    let (a, b) = (tensor([[0.0, 0.0]]), tensor([[3f32.ln(), 0.0]]));
    // p = [3/4, 1/4], q = [1/2, 1/2], β = 1/4: m = [9/16, 7/16], and the divergence is
    // 1/4·(3/4·ln(4/3) + 1/4·ln(4/7)) + 3/4·(1/2·ln(8/9) + 1/2·ln(8/7)).
    let expected = 0.024_870_04;
    let found = value(&plain(0.25), a.clone(), b.clone());
    assert!((found - expected).abs() < 1e-6, "{found}");
    let swapped = value(&plain(0.75), b.clone(), a.clone());
    assert!((swapped - expected).abs() < 1e-6, "{swapped}");
    let same_share = value(&plain(0.25), b, a);
    assert!((same_share - expected).abs() > 1e-4, "{same_share}");
}

#[test]
fn is_a_divergence() {
    for beta in BETAS.into_iter().chain([0.0, 1.0]) {
        for t in [1.0, 4.0, 100.0] {
            let loss = at(t, TemperatureScale::None, beta);
            properties::is_zero_at_the_optimum(&loss);
            properties::is_never_negative(&loss);
        }
    }
}

#[test]
fn is_bounded_by_the_entropy_of_the_shares() {
    let (student, teacher) = (tensor([[1e4, -1e4]]), tensor([[-1e4, 1e4]]));
    for beta in BETAS {
        // Nothing in common: each side is −ln of its own share away from the mixture.
        let expected = -beta * beta.ln() - (1.0 - beta) * (1.0 - beta).ln();
        let found = value(&plain(beta), student.clone(), teacher.clone());
        assert!((found - expected as f32).abs() < 1e-6, "{found}");
    }
}

#[test]
fn treats_rows_alone() {
    let scale = TemperatureScale::Squared;
    properties::treats_rows_alone(&at(2.0, scale, 0.3), |s, t| {
        jensen_shannon(s, t, 2.0, scale, 0.3)
    });
}

#[test]
fn a_high_temperature_tends_to_centred_logits() {
    for beta in [0.1, 0.5, 0.9] {
        let loss = at(1e4, TemperatureScale::Squared, beta);
        properties::tends_to_squares_of_centred_logits(&loss, beta * (1.0 - beta));
    }
}

#[test]
fn extremes_stay_finite() {
    for beta in BETAS.into_iter().chain([0.0, 1.0]) {
        for temperature in [0.5, 1.0, 100.0] {
            let loss = at(temperature, TemperatureScale::Squared, beta);
            logits::extremes_are_finite(&loss);
        }
    }
}

#[test]
fn a_class_may_be_masked() {
    for beta in BETAS.into_iter().chain([0.0, 1.0]) {
        logits::masked_classes_do_not_count(&plain(beta));
        properties::bears_a_class_masked_by_one(&plain(beta));
    }
    // p = [1, 0], q = [1/2, 1/2], β = 1/2: m = [3/4, 1/4], and the divergence is
    // 1/2·ln(4/3) + 1/2·(1/2·ln(2/3) + 1/2·ln(2)).
    let out = f32::NEG_INFINITY;
    let found = value(&plain(0.5), tensor([[0.0, 0.0]]), tensor([[0.0, out]]));
    assert!((found - 0.215_761_55).abs() < 1e-6, "{found}");
}

#[test]
#[should_panic(expected = "beta is in [0, 1], got 2")]
fn a_share_out_of_range_is_a_panic_of_the_function() {
    let z = random(1, 2, 3);
    let _ = jensen_shannon(z.clone(), z, 1.0, TemperatureScale::None, 2.0).mean();
}
