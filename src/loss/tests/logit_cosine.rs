use super::*;
use crate::loss::testing::logits;
use crate::loss::testing::numbers::close_by_size as assert_close;
use crate::loss::testing::properties::{self, backward, random, tensor, value};

fn with(centred: bool) -> LogitCosine {
    LogitCosine::new().with_centred(centred)
}

/// One minus the cosine as it is written, in double precision.
fn formula(s: &[f64], t: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    1.0 - dot(s, t) / (dot(s, s) * dot(t, t)).sqrt()
}

fn centred(z: &[f64]) -> Vec<f64> {
    let mean = z.iter().sum::<f64>() / z.len() as f64;
    z.iter().map(|z| z - mean).collect()
}

#[test]
fn follows_its_formula() {
    properties::follows(&with(false), formula);
    properties::follows(&with(true), |s, t| formula(&centred(s), &centred(t)));
}

#[test]
fn swapping_student_and_teacher_changes_the_gradient_alone() {
    let (a, b) = (tensor([[3.0, 4.0]]), tensor([[8.0, 6.0]]));
    let (one, towards_b) = backward(&with(false), a.clone(), b.clone());
    let (other, towards_a) = backward(&with(false), b, a);
    // 1 − (3·8 + 4·6)/(5·10), and ((24/25)·[3, 4]/5 − [8, 6]/10)/5 with the roles of the two.
    assert_close(&[one, other], &[0.04, 0.04], 1e-6);
    assert_close(&towards_b, &[-0.0448, 0.0336], 1e-6);
    assert_close(&towards_a, &[0.0168, -0.0224], 1e-6);
}

#[test]
fn is_a_distance_of_directions() {
    for loss in [with(false), with(true)] {
        properties::is_zero_at_the_optimum(&loss);
        properties::is_never_negative(&loss);
        // The size of either side changes nothing, and opposite directions are 2 apart.
        let (student, teacher) = (random(1, 3, 6), random(2, 3, 6));
        let expected = value(&loss, student.clone(), teacher.clone());
        let found = value(&loss, student.clone() * 1e-3, teacher * 300.0);
        assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
        let opposite = value(&loss, student.clone() * -2.0, student);
        assert!((opposite - 2.0).abs() < 1e-6, "{opposite}");
    }
}

#[test]
fn the_level_matters_unless_it_is_taken_off() {
    logits::level_does_not_matter(&with(true));
    let (student, teacher) = (tensor([[3.0, 4.0]]), tensor([[4.0, 3.0]]));
    let shifted = value(&with(false), student + 4.0, teacher + 4.0);
    // 1 − (7·8 + 8·7)/(7² + 8²)
    assert!((shifted - 1.0 / 113.0).abs() < 1e-6, "{shifted}");
}

#[test]
fn a_high_level_tends_to_no_distance() {
    // Far up the diagonal all rows point the same way.
    let (student, teacher) = (random(1, 4, 10), random(2, 4, 10));
    let found = value(&with(false), student + 1e4, teacher + 1e4);
    assert!((0.0..1e-6).contains(&found), "{found}");
}

#[test]
fn treats_rows_alone() {
    for centred in [false, true] {
        let loss = with(centred);
        logits::rows_can_be_permuted(&loss);
        logits::masked_rows_do_not_count(&loss);
        properties::treats_rows_alone(&loss, |s, t| logit_cosine(s, t, centred));
    }
}

#[test]
fn extremes_stay_finite() {
    for loss in [with(false), with(true)] {
        logits::extremes_are_finite(&loss);
    }
    let (student, teacher) = (tensor([[1e30, 1e30]]), tensor([[1e-30, 0.0]]));
    let found = value(&with(false), student, teacher);
    // 1 − cos 45°
    assert!((found - 0.292_893).abs() < 1e-6, "{found}");
}

#[test]
fn a_row_without_a_direction_is_at_a_distance_of_one() {
    let (zero, some) = (tensor([[0.0, 0.0, 0.0]]), tensor([[1.0, 2.0, -1.0]]));
    let flat = tensor([[0.1, 0.1, 0.1]]);
    for (centred, without) in [(false, zero), (true, flat)] {
        let loss = with(centred);
        let pairs = [
            (without.clone(), some.clone()),
            (some.clone(), without.clone()),
            (without.clone(), without),
        ];
        for (student, teacher) in pairs {
            let (found, gradient) = backward(&loss, student, teacher);
            assert_eq!((found, gradient), (1.0, vec![0.0; 3]));
        }
    }
}

#[test]
fn a_class_that_one_side_masks_is_left_out() {
    let out = f32::NEG_INFINITY;
    for loss in [with(false), with(true)] {
        logits::masked_classes_do_not_count(&loss);
        let (student, teacher) = (tensor([[1.0, 2.0, -1.0]]), tensor([[2.0, 1.0, 0.5]]));
        let (expected, gradient) = backward(&loss, student, teacher);
        let expected_gradient = [gradient[0], 0.0, gradient[1], gradient[2]];
        for (s, t) in [(7.0, out), (out, 7.0)] {
            let (student, teacher) = (tensor([[1.0, s, 2.0, -1.0]]), tensor([[2.0, t, 1.0, 0.5]]));
            let (found, gradient) = backward(&loss, student, teacher);
            assert_close(&[found], &[expected], 1e-6);
            assert_close(&gradient, &expected_gradient, 1e-6);
        }
    }
}
