use std::slice::from_ref;

use burn::tensor::{Device, Tensor};

use super::*;
use crate::loss::testing::bench::*;

fn loss(has_regressor: bool) -> Vid {
    Vid::new("f0", "f0").with_regressor(has_regressor)
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
    let value = vid(student.clone(), teacher, log_scale.clone(), 1e-5).mean();
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
    let loss = loss(false);
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
    let value = vid(map.clone(), map, log_scale, 1e-5).mean();
    // log(1 + e⁻¹⁰⁰) vanishes beside ε.
    assert_close(&[value.into_scalar()], &[0.5 * 1e-5f32.ln()], 1e-5);
}

#[test]
fn a_large_variance_leaves_its_logarithm() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 3, 2, 2], 2));
    let log_scale = Tensor::<1>::full([3], 1e6, &Device::flex());
    let value = vid(student, teacher, log_scale, 1e-5).mean();
    assert_close(&[value.into_scalar()], &[0.5 * 1e6f32.ln()], 1e-5);
}

#[test]
fn vectors_tokens_and_maps_agree() {
    let values = |seed| values(12, seed);
    let vectors = vid(
        tensor(values(1), [4, 3]),
        tensor(values(2), [4, 3]),
        unit_scale(3),
        1e-5,
    )
    .mean();
    let tokens = vid(
        tensor(values(1), [2, 2, 3]),
        tensor(values(2), [2, 2, 3]),
        unit_scale(3),
        1e-5,
    )
    .mean();
    let vectors: f32 = vectors.into_scalar();
    assert_close(&[tokens.into_scalar()], &[vectors], 1e-5);
    let map = |seed| tensor(values(seed), [4, 3, 1, 1]);
    assert_close(
        &[vid(map(1), map(2), unit_scale(3), 1e-5)
            .mean()
            .into_scalar()],
        &[vectors],
        1e-5,
    );
}

#[test]
fn maps_of_two_sizes_meet_at_the_smaller() {
    let student: Tensor<4> = tensor((0..8).map(|i| i as f32).collect(), [1, 1, 2, 4]);
    // Means of 2 × 1 windows: (i + i + 4) / 2.
    let teacher = tensor(vec![2.0, 3.0, 4.0, 5.0], [1, 1, 1, 4]);
    let value = vid(student, teacher, unit_scale(1), 1e-5).mean();
    assert!(value.into_scalar::<f32>().abs() < 1e-4);
}

#[test]
fn masked_rows_do_not_count() {
    let loss = loss(true);
    let (student, teacher) = (maps([3, 3, 2, 2], 1), maps([3, 4, 2, 2], 2));
    assert_masked_samples_do_not_count(&loss, &[student], &[teacher]);
    let (student, teacher) = (tokens([3, 2, 3], 1), tokens([3, 2, 4], 2));
    assert_masked_samples_do_not_count(&loss, &[student], &[teacher]);
    assert_masked_tokens_do_not_count(&loss, [3, 4]);
}

#[test]
fn three_layers_or_none() {
    let count = |regressor| {
        let loss = loss(regressor);
        let bench = Bench::new(&loss, &[maps([1, 4, 1, 1], 1)], &[maps([1, 4, 1, 1], 1)]);
        let modules = bench.modules.unwrap();
        modules.get::<VidModules>().layers.len()
    };
    assert_eq!(count(true), 3);
    assert_eq!(count(false), 0);
}

#[test]
fn variances_start_where_they_are_told_to() {
    let map = maps([2, 3, 2, 2], 1);
    for variance in [1e-3, 1.0, 1e4] {
        let loss = loss(false).with_epsilon(1e-4);
        let loss = loss.with_initial_variance(variance);
        let value = one_step(&loss, &map, &map).value;
        assert_close(&[value], &[0.5 * (variance as f32).ln()], 1e-4);
    }
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let three = loss(true);
    assert_eq!(
        check_error(&three, &[maps([2, 3, 2, 2], 1)], &[vectors([2, 3], 1)]),
        "term \"vid_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 2, 2], teacher has [2, 3]"
    );
    assert_eq!(
        check_error(&three, &[tokens([2, 3, 4], 1)], &[tokens([2, 4, 4], 1)]),
        "term \"vid_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 4], teacher has [2, 4, 4]"
    );
    let identity = loss(false);
    assert_eq!(
        check_error(&identity, &[vectors([2, 3], 1)], &[vectors([2, 4], 1)]),
        "term \"vid_f0\": features \"f0\" and \"f0\" differ: student has [2, 3], teacher has [2, 4]"
    );
    let missing = Vid::new("f0", "f9");
    assert_eq!(
        check_error(&missing, &[vectors([2, 3], 1)], &[vectors([2, 4], 1)]),
        "term \"vid_f0\" needs feature \"f9\" of the teacher, which gives [\"f0\"]"
    );
}

#[test]
#[should_panic(expected = "features have one rank: student has [2, 3], teacher has [2, 3, 1, 1]")]
fn two_ranks_panic() {
    let _ = vid(
        vectors([2, 3], 1),
        maps([2, 3, 1, 1], 1),
        unit_scale(3),
        1e-5,
    )
    .mean();
}

#[test]
#[should_panic(expected = "student and teacher features have one shape")]
fn two_widths_panic() {
    let _ = vid(vectors([2, 3], 1), vectors([2, 4], 1), unit_scale(3), 1e-5).mean();
}
