//! Heads of more classes than the other side's, whatever their form.

use burn::tensor::{Device, TensorData};

use super::tests::{forward, losses, objective, run, tensor};
use super::*;
use crate::data::output_layer::OutputLayer;
use crate::data::top_k::TopK;
use crate::loss::logits::logit_mse::LogitMse;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::testing::numbers::{close_by_size, noise, numbers};
use crate::objective::{Objective, ObjectiveModules};

#[test]
fn each_head_is_brought_to_its_own_width() {
    let student = Outputs::new(tensor([[1.0, 2.0, 0.5]]))
        .with_head("wide", tensor([[0.0, 1.0, 2.0, 3.0]]))
        .with_head("box", Head::Continuous(tensor([[1.0, 2.0]])));
    let teacher = Outputs::new(tensor([[2.0, 0.0, 1.0, 3.0, 1.0]]))
        .with_head("wide", tensor([[3.0, 1.0]]))
        .with_head("box", Head::Continuous(tensor([[1.0, 2.0]])));
    for (policy, widths) in [(ClassPolicy::Truncate, [3, 2]), (ClassPolicy::Pad, [5, 4])] {
        let aligned = policy.align(&student, Some(&teacher));
        let (ours, theirs) = aligned.changed().expect("two widths");
        for (outputs, side) in [(ours, "student"), (theirs, "teacher")] {
            let width = |name: &str| outputs.head(name).map(Head::width);
            assert_eq!(
                ["logits", "wide"].map(width),
                widths.map(Some),
                "{side}, {policy:?}"
            );
            assert_eq!(width("box"), Some(2));
        }
    }
    let same = ClassPolicy::Truncate.align(&student, Some(&student));
    assert!(same.changed().is_none());
}

/// Real values have no classes: no policy makes two widths of them comparable.
#[test]
fn a_policy_is_of_classes_only() {
    let values = |width| {
        let values = Tensor::<2>::zeros([1, width], &Device::flex());
        Outputs::new(tensor([[0.0; 2]])).with_head("box", Head::Continuous(values))
    };
    let (student, teacher) = (values(4), values(3));
    for policy in [ClassPolicy::Error, ClassPolicy::Truncate, ClassPolicy::Pad] {
        let objective = Objective::new().with(LogitMse::new().on("box"), 1.0);
        let error = objective
            .with_class_policy(policy)
            .check(&LossContext::new(&student, &teacher));
        assert_eq!(
            error.unwrap_err().to_string(),
            "term \"logit_mse_box\": box differ: student has [1, 4], teacher has [1, 3]"
        );
    }
}

/// Hidden states of two rows, and a layer of `classes` classes.
fn projected(classes: usize) -> OutputLayer {
    let device = Device::flex();
    let hidden = tensor([[1.0, -0.5, 2.0], [0.25, 1.5, -1.0]]);
    let weight = Tensor::<2>::from_data(noise([3, classes], 1), &device);
    let bias = Tensor::<1>::from_data(noise([classes], 2), &device);
    OutputLayer::new(hidden, weight)
        .with_bias(bias)
        .with_soft_cap(3.0)
}

#[test]
fn a_projected_head_is_cut_and_padded_as_its_logits_are() {
    for (own, other) in [(6, 4), (4, 6)] {
        let (student, teacher) = (projected(own), projected(other));
        let teachers = [
            Outputs::new(teacher.clone()),
            Outputs::new(teacher.logits()),
        ];
        for loss in losses() {
            for policy in [ClassPolicy::Truncate, ClassPolicy::Pad] {
                let objective = objective(loss.clone(), policy);
                let (expected, slope) = run(&objective, student.logits(), teacher.logits(), None);
                // The slope of the hidden states is that of the logits through the layer.
                let hidden = student.hidden().clone().autodiff().require_grad();
                let layer = student.clone().with_hidden(hidden.clone());
                let slope =
                    Tensor::<2>::from_data(TensorData::new(slope, [2, own]), &Device::flex());
                let through = (layer.logits() * slope.autodiff()).sum().backward();
                let through = numbers(hidden.grad(&through).unwrap());
                for teacher in &teachers {
                    let student = Outputs::new(layer.clone());
                    let context = LossContext::new(&student, teacher);
                    objective.check(&context).unwrap();
                    let value = objective.forward(&context, &ObjectiveModules::default());
                    let gradients = value.total.backward();
                    close_by_size(&[value.total.into_scalar()], &[expected], 1e-4);
                    close_by_size(&numbers(hidden.grad(&gradients).unwrap()), &through, 1e-4);
                }
            }
        }
    }
}

/// At the smaller number the tail is spread over all classes and then cut; at the larger one the tail
/// stays together.
#[test]
fn a_top_k_teacher_of_more_classes_is_read_at_one_width() {
    let student = tensor([[1.0, 2.0, 0.5]]);
    let top = |indices| {
        let indices = Tensor::from_ints([indices], &Device::flex());
        TopK::new(indices, tensor([[0.6, 0.3]]).log(), 5)
    };
    let found = |policy, indices| {
        let objective = objective(SoftTarget::new(1.0), policy);
        let (student, teacher) = (Outputs::new(student.clone()), Outputs::new(top(indices)));
        let context = LossContext::new(&student, &teacher);
        objective
            .check(&context)
            .map(|()| forward(&objective, &context))
    };
    let plain = objective(SoftTarget::new(1.0), ClassPolicy::Error);

    let cut = tensor([[0.3, 0.1 / 3.0, 0.6]]).log();
    let (expected, _) = run(&plain, student.clone(), cut, None);
    let cut = found(ClassPolicy::Truncate, [2, 0]).unwrap();
    close_by_size(&[cut], &[expected], 1e-5);

    let together = tensor([[0.3, 0.1, 0.6]]).log();
    let (expected, _) = run(&plain, student.clone(), together, None);
    let padded = found(ClassPolicy::Pad, [2, 0]).unwrap();
    close_by_size(&[padded], &[expected], 1e-5);
    // The most likely class is not one of the student's.
    assert!(found(ClassPolicy::Pad, [4, 0]).unwrap().is_finite());

    assert_eq!(
        found(ClassPolicy::Error, [2, 0]).unwrap_err().to_string(),
        "term \"soft_target\": logits differ: student has [1, 3], teacher has [1, 5]"
    );
}
