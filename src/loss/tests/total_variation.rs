use super::*;
use crate::loss::testing::logits;
use crate::loss::testing::properties::{self, backward, random, softmax, tensor, value};

fn at(temperature: f64) -> TotalVariation {
    TotalVariation::new(temperature)
}

fn plain() -> TotalVariation {
    at(1.0)
}

#[test]
fn follows_its_formula() {
    for t in [0.5, 1.0, 4.0] {
        properties::follows(&at(t), |s, z| {
            let (q, p) = (softmax(s, t), softmax(z, t));
            p.iter().zip(&q).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
        });
    }
}

#[test]
fn swapping_student_and_teacher_changes_the_gradient_alone() {
    let (a, b) = (tensor([[0.0, 0.0]]), tensor([[3f32.ln(), 0.0]]));
    let (one, towards_b) = backward(&plain(), a.clone(), b.clone());
    let (other, towards_a) = backward(&plain(), b, a);
    properties::assert_close(&[one, other], &[0.25, 0.25], 1e-6);
    // At a the signs are [−1, 1]: 1/2·1/2·(−1 − 0). At b they are [1, −1]: 1/2·3/4·(1 − 1/2).
    properties::assert_close(&towards_b, &[-0.25, 0.25], 1e-6);
    properties::assert_close(&towards_a, &[0.1875, -0.1875], 1e-6);
}

#[test]
fn is_a_distance() {
    for temperature in [0.5, 1.0, 4.0, 100.0] {
        properties::is_zero_at_the_optimum(&at(temperature));
        properties::is_never_negative(&at(temperature));
    }
    // Nothing in common.
    let found = value(&plain(), tensor([[1e4, -1e4]]), tensor([[-1e4, 1e4]]));
    assert_eq!(found, 1.0);
}

#[test]
fn treats_rows_alone() {
    properties::treats_rows_alone(&at(2.0), |s, t| total_variation(s, t, 2.0));
}

#[test]
fn a_high_temperature_tends_to_centred_logits() {
    let (student, teacher) = (random(1, 4, 10), random(2, 4, 10));
    let centred = |z: Tensor<2>| z.clone() - z.mean_dim(1);
    let difference = centred(student.clone()) - centred(teacher.clone());
    // τ times the value tends to 1/(2C) · ‖ẑ_s − ẑ_t‖₁, mean over rows: the first order of softmax.
    let limit: f32 = (difference.abs().sum_dim(1).mean() / 20.0).into_scalar();
    let found = 1e3 * value(&at(1e3), student, teacher);
    assert!((found / limit - 1.0).abs() < 1e-2, "{found}, limit {limit}");
}

#[test]
fn extremes_stay_finite() {
    for temperature in [0.5, 1.0, 100.0] {
        logits::extremes_are_finite(&at(temperature));
    }
}

#[test]
fn a_class_may_be_masked() {
    logits::masked_classes_do_not_count(&plain());
    properties::bears_a_class_masked_by_one(&plain());
    // 1/2·(|1/2 − 1| + |1/2 − 0|)
    let out = f32::NEG_INFINITY;
    let found = value(&plain(), tensor([[0.0, 0.0]]), tensor([[0.0, out]]));
    assert!((found - 0.5).abs() < 1e-6, "{found}");
}
