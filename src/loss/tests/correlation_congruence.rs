use super::*;
use crate::loss::modules::projector::Projector;
use crate::loss::testing::features::*;

fn config() -> CorrelationCongruence {
    CorrelationCongruence::new(STUDENT, TEACHER)
}

fn raw(correlation: Correlation, reduction: DifferenceReduction) -> CorrelationCongruence {
    config()
        .with_correlation(correlation)
        .with_normalize(false)
        .with_reduction(reduction)
}

fn gaussian(gamma: f64, order: u32) -> Correlation {
    Correlation::Gaussian { gamma, order }
}

/// The paper's, torchdistill's two and RepDistiller's.
fn all() -> [CorrelationCongruence; 4] {
    [
        config(),
        raw(Correlation::default(), DifferenceReduction::Norm),
        raw(Correlation::Bilinear, DifferenceReduction::Norm),
        raw(Correlation::Adjacent, DifferenceReduction::MeanSquare),
    ]
}

#[test]
fn matrices_by_hand() {
    let student = Array::new([2, 1], &[1.0, 2.0]);
    let teacher = Array::new([2, 2], &[1.0, 0.0, 0.0, 1.0]);
    // [[1, 2], [2, 4]] − [[1, 0], [0, 1]]: squares 0, 4, 4, 9.
    let mean = raw(Correlation::Bilinear, DifferenceReduction::MeanSquare);
    let found = run(&mean, &student, &teacher);
    close(&[found.value], &[17.0 / 4.0], 1e-6);
    // dL/dK = K_diff/2, and dK towards x is 2·(K_diff/2)·x: [[0, 1], [1, 3/2]]·[1, 2]·2.
    close(&found.gradient, &[4.0, 8.0], 1e-6);
    let norm = raw(Correlation::Bilinear, DifferenceReduction::Norm);
    close(
        &[run(&norm, &student, &teacher).value],
        &[17f32.sqrt() / 4.0],
        1e-6,
    );

    // At length 1 both student's samples are 1: all inner products are 1, the teacher's across 0.
    // γ = 1/2, P = 2: K(1) = (1 + 1 + 1/2)/e, K(0) = 1/e.
    let taylor = config().with_correlation(gaussian(0.5, 2));
    let difference = 1.5 / 1f32.exp();
    let found = run(&taylor, &student, &teacher);
    close(&[found.value], &[difference * difference / 2.0], 1e-6);
    // On a line a length is all there is to change, and it does not matter.
    close(&found.gradient, &[0.0, 0.0], 1e-6);
}

#[test]
fn neighbours_by_hand() {
    let loss = raw(Correlation::Adjacent, DifferenceReduction::MeanSquare);
    let student = Array::new([3, 1], &[1.0, 2.0, 3.0]);
    let teacher = Array::new([3, 1], &[0.0, 4.0, 0.0]);
    // Errors 1, 2, 3: (1·2 + 2·3)/2.
    let found = run(&loss, &student, &teacher);
    close(&[found.value], &[4.0], 1e-6);
    close(&found.gradient, &[1.0, -2.0, 1.0], 1e-6);
    // Without the middle one, the others are next to each other.
    let valid = mask(&[true, false, true]);
    let found = run_weighted(&loss, &student, &teacher, valid);
    close(&[found.value], &[3.0], 1e-6);
    close(&found.gradient, &[3.0, 0.0, 1.0], 1e-6);
}

#[test]
fn a_long_series_is_the_gaussian() {
    // ‖x − y‖² = 2 − 2·cos: with enough terms e^(−γ‖x − y‖²) at 60°, against 1 for equal samples.
    let student = Array::new([2, 2], &[2.0, 0.0, 0.5, 0.75f32.sqrt()]);
    let teacher = Array::new([2, 1], &[1.0, 1.0]);
    let loss = config().with_correlation(gaussian(0.7, 20));
    let difference = 1.0 - (-0.7f32).exp();
    let found = run(&loss, &student, &teacher).value;
    close(&[found], &[difference * difference / 2.0], 1e-6);
}

