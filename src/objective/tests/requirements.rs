use burn::tensor::{Bool, Device, Int, Tensor};

use super::*;
use crate::data::head::Head;
use crate::data::targets::Targets;
use crate::loss::custom::loss_fn;
use crate::loss::features::hint::Hint;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::relations::crd::Crd;
use crate::loss::term::IntoTerm;
use crate::objective::Objective;

fn zeros(rows: usize, width: usize) -> Tensor<2> {
    Tensor::zeros([rows, width], &Device::flex())
}

fn outputs() -> Outputs {
    Outputs::new(zeros(2, 3))
        .with_head("box", Head::Continuous(zeros(2, 4)))
        .with_head("tags", Head::Binary(zeros(2, 5)))
        .with_feature("f", zeros(2, 6))
}

fn labels<const N: usize>(labels: [i64; N]) -> Targets {
    Targets::new().with_classes(Tensor::<1, Int>::from_data(labels, &Device::flex()))
}

fn checked(term: impl IntoTerm, context: &LossContext<'_>) -> Result<()> {
    Objective::new().with(term, 1).check(context)
}

/// The error of a term between outputs of two samples.
#[track_caller]
fn refused(term: impl IntoTerm, targets: &Targets) -> String {
    let (student, teacher) = (outputs(), outputs());
    let context = LossContext::new(&student, &teacher).with_targets(targets);
    checked(term, &context).unwrap_err().to_string()
}

fn anything() -> impl IntoTerm {
    loss_fn("anything", |context| {
        context.mean(context.logits().sum_dim(1).squeeze_dim(1))
    })
}

#[test]
fn rows_of_targets_and_weights_are_those_of_their_head() {
    let device = Device::flex();
    assert_eq!(
        refused(anything(), &labels([0, 1, 2])),
        "the target has 3 rows, head \"logits\" of the student has 2"
    );
    let mask = Tensor::<1, Bool>::from_data([true], &device);
    let one = Targets::new().with_mask(mask);
    assert_eq!(
        refused(anything(), &one),
        "the mask has 1 rows, head \"logits\" of the student has 2"
    );
    assert_eq!(
        refused(anything(), &Targets::new().with_head("box", one)),
        "the mask has 1 rows, head \"box\" of the student has 2"
    );
    // [2, 3] numbers as if the classes were not on the last axis.
    assert_eq!(
        refused(anything(), &labels([0; 6])),
        "the target has 6 rows, head \"logits\" of the student has 2; classes are on the last axis, \
         logits of images [N, C, H, W] go through `Outputs::images`"
    );
}

#[test]
fn targets_fit_the_kind_and_the_width_of_their_head() {
    let of = |head: &str, targets| Targets::new().with_head(head, targets);
    assert_eq!(
        refused(anything(), &of("box", labels([0, 1]))),
        "head \"box\" is continuous, its targets are class targets"
    );
    assert_eq!(
        refused(
            anything(),
            &of("tags", Targets::new().with_binary(zeros(2, 4)))
        ),
        "head \"tags\" has 5 values per row, its targets have 4"
    );
    assert_eq!(
        refused(anything(), &of("bix", labels([0, 1]))),
        "targets: the student has no head \"bix\", it gives [\"logits\", \"box\", \"tags\"]"
    );
    assert_eq!(
        refused(anything(), &labels([-1, 3])),
        "label 3 of row 1 is out of range: the student has 3 classes (0 to 2)"
    );
}

#[test]
fn a_row_of_weight_zero_may_have_any_label() {
    let (student, teacher) = (outputs(), outputs());
    let mask = Tensor::<1, Bool>::from_data([true, false], &Device::flex());
    let targets = labels([-100, 99]).with_mask(mask);
    let context = LossContext::new(&student, &teacher).with_targets(&targets);
    checked(HardLabel::new(), &context).unwrap();
}

