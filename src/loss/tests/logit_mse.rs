use burn::tensor::{Device, Distribution, Tensor};

use super::*;
use crate::data::outputs::Outputs;
use crate::objective::Objective;

fn tensor<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

#[test]
fn each_reduction_is_its_formula() {
    let (s, t) = (
        tensor([[1.0, 2.0], [0.0, 0.0]]),
        tensor([[4.0, 6.0], [0.0, 2.0]]),
    );
    // Squared errors 9 + 16 in the first row, 4 in the second.
    for (reduction, expected) in [
        (Reduction::Mean, (12.5 + 2.0) / 2.0),
        (Reduction::Sum, (25.0 + 4.0) / 2.0),
    ] {
        let found: f32 = logit_mse(s.clone(), t.clone(), reduction)
            .mean()
            .into_scalar();
        assert_eq!(found, expected);
    }
    let rows = logit_mse(s, t, Reduction::Sum).per_row().into_data();
    assert_eq!(rows.iter::<f32>().collect::<Vec<_>>(), [25.0, 4.0]);
}

#[test]
fn the_gradient_is_the_closed_form_and_the_teacher_gets_none() {
    let normal = Distribution::Normal(0.0, 1e4);
    let device = Device::flex();
    let student = Tensor::<2>::random([3, 4], normal, &device)
        .autodiff()
        .require_grad();
    let teacher = Tensor::<2>::random([3, 4], normal, &device)
        .autodiff()
        .require_grad();
    let loss = logit_mse(student.clone(), teacher.clone(), Reduction::Mean).mean();
    let gradients = loss.backward();
    let expected = (student.clone().inner() - teacher.clone().inner()) * (2.0 / 12.0);
    let found = student.grad(&gradients).unwrap().into_data();
    let tolerance = burn::tensor::Tolerance::rel_abs(1e-5, 1e-6);
    found.assert_approx_eq::<f32>(&expected.into_data(), tolerance);
    assert!(teacher.grad(&gradients).is_none());
}

#[test]
fn equal_logits_give_zero_and_level_counts() {
    let z = tensor([[1.0, -2.0, 3.0]]);
    let loss = |a: Tensor<2>, b: Tensor<2>| -> f32 {
        logit_mse(a, b, Reduction::Mean).mean().into_scalar()
    };
    assert_eq!(loss(z.clone(), z.clone()), 0.0);
    assert_eq!(loss(z.clone() + 2.0, z), 4.0);
}

#[test]
fn fits_values_as_well() {
    let (student, teacher) = (
        Outputs::values(tensor([[1.0, 2.0]])),
        Outputs::values(tensor([[4.0, 6.0]])),
    );
    let context = LossContext::new(&student, &teacher);
    let loss = LogitMse::new().with_temperature(2.0);
    let objective = Objective::new().with(loss.clone(), 1);
    objective.check(&context).unwrap();
    assert_eq!(loss.forward(&context).into_scalar::<f32>(), 12.5 / 4.0);
    let binary = Outputs::binary(tensor([[1.0, 2.0]]));
    let error = objective.check(&LossContext::new(&binary, &binary));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("categorical or continuous"), "{error}");
}

#[test]
fn a_class_that_one_side_masks_adds_nothing() {
    let out = f32::NEG_INFINITY;
    let leaf = tensor([[1.0, out, 5.0, out]]).autodiff().require_grad();
    let teacher = tensor([[4.0, 1.0, out, out]]);
    let loss = logit_mse(leaf.clone(), teacher, Reduction::Sum).mean();
    let gradients = loss.backward();
    assert_eq!(loss.into_scalar::<f32>(), 9.0);
    let gradient = leaf.grad(&gradients).unwrap().into_data();
    let gradient: Vec<f32> = gradient.iter::<f32>().collect();
    assert_eq!(gradient, [-6.0, 0.0, 0.0, 0.0]);
}
