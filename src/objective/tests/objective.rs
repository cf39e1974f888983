use burn::tensor::Tensor;

use super::*;
use crate::data::outputs::Outputs;
use crate::loss::custom::loss_fn;
use crate::loss::features::hint::Hint;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::loss::Needs;
use crate::loss::modules::projector::Projector;

fn names(objective: &Objective) -> Vec<String> {
    objective.terms().iter().map(Term::name).collect()
}

#[test]
fn a_sum_reads_as_it_is() {
    let objective = Objective::new()
        .with(SoftTarget::new(2), 0.5)
        .with(HardLabel::new(), Schedule::linear(0.0, 1.0));
    assert_eq!(
        objective.to_string(),
        "0.5 · soft_target + (linear 0 to 1) · hard_label"
    );
}

#[test]
fn equal_names_are_numbered() {
    let objective = (0..3).fold(Objective::new(), |sum, _| sum.with(SoftTarget::new(2), 1));
    assert_eq!(
        names(&objective),
        ["soft_target", "soft_target_2", "soft_target_3"]
    );
    // A number that is taken is left out.
    let objective = Objective::new()
        .with(SoftTarget::new(2).named("a_2"), 1)
        .with(SoftTarget::new(2).named("a"), 1)
        .with(HardLabel::new().named("a"), 1);
    assert_eq!(names(&objective), ["a_2", "a", "a_3"]);
    // As many as one likes: a search from the start for each would take hours here.
    let many = (0..100_000).fold(Objective::new(), |sum, _| sum.with(HardLabel::new(), 1));
    assert_eq!(many.terms()[99_999].name(), "hard_label_100000");
}

#[test]
fn a_name_says_which_head_and_which_view() {
    let objective = Objective::new()
        .with(SoftTarget::new(2), 1)
        .with(SoftTarget::new(2).on("box"), 1)
        .with(SoftTarget::new(2).standardized(), 1)
        .with(SoftTarget::new(2).on("box"), 1);
    assert_eq!(
        names(&objective),
        [
            "soft_target",
            "soft_target_box",
            "standardized_soft_target",
            "soft_target_box_2"
        ]
    );
}

#[test]
fn a_teacher_is_needed_if_any_term_looks_at_it() {
    let labels = Objective::new().with(HardLabel::new(), 1);
    assert!(!labels.needs_teacher());
    assert!(labels.with(SoftTarget::new(2), 0).needs_teacher());
    for (needs, expected) in [(Needs::teacher(), true), (Needs::nothing(), false)] {
        let loss = loss_fn("closure", |context| {
            context.mean(context.logits().sum_dim(1).squeeze_dim(1))
        })
        .needing(needs);
        assert_eq!(Objective::new().with(loss, 1).needs_teacher(), expected);
    }
}

#[test]
fn all_parameters_are_checked_at_once() {
    let error = |objective: Objective| objective.validate().unwrap_err().to_string();
    assert!(matches!(Objective::new().validate(), Err(Error::NoTerms)));
    let sum = || Objective::new().with(HardLabel::new(), 1);
    sum().validate().unwrap();
    assert_eq!(
        error(sum().with(SoftTarget::new(0), 1)),
        "soft_target.temperature is 0, expected a number greater than 0"
    );
    assert_eq!(
        error(sum().with(SoftTarget::new(1), Schedule::linear(1.0, -1.0))),
        "the weight of soft_target is -1, expected a number of at least 0"
    );
    assert_eq!(
        error(sum().with(HardLabel::new().standardized(), 1)),
        "hard_label.standardize is on, expected a loss between the logits of student and teacher"
    );
}

/// Modules are found by the name of their term, so that another order of terms changes nothing.
#[test]
fn modules_belong_to_the_terms_that_train_them() {
    let device = Device::flex();
    let outputs = |width| {
        let feature = Tensor::<2>::ones([2, width], &device);
        Outputs::new(Tensor::<2>::zeros([2, 3], &device)).with_feature("f", feature)
    };
    let (student, teacher) = (outputs(4), outputs(6));
    let context = LossContext::new(&student, &teacher);
    let objective = Objective::new()
        .with(SoftTarget::new(2), 1)
        .with(Hint::new("f", "f"), 1)
        .with(Hint::new("f", "f").named("second"), 1);
    objective.check(&context).unwrap();
    let modules = objective.modules(&context, &device);
    assert!(modules.of("soft_target").is_none());
    for name in ["hint_f", "second"] {
        let found = modules.of(name).expect("a hint between two widths");
        assert!(found.try_get::<Projector>().is_some());
    }
    assert_eq!(modules.num_params(), 2 * (4 * 6 + 6));
    let value = objective.forward(&context, &modules);
    assert_eq!(value.terms.len(), 3);

    let turned = Objective::new()
        .with(Hint::new("f", "f").named("second"), 1)
        .with(Hint::new("f", "f"), 1)
        .with(SoftTarget::new(2), 1);
    let again = turned.forward(&context, &modules);
    let read = |x: &Tensor<1>| x.clone().into_scalar::<f32>();
    let (mut values, found): (Vec<_>, Vec<_>) = (
        value.terms.iter().map(read).collect(),
        again.terms.iter().map(read).collect(),
    );
    values.reverse();
    assert_eq!(values, found);
}
