//! The promises one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Bool, DType, Device, Int, Tensor};

use super::batch::{Batch, Numbers, Seen, stride};
use super::files::{changed, keeps_to_its_file, written};
use super::{all, contract};
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::loss::context::LossContext;
use crate::loss::known::KnownLoss;
use crate::loss::term::IntoTerm;
use crate::objective::Objective;

#[track_caller]
fn assert_close(loss: &KnownLoss, what: &str, found: &Seen, expected: &Seen, tolerance: f32) {
    let close = |a: f32, b: f32| (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()));
    assert!(
        close(found.value, expected.value),
        "{loss:?}: {what}: {} instead of {}",
        found.value,
        expected.value
    );
    for (found, expected) in found.gradient.iter().zip(&expected.gradient) {
        for (a, b) in found.iter().zip(expected) {
            assert!(
                close(*a, *b),
                "{loss:?}: {what}: gradient {a} instead of {b}"
            );
        }
    }
}

#[test]
fn every_loss_is_in_the_list() {
    let mut names: Vec<String> = all().iter().map(|loss| written(loss).0).collect();
    names.sort();
    names.dedup();
    // A file with a name that is none lists all that there are.
    let error = serde_json::from_str::<KnownLoss>(r#"{"no_loss": {}}"#)
        .unwrap_err()
        .to_string();
    let known = error.matches('`').count() / 2 - 1;
    assert_eq!(names.len(), known, "{error}");
}

#[test]
fn every_loss_keeps_its_contract() {
    let keeps = |loss: &&KnownLoss| catch_unwind(|| keeps_its_contract(loss)).is_ok();
    let all = all();
    let broken: Vec<_> = all.iter().filter(|loss| !keeps(loss)).collect();
    assert!(broken.is_empty(), "broken by {broken:#?}, see above");
}

fn keeps_its_contract(loss: &KnownLoss) {
    let plain = Batch::new();
    let contract = contract(loss);
    let seen = plain.seen(loss);
    assert!(seen.value.is_finite(), "{loss:?}");
    assert!(
        !seen.teacher_has_gradient,
        "{loss:?}: a gradient flows into the teacher"
    );
    let moved = seen.gradient.iter().flatten().any(|g| *g != 0.0);
    assert!(moved, "{loss:?}: no gradient flows into the student");

    let same = Batch {
        student: plain.teacher.clone(),
        ..plain.clone()
    };
    let at_teacher = same.seen(loss);
    if contract.zero_at_teacher {
        assert!(
            at_teacher.value.abs() < 1e-5,
            "{loss:?}: {}",
            at_teacher.value
        );
        let largest = at_teacher
            .gradient
            .iter()
            .flatten()
            .fold(0f32, |a, b| a.max(b.abs()));
        assert!(
            largest < 2e-3,
            "{loss:?}: gradient {largest} at the teacher"
        );
    } else {
        assert!(
            at_teacher.value.abs() > 1e-4,
            "{loss:?} is zero at the teacher after all"
        );
    }
    if contract.shift {
        let shifted = Batch {
            student: plain.student.shifted(),
            teacher: plain.teacher.shifted().shifted(),
            ..plain.clone()
        };
        assert_close(loss, "shifted", &shifted.seen(loss), &seen, 1e-4);
    }
    if contract.scale {
        let scaled = Batch {
            student: plain.student.map(|x| x * 3.0),
            ..plain.clone()
        };
        let found = scaled.seen(loss).value;
        let close = (found - seen.value).abs() <= 1e-4 * (1.0 + seen.value.abs());
        assert!(close, "{loss:?}: scaled: {found} instead of {}", seen.value);
    }
    if !contract.draws {
        rows_can_be_permuted(loss, &plain, &seen);
        rows_of_weight_zero_are_not_there(loss, &plain, &seen);
        the_size_of_all_weights_does_not_matter(loss, &plain);
    }
    nothing_is_left_of_no_rows(loss, &plain);
    half_precision_is_compared_in_single(loss, &plain);
    extremes_are_finite(loss, &plain);
    a_temperature_may_follow_a_schedule(loss, &plain);
    what_is_not_a_number_is_seen(loss, &plain);
    keeps_to_its_file(loss);
}

fn rows_can_be_permuted(loss: &KnownLoss, plain: &Batch, seen: &Seen) {
    let order = [2, 0, 5, 1, 4, 3];
    let permuted = Batch {
        student: plain.student.ordered(&order),
        teacher: plain.teacher.ordered(&order),
        labels: order.iter().map(|n| plain.labels[*n]).collect(),
        ..plain.clone()
    };
    let expected = Seen {
        value: seen.value,
        gradient: order.iter().map(|n| seen.gradient[*n].clone()).collect(),
        teacher_has_gradient: false,
    };
    assert_close(loss, "permuted", &permuted.seen(loss), &expected, 1e-4);
}

/// A sample of weight zero, whatever it holds, is a sample that is not there.
fn rows_of_weight_zero_are_not_there(loss: &KnownLoss, plain: &Batch, seen: &Seen) {
    for (ours, theirs) in [
        (7.0, 7.0),
        (f32::NAN, 1.0),
        (0.0, f32::NAN),
        (f32::INFINITY, 3.0),
    ] {
        for at in [0, 3, 6] {
            let mut longer = plain.clone();
            longer.student.0.insert(at, vec![ours; stride()]);
            longer.teacher.0.insert(at, vec![theirs; stride()]);
            longer.labels.insert(at, 1000);
            longer.weights = Some((0..7).map(|n| f32::from(n != at)).collect());
            let mut found = longer.seen(loss);
            let removed = found.gradient.remove(at);
            assert!(
                removed.iter().all(|g| *g == 0.0),
                "{loss:?}: a gradient at weight 0"
            );
            assert_close(loss, "beside a row of weight 0", &found, seen, 1e-4);
        }
    }
}

fn the_size_of_all_weights_does_not_matter(loss: &KnownLoss, plain: &Batch) {
    let weighted = |factor: f32| Batch {
        weights: Some([1.0, 0.5, 2.0, 0.0, 1.5, 1.0].map(|w| w * factor).to_vec()),
        ..plain.clone()
    };
    let (one, small) = (weighted(1.0).seen(loss), weighted(0.125).seen(loss));
    assert_close(loss, "all weights smaller", &small, &one, 1e-4);
}

fn nothing_is_left_of_no_rows(loss: &KnownLoss, plain: &Batch) {
    let none = Batch {
        weights: Some(vec![0.0; 6]),
        ..plain.clone()
    };
    let seen = none.seen(loss);
    assert!(
        seen.value.is_finite(),
        "{loss:?}: {} of no rows",
        seen.value
    );
    let zero = seen.gradient.iter().flatten().all(|g| *g == 0.0);
    assert!(zero, "{loss:?}: a gradient of no rows");
}

/// A batch in `bf16` has the value of the same numbers in `f32`.
fn half_precision_is_compared_in_single(loss: &KnownLoss, plain: &Batch) {
    let round = |x: f32| half::bf16::from_f32(x).to_f32();
    let rounded = Batch {
        student: plain.student.map(round),
        teacher: plain.teacher.map(round),
        ..plain.clone()
    };
    let in_half = Batch {
        dtype: DType::BF16,
        ..rounded.clone()
    };
    // Gradients arrive in half, with eight bits.
    assert_close(
        loss,
        "in half precision",
        &in_half.seen(loss),
        &rounded.seen(loss),
        1e-2,
    );
}

/// Value and gradient stay finite up to the largest numbers that a trained model gives.
fn extremes_are_finite(loss: &KnownLoss, plain: &Batch) {
    let largest = 1e4;
    for (ours, theirs) in [
        (largest, -largest),
        (largest, largest),
        (0.0, largest),
        (largest, 0.0),
        (0.0, 0.0),
    ] {
        let extreme = Batch {
            student: plain.student.map(|x| x * ours / 2.0),
            teacher: plain.teacher.map(|x| x * theirs / 2.0),
            ..plain.clone()
        };
        let seen = extreme.seen(loss);
        assert!(
            seen.value.is_finite(),
            "{loss:?}: {} at {ours}, {theirs}",
            seen.value
        );
        let finite = seen.gradient.iter().flatten().all(|g| g.is_finite());
        assert!(
            finite,
            "{loss:?}: a gradient that is not finite at {ours}, {theirs}"
        );
    }
}

/// A valid row that holds NaN is seen: training stops at such a value.
fn what_is_not_a_number_is_seen(loss: &KnownLoss, plain: &Batch) {
    let spoilt = |numbers: &Numbers| {
        let mut numbers = numbers.clone();
        numbers.0[3].iter_mut().for_each(|x| *x = f32::NAN);
        numbers
    };
    let student = Batch {
        student: spoilt(&plain.student),
        ..plain.clone()
    };
    assert!(
        student.seen(loss).value.is_nan(),
        "{loss:?}: NaN of the student"
    );
    if loss.clone().into_term().loss().needs().teacher {
        let teacher = Batch {
            teacher: spoilt(&plain.teacher),
            ..plain.clone()
        };
        assert!(
            teacher.seen(loss).value.is_nan(),
            "{loss:?}: NaN of the teacher"
        );
    }
}

/// A scheduled temperature is that of the moment.
fn a_temperature_may_follow_a_schedule(loss: &KnownLoss, plain: &Batch) {
    if loss.clone().into_term().loss().temperature().is_none() {
        return;
    }
    let halfway = Batch {
        progress: 0.5,
        ..plain.clone()
    };
    let at = |temperature: &str| {
        let loss = changed(loss, &format!("temperature = {temperature}")).unwrap();
        halfway.seen(&loss)
    };
    let found = at("{ linear = { from = 8, to = 2 } }");
    let (five, eight) = (at("5"), at("8"));
    assert_close(loss, "scheduled", &found, &five, 0.0);
    assert_ne!(five.value, eight.value, "{loss:?}: the temperature");
}

/// A row without a label is left out of losses on labels, and only there.
#[test]
fn a_label_below_zero_is_no_label() {
    let plain = Batch::new();
    for loss in &all() {
        let needs = loss.clone().into_term();
        let needs = needs.loss().needs();
        let unlabelled = Batch {
            labels: vec![2, 0, -1, 1, 4, -100],
            ..plain.clone()
        };
        let found = unlabelled.seen(loss);
        let expected = match needs.target.is_some() {
            true => Batch {
                weights: Some(vec![1.0, 1.0, 0.0, 1.0, 1.0, 0.0]),
                ..plain.clone()
            },
            false => plain.clone(),
        };
        assert_close(loss, "without labels", &found, &expected.seen(loss), 1e-6);
    }
}

/// What a loss needs and is not there is an error that names it.
#[test]
fn what_is_missing_is_named() {
    let device = Device::flex();
    let nothing = Outputs::features_only();
    let mask = Tensor::<1, Bool>::full([1], true, &device);
    let targets = Targets::new().with_mask(mask);
    for loss in &all() {
        let objective = Objective::new().with(loss.clone(), 1);
        let context = LossContext::new(&nothing, &nothing).with_targets(&targets);
        let error = objective
            .check(&context)
            .expect_err("nothing is there")
            .to_string();
        let name = objective.terms()[0].name();
        assert!(error.contains(&name), "{loss:?}: {error}");
    }
}

/// Logits of two widths cannot be compared, in an objective or not.
#[test]
fn widths_that_differ_are_a_panic() {
    let logits = |width| Outputs::new(Tensor::<2>::ones([2, width], &Device::flex()));
    let (student, teacher) = (logits(3), logits(4));
    let labels = Tensor::<1, Int>::from_data([0, 1], &Device::flex());
    let targets = Targets::new().with_classes(labels);
    let context = LossContext::new(&student, &teacher).with_targets(&targets);
    for loss in &all() {
        let loss = loss.clone().into_term();
        let needs = loss.loss().needs();
        if needs.teacher && !needs.heads.is_empty() {
            let forward = AssertUnwindSafe(|| loss.loss().forward(&context));
            let panic = catch_unwind(forward).expect_err("two widths");
            let message = panic.downcast_ref::<String>().map_or("", String::as_str);
            let expected = "student and teacher logits have one shape";
            assert!(message.contains(expected), "{}: {message}", loss.name());
        }
    }
}
