use burn::data::dataloader::Progress;
use burn::tensor::{Bool, Device};

use super::*;
use crate::data::output_layer::OutputLayer;
use crate::data::top_k::TopK;

fn device() -> Device {
    Device::flex()
}

fn logits() -> [Tensor<2>; 2] {
    let student = [[2.0, 0.0, 1.0], [0.0, 1.0, 0.5], [0.0, 0.0, 3.0]];
    let teacher = [[3.0, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 0.0, 1.0]];
    [student, teacher].map(|rows| Tensor::from_floats(rows, &device()))
}

#[test]
fn weights_weight_and_labels_below_zero_are_left_out() {
    let [student, teacher] = logits();
    let labels = Tensor::<1, Int>::from_ints([0, 0, -1], &device());
    assert_eq!(accuracy(student.clone(), labels.clone(), None), 0.5);
    let weights = Weights::from(Tensor::<1>::from_floats([3.0, 1.0, 4.0], &device()));
    let weighted = accuracy(student.clone(), labels, Some(&weights));
    assert_eq!(weighted, 0.75);
    assert_eq!(agreement(student, teacher, Some(&weights)), 7.0 / 8.0);
}

#[test]
fn a_row_of_weight_zero_may_hold_anything() {
    let [_, teacher] = logits();
    let student =
        Tensor::<2>::from_floats([[3.0, 0.0, 1.0], [f32::NAN; 3], [0.0, 0.0, 1.0]], &device());
    let mask = Tensor::<1, Bool>::from_data([true, false, true], &device());
    let weights = Weights::from(mask);
    let labels = Tensor::<1, Int>::from_ints([0, 255, 2], &device());
    assert_eq!(accuracy(student.clone(), labels, Some(&weights)), 1.0);
    assert_eq!(
        agreement(student.clone(), teacher.clone(), Some(&weights)),
        1.0
    );
    assert!(kl_divergence(teacher, student, Some(&weights)).abs() < 1e-6);
    let none = Weights::from(Tensor::<1>::zeros([3], &device()));
    let [student, teacher] = logits();
    assert_eq!(agreement(student, teacher, Some(&none)), 0.0);
}

#[test]
fn a_projected_head_is_measured_as_its_logits_are() {
    let [student, teacher] = logits();
    let identity = Tensor::<2>::eye(3, &device());
    let projected = OutputLayer::new(student.clone(), identity);
    let same = kl_divergence(teacher.clone(), projected.clone(), None);
    assert!((same - kl_divergence(teacher.clone(), student.clone(), None)).abs() < 1e-6);
    let other_way = kl_divergence(projected.clone(), teacher.clone(), None);
    assert!((other_way - kl_divergence(student.clone(), teacher.clone(), None)).abs() < 1e-6);
    let agreeing = agreement(projected, teacher.clone(), None);
    assert_eq!(agreeing, agreement(student, teacher, None));
}

#[test]
fn a_top_k_teacher_is_agreed_with_on_its_top_class() {
    let [student, _] = logits();
    let indices = Tensor::<2, Int>::from_ints([[1, 0], [2, 1], [0, 2]], &device());
    let probabilities = Tensor::<2>::from_floats([[0.2, 0.7], [0.3, 0.6], [0.5, 0.4]], &device());
    let top_k = TopK::new(indices, probabilities.log(), 3);
    let agreeing = agreement(student, top_k, None);
    assert!((agreeing - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn the_mean_of_an_epoch_is_over_its_weights() {
    let metadata = MetricMetadata {
        progress: Progress::new(1, 1, None),
        iteration: None,
        lr: None,
    };
    let [student, teacher] = logits();
    let batch = |weights: [f32; 3]| {
        let weights = Tensor::<1>::from_floats(weights, &device());
        FidelityInput::new(student.clone(), teacher.clone()).with_weights(weights)
    };
    let mut metric = FidelityMetric::new(Fidelity::Agreement);
    assert!(metric.running_value().is_none());
    metric.update(&batch([0.5, 0.0, 0.0]), &metadata).unwrap();
    metric.update(&batch([0.0, 1.5, 0.0]), &metadata).unwrap();
    assert_eq!(metric.value().unwrap().current(), 0.0);
    assert_eq!(metric.running_value().unwrap().current(), 0.25);
    assert_eq!(metric.final_value().current(), 0.25);

    metric.clear();
    assert!(metric.final_value().current().is_nan());
    let mut right = FidelityMetric::new(Fidelity::StudentAccuracy);
    right.update(&batch([1.0; 3]), &metadata).unwrap();
    assert!(right.value().is_none(), "there are no labels");
}
