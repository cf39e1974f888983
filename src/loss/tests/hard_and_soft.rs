use burn::tensor::{Device, Tensor};

use super::*;
use crate::loss::testing::logits::{self, Batch};
use crate::loss::testing::numbers::close as assert_close;
use crate::loss::testing::numbers::numbers;

fn loss(temperature: f64, alpha: f64) -> HardAndSoft {
    let config = HardAndSoftConfig::new(temperature).with_alpha(alpha);
    config.init().unwrap()
}

fn tensor<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

#[test]
fn value_and_gradient_by_hand() {
    let teacher = [0.75_f64, 0.25].map(f64::ln);
    let seen = Batch::new([[0.0; 2]], [teacher], [1]).seen(&loss(1.0, 0.25));
    let soft = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
    assert_close(&[seen.value], &[0.25 * 2_f64.ln() + 0.75 * soft], 1e-6);
    // 1/4 · (1/2, 1/2 − 1) + 3/4 · (1/2 − 3/4, 1/2 − 1/4)
    assert_close(&seen.gradient, &[0.125 - 0.1875, 0.1875 - 0.125], 1e-6);
}

#[test]
fn only_the_soft_part_is_softened() {
    // At τ = 2 the teacher says 3/4 and 1/4, and the student is twice as sure of its label as at 1.
    let teacher = [0.75_f64, 0.25].map(|p| 2.0 * p.ln());
    let student = [2.0 * 3_f64.ln(), 0.0];
    let seen = Batch::new([student], [teacher], [0]).seen(&loss(2.0, 0.5));
    // softmax(z_s) = (9/10, 1/10); at τ = 2 both sides agree.
    assert_close(&[seen.value], &[0.5 * (10.0_f64 / 9.0).ln()], 1e-6);
    assert_close(&seen.gradient, &[-0.05, 0.05], 1e-6);
}

#[test]
fn gradient_is_the_slope() {
    for (temperature, alpha) in [(2.0, 0.3), (0.5, 0.9), (20.0, 0.0), (4.0, 1.0)] {
        logits::gradient_is_the_slope(&loss(temperature, alpha), &Batch::example());
    }
}

#[test]
fn it_is_the_sum_of_two_losses() {
    let z = |seed| crate::loss::testing::properties::random(seed, 4, 30);
    let labels = Tensor::<1, Int>::from_ints([0, 29, 7, 7], &Device::flex());
    for (temperature, alpha) in [(0.05, 0.5), (1.0, 0.1), (4.0, 0.0), (4.0, 1.0), (20.0, 0.7)] {
        let run = |of: &dyn Fn(Tensor<2>) -> Tensor<1>| {
            let student = z(1).autodiff().require_grad();
            let value = of(student.clone());
            let gradient = student.grad(&value.backward()).unwrap();
            (numbers(value), numbers(gradient))
        };
        let (value, gradient) =
            run(&|student| hard_and_soft(student, z(2), labels.clone(), temperature, alpha));
        let (sum, slope) = run(&|student| {
            let of = |formula, teacher| Comparison {
                formula,
                scale: 1.0,
                student: &student,
                teacher,
                known: None,
                labels: Some(&labels),
                mask: None,
            };
            let hard = of(Formula::HardLabel { smoothing: 0.0 }, None).mean();
            let soft = of(Formula::Divergence { temperature }, Some(z(2))).mean();
            hard * alpha + soft * ((1.0 - alpha) * temperature * temperature)
        });
        assert_close(&value, &sum, 1e-4 * f64::from(sum[0].max(1.0)));
        assert_close(&gradient, &slope, 1e-5);
    }
}

#[test]
fn equal_sides_have_no_soft_part() {
    let mut batch = Batch::example();
    assert!(batch.seen(&loss(4.0, 0.0)).value > 1e-3);
    batch.student = batch.teacher.clone();
    let seen = batch.seen(&loss(4.0, 0.0));
    assert_eq!((seen.value, seen.gradient), (0.0, vec![0.0; 12]));
    // What is left of a sure and right student is nothing either.
    let sure = Batch::new([[1e3, 0.0]], [[1e3, 0.0]], [0]).seen(&loss(4.0, 0.5));
    assert_close(&[sure.value], &[0.0], 1e-30);
    assert_close(&sure.gradient, &[0.0; 2], 1e-30);
}

#[test]
fn tends_to_a_squared_error_beside_the_labels_at_high_temperatures() {
    // Centred, the sides differ by (2, 0, −2): 1/(2 · 3) · 8. The labels cost ln 3 at any τ.
    let batch = Batch::new([[0.0; 3]], [[3.0, 1.0, -1.0]], [0]);
    let expected = 0.5 * 3_f64.ln() + 0.5 * 8.0 / 6.0;
    assert_close(&[batch.seen(&loss(1e3, 0.5)).value], &[expected], 1e-3);
}

