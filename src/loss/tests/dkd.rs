use super::*;
use crate::loss::testing::logits::{self, Batch};
use crate::loss::testing::numbers::close as assert_close;

fn loss(temperature: f64, alpha: f64, beta: f64) -> Dkd {
    Dkd::new(temperature).with_alpha(alpha).with_beta(beta)
}

fn log(probabilities: [f64; 3]) -> [f64; 3] {
    probabilities.map(f64::ln)
}

#[test]
fn value_and_gradient_by_hand() {
    let batch = Batch::new([[0.0; 3]], [log([0.5, 0.375, 0.125])], [0]);
    let seen = batch.seen(&loss(1.0, 1.0, 2.0));
    // KL([1/2, 1/2] ‖ [1/3, 2/3]) and KL([3/4, 1/4] ‖ [1/2, 1/2])
    let target = 0.5 * 1.5_f64.ln() + 0.5 * 0.75_f64.ln();
    let non_target = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
    assert_close(&[seen.value], &[target + 2.0 * non_target], 1e-6);
    // 1 · (1/3 − 1/2) · (1, −1/2, −1/2) + 2 · (0, 1/2 − 3/4, 1/2 − 1/4)
    let expected = [-1.0 / 6.0, 1.0 / 12.0 - 0.5, 1.0 / 12.0 + 0.5];
    assert_close(&seen.gradient, &expected, 1e-6);
}

#[test]
fn gradient_is_the_slope() {
    logits::gradient_is_the_slope(&loss(2.0, 0.5, 3.0), &Batch::example());
}

#[test]
fn zero_where_both_agree_and_positive_elsewhere() {
    let mut batch = Batch::example();
    for [alpha, beta] in [[1.0, 0.0], [0.0, 1.0], [1.0, 8.0]] {
        assert!(batch.seen(&loss(4.0, alpha, beta)).value > 1e-3);
    }
    batch.student = batch.teacher.clone();
    let seen = batch.seen(&loss(4.0, 1.0, 8.0));
    assert_eq!((seen.value, seen.gradient), (0.0, vec![0.0; 12]));
}

#[test]
fn the_parts_add_up_to_soft_targets() {
    // The paper's starting point: there β is the teacher's doubt, here 1 − 1/2.
    let (student, teacher) = ([0.3, -0.2, 1.1], log([0.2, 0.5, 0.3]));
    let seen = Batch::new([student], [teacher], [1]).seen(&loss(1.0, 1.0, 0.5));
    let device = burn::tensor::Device::flex();
    let tensor = |row: [f64; 3]| Tensor::<2>::from_floats([row.map(|z| z as f32)], &device);
    let rows = crate::ops::divergence(&tensor(student), &tensor(teacher), 1.0);
    let data = |x: burn::tensor::TensorData| x.iter::<f64>().collect::<Vec<_>>();
    assert_close(&[seen.value], &data(rows.value.into_data()), 1e-6);
    assert_close(&seen.gradient, &data(rows.gradient.into_data()), 1e-6);
}

#[test]
fn tends_to_squared_errors_at_high_temperatures() {
    // The true class is 3 above the mean of the others on one side, 0 on the other: with its share
    // 1/3 the first part tends to 1/2 · 1/3 · 2/3 · 3². The others differ by ±1 from their mean:
    // 1/(2 · 2) · (1 + 1).
    let batch = Batch::new([[0.0; 3]], [[3.0, 1.0, -1.0]], [0]);
    assert_close(&[batch.seen(&loss(100.0, 1.0, 0.0)).value], &[1.0], 0.02);
    assert_close(&[batch.seen(&loss(100.0, 0.0, 1.0)).value], &[0.5], 0.01);
}

#[test]
fn two_classes_have_no_others() {
    let batch = Batch::new([[0.5, -1.0]], [[3.0, 1.0]], [1]);
    let seen = batch.seen(&loss(2.0, 0.0, 8.0));
    assert_eq!((seen.value, seen.gradient), (0.0, vec![0.0; 2]));
    assert!(batch.seen(&loss(2.0, 1.0, 0.0)).value > 0.01);
}

#[test]
fn exact_at_margins_of_ten_thousand() {
    // The true class ahead by 2e4 on the teacher's side and behind by 2e4 on the student's: the
    // first part is that, the second compares two classes that are 1 apart on one side only.
    let batch = Batch::new([[-1e4, 1e4, 1e4]], [[1e4, -1e4, -9999.0]], [0]);
    let seen = batch.seen(&loss(1.0, 1.0, 0.0));
    assert_close(&[seen.value], &[2e4 + 2_f64.ln()], 0.01);
    let seen = batch.seen(&loss(1.0, 0.0, 1.0));
    let sure = 1.0 / (1.0 + (-1_f64).exp()); // of the likelier of two that are 1 apart
    let expected = sure * (2.0 * sure).ln() + (1.0 - sure) * (2.0 * (1.0 - sure)).ln();
    assert_close(&[seen.value], &[expected], 1e-5);
    assert_close(&seen.gradient, &[0.0, sure - 0.5, 0.5 - sure], 1e-5);
}

#[test]
fn extremes_are_finite() {
    for temperature in [0.5, 1.0, 4.0, 100.0] {
        logits::extremes_are_finite(&loss(temperature, 1.0, 8.0));
    }
}

#[test]
fn masks_and_labels() {
    let loss = loss(4.0, 1.0, 8.0);
    logits::masked_classes_do_not_count(&loss);
    logits::rows_without_a_label_do_not_count(&loss);
}

#[test]
fn sides_are_not_interchangeable() {
    let batch = Batch::example();
    let mut swapped = batch.clone();
    std::mem::swap(&mut swapped.student, &mut swapped.teacher);
    let loss = loss(1.0, 1.0, 1.0);
    assert!((batch.seen(&loss).value - swapped.seen(&loss).value).abs() > 0.01);
}

#[test]
fn the_mean_is_over_rows() {
    let device = burn::tensor::Device::flex();
    let student = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], &device);
    let teacher = Tensor::<2>::from_floats([[1.5, 0.0, -2.0], [0.0, 3.0, 1.0]], &device);
    let labels = Tensor::<1, Int>::from_ints([2, 1], &device);
    let args = (student, teacher, labels);
    let rows = dkd(
        args.0.clone(),
        args.1.clone(),
        args.2.clone(),
        4.0,
        1.0,
        8.0,
    )
    .per_row();
    let rows: Vec<f64> = rows.into_data().iter::<f64>().collect();
    let mean = dkd(args.0, args.1, args.2, 4.0, 1.0, 8.0)
        .mean()
        .into_data();
    let mean: Vec<f64> = mean.iter::<f64>().collect();
    assert_eq!(rows.len(), 2);
    assert_close(&mean, &[(rows[0] + rows[1]) / 2.0], 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let loss = loss(4.0, 1.0, 8.0);
    let mut batch = Batch::example();
    batch.labels[1] = 4;
    assert_eq!(
        batch.refused(&loss),
        "label 4 of row 1 is out of range: the student has 4 classes (0 to 3)"
    );
    batch.labels.clear();
    assert_eq!(
        batch.refused(&loss),
        "term \"dkd\" needs class targets, the batches carry no targets"
    );
    batch.teacher.pop();
    assert_eq!(
        batch.refused(&loss),
        "heads \"logits\" differ: student has [3, 4], teacher has [2, 4]"
    );
    assert_eq!(
        Batch::new([[1.0]], [[1.0]], [0]).refused(&loss),
        "term \"dkd\": the number of classes is 1, expected at least 2: \
         a single logit is `Outputs::binary`, a single value `Outputs::values`"
    );
}
