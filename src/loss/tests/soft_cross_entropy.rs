use super::*;
use crate::loss::testing::logits;
use crate::loss::testing::properties::{self, backward, kl, random, softmax, tensor, value};

fn at(temperature: f64, scale: TemperatureScale) -> SoftCrossEntropy {
    SoftCrossEntropy::new(temperature).with_scale(scale)
}

fn plain() -> SoftCrossEntropy {
    at(1.0, TemperatureScale::None)
}

/// `−Σ p·log q` as it is written.
fn cross_entropy(p: &[f64], q: &[f64]) -> f64 {
    -p.iter().zip(q).map(|(p, q)| p * q.ln()).sum::<f64>()
}

#[test]
fn follows_its_formula() {
    for t in [0.5, 1.0, 4.0] {
        let formula = |s: &[f64], z: &[f64]| cross_entropy(&softmax(z, t), &softmax(s, t));
        properties::follows(&at(t, TemperatureScale::None), formula);
        let scaled = |s: &[f64], z: &[f64]| t * t * formula(s, z);
        properties::follows(&at(t, TemperatureScale::Squared), scaled);
    }
}

#[test]
fn swapping_student_and_teacher_matters() {
    let (a, b) = (tensor([[0.0, 0.0]]), tensor([[3f32.ln(), 0.0]]));
    // −3/4·ln(1/2) − 1/4·ln(1/2), and the other way round −1/2·ln(3/4) − 1/2·ln(1/4).
    assert!((value(&plain(), a.clone(), b.clone()) - 2f32.ln()).abs() < 1e-6);
    assert!((value(&plain(), b, a) - 0.836_988).abs() < 1e-6);
}

#[test]
fn exceeds_the_divergence_by_the_teachers_entropy() {
    let (student, teacher) = (random(1, 1, 6), random(2, 1, 6));
    let z: Vec<f64> = teacher.clone().into_data().iter::<f64>().collect();
    for t in [1.0, 4.0] {
        let p = softmax(&z, t);
        let entropy = (t * t * cross_entropy(&p, &p)) as f32;
        let loss = at(t, TemperatureScale::Squared);
        let (at_optimum, gradient) = backward(&loss, teacher.clone(), teacher.clone());
        properties::assert_close(&[at_optimum], &[entropy], 1e-6);
        assert_eq!(gradient, [0.0; 6]);

        let formula = |s: &[f64], z: &[f64]| t * t * kl(&softmax(z, t), &softmax(s, t));
        let s: Vec<f64> = student.clone().into_data().iter::<f64>().collect();
        let found = value(&loss, student.clone(), teacher.clone());
        properties::assert_close(&[found - entropy], &[formula(&s, &z) as f32], 1e-5);
    }
}

#[test]
fn is_never_negative() {
    for loss in [plain(), at(4.0, TemperatureScale::Squared)] {
        properties::is_never_negative(&loss);
    }
}

#[test]
fn treats_rows_alone() {
    let scale = TemperatureScale::Squared;
    properties::treats_rows_alone(&at(2.0, scale), |s, t| soft_cross_entropy(s, t, 2.0, scale));
}

#[test]
fn a_high_temperature_tends_to_the_logarithm_of_the_classes() {
    // Both sides are uniform there.
    let loss = at(1e6, TemperatureScale::None);
    let found = value(&loss, random(1, 4, 10), random(2, 4, 10));
    assert!((found - 10f32.ln()).abs() < 1e-5, "{found}");
}

#[test]
fn extremes_stay_finite() {
    for temperature in [0.5, 1.0, 100.0] {
        let loss = at(temperature, TemperatureScale::Squared);
        logits::extremes_are_finite(&loss);
        let (student, teacher) = (tensor([[-1e4, 1e4, 0.0]]), tensor([[1e4, -1e4, 0.0]]));
        // All of p_t is on class 0, where log p_s is −2e4/τ, times τ².
        let expected = 2e4 * temperature as f32;
        let found = value(&loss, student, teacher);
        assert!((found / expected - 1.0).abs() < 1e-3, "{found}");
    }
}

#[test]
fn a_class_may_be_masked() {
    logits::masked_classes_do_not_count(&plain());
    properties::bears_a_class_masked_by_one(&plain());

    // p_t = [1/2, 1/2], p_s = [1, 0] with log 0 counted as −126·ln 2.
    let out = f32::NEG_INFINITY;
    let (half, one) = (tensor([[0.0, 0.0]]), tensor([[0.0, out]]));
    let found = value(&plain(), one.clone(), half.clone());
    assert!((found / (63.0 * 2f32.ln()) - 1.0).abs() < 1e-6, "{found}");
    // The other way round it is −ln(1/2).
    assert!((value(&plain(), half, one) - 2f32.ln()).abs() < 1e-6);
}
