use burn::tensor::{Device, Distribution, Tensor, Tolerance};

use super::*;

fn tensor<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

fn random(rows: usize, classes: usize) -> Tensor<2> {
    let normal = Distribution::Normal(0.0, 3.0);
    Tensor::random([rows, classes], normal, &Device::flex())
}

fn value(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> f32 {
    soft_target(student, teacher, temperature)
        .mean()
        .into_scalar()
}

/// Value and gradient with respect to the student.
fn backward(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> (f32, Tensor<2>) {
    let student = student.autodiff().require_grad();
    let loss = soft_target(student.clone(), teacher, temperature).mean();
    let gradients = loss.backward();
    (loss.into_scalar(), student.grad(&gradients).unwrap())
}

#[test]
fn equal_logits_give_exactly_zero() {
    let z = random(5, 7);
    for temperature in [0.5, 1.0, 4.0, 100.0] {
        let (loss, gradient) = backward(z.clone(), z.clone(), temperature);
        assert_eq!(loss, 0.0);
        assert_eq!(gradient.abs().max().into_scalar::<f32>(), 0.0);
    }
}

#[test]
fn the_value_is_never_negative() {
    // Nearly equal rows at a high temperature: the plain sum of −p·r goes below zero there.
    for step in 0..50 {
        let z = random(1, 10);
        let near = z.clone() + random(1, 10) * (1e-6 * f64::from(step));
        assert!(value(near, z, 100.0) >= 0.0);
    }
}

#[test]
fn swapping_student_and_teacher_matters() {
    let (a, b) = (tensor([[0.0, 0.0]]), tensor([[3f32.ln(), 0.0]]));
    // KL([3/4, 1/4] ‖ [1/2, 1/2]) = 3/4·ln(3/2) + 1/4·ln(1/2), and the other way round
    // 1/2·ln(2/3) + 1/2·ln(2).
    assert!((value(a.clone(), b.clone(), 1.0) - 0.130_812).abs() < 1e-6);
    assert!((value(b, a, 1.0) - 0.143_841).abs() < 1e-6);
}

#[test]
fn the_gradient_is_the_closed_form() {
    let (student, teacher) = (random(3, 6), random(3, 6));
    let softmax = burn::tensor::activation::softmax::<2>;
    for t in [0.5, 1.0, 4.0, 20.0] {
        let expected =
            (softmax(student.clone() / t, 1) - softmax(teacher.clone() / t, 1)) * t / 3.0;
        let (_, gradient) = backward(student.clone(), teacher.clone(), t);
        let tolerance = Tolerance::rel_abs(1e-4, 1e-6);
        gradient
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), tolerance);
    }
}

#[test]
fn the_gradient_hardly_depends_on_a_high_temperature() {
    let (student, teacher) = (random(8, 10), random(8, 10));
    let norm = |t: f64| {
        let (_, gradient) = backward(student.clone(), teacher.clone(), t);
        gradient.powi_scalar(2).sum().sqrt().into_scalar::<f32>()
    };
    let (at_20, at_100) = (norm(20.0), norm(100.0));
    assert!((at_20 / at_100 - 1.0).abs() < 0.25, "{at_20} and {at_100}");
    // Without τ² the ratio would be 25 times this.
}

#[test]
fn a_high_temperature_tends_to_centred_logits() {
    let (student, teacher) = (random(4, 10), random(4, 10));
    let centred = |z: Tensor<2>| z.clone() - z.mean_dim(1);
    let difference = centred(student.clone()) - centred(teacher.clone());
    // 1/(2C) · ‖ẑ_s − ẑ_t‖², mean over rows.
    let limit: f32 = (difference.powi_scalar(2).sum_dim(1).mean() / 20.0).into_scalar();
    let found = value(student, teacher, 1e4);
    assert!((found / limit - 1.0).abs() < 2e-3, "{found}, limit {limit}");
}

#[test]
fn extremes_stay_finite() {
    let one_hot = tensor([[1e4, -1e4, 0.0]]);
    let opposite = tensor([[-1e4, 1e4, 0.0]]);
    for temperature in [0.5, 1.0, 100.0] {
        let (loss, gradient) = backward(opposite.clone(), one_hot.clone(), temperature);
        // All of p is on class 0, where log q is −2e4/τ, times τ².
        let expected = 2e4 * temperature as f32;
        assert!((loss / expected - 1.0).abs() < 1e-3, "{loss}");
        assert!(gradient.is_finite().all().into_scalar::<bool>());
    }
}

#[test]
fn a_class_masked_by_both_adds_nothing() {
    let inf = f32::NEG_INFINITY;
    let (loss, gradient) = backward(tensor([[1.0, 2.0, inf]]), tensor([[2.0, 1.0, inf]]), 2.0);
    let (without, expected) = backward(tensor([[1.0, 2.0]]), tensor([[2.0, 1.0]]), 2.0);
    assert!((loss - without).abs() < 1e-6);
    let gradient: Vec<f32> = gradient.into_data().iter::<f32>().collect();
    assert_eq!(gradient[2], 0.0);
    for (found, expected) in gradient.iter().zip(expected.into_data().iter::<f32>()) {
        assert!((found - expected).abs() < 1e-6);
    }
}

#[test]
fn a_class_masked_by_the_student_is_costly_but_no_reason_to_drift() {
    let inf = f32::NEG_INFINITY;
    let (loss, gradient) = backward(tensor([[0.0, 0.0, inf]]), tensor([[0.0, 0.0, 0.0]]), 1.0);
    // 2 · 1/3·ln((1/3)/(1/2)) + 1/3·(ln(1/3) + 126·ln(2))
    let (two, three) = (2f32.ln(), 3f32.ln());
    let expected = 2.0 / 3.0 * (two - three) + (126.0 * two - three) / 3.0;
    assert!((loss / expected - 1.0).abs() < 1e-6, "{loss}");
    // 1/2·2/3 − 1/3: the two that are left are as even as the teacher's.
    let gradient: Vec<f32> = gradient.into_data().iter::<f32>().collect();
    assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{gradient:?}");
}
