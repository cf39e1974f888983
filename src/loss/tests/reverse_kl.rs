use super::*;
use crate::loss::testing::logits;
use crate::loss::testing::properties::{self, backward, kl, softmax, tensor, value};

fn at(temperature: f64, scale: TemperatureScale) -> ReverseKl {
    ReverseKl::new(temperature).with_scale(scale)
}

fn plain() -> ReverseKl {
    at(1.0, TemperatureScale::None)
}

#[test]
fn follows_its_formula() {
    for t in [0.5, 1.0, 4.0] {
        let formula = |s: &[f64], z: &[f64]| kl(&softmax(s, t), &softmax(z, t));
        properties::follows(&at(t, TemperatureScale::None), formula);
        let scaled = |s: &[f64], z: &[f64]| t * t * formula(s, z);
        properties::follows(&at(t, TemperatureScale::Squared), scaled);
    }
}

#[test]
fn swapping_student_and_teacher_matters() {
    let (a, b) = (tensor([[0.0, 0.0]]), tensor([[3f32.ln(), 0.0]]));
    // KL([1/2, 1/2] ‖ [3/4, 1/4]) = 1/2·ln(2/3) + 1/2·ln(2), and the other way round
    // 3/4·ln(3/2) + 1/4·ln(1/2).
    assert!((value(&plain(), a.clone(), b.clone()) - 0.143_841).abs() < 1e-6);
    assert!((value(&plain(), b, a) - 0.130_812).abs() < 1e-6);
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
    properties::treats_rows_alone(&at(2.0, scale), |s, t| reverse_kl(s, t, 2.0, scale));
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
        // All of p_s is on class 1, where log p_t is −2e4/τ, times τ².
        let expected = 2e4 * temperature as f32;
        let found = value(&loss, student, teacher);
        assert!((found / expected - 1.0).abs() < 1e-3, "{found}");
    }
}

#[test]
fn a_class_may_be_masked() {
    logits::masked_classes_do_not_count(&plain());
    properties::bears_a_class_masked_by_one(&plain());

    // p_s = [1/2, 1/2], p_t = [1, 0] with log 0 counted as −126·ln 2:
    // 1/2·ln(1/2) + 1/2·(ln(1/2) + 126·ln 2) = 62·ln 2.
    let out = f32::NEG_INFINITY;
    let (half, one) = (tensor([[0.0, 0.0]]), tensor([[0.0, out]]));
    let (found, gradient) = backward(&plain(), half.clone(), one.clone());
    assert!((found / (62.0 * 2f32.ln()) - 1.0).abs() < 1e-6, "{found}");
    // p_s·(r − 62·ln 2) with r = [−ln 2, 125·ln 2].
    assert!(
        (gradient[0] + 31.5 * 2f32.ln()).abs() < 1e-4,
        "{gradient:?}"
    );
    // The other way round it is the plain KL([1, 0] ‖ [1/2, 1/2]).
    assert!((value(&plain(), one, half) - 2f32.ln()).abs() < 1e-6);
}
