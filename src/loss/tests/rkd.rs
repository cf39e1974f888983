use super::*;
use crate::loss::testing::features::*;

fn config() -> Rkd {
    Rkd::new(STUDENT, TEACHER)
}

fn term(distance: f64, angle: f64) -> Rkd {
    let config = config().with_distance_weight(distance);
    config.with_angle_weight(angle)
}

/// Distances, angles, squared distances, and distances with angles.
fn all() -> [Rkd; 4] {
    let squared = config().with_angle_weight(0.0).with_squared(true);
    [term(1.0, 0.0), term(0.0, 1.0), squared, term(25.0, 50.0)]
}

#[test]
fn distances_by_hand() {
    // Distances 1, 3, 2 of mean 2 against 2, 1, 1 of mean 4/3.
    let student = Array::new([3, 1], &[0.0, 1.0, 3.0]);
    let teacher = Array::new([3, 1], &[0.0, 2.0, 1.0]);
    // [1/2, 3/2, 1] − [3/2, 3/4, 3/4] = [−1, 3/4, 1/4], each twice among nine: 1/2, 9/32, 1/32.
    let found = run(&term(1.0, 0.0), &student, &teacher);
    close(&[found.value], &[2.0 * (0.5 + 10.0 / 32.0) / 9.0], 1e-6);
    // With δ = d/μ, dL/dδ = [−1, 3/4, 1/4]·2/9; d/dd_k = (g_k − ⟨g, δ⟩/3)/μ since μ is a third of
    // the sum: ⟨g, δ⟩ = 2/9·(−1/2 + 9/8 + 1/4) = 2/9·7/8.
    let by_distance = [-1.0, 0.75, 0.25].map(|g: f32| 2.0 / 9.0 * (g - 0.875 / 3.0) / 2.0);
    let [d01, d02, d12] = by_distance;
    close(&found.gradient, &[-d01 - d02, d01 - d12, d02 + d12], 1e-6);
}

#[test]
fn a_large_difference_counts_linearly() {
    // One pair far from three that coincide but for 0.01, so that its distance over the mean is above 1.
    let student = Array::new([4, 1], &[0.0, 0.01, 0.02, 10.0]);
    let teacher = Array::new([4, 1], &[10.0, 0.01, 0.02, 0.0]);
    let (s, t) = (
        [0.01, 0.02, 10.0, 0.01, 9.99, 9.98],
        [9.99, 9.98, 10.0, 0.01, 0.01, 0.02],
    );
    let mean = |d: [f32; 6]| d.iter().sum::<f32>() / 6.0;
    let differences = (0..6).map(|i| (s[i] / mean(s) - t[i] / mean(t)).abs());
    let values = differences.map(|d| match d < 1.0 {
        true => d * d / 2.0,
        false => d - 0.5,
    });
    let expected = 2.0 * values.sum::<f32>() / 16.0;
    close(
        &[run(&term(1.0, 0.0), &student, &teacher).value],
        &[expected],
        1e-5,
    );
}

#[test]
fn squared_distances_by_hand() {
    // 1, 9, 4 of mean 14/3 against 4, 1, 1 of mean 2.
    let student = Array::new([3, 1], &[0.0, 1.0, 3.0]);
    let teacher = Array::new([3, 1], &[0.0, 2.0, 1.0]);
    let loss = config().with_angle_weight(0.0).with_distance_weight(1.0);
    let loss = loss.with_squared(true);
    let [near, far, middle] = [3.0f32 / 14.0 - 2.0, 27.0 / 14.0 - 0.5, 12.0 / 14.0 - 0.5];
    // The first two differ by more than 1.
    let sum = (near.abs() - 0.5) + (far - 0.5) + middle * middle / 2.0;
    close(
        &[run(&loss, &student, &teacher).value],
        &[2.0 * sum / 9.0],
        1e-6,
    );
}

