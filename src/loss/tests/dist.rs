use super::*;
use crate::loss::testing::logits::{self, Batch};
use crate::loss::testing::numbers::close as assert_close;

fn loss(temperature: f64, beta: f64, gamma: f64) -> Dist {
    Dist::new(temperature).with_beta(beta).with_gamma(gamma)
}

fn log(probabilities: [f64; 3]) -> [f64; 3] {
    probabilities.map(f64::ln)
}

#[test]
fn value_by_hand() {
    // Centred rows: (1, 0, −1)/10 and (0, 1, −1)/10 on one side, (1, 0, −1)/10 twice on the other:
    // r is 1 and (0 + 0 + 1)/2.
    let base = 1.0 / 3.0;
    let student = [[0.1, 0.0, -0.1], [0.0, 0.1, -0.1]].map(|row| log(row.map(|d| base + d)));
    let teacher = [[0.1, 0.0, -0.1], [0.1, 0.0, -0.1]].map(|row| log(row.map(|d| base + d)));
    let seen = Batch::new(student, teacher, [0, 0]).seen(&loss(1.0, 1.0, 0.0));
    assert_close(&[seen.value], &[1.0 - 0.75], 1e-5);
    // Of two samples, each column is one step: up or down with the other side's, or level.
    let teacher = [[0.2, -0.1, -0.1], [0.0, 0.1, -0.1]].map(|row| log(row.map(|d| base + d)));
    let seen = Batch::new(student, teacher, [0, 0]).seen(&loss(1.0, 0.0, 1.0));
    assert_close(&[seen.value], &[1.0 - 2.0 / 3.0], 1e-5);
}

#[test]
fn gradient_is_the_slope() {
    let mut batch = Batch::example();
    logits::gradient_is_the_slope(&loss(2.0, 1.0, 0.5), &batch);
    batch.weights = Some(vec![1.0, 0.0, 1.0]);
    logits::gradient_is_the_slope(&loss(1.0, 0.5, 1.0), &batch);
}

#[test]
fn next_to_zero_where_both_agree_and_positive_elsewhere() {
    let mut batch = Batch::example();
    for [beta, gamma] in [[1.0, 0.0], [0.0, 1.0]] {
        let value = batch.seen(&loss(1.0, beta, gamma)).value;
        // r is between −1 and 1.
        assert!(value > 1e-3 && value <= 2.0);
    }
    batch.student = batch.teacher.clone();
    // The sum of squares is around 0.1 in all columns: what 1e-8 does to them is around 1e-7.
    let seen = batch.seen(&loss(1.0, 1.0, 1.0));
    assert_close(&[seen.value], &[0.0], 2e-6);
    assert_close(&seen.gradient, &[0.0; 12], 2e-6);
}

#[test]
fn a_single_row_has_no_relations_between_samples() {
    let batch = Batch::example().rows(&[1]);
    let seen = batch.seen(&loss(2.0, 0.0, 1.0));
    assert_eq!((seen.value, seen.gradient), (4.0, vec![0.0; 4]));
    // The same where the others are masked.
    let mut batch = Batch::example();
    batch.weights = Some(vec![0.0, 1.0, 0.0]);
    let seen = batch.seen(&loss(2.0, 0.0, 1.0));
    assert_eq!((seen.value, seen.gradient), (4.0, vec![0.0; 12]));
}

#[test]
fn shrinking_the_probabilities_costs_nothing() {
    // The claim of the method: a student that is half the teacher and half uniform is as good.
    let probabilities = [[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.25, 0.15, 0.6]];
    let shrunk = |row: [f64; 3]| log(row.map(|p| 0.5 * p + 0.5 / 3.0));
    let batch = Batch::new(probabilities.map(shrunk), probabilities.map(log), [0, 0, 0]);
    let seen = batch.seen(&loss(1.0, 1.0, 1.0));
    assert_close(&[seen.value], &[0.0], 2e-6);
}

#[test]
fn tends_to_the_correlation_of_logits_at_high_temperatures() {
    // With one row intra is 1. (1, 0, −1) and (1, −2, 1) are uncorrelated, (2, 0, −2) is (1, 0, −1)
    // twice; τ² is 1e4.
    let teacher = [[1.0, 0.0, -1.0]];
    let value = |student: [f64; 3]| {
        let seen = Batch::new([student], teacher, [0]).seen(&loss(100.0, 1.0, 1.0));
        seen.value / 1e4
    };
    assert_close(&[value([1.0, -2.0, 1.0])], &[2.0], 0.02);
    assert_close(&[value([2.0, 0.0, -2.0])], &[1.0], 0.002);
}

#[test]
fn extremes_are_finite() {
    for temperature in [0.5, 1.0, 4.0, 100.0] {
        logits::extremes_are_finite(&loss(temperature, 1.0, 1.0));
    }
    let masked = [0.5, f64::NEG_INFINITY, 1.0, 0.0];
    let batch = Batch::new([masked; 2], [[0.0, f64::NEG_INFINITY, 0.0, 3.0]; 2], [0, 0]);
    batch.seen(&loss(1.0, 1.0, 1.0)).assert_finite();
    // A student whose last layer is zero, and a teacher that cannot tell either.
    let (zeros, uneven) = ([0.0; 4], [1.0, 2.0, 3.0, 4.0]);
    for (student, teacher) in [(zeros, uneven), (uneven, zeros), (zeros, zeros)] {
        let batch = Batch::new([student; 2], [teacher; 2], [0, 0]);
        batch.seen(&loss(1.0, 1.0, 1.0)).assert_finite();
    }
}

#[test]
fn weights_are_those_of_both_relations() {
    logits::weights_are_multiplicities(&loss(2.0, 1.0, 0.0));
    logits::weights_are_multiplicities(&loss(2.0, 0.0, 1.0));
}

#[test]
fn the_function_is_the_loss() {
    let device = burn::tensor::Device::flex();
    let tensor = |rows: Vec<Vec<f64>>| {
        let data = burn::tensor::TensorData::new(rows.concat(), [3, 4]);
        Tensor::<2>::from_data(data.convert::<f32>(), &device)
    };
    let batch = Batch::example();
    let (student, teacher) = (tensor(batch.student.clone()), tensor(batch.teacher.clone()));
    let value = dist(student, teacher, 4.0, 2.0, 0.5).into_data();
    let expected = batch.seen(&loss(4.0, 2.0, 0.5)).value;
    assert_close(&value.iter::<f64>().collect::<Vec<_>>(), &[expected], 1e-4);
}

#[test]
fn what_does_not_fit_is_named() {
    let loss = loss(1.0, 1.0, 1.0);
    let mut batch = Batch::example();
    batch.teacher.pop();
    assert_eq!(
        batch.refused(&loss),
        "heads \"logits\" differ: student has [3, 4], teacher has [2, 4]"
    );
    assert_eq!(
        Batch::new([[1.0]], [[1.0]], [0]).refused(&loss),
        "term \"dist\": the number of classes is 1, expected at least 2: \
         a single logit is `Outputs::binary`, a single value `Outputs::values`"
    );
}
