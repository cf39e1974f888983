use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, TensorData};

use super::*;
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::data::top_k::MissingProbability::{Bucket, Renormalize};
use crate::loss::testing::logits::{self, Batch, Seen};
use crate::loss::testing::numbers::close as assert_close;
use crate::ops::divergence;

fn loss(k: usize, temperature: f64, missing: MissingProbability) -> SparseSoftTarget {
    SparseSoftTarget::new(k)
        .with_temperature(temperature)
        .with_missing_probability(missing)
}

/// The function on one row, by indices and probabilities.
fn by_hand<const C: usize, const K: usize>(
    student: [f64; C],
    indices: [i64; K],
    probabilities: [f64; K],
    [temperature, generation]: [f64; 2],
    missing: MissingProbability,
) -> Seen {
    let device = Device::flex();
    let row = |data: &[f64]| TensorData::new(data.to_vec(), [1, data.len()]).convert::<f32>();
    let student = Tensor::<2>::from_data(row(&student), &device.clone().autodiff());
    let student = student.require_grad();
    let log_probs = Tensor::<2>::from_data(row(&probabilities.map(f64::ln)), &device);
    let indices = Tensor::<2, Int>::from_data([indices], &device);
    let top = TopK::new(indices, log_probs, C).at_temperature(generation);
    let value = sparse_soft_target(student.clone(), top, temperature, missing).mean();
    let gradient = student.grad(&value.backward()).unwrap().into_data();
    Seen {
        value: value.into_data().iter::<f64>().next().unwrap(),
        gradient: gradient.iter::<f64>().collect(),
    }
}

/// Soft targets with the whole distribution of the teacher.
fn whole(batch: &Batch, temperature: f64) -> Seen {
    let device = Device::flex();
    let (n, c) = (batch.student.len(), batch.student[0].len());
    let tensor = |rows: &[Vec<f64>]| {
        let data = TensorData::new(rows.concat(), [n, c]).convert::<f32>();
        Tensor::<2>::from_data(data, &device)
    };
    let (student, teacher) = (tensor(&batch.student), tensor(&batch.teacher));
    let rows = divergence(&student, &teacher, temperature).scaled(temperature * temperature);
    let gradient = (rows.gradient / n as f64).into_data();
    Seen {
        value: rows.value.mean().into_data().iter::<f64>().next().unwrap(),
        gradient: gradient.iter::<f64>().collect(),
    }
}

#[test]
fn bucket_by_hand() {
    // p = (1/2, 1/4 | 1/4) on classes 3 and 1 against q = (1/4, 1/4 | 1/2).
    let seen = by_hand([0.0; 4], [3, 1], [0.5, 0.25], [1.0, 1.0], Bucket);
    let expected = 0.5 * 2_f64.ln() + 0.25 * 0.5_f64.ln();
    assert_close(&[seen.value], &[expected], 1e-6);
    // q − p on the known, q (1 − (1/4) / (1/2)) on the others.
    assert_close(&seen.gradient, &[0.125, 0.0, 0.125, -0.25], 1e-6);
}

#[test]
fn renormalize_by_hand() {
    // p = (2/3, 1/3) on classes 3 and 1 against q = 1/4: the rest of the teacher is forgotten.
    let seen = by_hand([0.0; 4], [3, 1], [0.5, 0.25], [1.0, 1.0], Renormalize);
    let (two, one) = (2.0_f64 / 3.0, 1.0_f64 / 3.0);
    let expected = two * (4.0 * two).ln() + one * (4.0 * one).ln();
    assert_close(&[seen.value], &[expected], 1e-6);
    assert_close(&seen.gradient, &[0.25, 0.25 - one, 0.25, 0.25 - two], 1e-6);
}

#[test]
fn probabilities_that_rounding_made_more_than_one_stay_as_they_are() {
    // p = (0.6, 0.5) against q = (1/2, 1/2), and 1e-8 against 1e-8.
    let seen = by_hand([0.0; 2], [0, 1], [0.6, 0.5], [1.0, 1.0], Bucket);
    assert_close(&[seen.value], &[0.6 * 1.2_f64.ln()], 1e-6);
    assert_close(&seen.gradient, &[0.55 - 0.6, 0.55 - 0.5], 1e-6);
}

#[test]
fn never_negative_by_rounding() {
    // Two classes hold all there is, in the same proportion on both sides.
    let device = Device::flex();
    let rows: Vec<f32> = (0..300u16)
        .flat_map(|n| [f32::from(n) / 64.0, 0.0, -50.0, -50.0])
        .collect();
    let student = Tensor::<2>::from_data(TensorData::new(rows, [300, 4]), &device);
    let log_probs = student.clone().narrow(1, 0, 2);
    let indices = Tensor::<2, Int>::from_ints([[0, 1]], &device).expand([300, 2]);
    let top = TopK::new(indices, log_probs, 4);
    let values = sparse_soft_target(student, top, 1.0, Renormalize)
        .per_row()
        .into_data();
    assert!(values.iter::<f64>().all(|v| (0.0..1e-6).contains(&v)));
}

