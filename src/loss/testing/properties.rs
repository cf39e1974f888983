//! What every loss between two rows of logits has to hold, beyond what [`logits`](super::logits) asks
//! of all.

use burn::tensor::{Device, Tensor};

use crate::data::outputs::Outputs;
use crate::loss::context::LossContext;
use crate::loss::loss::Loss;
pub use crate::loss::testing::numbers::close_by_size as assert_close;
use crate::loss::testing::numbers::{noise, numbers};
use crate::loss::value::LossValue;

/// A value and the student's gradient, row after row.
pub type Backward = (f32, Vec<f32>);

pub fn tensor<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

/// Logits from −6 to 6, always the same for one seed.
pub fn random(seed: u64, rows: usize, classes: usize) -> Tensor<2> {
    let data = noise([rows, classes], seed as usize);
    Tensor::<2>::from_data(data, &Device::flex()) * 6.0
}

pub fn value(loss: &dyn Loss, student: Tensor<2>, teacher: Tensor<2>) -> f32 {
    backward(loss, student, teacher).0
}

pub fn backward(loss: &dyn Loss, student: Tensor<2>, teacher: Tensor<2>) -> Backward {
    let leaf = student.autodiff().require_grad();
    let (student, teacher) = (Outputs::new(leaf.clone()), Outputs::new(teacher));
    let value = loss.forward(&LossContext::new(&student, &teacher));
    let gradients = value.backward();
    let gradient = leaf.grad(&gradients).expect("the student has a gradient");
    (value.into_scalar(), numbers(gradient))
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
        let (found, gradient) = backward(loss, student.clone(), teacher.clone());
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

/// One value per row, whose mean is that of the loss as a term.
#[track_caller]
pub fn treats_rows_alone(loss: &dyn Loss, of: impl Fn(Tensor<2>, Tensor<2>) -> LossValue) {
    let (student, teacher) = (random(1, 3, 5), random(2, 3, 5));
    let rows = numbers(of(student.clone(), teacher.clone()).per_row());
    let mean = numbers(of(student.clone(), teacher.clone()).mean());
    assert_eq!(rows.len(), 3);
    // Where the mean is taken may differ in the last digit.
    assert_close(&mean, &[rows.iter().sum::<f32>() / 3.0], 1e-6);
    assert_eq!(mean, [value(loss, student, teacher)]);
}

/// A loss at the temperature 1e4, times its square, is `factor / 2C · ‖ẑ_s − ẑ_t‖²` of centred logits:
/// the second order of its formula.
#[track_caller]
pub fn tends_to_squares_of_centred_logits(loss: &dyn Loss, factor: f64) {
    let (student, teacher) = (random(1, 4, 10), random(2, 4, 10));
    let centred = |z: &Tensor<2>| z.clone() - z.clone().mean_dim(1);
    let squares = (centred(&student) - centred(&teacher)).powi_scalar(2);
    let limit: f32 = (squares.sum_dim(1).mean() * (factor / 20.0)).into_scalar();
    let found = value(loss, student, teacher);
    assert!((found / limit - 1.0).abs() < 2e-3, "{found}, limit {limit}");
}

/// Exactly zero, value and gradient, where student and teacher are equal.
#[track_caller]
pub fn is_zero_at_the_optimum(loss: &dyn Loss) {
    let z = random(1, 5, 7);
    let (found, gradient) = backward(loss, z.clone(), z);
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

/// A class that one side masks leaves value and gradient finite. Where it is the student, the
/// class has no gradient, and what is left sums to zero as the gradient of any softmax does. Where
/// it is the teacher, the class's logit falls.
#[track_caller]
pub fn bears_a_class_masked_by_one(loss: &dyn Loss) {
    let out = f32::NEG_INFINITY;
    let (whole, holed) = ([[1.0, 2.0, 0.5, -1.0]], [[2.0, out, 1.0, 0.5]]);
    let (found, gradient) = backward(loss, tensor(whole), tensor(holed));
    assert!(found.is_finite() && found > 0.0, "{found}");
    assert!(gradient[1] > 0.0, "{gradient:?}");
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    assert!(gradient.iter().sum::<f32>().abs() < 1e-5, "{gradient:?}");

    let (found, gradient) = backward(loss, tensor(holed), tensor(whole));
    assert!(found.is_finite() && found > 0.0, "{found}");
    assert_eq!(gradient[1], 0.0);
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    assert!(gradient.iter().any(|g| *g != 0.0), "{gradient:?}");
    assert!(gradient.iter().sum::<f32>().abs() < 1e-5, "{gradient:?}");
}
