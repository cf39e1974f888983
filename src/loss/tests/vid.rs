use std::slice::from_ref;

use burn::tensor::{Device, Tensor};

use super::*;
use crate::loss::testing::bench::*;

fn loss(regressor: VidRegressor) -> Vid {
    VidConfig::new("f0", "f0")
        .with_regressor(regressor)
        .init()
        .unwrap()
}

/// α at which the variance is 1, but for ε.
fn unit_scale(channels: usize) -> Tensor<1> {
    Tensor::full([channels], 1f64.exp_m1().ln(), &Device::flex())
}

#[test]
fn value_and_gradients_by_hand() {
    let student = leaf(&tensor(vec![1.0, 2.0], [1, 2]).into());
    let teacher = tensor(vec![4.0, 6.0], [1, 2]);
    let log_scale = Tensor::<1>::from_data(unit_scale(2).into_data(), &Device::flex().autodiff());
    let log_scale = log_scale.require_grad();
    let value = vid(student.clone(), teacher.into(), log_scale.clone());
    let gradients = value.backward();
    // ½ (3² + 4²) / 2
    assert_close(&[value.into_scalar()], &[6.25], 1e-4);
    // (μ − f) / D
    assert_close(
        &gradient(&student, &gradients).unwrap(),
        &[-1.5, -2.0],
        1e-4,
    );
    // ½ (1 − d²) / D · dσ²/dα, and at σ² = 1 the slope of log(1 + e^α) is 1 − 1/e.
    let slope = 1.0 - (-1f32).exp();
    let found = log_scale.grad(&gradients).unwrap().into_data();
    let found: Vec<f32> = found.iter().collect();
    assert_close(&found, &[-2.0 * slope, -3.75 * slope], 1e-4);
}

#[test]
fn a_perfect_prediction_leaves_the_variance() {
    let map = maps([2, 3, 2, 2], 1);
    let loss = loss(VidRegressor::Identity);
    let step = Bench::new(&loss, from_ref(&map), from_ref(&map)).step(
        from_ref(&map),
        from_ref(&map),
        None,
    );
    // ½ log 5, since every variance is 5 at first.
    assert_close(&[step.value], &[0.5 * 5f32.ln()], 1e-5);
    assert!(step.student[0].iter().all(|g| *g == 0.0));
}

#[test]
fn a_small_variance_makes_it_negative() {
    let map = maps([1, 2, 2, 2], 1);
    let log_scale = Tensor::<1>::full([2], -100.0, &Device::flex());
    let value = vid(map.clone(), map, log_scale);
    // log(1 + e⁻¹⁰⁰) vanishes beside ε.
    assert_close(&[value.into_scalar()], &[0.5 * 1e-5f32.ln()], 1e-5);
}

#[test]
fn a_large_variance_leaves_its_logarithm() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 3, 2, 2], 2));
    let log_scale = Tensor::<1>::full([3], 1e6, &Device::flex());
    let value = vid(student, teacher, log_scale);
    assert_close(&[value.into_scalar()], &[0.5 * 1e6f32.ln()], 1e-5);
}

#[test]
fn a_shift_of_both_sides_changes_nothing() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 3, 2, 2], 2));
    let shifted = |x: &Feature| changed(x, |_, value| value + 2.0);
    let before = vid(student.clone(), teacher.clone(), unit_scale(3));
    let after = vid(shifted(&student), shifted(&teacher), unit_scale(3));
    assert_close(&[after.into_scalar()], &[before.into_scalar()], 1e-5);
}

#[test]
fn vectors_tokens_and_maps_agree() {
    let values = |seed| values(12, seed);
    let vectors = vid(
        tensor(values(1), [4, 3]).into(),
        tensor(values(2), [4, 3]).into(),
        unit_scale(3),
    );
    let tokens = vid(
        tensor(values(1), [2, 2, 3]).into(),
        tensor(values(2), [2, 2, 3]).into(),
        unit_scale(3),
    );
    let vectors: f32 = vectors.into_scalar();
    assert_close(&[tokens.into_scalar()], &[vectors], 1e-5);
    let map = |seed| tensor(values(seed), [4, 3, 1, 1]).into();
    assert_close(
        &[vid(map(1), map(2), unit_scale(3)).into_scalar()],
        &[vectors],
        1e-5,
    );
}

#[test]
fn maps_of_two_sizes_meet_at_the_smaller() {
    let student: Tensor<4> = tensor((0..8).map(|i| i as f32).collect(), [1, 1, 2, 4]);
    // Means of 2 × 1 windows: (i + i + 4) / 2.
    let teacher = tensor(vec![2.0, 3.0, 4.0, 5.0], [1, 1, 1, 4]);
    let value = vid(student.into(), teacher.into(), unit_scale(1));
    assert!(value.into_scalar::<f32>().abs() < 1e-4);
}

