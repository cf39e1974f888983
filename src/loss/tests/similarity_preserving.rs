use super::*;
use crate::loss::testing::features::*;

fn term() -> SimilarityPreserving {
    SimilarityPreserving::new(STUDENT, TEACHER)
}

fn both() -> [SimilarityPreserving; 2] {
    [SimilarityNorm::L2, SimilarityNorm::L1].map(|norm| term().with_norm(norm))
}

#[test]
fn two_numbers_by_hand() {
    // F Fᵀ = [[1, 2], [2, 4]]: both rows are [1, 2] but for their length. The teacher's are unit.
    let student = Array::new([2, 1], &[1.0, 2.0]);
    let teacher = Array::new([2, 2], &[3.0, 0.0, 0.0, 5.0]);
    let [l2, l1] = both();
    // Rows [1, 2]/√5: (1 − 1/√5)² + (2/√5)² + (1/√5)² + (1 − 2/√5)² over 4.
    let found = run(&l2, &student, &teacher);
    close(&[found.value], &[1.0 - 1.5 / 5f32.sqrt()], 1e-6);
    // Rows [1, 2]/3: (2/3)² + (2/3)² + (1/3)² + (1/3)² over 4.
    let found = run(&l1, &student, &teacher);
    close(&[found.value], &[10.0 / 36.0], 1e-6);
    // With r = y/(x + y) the value is (r² + (1 − r)²)/2 and d/dx = (2r − 1)·(−y/(x + y)²).
    close(&found.gradient, &[-2.0 / 27.0, 1.0 / 27.0], 1e-6);
}

#[test]
fn extremes_are_finite() {
    for loss in both() {
        let student = Array::random([4, 6], 2);
        let teacher = Array::random([4, 2, 4, 4], 3).map(|x| x * 1e4);
        for scale in [1e-8, 1.0, 1e4] {
            let student = student.clone().map(|x| x * scale).with_sample(2, 0.0);
            assert!(run(&loss, &student, &teacher).is_finite());
            let duplicate = student.samples(&[0, 0, 1, 1]);
            assert!(run(&loss, &duplicate, &teacher).is_finite());
            // One sample is like itself alone, whatever it is.
            let (one, other) = (student.samples(&[0]), teacher.samples(&[0]));
            assert!(run(&loss, &one, &other).is_finite());
        }
        run(&loss, &Array::random([1, 6], 2), &Array::random([1, 3], 3)).is_zero(1e-6);
        let found = run(&loss, &Array::filled([4, 6], 0.0), &teacher);
        assert!(found.is_finite() && found.gradient.iter().all(|g| *g == 0.0));
    }
}

#[test]
fn scale_and_rotation_do_not_matter() {
    let student = Array::random([4, 2], 4);
    let teacher = Array::random([4, 5], 5);
    let (sin, cos) = (0.6f32, 0.8f32);
    let turned: Vec<f32> = student
        .data
        .chunks(2)
        .flat_map(|v| [cos * v[0] - sin * v[1], sin * v[0] + cos * v[1]])
        .map(|x| 3.0 * x)
        .collect();
    for loss in both() {
        let value = run(&loss, &student, &teacher).value;
        assert!(value > 1e-2);
        let turned = Array::new([4, 2], &turned);
        close(&[run(&loss, &turned, &teacher).value], &[value], 1e-5);
    }
}

#[test]
fn masked_samples_are_out() {
    for loss in both() {
        let (s, t) = (Array::random([5, 3], 6), Array::random([5, 2, 2, 2], 7));
        masked_samples_are_left_out(&loss, s, t);
    }
}

#[test]
fn a_mask_of_tokens_leaves_tokens_out() {
    let student = Array::random([3, 2, 4], 8);
    let teacher = Array::random([3, 2, 5], 9);
    // The second sample has one token, the third none.
    let valid = mask(&[true, true, true, false, false, false]);
    let token = |mut x: Array, width: usize| {
        x.data[3 * width..4 * width].fill(0.0);
        x.samples(&[0, 1])
    };
    for loss in both() {
        let found = run_weighted(&loss, &student, &teacher, valid.clone());
        let expected = run(
            &loss,
            &token(student.clone(), 4),
            &token(teacher.clone(), 5),
        );
        close(&[found.value], &[expected.value], 1e-6);
        close(&found.gradient[..12], &expected.gradient[..12], 1e-6);
        close(&found.gradient[12..], &[0.0; 12], 0.0);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let loss = term();
    let (s, t) = (Array::random([2, 3], 1), Array::random([3, 3], 1));
    assert_eq!(
        check(&loss, &s, &t),
        "term \"similarity_preserving_s\": features \"s\" and \"t\" differ: student has [2, 3], \
         teacher has [3, 3]"
    );
}

#[test]
fn weights_weight() {
    let (s, t) = (Array::random([4, 3], 11), Array::random([4, 5], 12));
    let [l2, l1] = both();
    weights_are_repetitions(&l2, &s, &t, 1);
    weights_are_repetitions(&l1, &s, &t, 2);
}
