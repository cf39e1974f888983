use super::*;
use crate::loss::testing::logits;
use crate::loss::testing::properties::{self, backward, kl, softmax, tensor, value};

fn at(temperature: f64, scale: TemperatureScale) -> SymmetricKl {
    SymmetricKl::new(temperature).with_scale(scale)
}

fn plain() -> SymmetricKl {
    at(1.0, TemperatureScale::None)
}

#[test]
fn follows_its_formula() {
    for t in [0.5, 1.0, 4.0] {
        let formula = |s: &[f64], z: &[f64]| {
            let (q, p) = (softmax(s, t), softmax(z, t));
            (kl(&p, &q) + kl(&q, &p)) / 2.0
        };
        properties::follows(&at(t, TemperatureScale::None), formula);
        let scaled = |s: &[f64], z: &[f64]| t * t * formula(s, z);
        properties::follows(&at(t, TemperatureScale::Squared), scaled);
    }
}

#[test]
fn swapping_student_and_teacher_changes_the_gradient_alone() {
    let (a, b) = (tensor([[0.0, 0.0]]), tensor([[3f32.ln(), 0.0]]));
    // ln(3)/8, the mean of 3/4·ln(3/2) + 1/4·ln(1/2) and 1/2·ln(2/3) + 1/2·ln(2).
    let (one, towards_b) = backward(&plain(), a.clone(), b.clone());
    let (other, towards_a) = backward(&plain(), b, a);
    assert!((one - 3f32.ln() / 8.0).abs() < 1e-6);
    assert!((other - 3f32.ln() / 8.0).abs() < 1e-6);
    // At a: 1/2·(1/2 − 3/4 + 1/2·(ln(2/3) − 1/2·ln(4/3))) = −1/8 − ln(3)/8.
    assert!(
        (towards_b[0] + (1.0 + 3f32.ln()) / 8.0).abs() < 1e-6,
        "{towards_b:?}"
    );
    // At b: 1/2·(3/4 − 1/2 + 3/4·(ln(3/2) − 3/4·ln(3/2) − 1/4·ln(1/2))) = 1/8 + 3·ln(3)/32.
    assert!(
        (towards_a[0] - (0.125 + 3.0 * 3f32.ln() / 32.0)).abs() < 1e-6,
        "{towards_a:?}"
    );
}

#[test]
fn is_a_divergence() {
    for loss in [
        plain(),
        at(4.0, TemperatureScale::Squared),
        at(100.0, TemperatureScale::None),
    ] {
        properties::is_zero_at_the_optimum(&loss);
        properties::is_never_negative(&loss);
    }
}

#[test]
fn treats_rows_alone() {
    let scale = TemperatureScale::Squared;
    properties::treats_rows_alone(&at(2.0, scale), |s, t| symmetric_kl(s, t, 2.0, scale));
}

#[test]
fn a_high_temperature_tends_to_centred_logits() {
    let loss = at(1e4, TemperatureScale::Squared);
    properties::tends_to_squares_of_centred_logits(&loss, 1.0);
}

#[test]
fn extremes_stay_finite() {
    for temperature in [0.5, 1.0, 100.0] {
        let loss = at(temperature, TemperatureScale::Squared);
        logits::extremes_are_finite(&loss);
        let (student, teacher) = (tensor([[-1e4, 1e4, 0.0]]), tensor([[1e4, -1e4, 0.0]]));
        // All of p_s is on class 1, where log p_t is −2e4/τ, and the other way round, times τ².
        let expected = 2e4 * temperature as f32;
        let found = value(&loss, student, teacher);
        assert!((found / expected - 1.0).abs() < 1e-3, "{found}");
    }
}

#[test]
fn a_class_may_be_masked() {
    logits::masked_classes_do_not_count(&plain());
    properties::bears_a_class_masked_by_one(&plain());

    // p_s = [1/2, 1/2], p_t = [1, 0] with log 0 counted as −126·ln 2: the two orders are ln 2 and
    // 62·ln 2.
    let out = f32::NEG_INFINITY;
    let (half, one) = (tensor([[0.0, 0.0]]), tensor([[0.0, out]]));
    let found = value(&plain(), half, one);
    assert!((found / (31.5 * 2f32.ln()) - 1.0).abs() < 1e-6, "{found}");
}