#[test]
fn finite_at_extremes() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 4, 2, 2], 2));
    assert_finite_at_extremes(
        &loss(VidRegressor::ThreeLayers),
        from_ref(&student),
        &[teacher],
    );
    let teacher = maps([2, 3, 2, 2], 2);
    assert_finite_at_extremes(&loss(VidRegressor::Identity), &[student], &[teacher]);
}

#[test]
fn the_teacher_gets_no_gradient() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 4, 4, 4], 2));
    let loss = loss(VidRegressor::ThreeLayers);
    assert_gradient_goes_to_the_student_alone(&loss, &[student], &[teacher]);
}

#[test]
fn masked_rows_do_not_count() {
    let loss = loss(VidRegressor::ThreeLayers);
    let (student, teacher) = (maps([3, 3, 2, 2], 1), maps([3, 4, 2, 2], 2));
    assert_masked_samples_do_not_count(&loss, &[student], &[teacher]);
    let (student, teacher) = (tokens([3, 2, 3], 1), tokens([3, 2, 4], 2));
    assert_masked_samples_do_not_count(&loss, &[student], &[teacher]);
    assert_masked_tokens_do_not_count(&loss, [3, 4]);
}

#[test]
fn parts_say_what_they_are() {
    let describe = |regressor, student: Feature, teacher: Feature| {
        let loss = loss(regressor);
        Bench::new(&loss, &[student], &[teacher])
            .parts
            .unwrap()
            .describe()
    };
    assert_eq!(
        describe(
            VidRegressor::ThreeLayers,
            maps([1, 2, 1, 1], 1),
            maps([1, 4, 1, 1], 1)
        ),
        "conv 1x1 2 -> 4, conv 1x1 4 -> 4, conv 1x1 4 -> 4, 4 variances"
    );
    assert_eq!(
        describe(
            VidRegressor::Identity,
            vectors([1, 2], 1),
            vectors([1, 2], 1)
        ),
        "2 variances"
    );
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let three = loss(VidRegressor::ThreeLayers);
    assert_eq!(
        check_error(
            &three,
            &[maps([2, 3, 2, 2], 1)],
            &[vectors([2, 3], 1)],
            None
        ),
        "term \"vid_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 2, 2], teacher has [2, 3]"
    );
    assert_eq!(
        check_error(
            &three,
            &[tokens([2, 3, 4], 1)],
            &[tokens([2, 4, 4], 1)],
            None
        ),
        "term \"vid_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 4], teacher has [2, 4, 4]"
    );
    assert_eq!(
        check_error(
            &three,
            &[vectors([2, 3], 1)],
            &[vectors([2, 3], 1)],
            Some(&[true; 4])
        ),
        "a masked feature has 2 rows, the student's logits have 4"
    );
    let identity = loss(VidRegressor::Identity);
    assert_eq!(
        check_error(
            &identity,
            &[vectors([2, 3], 1)],
            &[vectors([2, 4], 1)],
            None
        ),
        "term \"vid_f0\": features \"f0\" and \"f0\" differ: student has [2, 3], teacher has [2, 4]"
    );
    let missing = VidConfig::new("f0", "f9").init().unwrap();
    assert_eq!(
        check_error(&missing, &[vectors([2, 3], 1)], &[vectors([2, 4], 1)], None),
        "term \"vid_f0\" needs feature \"f9\" of the teacher, which gives [\"f0\"]"
    );
}

#[test]
#[should_panic(expected = "features have one rank: student has [2, 3], teacher has [2, 3, 1, 1]")]
fn two_ranks_panic() {
    let _ = vid(vectors([2, 3], 1), maps([2, 3, 1, 1], 1), unit_scale(3));
}

#[test]
#[should_panic(expected = "student and teacher features have one shape")]
fn two_widths_panic() {
    let _ = vid(vectors([2, 3], 1), vectors([2, 4], 1), unit_scale(3));
}

#[test]
fn config() {
    let config = VidConfig::new("a", "b");
    assert_eq!(config, read(r#"{"student": "a", "teacher": "b"}"#));
    assert_eq!(config.regressor, VidRegressor::ThreeLayers);
    assert_config("vid", &config);
    assert_config("vid", &config.with_regressor(VidRegressor::Identity));
    assert_eq!(
        error(VidConfig::new("", "b").init()),
        "vid.student is \"\", expected the name of a feature"
    );
    assert_eq!(
        error(VidConfig::new("a", "").init()),
        "vid.teacher is \"\", expected the name of a feature"
    );
}