#[test]
fn a_term_says_what_it_misses() {
    let none = Targets::new();
    assert_eq!(
        refused(SoftTarget::new(2).on("bix"), &none),
        "term \"soft_target_bix\": the student has no head \"bix\", it gives [\"logits\", \"box\", \"tags\"]"
    );
    assert_eq!(
        refused(SoftTarget::new(2).on("box"), &none),
        "term \"soft_target_box\" needs a categorical head, \"box\" of the student is continuous"
    );
    assert_eq!(
        refused(HardLabel::new().named("ce"), &none),
        "term \"ce\" needs class targets, the batches carry no targets"
    );
    assert_eq!(
        refused(Hint::new("f", "g"), &none),
        "term \"hint_f\" needs feature \"g\" of the teacher, which gives [\"f\"]"
    );
    assert_eq!(
        refused(Crd::new("f", "f"), &labels([0, 1])),
        "term \"crd_f\" needs sample indices, which the batches do not carry; build them with `DistillData`"
    );
}

#[test]
fn both_sides_are_held_to_a_term() {
    let student = outputs();
    let context = LossContext::without_teacher(&student);
    assert_eq!(
        checked(SoftTarget::new(2), &context)
            .unwrap_err()
            .to_string(),
        "term \"soft_target\" needs a teacher, and this training has none"
    );
    checked(HardLabel::new(), &context.with_targets(&labels([0, 1]))).unwrap();

    let student = outputs().with_head("side", zeros(2, 4));
    let teacher = outputs();
    let error = |teacher: &Outputs| {
        let context = LossContext::new(&student, teacher);
        let error = checked(SoftTarget::new(2).on("side"), &context);
        error.unwrap_err().to_string()
    };
    assert_eq!(
        error(&teacher),
        "term \"soft_target_side\": the teacher has no head \"side\", it gives [\"logits\", \"box\", \"tags\"]"
    );
    assert_eq!(
        error(&outputs().with_head("side", Head::Continuous(zeros(2, 4)))),
        "term \"soft_target_side\" needs a categorical head, \"side\" of the teacher is continuous"
    );
    assert_eq!(
        error(&outputs().with_head("side", zeros(3, 4))),
        "heads \"side\" differ: student has [2, 4], teacher has [3, 4]"
    );
}

#[test]
fn a_mask_that_does_not_divide_into_samples_is_named() {
    let device = Device::flex();
    let student = Outputs::new(zeros(3, 4)).with_feature("f", zeros(2, 6));
    let mask = Tensor::<1, Bool>::from_data([true; 3], &device);
    let targets = Targets::new().with_mask(mask);
    let context = LossContext::new(&student, &student).with_targets(&targets);
    assert_eq!(
        checked(Hint::new("f", "f"), &context)
            .unwrap_err()
            .to_string(),
        "term \"hint_f\": a mask of 3 rows does not fit feature \"f\" of 2 samples"
    );
}

#[test]
fn z_scores_want_numbers_and_two_classes() {
    let row = |numbers: [f32; 3]| Tensor::<2>::from_floats([[0.0; 3], numbers], &Device::flex());
    let student = Outputs::new(row([0.0, 1.0, 2.0]));
    let teacher = Outputs::new(row([0.0, f32::NEG_INFINITY, 1.0]));
    let context = LossContext::new(&student, &teacher);
    let term = || SoftTarget::new(2).standardized();
    assert_eq!(
        checked(term(), &context).unwrap_err().to_string(),
        "not finite: term \"standardized_soft_target\": a logit of the teacher (NaN or infinite)"
    );
    let mask = Tensor::<1, Bool>::from_data([true, false], &Device::flex());
    let masked = Targets::new().with_mask(mask);
    checked(term(), &context.with_targets(&masked)).unwrap();

    let one = Outputs::new(zeros(2, 1));
    assert_eq!(
        checked(term(), &LossContext::new(&one, &one))
            .unwrap_err()
            .to_string(),
        "term \"standardized_soft_target\": the number of classes is 1, expected at least 2: \
         a single logit is `Outputs::binary`, a single value `Outputs::values`"
    );
}
