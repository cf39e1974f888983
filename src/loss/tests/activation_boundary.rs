use std::slice::from_ref;

use super::*;
use crate::loss::testing::bench::*;

fn loss(reduction: BoundaryReduction) -> ActivationBoundary {
    let config = ActivationBoundaryConfig::new("f0", "f0");
    config.with_reduction(reduction).init().unwrap()
}

fn value(student: &Feature, teacher: &Feature, margin: f64) -> f32 {
    let reduction = BoundaryReduction::Mean;
    activation_boundary(student.clone(), teacher.clone(), margin, reduction).into_scalar()
}

#[test]
fn value_and_gradient_by_hand() {
    // Wrongly on, wrongly off, too weakly on, too weakly off, far enough off, and a teacher at zero,
    // which is off.
    let student: Feature = tensor(vec![1.0, -2.0, 0.5, -0.5, -3.0, 0.0], [1, 6]).into();
    let teacher: Feature = tensor(vec![-3.0, 0.1, 2.0, -9.0, -1.0, 0.0], [1, 6]).into();
    let squares = 4.0 + 9.0 + 0.25 + 0.25 + 0.0 + 1.0;
    let slopes = [4.0, -6.0, -1.0, 1.0, 0.0, 2.0];
    for (reduction, by) in [
        (BoundaryReduction::Sum, 1.0),
        (BoundaryReduction::Mean, 6.0),
    ] {
        let student = leaf(&student);
        let value = activation_boundary(student.clone(), teacher.clone(), 1.0, reduction);
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
        &loss(BoundaryReduction::Sum),
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
fn finite_at_extremes() {
    for reduction in [BoundaryReduction::Mean, BoundaryReduction::Sum] {
        let loss = loss(reduction);
        let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 4, 2, 2], 2));
        assert_finite_at_extremes(&loss, &[student], &[teacher]);
        assert_finite_at_extremes(&loss, &[vectors([2, 3], 1)], &[vectors([2, 3], 2)]);
    }
}

#[test]
fn the_teacher_gets_no_gradient() {
    let loss = loss(BoundaryReduction::Mean);
    let (student, teacher) = (maps([2, 3, 4, 4], 1), maps([2, 4, 2, 2], 2));
    assert_gradient_goes_to_the_student_alone(&loss, &[student], &[teacher]);
}

#[test]
fn masked_rows_do_not_count() {
    for reduction in [BoundaryReduction::Mean, BoundaryReduction::Sum] {
        let loss = loss(reduction);
        let (student, teacher) = (maps([3, 3, 2, 2], 1), maps([3, 4, 2, 2], 2));
        assert_masked_samples_do_not_count(&loss, &[student], &[teacher]);
        assert_masked_samples_do_not_count(&loss, &[vectors([3, 3], 1)], &[vectors([3, 3], 2)]);
        assert_masked_tokens_do_not_count(&loss, [3, 4]);
    }
}

#[test]
fn a_projector_joins_two_widths() {
    let loss = loss(BoundaryReduction::Mean);
    let parts = |student: Feature, teacher: Feature| {
        let parts = Bench::new(&loss, &[student], &[teacher]).parts;
        parts.map(|parts| parts.describe())
    };
    assert_eq!(parts(vectors([2, 3], 1), vectors([2, 3], 1)), None);
    assert_eq!(
        parts(vectors([2, 3], 1), vectors([2, 4], 1)).as_deref(),
        Some("linear 3 -> 4")
    );
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let loss = loss(BoundaryReduction::Mean);
    assert_eq!(
        check_error(&loss, &[maps([2, 3, 2, 2], 1)], &[vectors([2, 3], 1)], None),
        "term \"activation_boundary_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 2, 2], teacher has [2, 3]"
    );
    assert_eq!(
        check_error(
            &loss,
            &[tokens([2, 3, 4], 1)],
            &[tokens([2, 3, 4], 1)],
            Some(&[true; 5])
        ),
        "a masked feature has 2 rows, the student's logits have 5"
    );
}

#[test]
#[should_panic(expected = "student and teacher features have one shape")]
fn two_widths_panic() {
    let _ = value(&vectors([2, 3], 1), &vectors([2, 4], 1), 1.0);
}

#[test]
fn config() {
    let config = ActivationBoundaryConfig::new("a", "b");
    assert_eq!(config, read(r#"{"student": "a", "teacher": "b"}"#));
    assert_eq!(
        (config.margin, config.reduction),
        (1.0, BoundaryReduction::Mean)
    );
    assert_config("activation_boundary", &config);
    let other = config
        .clone()
        .with_margin(0.5)
        .with_reduction(BoundaryReduction::Sum);
    assert_config("activation_boundary", &other);
    assert!(config.clone().with_margin(f64::MIN_POSITIVE).init().is_ok());
    for (margin, text) in [
        (0.0, "0"),
        (-1.0, "-1"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
    ] {
        assert_eq!(
            error(config.clone().with_margin(margin).init()),
            format!("activation_boundary.margin is {text}, expected a number greater than 0")
        );
    }
    assert_eq!(
        error(ActivationBoundaryConfig::new("a", "").init()),
        "activation_boundary.teacher is \"\", expected the name of a feature"
    );
}
