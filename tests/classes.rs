//! Teacher and student with different numbers of classes, through a whole training.

mod common;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::{HardLabel, ReverseKl, SoftTarget};
use burn_distill::{
    ClassPolicy, Distillable, Distilled, Distiller, FitConfig, Outputs, ProgressMode, Result,
};
use common::net::{INPUTS, initialized, labelled, points};

#[derive(Module, Debug)]
struct Head {
    linear: Linear,
}

impl Distillable<Tensor<2>> for Head {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        Outputs::new(self.linear.forward(input))
    }
}

fn head(classes: usize) -> Head {
    let _seeded = common::seeded();
    let device = Device::flex();
    device.seed(classes as u64);
    initialized(Head {
        linear: LinearConfig::new(INPUTS, classes).init(&device),
    })
}

/// A head that gives the first classes of another as it does.
fn first_classes_of(head: &Head, classes: usize) -> Head {
    let bias = head
        .linear
        .bias
        .as_ref()
        .expect("a linear layer has a bias");
    Head {
        linear: Linear {
            weight: Param::from_tensor(head.linear.weight.val().narrow(1, 0, classes)),
            bias: Some(Param::from_tensor(bias.val().narrow(0, 0, classes))),
        },
    }
}

fn fit(teacher: Head, student: Head, policy: Option<ClassPolicy>) -> Result<Distilled<Head, Head>> {
    let _seeded = common::seeded();
    let mut distiller = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(2.0), 0.5)
        .with(ReverseKl::new(1.0), 0.5)
        .with(HardLabel::new(), 0.0);
    if let Some(policy) = policy {
        distiller = distiller.with_class_policy(policy);
    }
    let config = FitConfig::new(2)
        .with_batch_size(16)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_progress(ProgressMode::Silent)
        .with_baseline(true);
    distiller.fit(&config, labelled(points(48)), None)
}

#[test]
fn two_widths_stop_before_training_unless_a_policy_says_what_to_do() {
    let error = fit(head(8), head(5), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "term \"soft_target\": logits differ: student has [16, 5], teacher has [16, 8]"
    );
}

#[test]
fn a_student_that_is_the_teacher_on_what_is_left_has_nothing_to_learn() {
    let teacher = head(8);
    let student = first_classes_of(&teacher, 5);
    let distilled = fit(teacher, student, Some(ClassPolicy::Truncate)).unwrap();
    let report = &distilled.report;
    // Up to the order in which a product of matrices is summed.
    let history = &report.training.history.train;
    assert!(history["soft_target"].iter().all(|loss| *loss < 1e-9));
    assert_eq!(history["agreement"], [1.0, 1.0]);
    assert_eq!(report.distilled.agreement, Some(1.0));
    assert!(
        report
            .distilled
            .kl_teacher_student
            .is_some_and(|kl| kl < 1e-9)
    );
    let baseline = report.baseline.as_ref().expect("a baseline was asked for");
    assert!(baseline.agreement.is_some_and(|agreement| agreement < 1.0));
}

#[test]
fn either_side_may_be_the_wider_one() {
    for policy in [ClassPolicy::Truncate, ClassPolicy::Pad] {
        for (teacher, student) in [(8, 5), (5, 8)] {
            let distilled = fit(head(teacher), head(student), Some(policy)).unwrap();
            let history = &distilled.report.training.history.train;
            let loss = &history["loss"];
            assert!(
                loss[1] < loss[0],
                "{policy:?} {teacher} {student}: {loss:?}"
            );
            assert_eq!(history["agreement"].len(), 2);
            assert_eq!(history["accuracy"].len(), 2);
            let report = &distilled.report.distilled;
            assert!(report.agreement.is_some());
            assert!(report.kl_student_teacher.is_some_and(f64::is_finite));
        }
    }
}