#[test]
fn another_temperature_takes_powers() {
    // Roots of (1/4, 1/16 | 11/16) at twice the temperature they were taken at, τ² = 4.
    let student = [0.0, 2.0, 4.0];
    let z = 1.0 + 1_f64.exp() + 2_f64.exp();
    let [q0, q1, q2] = [1.0 / z, 1_f64.exp() / z, 2_f64.exp() / z];

    let rest = (11.0_f64 / 16.0).sqrt();
    let sum = 0.5 + 0.25 + rest;
    let p = [0.5 / sum, 0.25 / sum, rest / sum];
    let seen = by_hand(student, [2, 0], [0.25, 0.0625], [2.0, 1.0], Bucket);
    let term = |p: f64, q: f64| p * (p / q).ln();
    let expected = 4.0 * (term(p[0], q2) + term(p[1], q0) + term(p[2], q1));
    assert_close(&[seen.value], &[expected], 1e-5);
    let expected = [q0 - p[1], q1 - p[2], q2 - p[0]].map(|g| 2.0 * g);
    assert_close(&seen.gradient, &expected, 1e-5);

    let seen = by_hand(student, [2, 0], [0.25, 0.0625], [2.0, 1.0], Renormalize);
    let expected = 4.0 * (term(2.0 / 3.0, q2) + term(1.0 / 3.0, q0));
    assert_close(&[seen.value], &[expected], 1e-5);
}

#[test]
fn gradient_is_the_slope() {
    for missing in [Bucket, Renormalize] {
        for k in 1..=4 {
            let loss = loss(k, 2.0, missing);
            logits::gradient_is_the_slope(&loss, &Batch::example());
        }
    }
}

#[test]
fn all_classes_are_the_whole_distribution() {
    let batch = Batch::example();
    for temperature in [0.5, 1.0, 4.0, 100.0] {
        let expected = whole(&batch, temperature);
        for missing in [Bucket, Renormalize] {
            let seen = batch.seen(&loss(4, temperature, missing));
            // The 1e-8 that the bucket counts as, against 1e-8, adds nothing, not even times τ².
            seen.assert_close(&expected, 1e-5);
        }
    }
}

#[test]
fn the_bucket_never_says_more_than_the_whole_distribution() {
    let batch = Batch::example();
    let mut previous = 0.0;
    for k in 1..=4 {
        let value = batch.seen(&loss(k, 2.0, Bucket)).value;
        // A bucket of one class is that class: but for rounding, 3 of 4 are all.
        assert!(value >= previous - 1e-6, "{value} for {k}");
        previous = value;
    }
    assert!(previous <= whole(&batch, 2.0).value + 1e-5);
}

#[test]
fn tends_to_squared_errors_at_high_temperatures() {
    // The likeliest of three is 3 above the mean of the others on one side and 0 on the other: as
    // one class against the rest, 1/2 · 1/3 · 2/3 · 3².
    let batch = Batch::new([[0.0; 3]], [[3.0, 1.0, -1.0]], [0]);
    assert_close(&[batch.seen(&loss(1, 100.0, Bucket)).value], &[1.0], 0.02);
}

#[test]
fn zero_where_both_agree() {
    let mut batch = Batch::example();
    batch.student = batch.teacher.clone();
    for k in 1..=4 {
        let seen = batch.seen(&loss(k, 2.0, Bucket));
        assert_close(&[seen.value], &[0.0], 1e-6);
        assert_close(&seen.gradient, &[0.0; 12], 1e-6);
    }
}

#[test]
fn renormalized_teachers_want_students_surer_than_they_are() {
    let mut batch = Batch::example();
    batch.student = batch.teacher.clone();
    assert!(batch.seen(&loss(2, 1.0, Renormalize)).value > 0.05);
    // Their own proportion, and nothing for the others.
    for row in &mut batch.student {
        let mut sorted = row.clone();
        sorted.sort_by(f64::total_cmp);
        row.iter_mut()
            .filter(|z| **z < sorted[2])
            .for_each(|z| *z = -50.0);
    }
    let seen = batch.seen(&loss(2, 1.0, Renormalize));
    assert_close(&[seen.value], &[0.0], 1e-6);
    assert_close(&seen.gradient, &[0.0; 12], 1e-6);
}

#[test]
fn the_term_is_the_function_of_its_own_top_k() {
    let batch = Batch::example();
    let device = Device::flex();
    let tensor = |rows: &[Vec<f64>]| {
        let data = TensorData::new(rows.concat(), [3, 4]).convert::<f32>();
        Tensor::<2>::from_data(data, &device)
    };
    let log_p = log_softmax(tensor(&batch.teacher) / 2.0, 1);
    let (log_probs, indices) = log_p.topk_with_indices(2, 1);
    let top = TopK::new(indices, log_probs, 4).at_temperature(2.0);
    for missing in [Bucket, Renormalize] {
        let student = tensor(&batch.student);
        let rows = sparse_soft_target(student.clone(), top.clone(), 2.0, missing).per_row();
        let rows: Vec<f64> = rows.into_data().iter::<f64>().collect();
        assert_eq!(rows.len(), 3);
        let mean = sparse_soft_target(student, top.clone(), 2.0, missing)
            .mean()
            .into_data();
        let expected = batch.seen(&loss(2, 2.0, missing)).value;
        assert_close(&[rows.iter().sum::<f64>() / 3.0], &[expected], 1e-5);
        assert_close(&mean.iter::<f64>().collect::<Vec<_>>(), &[expected], 1e-5);
    }
}

