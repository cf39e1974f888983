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
fn is_never_negative_and_ignores_the_level() {
    for loss in [plain(), at(4.0, TemperatureScale::Squared)] {
        properties::is_never_negative(&loss);
        logits::level_does_not_matter(&loss);
    }
}

#[test]
fn treats_rows_alone() {
    let loss = at(2.0, TemperatureScale::Squared);
    let (student, teacher) = (random(1, 3, 5), random(2, 3, 5));
    let scale = TemperatureScale::Squared;
    let rows = soft_cross_entropy(student.clone(), teacher.clone(), 2.0, scale).per_row();
    assert_eq!(rows.dims(), [3]);
    let mean = soft_cross_entropy(student.clone(), teacher.clone(), 2.0, scale).mean();
    assert_eq!(
        rows.mean().into_scalar::<f32>(),
        mean.clone().into_scalar::<f32>()
    );
    assert_eq!(mean.into_scalar::<f32>(), value(&loss, student, teacher));
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
        properties::shows_what_is_not_a_number(&loss);
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

#[test]
fn configs_round_trip_and_refuse() {
    let config = SoftCrossEntropy::new(2.0).with_scale(TemperatureScale::None);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"temperature":2.0,"scale":"none"}"#);
    assert_eq!(
        serde_json::from_str::<SoftCrossEntropy>(&json).unwrap(),
        config
    );
    let default: SoftCrossEntropy = serde_json::from_str("{}").unwrap();
    assert_eq!(default, SoftCrossEntropy::new(4.0));
    assert_eq!(default.scale, TemperatureScale::Squared);
    let error = |json: &str| {
        let config = serde_json::from_str::<SoftCrossEntropy>(json);
        config.unwrap_err().to_string()
    };
    assert!(error(r#"{"tau": 2}"#).contains("unknown field `tau`"));
    assert!(error(r#"{"scale": "cubed"}"#).contains("unknown variant `cubed`"));

    assert!(SoftCrossEntropy::new(f64::MIN_POSITIVE).validate().is_ok());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = SoftCrossEntropy::new(bad)
            .validate()
            .unwrap_err()
            .to_string();
        let expected =
            format!("soft_cross_entropy.temperature is {bad}, expected a number greater than 0");
        assert_eq!(error, expected);
    }
}

#[test]
#[should_panic(expected = "student and teacher logits have one shape")]
fn widths_that_differ_are_a_panic_of_the_function() {
    let _ = soft_cross_entropy(
        random(1, 2, 3),
        random(2, 2, 4),
        1.0,
        TemperatureScale::None,
    )
    .mean();
}
