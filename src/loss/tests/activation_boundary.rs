use std::slice::from_ref;

use super::*;
use crate::loss::modules::projector::Projector;
use crate::loss::testing::bench::*;

fn loss(reduction: Reduction) -> ActivationBoundary {
    let config = ActivationBoundary::new("f0", "f0");
    config.with_reduction(reduction)
}

fn value(student: &Feature, teacher: &Feature, margin: f64) -> f32 {
    let reduction = Reduction::Mean;
    activation_boundary(student.clone(), teacher.clone(), margin, reduction)
        .mean()
        .into_scalar()
}

#[test]
fn value_and_gradient_by_hand() {
    // Wrongly on, wrongly off, too weakly on, too weakly off, far enough off, and a teacher at zero,
    // which is off.
    let student: Feature = tensor(vec![1.0, -2.0, 0.5, -0.5, -3.0, 0.0], [1, 6]).into();
    let teacher: Feature = tensor(vec![-3.0, 0.1, 2.0, -9.0, -1.0, 0.0], [1, 6]).into();
    let squares = 4.0 + 9.0 + 0.25 + 0.25 + 0.0 + 1.0;
    let slopes = [4.0, -6.0, -1.0, 1.0, 0.0, 2.0];
    for (reduction, by) in [(Reduction::Sum, 1.0), (Reduction::Mean, 6.0)] {
        let student = leaf(&student);
        let value = activation_boundary(student.clone(), teacher.clone(), 1.0, reduction).mean();
        let gradients = value.backward();
        assert_close(&[value.into_scalar()], &[squares / by], 1e-6);
        let found = gradient(&student, &gradients).unwrap();
        assert_close(&found, &slopes.map(|slope| slope / by), 1e-6);
    }
}

#[test]
fn nothing_beyond_the_margin_on_the_teachers_side() {
    // Every element is at least 2 from zero.
    let feature = changed(&maps([2, 3, 2, 2], 1), |_, v| v + 2f32.copysign(v));
    let step = Bench::new(
        &loss(Reduction::Sum),
        from_ref(&feature),
        from_ref(&feature),
    )
    .step(from_ref(&feature), from_ref(&feature), None);
    assert_eq!(step.value, 0.0);
    assert!(step.student[0].iter().all(|g| *g == 0.0));
}

#[test]
fn a_large_margin_leaves_its_square() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 3, 2, 2], 2));
    assert_close(&[value(&student, &teacher, 1e5) / 1e10], &[1.0], 1e-4);
}

#[test]
fn the_teachers_strength_does_not_matter() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 3, 2, 2], 2));
    let stronger = changed(&teacher, |i, v| v * (i + 1) as f32);
    assert_eq!(
        value(&student, &teacher, 1.0),
        value(&student, &stronger, 1.0)
    );
    // But its side does: who is student and who is teacher is not the same.
    assert_ne!(
        value(&student, &teacher, 1.0),
        value(&teacher, &student, 1.0)
    );
}

#[test]
fn masked_rows_do_not_count() {
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let loss = loss(reduction);
        let (student, teacher) = (maps([3, 3, 2, 2], 1), maps([3, 4, 2, 2], 2));
        assert_masked_samples_do_not_count(&loss, &[student], &[teacher]);
        assert_masked_samples_do_not_count(&loss, &[vectors([3, 3], 1)], &[vectors([3, 3], 2)]);
    }
    assert_masked_tokens_do_not_count(&loss(Reduction::Mean), [3, 4]);
}

#[test]
fn a_projector_joins_two_widths() {
    let loss = loss(Reduction::Mean);
    let modules =
        |student: Feature, teacher: Feature| Bench::new(&loss, &[student], &[teacher]).modules;
    assert!(modules(vectors([2, 3], 1), vectors([2, 3], 1)).is_none());
    let modules = modules(vectors([2, 3], 1), vectors([2, 4], 1)).unwrap();
    let Projector::Linear(linear) = modules.get() else {
        panic!("{modules:?}");
    };
    assert_eq!(linear.weight.val().dims(), [3, 4]);
}

#[test]
fn a_sum_is_over_the_valid_tokens_of_a_sample() {
    // Squares 4, 9 and 1 of a sample of three tokens, and 16 of one of which one is valid.
    let student = tensor(vec![1.0, 2.0, 0.0, 3.0, 9.0, f32::NAN], [2, 3, 1]);
    let teacher = tensor(vec![-1.0, -1.0, -1.0, -1.0, -1.0, -1.0], [2, 3, 1]);
    let loss = loss(Reduction::Sum);
    let (student, teacher): ([Feature; 1], [Feature; 1]) = ([student.into()], [teacher.into()]);
    let bench = Bench::new(&loss, &student, &teacher);
    let valid = [true, true, true, true, false, false];
    let step = bench.step(&student, &teacher, Some(&valid));
    assert_close(&[step.value], &[(14.0 + 16.0) / 2.0], 1e-6);
    assert_close(&step.student[0], &[2.0, 3.0, 1.0, 4.0, 0.0, 0.0], 1e-6);
    // Twice the second sample, and half of a token of the first.
    let by = weights(&[1.0, 0.5, 1.0, 2.0, 0.0, 0.0], [2, 3]);
    let step = bench.weighted_step(&student, &teacher, Some(by));
    assert_close(&[step.value], &[(9.5 + 2.0 * 16.0) / 3.0], 1e-6);
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let loss = loss(Reduction::Mean);
    assert_eq!(
        check_error(&loss, &[maps([2, 3, 2, 2], 1)], &[vectors([2, 3], 1)]),
        "term \"activation_boundary_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 2, 2], teacher has [2, 3]"
    );
}

#[test]
#[should_panic(expected = "student and teacher features have one shape")]
fn two_widths_panic() {
    let _ = value(&vectors([2, 3], 1), &vectors([2, 4], 1), 1.0);
}
