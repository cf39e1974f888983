use burn::tensor::{Bool, Device, Int};

use super::*;
use crate::data::targets::Targets;
use crate::error::Error;
use crate::loss::custom::loss_fn;
use crate::loss::features::hint::Hint;
use crate::loss::known::KnownLoss;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::jensen_shannon::JensenShannon;
use crate::loss::logits::logit_cosine::LogitCosine;
use crate::loss::logits::logit_mse::LogitMse;
use crate::loss::logits::reverse_kl::ReverseKl;
use crate::loss::logits::soft_cross_entropy::SoftCrossEntropy;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::logits::symmetric_kl::SymmetricKl;
use crate::loss::logits::total_variation::TotalVariation;
use crate::loss::loss::Needs;
use crate::loss::testing::numbers::close_by_size;
use crate::objective::{Objective, ObjectiveModules};

pub(super) fn tensor<const R: usize, const C: usize>(values: [[f32; C]; R]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

/// The losses that compare logits, by name.
pub(super) fn losses() -> Vec<KnownLoss> {
    vec![
        SoftTarget::new(2.0).into(),
        SoftCrossEntropy::new(2.0).into(),
        ReverseKl::new(2.0).into(),
        SymmetricKl::new(2.0).into(),
        JensenShannon::new(2.0).into(),
        JensenShannon::new(2.0).with_beta(0.0).into(),
        JensenShannon::new(2.0).with_beta(1.0).into(),
        TotalVariation::new(2.0).into(),
        LogitMse::new().into(),
        LogitCosine::new().into(),
    ]
}

pub(super) fn objective(loss: impl Into<KnownLoss>, policy: ClassPolicy) -> Objective {
    let objective = Objective::new().with(loss.into(), 1.0);
    objective.with_class_policy(policy)
}

pub(super) fn forward(objective: &Objective, context: &LossContext<'_>) -> f32 {
    let value = objective.forward(context, &ObjectiveModules::default());
    value.total.into_scalar()
}

/// The value and the student's gradient, after the check that comes before training.
pub(super) fn run(
    objective: &Objective,
    student: Tensor<2>,
    teacher: Tensor<2>,
    mask: Option<&Tensor<1, Bool>>,
) -> (f32, Vec<f32>) {
    let leaf = student.autodiff().require_grad();
    let (student, teacher) = (Outputs::new(leaf.clone()), Outputs::new(teacher));
    let mut targets = Targets::new();
    if let Some(mask) = mask {
        targets = targets.with_mask(mask.clone());
    }
    let context = LossContext::new(&student, &teacher).with_targets(&targets);
    objective.check(&context).unwrap();
    let modules = objective.modules(&context, &Device::flex());
    let total = objective.forward(&context, &modules).total;
    let gradients = total.backward();
    let gradient = leaf.grad(&gradients).unwrap().into_data();
    (total.into_scalar(), gradient.iter::<f32>().collect())
}

#[test]
fn by_default_two_widths_are_an_error() {
    for loss in losses() {
        let objective = objective(loss, ClassPolicy::default());
        let (student, teacher) = (
            Outputs::new(tensor([[0.0; 5]])),
            Outputs::new(tensor([[0.0; 8]])),
        );
        let error = objective.check(&LossContext::new(&student, &teacher));
        let expected = format!(
            "term {:?}: logits differ: student has [1, 5], teacher has [1, 8]",
            objective.terms()[0].name()
        );
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_term_on_features_does_not_care() {
    let feature = tensor([[1.0, 2.0]]);
    let student = Outputs::new(tensor([[0.0; 5]])).with_feature("f", feature.clone());
    let teacher = Outputs::new(tensor([[0.0; 8]])).with_feature("f", feature);
    for policy in [ClassPolicy::Error, ClassPolicy::Truncate, ClassPolicy::Pad] {
        let objective = objective(Hint::new("f", "f"), policy);
        let context = LossContext::new(&student, &teacher);
        objective.check(&context).unwrap();
        let modules = objective.modules(&context, &Device::flex());
        let value = objective.forward(&context, &modules).total;
        assert_eq!(value.into_scalar::<f32>(), 0.0);
    }
}

#[test]
fn truncated_classes_are_not_there() {
    let (wide, narrow) = (
        tensor([[1.0, 2.0, 0.5, 3.0], [0.0, -1.0, 1.0, 9.0]]),
        tensor([[2.0, 0.0, 1.0], [1.0, 1.0, -2.0]]),
    );
    let cut = wide.clone().narrow(1, 0, 3);
    for loss in losses() {
        let plain = objective(loss.clone(), ClassPolicy::Error);
        let truncate = objective(loss, ClassPolicy::Truncate);

        let expected = run(&plain, narrow.clone(), cut.clone(), None);
        assert_eq!(run(&truncate, narrow.clone(), wide.clone(), None), expected);

        let (value, gradient) = run(&plain, cut.clone(), narrow.clone(), None);
        let (found, found_gradient) = run(&truncate, wide.clone(), narrow.clone(), None);
        assert_eq!(found, value);
        // The student's fourth class is not looked at.
        let [a, b] = [&gradient[..3], &gradient[3..]];
        assert_eq!(found_gradient, [a, &[0.0], b, &[0.0]].concat());
    }
}

#[test]
fn a_padded_teacher_rules_the_surplus_out() {
    let out = f32::NEG_INFINITY;
    let student = tensor([[1.0, 2.0, 0.5, 3.0]]);
    for loss in losses() {
        let plain = objective(loss.clone(), ClassPolicy::Error);
        let pad = objective(loss, ClassPolicy::Pad);
        let expected = run(
            &plain,
            student.clone(),
            tensor([[2.0, 0.0, 1.0, out]]),
            None,
        );
        let found = run(&pad, student.clone(), tensor([[2.0, 0.0, 1.0]]), None);
        assert_eq!(found, expected);
        let all = found.1.iter().chain([&found.0]);
        assert!(all.clone().all(|x| x.is_finite()), "{found:?}");
    }
    // Soft targets push it down: τ²/τ · p_s, with p_s = e^1.5 / (e^0.5 + e^1 + e^0.25 + e^1.5).
    let pad = objective(SoftTarget::new(2.0), ClassPolicy::Pad);
    let (_, gradient) = run(&pad, student, tensor([[2.0, 0.0, 1.0]]), None);
    assert!(
        (gradient[3] - 2.0 * 0.442_298_8).abs() < 1e-5,
        "{gradient:?}"
    );
}

#[test]
fn padding_of_the_student_contributes_no_gradient() {
    let teacher = tensor([[3.0, 0.0, 1.0, 0.5]]);
    for loss in losses() {
        let name = format!("{loss:?}");
        let pad = objective(loss, ClassPolicy::Pad);
        let (value, gradient) = run(&pad, tensor([[1.0, 2.0, 0.5]]), teacher.clone(), None);
        assert_eq!(gradient.len(), 3);
        let all = gradient.iter().chain([&value]);
        assert!(
            all.clone().all(|x| x.is_finite()),
            "{name}: {value}, {gradient:?}"
        );
        assert!(gradient.iter().any(|g| *g != 0.0), "{name}");
    }
    // As good as it can be: the teacher's own shares of the three classes. Only the mass of the
    // fourth is missing, and that is no reason to go anywhere.
    for loss in [
        KnownLoss::from(SoftTarget::new(2.0)),
        SoftCrossEntropy::new(2.0).into(),
    ] {
        let pad = objective(loss, ClassPolicy::Pad);
        let (_, gradient) = run(&pad, tensor([[3.0, 0.0, 1.0]]), teacher.clone(), None);
        close_by_size(&gradient, &[0.0; 3], 1e-6);
    }
}

/// 151936 and 152064 in small: the wider model has three entries more, which it never uses.
#[test]
fn unused_entries_of_a_vocabulary_change_next_to_nothing() {
    let narrow = tensor([[1.0, 2.0, 0.5, -1.0, 0.0], [3.0, 0.0, 1.0, 2.0, -2.0]]);
    let used = tensor([[0.0, 3.0, 1.0, -2.0, 0.5], [2.0, 1.0, 1.5, 0.0, -1.0]]);
    let unused = Tensor::full([2, 3], -40.0, &Device::flex());
    let wide = Tensor::cat(vec![used.clone(), unused], 1);
    let probabilities = losses()
        .into_iter()
        .filter(|loss| !matches!(loss, KnownLoss::LogitMse(_) | KnownLoss::LogitCosine(_)));
    for loss in probabilities {
        let plain = objective(loss.clone(), ClassPolicy::Error);
        for policy in [ClassPolicy::Truncate, ClassPolicy::Pad] {
            let objective = objective(loss.clone(), policy);
            let (value, gradient) = run(&plain, narrow.clone(), used.clone(), None);
            let (found, found_gradient) = run(&objective, narrow.clone(), wide.clone(), None);
            close_by_size(&[found], &[value], 1e-5);
            close_by_size(&found_gradient, &gradient, 1e-5);

            let (value, gradient) = run(&plain, used.clone(), narrow.clone(), None);
            let (found, found_gradient) = run(&objective, wide.clone(), narrow.clone(), None);
            close_by_size(&[found], &[value], 1e-5);
            let [a, b] = [&gradient[..5], &gradient[5..]];
            let expected = [a, &[0.0; 3], b, &[0.0; 3]].concat();
            close_by_size(&found_gradient, &expected, 1e-5);
        }
    }
}

#[test]
fn masked_rows_count_for_nothing_at_any_width() {
    let (student, teacher) = (
        tensor([[1.0, 2.0, 0.5], [f32::NAN, 0.0, f32::INFINITY]]),
        tensor([[2.0, 0.0, 1.0, 3.0], [0.0, f32::NAN, 1.0, 1.0]]),
    );
    let mask = Tensor::<1, Bool>::from_data([true, false], &Device::flex());
    let first = |z: &Tensor<2>| z.clone().narrow(0, 0, 1);
    for loss in losses() {
        for policy in [ClassPolicy::Truncate, ClassPolicy::Pad] {
            let objective = objective(loss.clone(), policy);
            let (value, gradient) = run(&objective, first(&student), first(&teacher), None);
            let (student, teacher) = (student.clone(), teacher.clone());
            let (found, masked) = run(&objective, student, teacher, Some(&mask));
            close_by_size(&[found], &[value], 1e-6);
            close_by_size(&masked, &[&gradient[..], &[0.0; 3]].concat(), 1e-6);
        }
    }
}

#[test]
fn labels_name_classes_of_the_students_own() {
    let device = Device::flex();
    let label = |class| Targets::new().with_classes(Tensor::<1, Int>::from_ints([class], &device));
    let zeros = |classes| Outputs::new(Tensor::<2>::zeros([1, classes], &device));
    for policy in [ClassPolicy::Truncate, ClassPolicy::Pad] {
        let objective = Objective::new()
            .with(SoftTarget::new(1.0), 0.0)
            .with(HardLabel::new(), 1.0)
            .with_class_policy(policy);

        // A wider student keeps all of its classes, and a narrower one gets none.
        for (student, teacher) in [(5, 3), (3, 5)] {
            let (student_outputs, teacher) = (zeros(student), zeros(teacher));
            let (last, beyond) = (label(student as i32 - 1), label(student as i32));
            let context = LossContext::new(&student_outputs, &teacher).with_targets(&last);
            objective.check(&context).unwrap();
            let uniform = (student as f32).ln();
            assert!((forward(&objective, &context) - uniform).abs() < 1e-6);

            let error = objective.check(&context.with_targets(&beyond)).unwrap_err();
            assert!(
                matches!(error, Error::LabelOutOfRange { label, classes, row: 0 }
                    if classes == student && label == student as i64),
                "{error}"
            );
        }
    }
}

#[test]
fn only_terms_that_compare_see_the_change() {
    let seen = |needs: Needs| {
        let loss = loss_fn("width", |context: &LossContext<'_>| {
            let logits = context.logits();
            Tensor::full([1], logits.dims()[1] as f64, &logits.device())
        })
        .needing(needs);
        let objective = Objective::new().with(loss, 1.0);
        let objective = objective.with_class_policy(ClassPolicy::Truncate);
        let student = Outputs::new(tensor([[0.0; 5]]));
        let teacher = Outputs::new(tensor([[0.0; 3]]));
        forward(&objective, &LossContext::new(&student, &teacher))
    };
    assert_eq!(seen(Needs::teacher()), 3.0);
    assert_eq!(seen(Needs::nothing()), 5.0);
}

#[test]
fn another_number_of_rows_is_still_an_error() {
    let objective = objective(SoftTarget::new(1.0), ClassPolicy::Truncate);
    let student = Outputs::new(tensor([[0.0; 5]]));
    let teacher = Outputs::new(tensor([[0.0; 3], [0.0; 3]]));
    let none = Targets::new();
    let context = LossContext::new(&student, &teacher);
    for context in [context.clone(), context.with_targets(&none)] {
        let error = objective.check(&context);
        assert!(
            matches!(error, Err(Error::ShapeMismatch { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn files_name_a_policy() {
    let pad = objective(SoftTarget::new(1.0), ClassPolicy::Pad);
    let toml = toml::to_string(&pad).unwrap();
    assert!(toml.contains("classes = \"pad\""), "{toml}");
    let read = Objective::from_toml(&toml).unwrap();
    assert_eq!(read.class_policy(), ClassPolicy::Pad);
    let json = serde_json::to_string(&pad).unwrap();
    let read = Objective::from_json(&json).unwrap();
    assert_eq!(read.class_policy(), ClassPolicy::Pad);

    let silent = Objective::from_json(r#"{"terms": []}"#).unwrap();
    assert_eq!(silent.class_policy(), ClassPolicy::Error);
    let error = Objective::from_json(r#"{"classes": "cut", "terms": []}"#).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("unknown variant `cut`, expected one of `error`, `truncate`, `pad`"),
        "{text}"
    );
}