#[test]
fn extremes_are_finite() {
    for loss in all() {
        let teacher = Array::random([4, 2, 2, 2], 3).map(|x| x * 1e4);
        for scale in [1e-8, 1.0, 1e4] {
            let student = Array::random([4, 3], 2).map(|x| x * scale);
            assert!(run(&loss, &student, &teacher).is_finite());
            assert!(run(&loss, &teacher, &student).is_finite());
            let zeros = student.clone().with_sample(1, 0.0).with_sample(2, 0.0);
            assert!(run(&loss, &zeros, &teacher).is_finite());
            let duplicates = student.samples(&[0, 0, 1, 1]);
            assert!(run(&loss, &duplicates, &teacher).is_finite());
            assert!(run(&loss, &teacher, &duplicates).is_finite());
            let alike = student.samples(&[0, 0, 0, 0]);
            let found = run(&loss, &alike, &teacher);
            assert!(found.is_finite() && found.gradient.iter().all(|g| *g == 0.0));
            // One sample has no relations.
            let (one, other) = (student.samples(&[0]), teacher.samples(&[0]));
            run(&loss, &one, &other).is_zero(0.0);
        }
    }
}

#[test]
fn shift_scale_and_rotation_do_not_matter() {
    let (student, teacher) = (Array::random([5, 2], 4), Array::random([5, 3], 5));
    let (sin, cos) = (0.6f32, 0.8f32);
    let moved: Vec<f32> = student
        .data
        .chunks(2)
        .flat_map(|v| [cos * v[0] - sin * v[1], sin * v[0] + cos * v[1]])
        .map(|x| 3.0 * x + 2.0)
        .collect();
    let moved = Array::new([5, 2], &moved);
    for loss in all() {
        let value = run(&loss, &student, &teacher).value;
        assert!(value > 1e-2);
        close(&[run(&loss, &moved, &teacher).value], &[value], 1e-4);
    }
}

#[test]
fn the_term_is_the_weighted_sum_of_both_halves() {
    let (s, t) = (Array::random([5, 2], 6), Array::random([5, 3], 7));
    let value = |x: Tensor<1>| x.into_scalar::<f32>();
    let distance = value(rkd_distance(s.feature(), t.feature(), false));
    let angle = value(rkd_angle(s.feature(), t.feature()));
    let found = run(&term(2.0, 3.0), &s, &t).value;
    close(&[found], &[2.0 * distance + 3.0 * angle], 1e-6);
    close(
        &[run(&term(2.0, 0.0), &s, &t).value],
        &[2.0 * distance],
        1e-6,
    );
    close(&[run(&term(0.0, 3.0), &s, &t).value], &[3.0 * angle], 1e-6);
}

#[test]
fn masked_samples_are_out() {
    for loss in all() {
        let (s, t) = (Array::random([5, 3], 6), Array::random([5, 2, 2, 1], 7));
        masked_samples_are_left_out(&loss, s, t);
    }
}

#[test]
fn one_valid_sample_has_no_relations() {
    let valid = mask(&[false, true, false]);
    for loss in all() {
        let (s, t) = (Array::random([3, 3], 6), Array::random([3, 2], 7));
        run_weighted(&loss, &s, &t, valid.clone()).is_zero(0.0);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let loss = config();
    let (s, t) = (Array::random([2, 3], 1), Array::random([3, 3], 1));
    assert_eq!(
        check(&loss, &s, &t),
        "term \"rkd_s\": features \"s\" and \"t\" differ: student has [2, 3], teacher has [3, 3]"
    );
}

#[test]
fn weighted_angles_are_those_of_repeated_samples() {
    let (s, t) = (Array::random([4, 3], 11), Array::random([4, 5], 12));
    weights_are_repetitions(&term(0.0, 1.0), &s, &t, 0);
}

/// A sample and its copy are not two samples apart, so distances have numbers of their own.
#[test]
fn weighted_distances_by_hand() {
    let student = Array::new([3, 1], &[0.0, 1.0, 3.0]);
    let teacher = Array::new([3, 1], &[0.0, 2.0, 1.0]);
    // Pairs 01, 02, 12 of weights 2, 1, 2: distances 1, 3, 2 of mean 9/5 against 2, 1, 1 of 7/5,
    // which differ by −55/63, 60/63 and 25/63.
    let sum = 2.0 * 55f32.powi(2) + 60f32.powi(2) + 2.0 * 25f32.powi(2);
    let expected = sum / 63f32.powi(2) / 16.0;
    for scale in [1.0, 0.1, 8.0] {
        let w = weights(&[1.0, 2.0, 1.0].map(|w| w * scale));
        let found = run_weighted(&term(1.0, 0.0), &student, &teacher, w);
        close(&[found.value], &[expected], 1e-6);
    }
}
