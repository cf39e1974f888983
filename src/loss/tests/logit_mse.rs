use burn::tensor::{Bool, Device, Distribution, Tensor};

use super::*;
use crate::data::outputs::Outputs;

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
        (LogitReduction::Mean, (12.5 + 2.0) / 2.0),
        (LogitReduction::Sum, (25.0 + 4.0) / 2.0),
        (LogitReduction::HalfSum, (12.5 + 2.0) / 2.0),
    ] {
        let found: f32 = logit_mse(s.clone(), t.clone(), reduction).into_scalar();
        assert_eq!(found, expected);
    }
    let rows = logit_mse_no_reduction(s, t, LogitReduction::Sum).into_data();
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
    let loss = logit_mse(student.clone(), teacher.clone(), LogitReduction::Mean);
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
    let loss =
        |a: Tensor<2>, b: Tensor<2>| -> f32 { logit_mse(a, b, LogitReduction::Mean).into_scalar() };
    assert_eq!(loss(z.clone(), z.clone()), 0.0);
    assert_eq!(loss(z.clone() + 2.0, z), 4.0);
}

#[test]
fn masked_rows_count_for_nothing() {
    let leaf = tensor([[1.0, 2.0], [f32::NAN, 9.0]])
        .autodiff()
        .require_grad();
    let (student, teacher) = (
        Outputs::new(leaf.clone()),
        Outputs::new(tensor([[4.0, 6.0], [0.0, 0.0]])),
    );
    let mask = Tensor::<1, Bool>::from_data([true, false], &Device::flex());
    let context = LossContext::new(&student, &teacher).with_mask(&mask);
    let loss = LogitMseConfig::new().init().unwrap().forward(&context);
    let gradients = loss.backward();
    assert_eq!(loss.into_scalar::<f32>(), 12.5);
    let gradient = leaf.grad(&gradients).unwrap().into_data();
    assert_eq!(
        gradient.iter::<f32>().collect::<Vec<_>>(),
        [-3.0, -4.0, 0.0, 0.0]
    );
}

#[test]
fn configs_round_trip_and_refuse() {
    let config = LogitMseConfig::new()
        .with_temperature(2.0)
        .with_reduction(LogitReduction::HalfSum);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"temperature":2.0,"reduction":"half_sum"}"#);
    assert_eq!(
        serde_json::from_str::<LogitMseConfig>(&json).unwrap(),
        config
    );
    assert_eq!(
        serde_json::from_str::<LogitMseConfig>("{}").unwrap(),
        LogitMseConfig::new()
    );
    assert!(serde_json::from_str::<LogitMseConfig>(r#"{"reduce":"mean"}"#).is_err());
    for bad in [0.0, -1.0, f64::NAN] {
        let error = LogitMseConfig::new()
            .with_temperature(bad)
            .init()
            .unwrap_err();
        let expected = format!("logit_mse.temperature is {bad}, expected a number greater than 0");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_class_that_one_side_rules_out_adds_nothing() {
    let out = f32::NEG_INFINITY;
    let leaf = tensor([[1.0, out, 5.0, out]]).autodiff().require_grad();
    let teacher = tensor([[4.0, 1.0, out, out]]);
    let loss = logit_mse(leaf.clone(), teacher, LogitReduction::Sum);
    let gradients = loss.backward();
    assert_eq!(loss.into_scalar::<f32>(), 9.0);
    let gradient = leaf.grad(&gradients).unwrap().into_data();
    let gradient: Vec<f32> = gradient.iter::<f32>().collect();
    assert_eq!(gradient, [-6.0, 0.0, 0.0, 0.0]);
}