#[test]
fn saturated_students_and_full_teachers_are_finite() {
    // The student gives the known classes all: the rest counts as 1e-8, without a gradient.
    let seen = by_hand([1e4, 0.0, 0.0], [0], [0.5], [1.0, 1.0], Bucket);
    let expected = 0.5 * 0.5_f64.ln() + 0.5 * (0.5_f64.ln() - 1e-8_f64.ln());
    assert_close(&[seen.value], &[expected], 1e-5);
    assert_close(&seen.gradient, &[0.0, 0.0, 0.0], 1e-6);
    // It gives them nothing.
    let seen = by_hand([-1e4, 0.0, 0.0], [0], [0.5], [1.0, 1.0], Bucket);
    assert_close(
        &[seen.value],
        &[0.5 * (1e4 + 2_f64.ln()) - 2_f64.ln()],
        0.01,
    );
    assert_close(&seen.gradient, &[-0.5, 0.25, 0.25], 1e-6);
    // The teacher leaves no rest, at any temperature.
    for generation in [0.25, 1.0, 2.0] {
        for missing in [Bucket, Renormalize] {
            let temperatures = [1.0, generation];
            let seen = by_hand([0.0; 2], [1, 0], [0.5, 0.5], temperatures, missing);
            assert_close(&[seen.value], &[0.0], 1e-6);
            assert_close(&seen.gradient, &[0.0; 2], 1e-6);
        }
    }
    // It rules a class out that it names.
    let seen = by_hand([0.0; 3], [1, 0], [1.0, 0.0], [1.0, 1.0], Renormalize);
    assert_close(&[seen.value], &[3_f64.ln()], 1e-6);
}

#[test]
fn extremes_are_finite() {
    for missing in [Bucket, Renormalize] {
        for k in 1..=4 {
            for temperature in [0.5, 1.0, 100.0] {
                logits::extremes_are_finite(&loss(k, temperature, missing));
            }
        }
    }
}

#[test]
fn masked_classes() {
    for missing in [Bucket, Renormalize] {
        logits::masked_classes_do_not_count(&loss(2, 2.0, missing));
    }
}

#[test]
fn the_order_of_the_known_classes_does_not_matter() {
    let student = [0.5, -1.0, 2.0, 0.0];
    for missing in [Bucket, Renormalize] {
        let one = by_hand(student, [2, 0], [0.5, 0.25], [2.0, 1.0], missing);
        let other = by_hand(student, [0, 2], [0.25, 0.5], [2.0, 1.0], missing);
        one.assert_close(&other, 1e-6);
    }
}

#[test]
fn sides_are_not_interchangeable() {
    let batch = Batch::example();
    let mut swapped = batch.clone();
    std::mem::swap(&mut swapped.student, &mut swapped.teacher);
    for missing in [Bucket, Renormalize] {
        let loss = loss(2, 1.0, missing);
        assert!((batch.seen(&loss).value - swapped.seen(&loss).value).abs() > 0.01);
    }
}

#[test]
fn a_top_k_teacher_is_taken_as_it_is() {
    let batch = Batch::example();
    let device = Device::flex();
    let tensor = |rows: &[Vec<f64>]| {
        let data = TensorData::new(rows.concat(), [3, 4]).convert::<f32>();
        Tensor::<2>::from_data(data, &device)
    };
    let (log_probs, indices) = log_softmax(tensor(&batch.teacher) / 2.0, 1).topk_with_indices(2, 1);
    let top = TopK::new(indices, log_probs, 4).at_temperature(2.0);
    let (student, teacher) = (Outputs::new(tensor(&batch.student)), Outputs::new(top));
    let weights = Tensor::<1>::from_floats([1.0, 0.5, 0.0], &device);
    let targets = Targets::new().with_weights(&weights);
    let context = LossContext::new(&student, &teacher).with_targets(&targets);
    for missing in [Bucket, Renormalize] {
        // More than there are classes, but there are two to take.
        let loss = loss(64, 2.0, missing);
        assert!(loss.check(&context).is_ok());
        let found: f64 = loss.forward(&context).into_scalar();
        let mut batch = batch.clone();
        batch.weights = Some(vec![1.0, 0.5, 0.0]);
        let expected = batch.seen(&self::loss(2, 2.0, missing)).value;
        assert_close(&[found], &[expected], 1e-5);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let mut batch = Batch::example();
    assert_eq!(
        batch.refused(&loss(5, 1.0, Bucket)),
        "sparse_soft_target.k is 5, expected at most the number of classes"
    );
    batch.teacher.pop();
    assert_eq!(
        batch.refused(&loss(2, 1.0, Bucket)),
        "heads \"logits\" differ: student has [3, 4], teacher has [2, 4]"
    );
}
