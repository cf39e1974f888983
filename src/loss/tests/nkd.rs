use super::*;
use crate::loss::testing::logits::{self, Batch};
use crate::loss::testing::numbers::close as assert_close;

fn loss(temperature: f64, gamma: f64) -> Nkd {
    Nkd::new(temperature).with_gamma(gamma)
}

#[test]
fn value_and_gradient_by_hand() {
    // The teacher gives 1/2 to the true class, and 3/4 and 1/4 of the rest to the others.
    let teacher = [0.5, 0.375, 0.125].map(f64::ln);
    let seen = Batch::new([[0.0; 3]], [teacher], [0]).seen(&loss(1.0, 1.5));
    assert_close(&[seen.value], &[0.5 * 3_f64.ln() + 1.5 * 2_f64.ln()], 1e-6);
    // 1/2 · (1/3 − 1, 1/3, 1/3) + 1.5 · (0, 1/2 − 3/4, 1/2 − 1/4)
    let expected = [-1.0 / 3.0, 1.0 / 6.0 - 0.375, 1.0 / 6.0 + 0.375];
    assert_close(&seen.gradient, &expected, 1e-6);
}

#[test]
fn gradient_is_the_slope() {
    logits::gradient_is_the_slope(&loss(2.0, 1.5), &Batch::example());
}

#[test]
fn where_both_agree_the_others_are_at_rest() {
    let mut batch = Batch::example();
    batch.student = batch.teacher.clone();
    let (with, without) = (batch.seen(&loss(2.0, 1.5)), batch.seen(&loss(2.0, 0.0)));
    // A cross-entropy, so what the others add is not 0 but as small as it can be.
    assert_close(&with.gradient, &without.gradient, 1e-6);
    let least = with.value - without.value;
    assert!(least > 0.1);
    for (class, offset) in [(0, 0.5), (1, -0.5), (3, 2.0)] {
        let mut moved = batch.clone();
        moved.student[0][class] += offset;
        let others = moved.seen(&loss(2.0, 1.5)).value - moved.seen(&loss(2.0, 0.0)).value;
        assert!(others > least + 1e-3);
    }
}

#[test]
fn a_teacher_that_is_sure_leaves_the_ordinary_cross_entropy() {
    // −log softmax([1, 0, 0])_0 = ln(e + 2) − 1
    let batch = Batch::new([[1.0, 0.0, 0.0]], [[1e4, 0.0, 0.0]], [0]);
    let expected = (1_f64.exp() + 2.0).ln() - 1.0;
    assert_close(&[batch.seen(&loss(1.0, 0.0)).value], &[expected], 1e-6);
    // One that rules the label out leaves nothing of it.
    let batch = Batch::new([[1.0, 0.0, 0.0]], [[-1e4, 0.0, 0.0]], [0]);
    let seen = batch.seen(&loss(1.0, 0.0));
    assert_eq!((seen.value, seen.gradient), (0.0, vec![0.0; 3]));
}

#[test]
fn gradient_at_high_temperatures_is_the_difference_of_logits() {
    // γτ(p'_s − p'_t) tends to γ/(C − 1) times the difference of the centred logits: the others
    // are 0 and 0 on one side, 1 and −1 on the other.
    let batch = Batch::new([[0.0; 3]], [[-1e4, 1.0, -1.0]], [0]);
    let seen = batch.seen(&loss(100.0, 1.5));
    assert_close(&seen.gradient, &[0.0, -0.75, 0.75], 1e-3);
}

#[test]
fn two_classes_have_no_others() {
    let batch = Batch::new([[0.5, -1.0]], [[3.0, 1.0]], [1]);
    let (with, without) = (batch.seen(&loss(2.0, 8.0)), batch.seen(&loss(2.0, 0.0)));
    with.assert_close(&without, 0.0);
    assert!(with.value > 0.1);
}

#[test]
fn exact_at_margins_of_ten_thousand() {
    // The teacher trusts the label fully, which the student puts 2e4 below the others; of these,
    // it gives each 1/2.
    let batch = Batch::new([[-1e4, 1e4, 1e4]], [[1e4, -1e4, -1e4]], [0]);
    let seen = batch.seen(&loss(1.0, 1.5));
    assert_close(&[seen.value], &[2e4 + 2.5 * 2_f64.ln()], 0.01);
    assert_close(&seen.gradient, &[-1.0, 0.5, 0.5], 1e-6);
}

#[test]
fn extremes_are_finite() {
    for temperature in [0.5, 1.0, 4.0, 100.0] {
        logits::extremes_are_finite(&loss(temperature, 1.5));
    }
}

#[test]
fn masks_and_labels() {
    let loss = loss(2.0, 1.5);
    logits::masked_classes_do_not_count(&loss);
    logits::rows_without_a_label_do_not_count(&loss);
    logits::weights_are_multiplicities(&loss);
}

#[test]
fn sides_are_not_interchangeable() {
    let batch = Batch::example();
    let mut swapped = batch.clone();
    std::mem::swap(&mut swapped.student, &mut swapped.teacher);
    let loss = loss(1.0, 1.5);
    assert!((batch.seen(&loss).value - swapped.seen(&loss).value).abs() > 0.01);
}

#[test]
fn the_mean_is_over_rows() {
    let device = burn::tensor::Device::flex();
    let student = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], &device);
    let teacher = Tensor::<2>::from_floats([[1.5, 0.0, -2.0], [0.0, 3.0, 1.0]], &device);
    let labels = Tensor::<1, Int>::from_ints([2, 1], &device);
    let rows = nkd(student.clone(), teacher.clone(), labels.clone(), 2.0, 1.5).per_row();
    let rows: Vec<f64> = rows.into_data().iter::<f64>().collect();
    let mean = nkd(student, teacher, labels, 2.0, 1.5).mean().into_data();
    assert_eq!(rows.len(), 2);
    let mean: Vec<f64> = mean.iter::<f64>().collect();
    assert_close(&mean, &[(rows[0] + rows[1]) / 2.0], 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let loss = loss(1.0, 1.5);
    let mut batch = Batch::example();
    batch.labels[1] = 4;
    assert_eq!(
        batch.refused(&loss),
        "label 4 of row 1 is out of range: the student has 4 classes (0 to 3)"
    );
    batch.labels.clear();
    assert_eq!(
        batch.refused(&loss),
        "term \"nkd\" needs class targets, the batches carry no targets"
    );
    batch.teacher.pop();
    assert_eq!(
        batch.refused(&loss),
        "heads \"logits\" differ: student has [3, 4], teacher has [2, 4]"
    );
    assert_eq!(
        Batch::new([[1.0]], [[1.0]], [0]).refused(&loss),
        "term \"nkd\": the number of classes is 1, expected at least 2: \
         a single logit is `Outputs::binary`, a single value `Outputs::values`"
    );
}
