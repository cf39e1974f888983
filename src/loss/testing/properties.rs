//! What every loss between two rows of logits has to hold, for the tests of each.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Outputs;
use crate::loss::{Loss, LossContext};

/// A value and the student's gradient, row after row.
pub type Backward = (f32, Vec<f32>);

pub fn tensor<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

/// Logits from −6 to 6, always the same for one seed.
pub fn random(seed: u64, rows: usize, classes: usize) -> Tensor<2> {
    let mut rng = StdRng::seed_from_u64(seed);
    let values: Vec<f32> = (0..rows * classes)
        .map(|_| rng.random_range(-6.0..6.0))
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, classes]), &Device::flex())
}

pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

pub fn value(loss: &dyn Loss, student: Tensor<2>, teacher: Tensor<2>) -> f32 {
    backward(loss, student, teacher, None).0
}

pub fn backward(
    loss: &dyn Loss,
    student: Tensor<2>,
    teacher: Tensor<2>,
    mask: Option<&Tensor<1, Bool>>,
) -> Backward {
    let leaf = student.autodiff().require_grad();
    let (student, teacher) = (Outputs::new(leaf.clone()), Outputs::new(teacher));
    let mut context = LossContext::new(&student, &teacher);
    if let Some(mask) = mask {
        context = context.with_mask(mask);
    }
    let value = loss.forward(&context);
    let gradients = value.backward();
    let gradient = leaf.grad(&gradients).expect("the student has a gradient");
    (value.into_scalar(), numbers(gradient))
}

#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        // Not "greater than": a NaN must not pass.
        let is_close = (f - e).abs() <= tolerance * e.abs().max(1.0);
        assert!(is_close, "found {found:?}, expected {expected:?}");
    }
}

