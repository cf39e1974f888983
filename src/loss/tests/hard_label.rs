use burn::tensor::{Bool, Device, Int, Tensor};

use super::*;
use crate::data::batch::Targets;
use crate::data::outputs::Outputs;

fn tensor<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

fn labels<const N: usize>(labels: [i64; N]) -> Tensor<1, Int> {
    Tensor::from_ints(labels, &Device::flex())
}

fn context<'a>(outputs: &'a Outputs, targets: &'a Targets) -> LossContext<'a> {
    LossContext::new(outputs, outputs).with_targets(targets)
}

#[test]
fn agrees_with_burns_cross_entropy() {
    let z = tensor([[1.0, 2.0, 0.5], [-3.0, 0.0, 3.0]]);
    let y = labels([1, 0]);
    for smoothing in [0.0, 0.1] {
        let smooth = (smoothing > 0.0).then_some(smoothing as f32);
        let burns = burn::nn::loss::CrossEntropyLossConfig::new()
            .with_smoothing(smooth)
            .init(&Device::flex())
            .forward(z.clone(), y.clone());
        let (ours, burns): (f32, f32) = (
            hard_label(z.clone(), y.clone(), smoothing).into_scalar(),
            burns.into_scalar(),
        );
        assert!((ours - burns).abs() < 1e-6, "{ours} and {burns}");
    }
}

#[test]
fn the_gradient_is_the_closed_form() {
    let z = tensor([[0.0, 0.0], [1e4, -1e4]]).autodiff().require_grad();
    let loss = hard_label(z.clone(), labels([0, 1]), 0.2);
    let gradients = loss.backward();
    // softmax is [1/2, 1/2] and [1, 0]; the targets are [0.9, 0.1] and [0.1, 0.9]; two rows.
    let found: Vec<f32> = z
        .grad(&gradients)
        .unwrap()
        .into_data()
        .iter::<f32>()
        .collect();
    for (found, expected) in found.iter().zip([-0.2, 0.2, 0.45, -0.45]) {
        assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
    }
    assert!(loss.into_scalar::<f32>().is_finite());
}

#[test]
fn a_sure_and_right_student_has_no_loss() {
    let loss = hard_label(tensor([[1e3, 0.0, 0.0]]), labels([0]), 0.0);
    assert_eq!(loss.into_scalar::<f32>(), 0.0);
}

#[test]
fn masked_rows_may_carry_any_label() {
    let leaf = tensor([[0.0, 0.0], [f32::NAN, 1.0]])
        .autodiff()
        .require_grad();
    let outputs = Outputs::new(leaf.clone());
    let targets = Targets::Classes(labels([0, -100]));
    let mask = Tensor::<1, Bool>::from_data([true, false], &Device::flex());
    let context = context(&outputs, &targets).with_mask(&mask);
    let loss = HardLabelConfig::new().init().unwrap();
    loss.check(&context).unwrap();
    let value = loss.forward(&context);
    let gradients = value.backward();
    assert!((value.into_scalar::<f32>() - 2f32.ln()).abs() < 1e-6);
    let gradient = leaf.grad(&gradients).unwrap().into_data();
    assert_eq!(
        gradient.iter::<f32>().collect::<Vec<_>>(),
        [-0.5, 0.5, 0.0, 0.0]
    );
}

#[test]
fn wrong_targets_are_named() {
    let outputs = Outputs::new(tensor([[0.0, 0.0], [0.0, 0.0]]));
    let loss = HardLabelConfig::new().init().unwrap();
    let error = |targets: Targets| {
        let error = loss.check(&context(&outputs, &targets)).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        error(Targets::None),
        "term \"hard_label\" needs class targets, the batches carry no targets"
    );
    assert_eq!(
        error(Targets::Values(tensor([[0.0], [1.0]]))),
        "term \"hard_label\" needs class targets, the batches carry real-valued targets"
    );
    assert_eq!(
        error(Targets::Classes(labels([1, 2]))),
        "label 2 is out of range: the student has 2 classes (0 to 1)"
    );
    assert_eq!(
        error(Targets::Classes(labels([-1, 0]))),
        "label -1 is out of range: the student has 2 classes (0 to 1)"
    );
}

#[test]
fn configs_round_trip_and_refuse() {
    let config = HardLabelConfig::new().with_smoothing(0.1);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(
        serde_json::from_str::<HardLabelConfig>(&json).unwrap(),
        config
    );
    assert_eq!(
        serde_json::from_str::<HardLabelConfig>("{}").unwrap(),
        HardLabelConfig::new()
    );
    assert!(serde_json::from_str::<HardLabelConfig>(r#"{"epsilon":0.1}"#).is_err());
    for (smoothing, fits) in [
        (0.0, true),
        (0.999, true),
        (1.0, false),
        (-0.1, false),
        (f64::NAN, false),
    ] {
        assert_eq!(
            HardLabelConfig::new()
                .with_smoothing(smoothing)
                .init()
                .is_ok(),
            fits
        );
    }
}
