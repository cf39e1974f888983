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
            logits::level_does_not_matter(&loss);
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
    let loss = at(2.0, TemperatureScale::Squared, 0.3);
    let (student, teacher) = (random(1, 3, 5), random(2, 3, 5));
    let scale = TemperatureScale::Squared;
    let rows = jensen_shannon(student.clone(), teacher.clone(), 2.0, scale, 0.3).per_row();
    assert_eq!(rows.dims(), [3]);
    let mean = jensen_shannon(student.clone(), teacher.clone(), 2.0, scale, 0.3).mean();
    assert_eq!(
        rows.mean().into_scalar::<f32>(),
        mean.clone().into_scalar::<f32>()
    );
    assert_eq!(mean.into_scalar::<f32>(), value(&loss, student, teacher));
}

#[test]
fn a_high_temperature_tends_to_centred_logits() {
    let (student, teacher) = (random(1, 4, 10), random(2, 4, 10));
    let centred = |z: Tensor<2>| z.clone() - z.mean_dim(1);
    let difference = centred(student.clone()) - centred(teacher.clone());
    // β(1 − β)/(2C) · ‖ẑ_s − ẑ_t‖², mean over rows: the second order of the formula.
    let whole: f32 = (difference.powi_scalar(2).sum_dim(1).mean() / 20.0).into_scalar();
    for beta in [0.1, 0.5, 0.9] {
        let limit = (beta * (1.0 - beta)) as f32 * whole;
        let loss = at(1e4, TemperatureScale::Squared, beta);
        let found = value(&loss, student.clone(), teacher.clone());
        assert!((found / limit - 1.0).abs() < 2e-3, "{found}, limit {limit}");
    }
}

#[test]
fn extremes_stay_finite() {
    for beta in BETAS.into_iter().chain([0.0, 1.0]) {
        for temperature in [0.5, 1.0, 100.0] {
            let loss = at(temperature, TemperatureScale::Squared, beta);
            logits::extremes_are_finite(&loss);
            properties::shows_what_is_not_a_number(&loss);
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
fn configs_round_trip_and_refuse() {
    let config = JensenShannon::new(2.0).with_scale(TemperatureScale::None);
    let config = config.with_beta(0.1);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"temperature":2.0,"beta":0.1,"scale":"none"}"#);
    assert_eq!(
        serde_json::from_str::<JensenShannon>(&json).unwrap(),
        config
    );
    let default: JensenShannon = serde_json::from_str("{}").unwrap();
    assert_eq!(default, JensenShannon::new(1.0));
    assert_eq!(
        (default.scale, default.beta),
        (TemperatureScale::Squared, 0.5)
    );
    let error = |json: &str| {
        let config = serde_json::from_str::<JensenShannon>(json);
        config.unwrap_err().to_string()
    };
    assert!(error(r#"{"tau": 2}"#).contains("unknown field `tau`"));
    assert!(error(r#"{"scale": "cubed"}"#).contains("unknown variant `cubed`"));

    assert!(JensenShannon::new(f64::MIN_POSITIVE).validate().is_ok());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = JensenShannon::new(bad).validate().unwrap_err().to_string();
        let expected =
            format!("jensen_shannon.temperature is {bad}, expected a number greater than 0");
        assert_eq!(error, expected);
    }
    for end in [0.0, 1.0] {
        assert!(JensenShannon::new(1.0).with_beta(end).validate().is_ok());
    }
    for bad in [-0.1, 1.1, f64::NAN] {
        let config = JensenShannon::new(1.0).with_beta(bad);
        let expected = format!("jensen_shannon.beta is {bad}, expected a number in [0, 1]");
        assert_eq!(config.validate().unwrap_err().to_string(), expected);
    }
}

#[test]
#[should_panic(expected = "student and teacher logits have one shape")]
fn widths_that_differ_are_a_panic_of_the_function() {
    let _ = jensen_shannon(
        random(1, 2, 3),
        random(2, 2, 4),
        1.0,
        TemperatureScale::None,
        0.5,
    )
    .mean();
}

#[test]
#[should_panic(expected = "beta is in [0, 1], got 2")]
fn a_share_out_of_range_is_a_panic_of_the_function() {
    let z = random(1, 2, 3);
    let _ = jensen_shannon(z.clone(), z, 1.0, TemperatureScale::None, 2.0).mean();
}