#[test]
fn extremes_are_finite() {
    for loss in all() {
        let teacher = Array::random([4, 3], 3).map(|x| x * 1e4);
        for scale in [1e-8, 1.0, 1e4] {
            let student = Array::random([4, 3], 2)
                .map(|x| x * scale)
                .with_sample(1, 0.0);
            assert!(run(&loss, &student, &teacher).is_finite());
            assert!(run(&loss, &teacher, &student).is_finite());
            let alike = student.samples(&[0, 0, 0, 0]);
            assert!(run(&loss, &alike, &teacher).is_finite());
            let (one, other) = (student.samples(&[0]), teacher.samples(&[0]));
            assert!(run(&loss, &one, &other).is_finite());
        }
        let zero = Array::filled([4, 3], 0.0);
        run(&loss, &zero, &zero).is_zero(0.0);
        // The series squares inner products of 6e9, and the norm squares that again.
        let wide = Array::filled([2, 64], 1e4);
        assert!(run(&loss, &wide, &Array::random([2, 64], 4)).is_finite());
    }
    let [paper, _, _, adjacent] = all();
    for loss in [paper, adjacent] {
        let (s, t) = (Array::random([1, 3], 2), Array::random([1, 3], 3));
        run(&loss, &s, &t).is_zero(1e-6);
    }
}

#[test]
fn order_and_once_normalised_scale_do_not_matter_to_matrices() {
    let (student, teacher) = (Array::random([4, 3], 4), Array::random([4, 5], 5));
    let [paper, gaussian, bilinear, _] = all();
    let order = [2, 0, 3, 1];
    for loss in [&paper, &gaussian, &bilinear] {
        let value = run(loss, &student, &teacher).value;
        assert!(value > 1e-3);
        let found = run(loss, &student.samples(&order), &teacher.samples(&order));
        close(&[found.value], &[value], 1e-5);
    }
    let value = run(&paper, &student, &teacher).value;
    let found = run(&paper, &student.map(|x| 9.0 * x), &teacher);
    close(&[found.value], &[value], 1e-5);
}

#[test]
fn masked_samples_are_out() {
    for loss in all() {
        let (s, t) = (Array::random([5, 3], 6), Array::random([5, 3], 7));
        masked_samples_are_left_out(&loss, s, t);
        // Neighbours are pooled and projected from 2 channels to 3.
        let (s, t) = (
            Array::random([5, 2, 4, 4], 8),
            Array::random([5, 3, 2, 2], 9),
        );
        masked_samples_are_left_out(&loss, s, t);
    }
}

#[test]
fn only_neighbours_need_one_width() {
    let (s, t) = (Array::random([4, 3], 1), Array::random([4, 5], 2));
    let [paper, .., adjacent] = all();
    assert!(modules(&paper, &s, &t).is_none());
    let projector = modules(&adjacent, &s, &t).unwrap();
    assert_eq!(projector.get::<Projector>().describe(), "linear 3 -> 5");
    assert!(modules(&adjacent, &s, &s).is_none());
}

#[test]
fn errors_say_what_is_wrong() {
    let [paper, .., adjacent] = all();
    let (s, t) = (Array::random([2, 3], 1), Array::random([3, 3], 1));
    assert_eq!(
        check(&paper, &s, &t),
        "term \"correlation_congruence_s\": features \"s\" and \"t\" differ: student has [2, 3], \
         teacher has [3, 3]"
    );
    let t = Array::random([2, 3, 1], 1);
    assert_eq!(
        check(&adjacent, &s, &t),
        "term \"correlation_congruence_s\": features \"s\" and \"t\" differ: student has [2, 3], \
         teacher has [2, 3, 1]"
    );
}

#[test]
fn weights_weight() {
    let (s, t) = (Array::random([4, 3], 11), Array::random([4, 3], 12));
    let [paper, gaussian, bilinear, adjacent] = all();
    weights_are_repetitions(&paper, &s, &t, 0);
    weights_are_repetitions(&gaussian, &s, &t, 1);
    weights_are_repetitions(&bilinear, &s, &t, 1);

    let student = Array::new([3, 1], &[1.0, 2.0, 3.0]);
    let teacher = Array::new([3, 1], &[0.0, 4.0, 0.0]);
    // Errors 1, 2, 3: 1·2 of weight 2, 2·3 of weight 1.
    let found = run_weighted(&adjacent, &student, &teacher, weights(&[1.0, 2.0, 0.5]));
    close(&[found.value], &[10.0 / 3.0], 1e-6);
}