/// `softmax(z / τ)` as it is written, in double precision.
pub fn softmax(z: &[f64], temperature: f64) -> Vec<f64> {
    let exp: Vec<f64> = z.iter().map(|z| (z / temperature).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

/// `KL(p ‖ q)` as it is written, in double precision.
pub fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
}

/// The value is that of a formula of one row, `formula(z_s, z_t)`, and the gradient that of its
/// central differences, both in double precision.
#[track_caller]
pub fn follows(loss: &dyn Loss, formula: impl Fn(&[f64], &[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    for seed in 0..8 {
        let (student, teacher) = (random(seed, 1, 6), random(seed + 100, 1, 6));
        let (found, gradient) = backward(loss, student.clone(), teacher.clone(), None);
        let wide = |z: Tensor<2>| -> Vec<f64> { z.into_data().iter::<f64>().collect() };
        let (s, t) = (wide(student), wide(teacher));
        assert_close(&[found], &[formula(&s, &t) as f32], 1e-5);
        let slope = |class: usize| {
            let at = |step: f64| {
                let mut s = s.clone();
                s[class] += step;
                formula(&s, &t)
            };
            ((at(STEP) - at(-STEP)) / (2.0 * STEP)) as f32
        };
        let expected: Vec<f32> = (0..s.len()).map(slope).collect();
        assert_close(&gradient, &expected, 1e-5);
    }
}

/// Exactly zero, value and gradient, where student and teacher are equal.
#[track_caller]
pub fn is_zero_at_the_optimum(loss: &dyn Loss) {
    let z = random(1, 5, 7);
    let (found, gradient) = backward(loss, z.clone(), z, None);
    assert_eq!(found, 0.0);
    assert!(gradient.iter().all(|g| *g == 0.0), "{gradient:?}");
}

/// Never below zero, not even between rows that differ in their last digits.
#[track_caller]
pub fn is_never_negative(loss: &dyn Loss) {
    for seed in 0..50 {
        let (z, other) = (random(seed, 1, 10), random(seed + 100, 1, 10));
        assert!(value(loss, other.clone(), z.clone()) > 0.0);
        let near = z.clone() + other * (1e-7 * seed as f64);
        assert!(value(loss, near, z) >= 0.0);
    }
}

/// A constant on the logits of a row, another one for each side, changes nothing.
#[track_caller]
pub fn ignores_the_level(loss: &dyn Loss) {
    let (student, teacher) = (random(1, 4, 10), random(2, 4, 10));
    let (expected, gradient) = backward(loss, student.clone(), teacher.clone(), None);
    let (found, shifted) = backward(loss, student + 50.0, teacher - 20.0, None);
    assert_close(&[found], &[expected], 1e-4);
    assert_close(&shifted, &gradient, 1e-4);
}

/// Rows in another order give the same value, and their gradients in that order.
#[track_caller]
pub fn ignores_the_order_of_rows(loss: &dyn Loss) {
    let (student, teacher) = (random(1, 3, 5), random(2, 3, 5));
    let order = Tensor::<1, Int>::from_ints([2, 0, 1], &Device::flex());
    let moved = |z: Tensor<2>| z.select(0, order.clone());
    let (expected, gradient) = backward(loss, student.clone(), teacher.clone(), None);
    let (found, permuted) = backward(loss, moved(student), moved(teacher), None);
    assert_close(&[found], &[expected], 1e-6);
    assert_close(&permuted[..5], &gradient[10..], 1e-6);
    assert_close(&permuted[5..], &gradient[..10], 1e-6);
}

/// A masked row is one that is not there, even where it holds no numbers.
#[track_caller]
pub fn takes_masked_rows_for_removed(loss: &dyn Loss) {
    let with_hole = |z: Tensor<2>, value: f32| {
        let hole = Tensor::full([1, 5], value, &Device::flex());
        let [first, last] = [0..1, 1..2].map(|row| z.clone().slice([row]));
        Tensor::cat(vec![first, hole, last], 0)
    };
    let (student, teacher) = (random(1, 2, 5), random(2, 2, 5));
    let (expected, gradient) = backward(loss, student.clone(), teacher.clone(), None);
    let mask = Tensor::<1, Bool>::from_data([true, false, true], &Device::flex());
    for (s, t) in [(f32::NAN, 1.0), (3.0, f32::INFINITY), (0.0, f32::NAN)] {
        let (student, teacher) = (with_hole(student.clone(), s), with_hole(teacher.clone(), t));
        let (found, masked) = backward(loss, student, teacher, Some(&mask));
        assert_close(&[found], &[expected], 1e-6);
        assert_close(&masked[..5], &gradient[..5], 1e-6);
        assert_eq!(masked[5..10], [0.0; 5]);
        assert_close(&masked[10..], &gradient[5..], 1e-6);
    }
    let nothing = Tensor::<1, Bool>::from_data([false, false], &Device::flex());
    let (found, masked) = backward(loss, student, teacher, Some(&nothing));
    assert_eq!((found, masked), (0.0, vec![0.0; 10]));
}

/// Finite, value and gradient, for the largest logits, a one-hot teacher and a single row.
#[track_caller]
pub fn stays_finite_at_extremes(loss: &dyn Loss) {
    let rows = [
        [1e4, -1e4, 0.0],
        [-1e4, 1e4, 0.0],
        [1e4, 1e4, 1e4],
        [-1e4, -1e4, -1e4],
        [0.0, 0.0, 0.0],
        [1e3, -1e3, 5.0],
    ];
    for student in rows {
        for teacher in rows {
            let (found, gradient) = backward(loss, tensor([student]), tensor([teacher]), None);
            let all = gradient.iter().chain([&found]);
            assert!(
                all.clone().all(|x| x.is_finite()),
                "{student:?} and {teacher:?} give {found} and {gradient:?}"
            );
        }
    }
}

/// A row that counts and holds no number is seen: training stops at a value that is none.
#[track_caller]
pub fn shows_what_is_not_a_number(loss: &dyn Loss) {
    let (good, bad) = (random(1, 1, 3), tensor([[1.0, f32::NAN, 0.0]]));
    assert!(value(loss, bad.clone(), good.clone()).is_nan());
    assert!(value(loss, good, bad).is_nan());
}

/// The teacher's outputs are constants, even if someone hands them in with autodiff.
#[track_caller]
pub fn gives_the_teacher_no_gradient(loss: &dyn Loss) {
    let student = random(1, 2, 3).autodiff().require_grad();
    let teacher = random(2, 2, 3).autodiff().require_grad();
    let outputs = (Outputs::new(student.clone()), Outputs::new(teacher.clone()));
    let gradients = loss
        .forward(&LossContext::new(&outputs.0, &outputs.1))
        .backward();
    assert!(teacher.grad(&gradients).is_none());
    assert!(student.grad(&gradients).is_some());
}

/// A class that both sides rule out is one that is not there.
#[track_caller]
pub fn takes_a_class_ruled_out_by_both_for_removed(loss: &dyn Loss) {
    let out = f32::NEG_INFINITY;
    let (student, teacher) = (tensor([[1.0, 2.0, -1.0]]), tensor([[2.0, 1.0, 0.5]]));
    let (expected, gradient) = backward(loss, student, teacher, None);
    let (student, teacher) = (
        tensor([[1.0, out, 2.0, -1.0]]),
        tensor([[2.0, out, 1.0, 0.5]]),
    );
    let (found, with_hole) = backward(loss, student, teacher, None);
    assert_close(&[found], &[expected], 1e-6);
    let expected = [gradient[0], 0.0, gradient[1], gradient[2]];
    assert_close(&with_hole, &expected, 1e-6);
    assert_eq!(with_hole[1], 0.0);
}

/// A class that one side rules out leaves value and gradient finite. Where it is the student, the
/// class has no gradient, and what is left sums to zero as the gradient of any softmax does. Where
/// it is the teacher, the class's logit falls.
#[track_caller]
pub fn bears_a_class_ruled_out_by_one(loss: &dyn Loss) {
    let out = f32::NEG_INFINITY;
    let (whole, holed) = ([[1.0, 2.0, 0.5, -1.0]], [[2.0, out, 1.0, 0.5]]);
    let (found, gradient) = backward(loss, tensor(whole), tensor(holed), None);
    assert!(found.is_finite() && found > 0.0, "{found}");
    assert!(gradient[1] > 0.0, "{gradient:?}");
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    assert!(gradient.iter().sum::<f32>().abs() < 1e-5, "{gradient:?}");

    let (found, gradient) = backward(loss, tensor(holed), tensor(whole), None);
    assert!(found.is_finite() && found > 0.0, "{found}");
    assert_eq!(gradient[1], 0.0);
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    assert!(gradient.iter().any(|g| *g != 0.0), "{gradient:?}");
    assert!(gradient.iter().sum::<f32>().abs() < 1e-5, "{gradient:?}");
}

/// Logits of two widths are an error that names both.
#[track_caller]
pub fn names_widths_that_differ(loss: &dyn Loss) {
    let (student, teacher) = (Outputs::new(random(1, 2, 5)), Outputs::new(random(2, 2, 6)));
    let error = loss
        .check(&LossContext::new(&student, &teacher))
        .unwrap_err();
    let expected = format!(
        "term {:?}: logits differ: student has [2, 5], teacher has [2, 6]",
        loss.name()
    );
    assert_eq!(error.to_string(), expected);
}
