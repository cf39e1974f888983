use super::*;
use crate::loss::testing::logits::{self, Batch};
use crate::loss::testing::numbers::close as assert_close;
use crate::ops::cross_entropy;

fn loss(temperature: f64, correct: f64) -> VirtualTeacher {
    VirtualTeacher::new()
        .with_temperature(temperature)
        .with_correct(correct)
}

#[test]
fn value_and_gradient_by_hand() {
    // The teacher: 1/2 for the true class, 1/4 for each of the others.
    let batch = Batch::new([[0.0; 3]], [[0.0; 3]], [1]);
    let seen = batch.seen(&loss(1.0, 0.5));
    assert_close(
        &[seen.value],
        &[0.5 * 1.5_f64.ln() + 0.5 * 0.75_f64.ln()],
        1e-6,
    );
    assert_close(&seen.gradient, &[1.0 / 12.0, -1.0 / 6.0, 1.0 / 12.0], 1e-6);

    // At temperature 2, their roots: √2 : 1 : 1. τ² is 4, the gradient τ (1/3 − p).
    let seen = batch.seen(&loss(2.0, 0.5));
    let (own, other) = (1.0 / (1.0 + 2_f64.sqrt()), 1.0 / (2.0 + 2_f64.sqrt()));
    let value = 4.0 * (own * (3.0 * own).ln() + 2.0 * other * (3.0 * other).ln());
    assert_close(&[seen.value], &[value], 1e-6);
    let third = 1.0 / 3.0;
    let expected = [third - other, third - own, third - other].map(|d| 2.0 * d);
    assert_close(&seen.gradient, &expected, 1e-6);
}

#[test]
fn gradient_is_the_slope() {
    logits::gradient_is_the_slope(&loss(20.0, 0.99), &Batch::example());
}

#[test]
fn zero_where_the_student_is_the_teacher_and_positive_elsewhere() {
    // 0.9 against 0.1/3: a logit of ln 27 above the others.
    let mut batch = Batch::example().rows(&[0]);
    assert!(batch.seen(&loss(4.0, 0.9)).value > 1e-3);
    batch.student = vec![vec![1.0, 1.0, 1.0 + 27_f64.ln(), 1.0]];
    let seen = batch.seen(&loss(4.0, 0.9));
    assert_close(&[seen.value], &[0.0], 1e-6);
    assert_close(&seen.gradient, &[0.0; 4], 1e-6);
}

#[test]
fn label_smoothing_at_temperature_one() {
    let batch = Batch::example();
    let seen = batch.seen(&loss(1.0, 0.97));
    let device = burn::tensor::Device::flex();
    let data = burn::tensor::TensorData::new(batch.student.concat(), [3, 4]);
    let student = Tensor::<2>::from_data(data.convert::<f32>(), &device);
    let labels = Tensor::<1, Int>::from_data(&batch.labels[..], &device);
    // ε = 0.03 · 4/3, and the entropy of (0.97, 0.01, 0.01, 0.01).
    let rows = cross_entropy(&student, &labels, 0.04, None);
    let entropy = -(0.97 * 0.97_f64.ln() + 0.03 * 0.01_f64.ln());
    let value: Vec<f64> = rows.value.mean().into_data().iter::<f64>().collect();
    assert_close(&[seen.value], &[value[0] - entropy], 1e-5);
    let gradient = (rows.gradient / 3.0).into_data();
    let gradient: Vec<f64> = gradient.iter::<f64>().collect();
    assert_close(&seen.gradient, &gradient, 1e-6);
}

#[test]
fn tends_to_the_squared_error_at_high_temperatures() {
    // 1/(2C) ‖ẑ_d‖² with the teacher's logits (m, 0, 0), m = ln(0.9/0.1 · 2): m²/9.
    let batch = Batch::new([[0.0; 3]], [[0.0; 3]], [0]);
    let margin = 18_f64.ln();
    let value = batch.seen(&loss(1000.0, 0.9)).value;
    assert_close(&[value], &[margin * margin / 9.0], 2e-3);
}

#[test]
fn extremes_are_finite() {
    for temperature in [0.5, 1.0, 20.0, 100.0] {
        for correct in [1e-6, 0.99, 1.0 - 1e-12] {
            logits::extremes_are_finite(&loss(temperature, correct));
        }
    }
}

#[test]
fn rows_without_a_label() {
    logits::rows_without_a_label_do_not_count(&loss(2.0, 0.9));
    logits::weights_are_multiplicities(&loss(2.0, 0.9));
}

#[test]
fn looks_at_no_teacher() {
    let loss = loss(2.0, 0.9);
    assert!(!loss.needs().teacher);
    let mut batch = Batch::example();
    let expected = batch.seen(&loss);
    batch.teacher = vec![vec![f64::NAN; 4]; 3];
    batch.seen(&loss).assert_close(&expected, 0.0);
}

#[test]
fn the_mean_is_over_rows() {
    let device = burn::tensor::Device::flex();
    let student = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], &device);
    let labels = Tensor::<1, Int>::from_ints([2, 1], &device);
    let rows = virtual_teacher(student.clone(), labels.clone(), 4.0, 0.9).per_row();
    let rows: Vec<f64> = rows.into_data().iter::<f64>().collect();
    let mean = virtual_teacher(student, labels, 4.0, 0.9)
        .mean()
        .into_data();
    let mean: Vec<f64> = mean.iter::<f64>().collect();
    assert_eq!(rows.len(), 2);
    assert_close(&mean, &[(rows[0] + rows[1]) / 2.0], 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let loss = loss(20.0, 0.99);
    let mut batch = Batch::example();
    batch.labels[2] = 4;
    assert_eq!(
        batch.refused(&loss),
        "label 4 of row 2 is out of range: the student has 4 classes (0 to 3)"
    );
    batch.labels.clear();
    assert_eq!(
        batch.refused(&loss),
        "term \"virtual_teacher\" needs class targets, the batches carry no targets"
    );
    assert_eq!(
        Batch::new([[1.0]], [[1.0]], [0]).refused(&loss),
        "term \"virtual_teacher\": the number of classes is 1, expected at least 2: \
         a single logit is `Outputs::binary`, a single value `Outputs::values`"
    );
}