#[test]
fn extremes_are_finite() {
    for temperature in [0.05, 0.5, 1.0, 4.0, 100.0] {
        logits::extremes_are_finite(&loss(temperature, 0.5));
    }
}

#[test]
fn rows_levels_and_masks() {
    for loss in [loss(4.0, 0.3), loss(0.1, 0.3)] {
        logits::rows_can_be_permuted(&loss);
        logits::masked_rows_do_not_count(&loss);
        logits::teacher_has_no_gradient(&loss);
        logits::ruled_out_classes_do_not_count(&loss);
    }
    logits::level_does_not_matter(&loss(4.0, 0.3));
}

#[test]
fn sides_are_not_interchangeable() {
    let batch = Batch::example();
    let mut swapped = batch.clone();
    std::mem::swap(&mut swapped.student, &mut swapped.teacher);
    let loss = loss(1.0, 0.5);
    assert!((batch.seen(&loss).value - swapped.seen(&loss).value).abs() > 0.01);
}

#[test]
fn a_true_class_that_the_student_rules_out_is_infinite() {
    let out = f64::NEG_INFINITY;
    let batch = Batch::new([[0.0, 1.0, out]], [[0.0, 1.0, out]], [2]);
    let seen = batch.seen(&loss(2.0, 0.5));
    assert_eq!(seen.value, f64::INFINITY);
    assert!(seen.gradient.iter().all(|g| g.is_finite()), "{seen:?}");
    // Without labels nothing is left of it.
    let seen = batch.seen(&loss(2.0, 0.0));
    assert_eq!(seen.value, 0.0);
    assert_close(&seen.gradient, &[0.0; 3], 1e-30);
}

#[test]
fn the_mean_is_over_rows() {
    let student = tensor([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]]);
    let teacher = tensor([[1.5, 0.0, -2.0], [0.0, 3.0, 1.0]]);
    let labels = Tensor::<1, Int>::from_ints([2, 1], &Device::flex());
    let args = || (student.clone(), teacher.clone(), labels.clone());
    let (s, t, y) = args();
    let rows = numbers(hard_and_soft_no_reduction(s, t, y, 4.0, 0.3));
    let (s, t, y) = args();
    let mean = numbers(hard_and_soft(s, t, y, 4.0, 0.3));
    assert_eq!(rows.len(), 2);
    assert_close(&mean, &[(rows[0] + rows[1]) / 2.0], 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let loss = loss(4.0, 0.1);
    let mut batch = Batch::example();
    batch.labels[1] = 4;
    assert_eq!(
        batch.refused(&loss),
        "label 4 is out of range: the student has 4 classes (0 to 3)"
    );
    batch.labels.clear();
    assert_eq!(
        batch.refused(&loss),
        "term \"hard_and_soft\" needs class targets, the batches carry no targets"
    );
    batch.teacher.pop();
    assert_eq!(
        batch.refused(&loss),
        "term \"hard_and_soft\": logits differ: student has [3, 4], teacher has [2, 4]"
    );
}

#[test]
fn config_defaults_ranges_and_round_trip() {
    let config = HardAndSoftConfig::default();
    assert_eq!((&config.temperature, config.alpha), (&4.0.into(), 0.1));
    assert_eq!(
        serde_json::from_str::<HardAndSoftConfig>("{}").unwrap(),
        config
    );
    logits::round_trip(&config.with_alpha(0.25));
    let unknown = serde_json::from_str::<HardAndSoftConfig>(r#"{"beta": 1}"#);
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("unknown field `beta`")
    );

    let config = |temperature: f64, alpha: f64| {
        let config = HardAndSoftConfig::new(temperature).with_alpha(alpha);
        config.init().map_err(|error| error.to_string())
    };
    assert!(config(f64::MIN_POSITIVE, 0.0).is_ok());
    assert!(config(4.0, 1.0).is_ok());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let expected =
            format!("hard_and_soft.temperature is {bad}, expected a number greater than 0");
        assert_eq!(config(bad, 0.5).unwrap_err(), expected);
    }
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let expected = format!("hard_and_soft.alpha is {bad}, expected a number in [0, 1]");
        assert_eq!(config(4.0, bad).unwrap_err(), expected);
    }
}

#[test]
fn temperature_follows_its_schedule() {
    let scheduled = HardAndSoftConfig::new(Schedule::linear(2.0, 6.0));
    let batch = Batch::example().at(0.5);
    let fixed = batch.seen(&loss(4.0, 0.1));
    batch
        .seen(&scheduled.init().unwrap())
        .assert_close(&fixed, 1e-6);
}
