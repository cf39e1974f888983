use burn::tensor::{Bool, Device, Int, Tensor};

use super::*;
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::loss::testing::logits;
use crate::objective::Objective;

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
            hard_label(z.clone(), y.clone(), smoothing)
                .mean()
                .into_scalar(),
            burns.into_scalar(),
        );
        assert!((ours - burns).abs() < 1e-6, "{ours} and {burns}");
    }
}

#[test]
fn the_gradient_is_the_closed_form() {
    let z = tensor([[0.0, 0.0], [1e4, -1e4]]).autodiff().require_grad();
    let loss = hard_label(z.clone(), labels([0, 1]), 0.2).mean();
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
    let loss = hard_label(tensor([[1e3, 0.0, 0.0]]), labels([0]), 0.0).mean();
    assert_eq!(loss.into_scalar::<f32>(), 0.0);
}

#[test]
fn masked_rows_may_carry_any_label() {
    let leaf = tensor([[0.0, 0.0], [f32::NAN, 1.0]])
        .autodiff()
        .require_grad();
    let outputs = Outputs::new(leaf.clone());
    let mask = Tensor::<1, Bool>::from_data([true, false], &Device::flex());
    let targets = Targets::new()
        .with_classes(labels([0, 255]))
        .with_mask(mask);
    let context = context(&outputs, &targets);
    let loss = HardLabel::new();
    let objective = Objective::new().with(loss.clone(), 1);
    objective.check(&context).unwrap();
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
fn rows_without_a_label_are_left_out() {
    logits::rows_without_a_label_do_not_count(&HardLabel::new());
    logits::rows_without_a_label_do_not_count(&HardLabel::new().with_smoothing(0.1));
    let z = tensor([[0.0, 0.0], [3.0, 1.0]]);
    let value = hard_label(z.clone(), labels([1, -1]), 0.0);
    let rows: Vec<f32> = value.clone().per_row().into_data().iter::<f32>().collect();
    assert!(
        (rows[0] - 2f32.ln()).abs() < 1e-6 && rows[1] == 0.0,
        "{rows:?}"
    );
    assert!((value.mean().into_scalar::<f32>() - 2f32.ln()).abs() < 1e-6);
}

#[test]
fn wrong_targets_are_named() {
    let outputs = Outputs::new(tensor([[0.0, 0.0], [0.0, 0.0]]));
    let loss = HardLabel::new();
    let error = |targets: Targets| {
        let objective = Objective::new().with(loss.clone(), 1);
        let error = objective.check(&context(&outputs, &targets));
        error.unwrap_err().to_string()
    };
    assert_eq!(
        error(Targets::new()),
        "term \"hard_label\" needs class targets, the batches carry no targets"
    );
    assert_eq!(
        error(Targets::new().with_values(tensor([[0.0], [1.0]]))),
        "head \"logits\" is categorical, its targets are real-valued targets"
    );
    assert_eq!(
        error(Targets::new().with_classes(labels([1, 2]))),
        "label 2 of row 1 is out of range: the student has 2 classes (0 to 1)"
    );
}
