use super::*;
use crate::loss::testing::logits;
use crate::loss::testing::properties::{self, backward, kl, random, softmax, tensor, value};

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
        logits::level_does_not_matter(&loss);
    }
}

#[test]
fn treats_rows_alone() {
    let loss = at(2.0, TemperatureScale::Squared);
    let (student, teacher) = (random(1, 3, 5), random(2, 3, 5));
    let scale = TemperatureScale::Squared;
    let rows = reverse_kl(student.clone(), teacher.clone(), 2.0, scale).per_row();
    assert_eq!(rows.dims(), [3]);
    let mean = reverse_kl(student.clone(), teacher.clone(), 2.0, scale).mean();
    // Where the mean is taken may differ in the last digit.
    let of_rows = rows.mean().into_scalar::<f32>();
    assert!((of_rows / mean.clone().into_scalar::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!(mean.into_scalar::<f32>(), value(&loss, student, teacher));
}

#[test]
fn a_high_temperature_tends_to_centred_logits() {
    let (student, teacher) = (random(1, 4, 10), random(2, 4, 10));
    let centred = |z: Tensor<2>| z.clone() - z.mean_dim(1);
    let difference = centred(student.clone()) - centred(teacher.clone());
    // 1/(2C) · ‖ẑ_s − ẑ_t‖², mean over rows: the second order is that of either direction.
    let limit: f32 = (difference.powi_scalar(2).sum_dim(1).mean() / 20.0).into_scalar();
    let found = value(&at(1e4, TemperatureScale::Squared), student, teacher);
    assert!((found / limit - 1.0).abs() < 2e-3, "{found}, limit {limit}");
}

#[test]
fn extremes_stay_finite() {
    for temperature in [0.5, 1.0, 100.0] {
        let loss = at(temperature, TemperatureScale::Squared);
        logits::extremes_are_finite(&loss);
        properties::shows_what_is_not_a_number(&loss);
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

#[test]
fn configs_round_trip_and_refuse() {
    let config = ReverseKl::new(2.0).with_scale(TemperatureScale::None);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"temperature":2.0,"scale":"none"}"#);
    assert_eq!(serde_json::from_str::<ReverseKl>(&json).unwrap(), config);
    let default: ReverseKl = serde_json::from_str("{}").unwrap();
    assert_eq!(default, ReverseKl::new(1.0));
    assert_eq!(default.scale, TemperatureScale::Squared);
    let error = |json: &str| {
        let config = serde_json::from_str::<ReverseKl>(json);
        config.unwrap_err().to_string()
    };
    assert!(error(r#"{"tau": 2}"#).contains("unknown field `tau`"));
    assert!(error(r#"{"scale": "cubed"}"#).contains("unknown variant `cubed`"));

    assert!(ReverseKl::new(f64::MIN_POSITIVE).validate().is_ok());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = ReverseKl::new(bad).validate().unwrap_err().to_string();
        let expected = format!("reverse_kl.temperature is {bad}, expected a number greater than 0");
        assert_eq!(error, expected);
    }
}

#[test]
#[should_panic(expected = "student and teacher logits have one shape")]
fn widths_that_differ_are_a_panic_of_the_function() {
    let _ = reverse_kl(
        random(1, 2, 3),
        random(2, 2, 4),
        1.0,
        TemperatureScale::None,
    )
    .mean();
}
