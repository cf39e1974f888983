use super::*;
use crate::loss::testing::features::*;

fn term(eps: f64) -> Pkt {
    Pkt::new(STUDENT, TEACHER).with_eps(eps)
}

#[test]
fn two_samples_by_hand() {
    // The student's are at a right angle, the teacher's opposite.
    let student = Array::new([2, 2], &[2.0, 0.0, 0.0, 3.0]);
    let teacher = Array::new([2, 2], &[1.0, 0.0, -5.0, 0.0]);
    // Closeness [1, 1/2] gives q = [2/3, 1/3], closeness [1, 0] gives p = [1, 0].
    let found = run(&term(1e-7), &student, &teacher);
    close(&[found.value], &[2.0 * 1.5f32.ln() / 4.0], 1e-5);
    // Both rows: d(−ln q)/dk = 1/(1 + k) = 2/3 at the closeness k = (1 + cos)/2, so 2·(2/3)/2/4 for
    // the cosine; its derivative towards x is y/(‖x‖‖y‖) at a right angle.
    let by_cosine = 1.0 / 6.0;
    let expected = [0.0, by_cosine / 2.0, by_cosine / 3.0, 0.0];
    close(&found.gradient, &expected, 1e-5);
}

#[test]
fn student_and_teacher_are_not_the_same() {
    // Neighbours by a third, and no neighbours at all.
    let s = Array::new([2, 2], &[1.0, 0.0, 0.0, 1.0]);
    let t = Array::new([2, 2], &[1.0, 0.0, -1.0, 0.0]);
    let (there, back) = (run(&term(1e-7), &s, &t), run(&term(1e-7), &t, &s));
    assert!((there.value - back.value).abs() > 1e-3);
}

#[test]
fn extremes_are_finite() {
    let teacher = Array::random([4, 5], 3).map(|x| x * 1e4);
    for eps in [1e-7, 1e-6, 1e-2] {
        for scale in [1.0, 1e4] {
            let student = Array::random([4, 3], 2).map(|x| x * scale);
            let student = student.with_sample(2, 0.0);
            assert!(run(&term(eps), &student, &teacher).is_finite());
            let duplicate = student.samples(&[0, 0, 1, 2]);
            assert!(run(&term(eps), &duplicate, &teacher).is_finite());
            // A single sample is its own neighbour for certain.
            let (one, other) = (student.samples(&[0]), teacher.samples(&[0]));
            run(&term(eps), &one, &other).is_zero(1e-6);
        }
        // A zero vector is at a right angle to all others, and nothing pulls at it.
        let student = Array::random([4, 3], 2).with_sample(2, 0.0);
        let found = run(&term(eps), &student, &teacher);
        close(&found.gradient[6..9], &[0.0; 3], 0.0);
    }
}

#[test]
fn rounding_makes_no_probability_negative() {
    // Among opposite pairs, some cosines come out below -1, and an ε this small would not hide it.
    let half = Array::random([16, 7], 8).map(|x| x * 100.0);
    let opposite = half.clone().map(|x| -x);
    let all = Array::new([32, 7], &[half.data, opposite.data].concat());
    let teacher = Array::random([32, 3], 9);
    assert!(run(&term(1e-12), &all, &teacher).is_finite());
    assert!(run(&term(1e-12), &teacher, &all).is_finite());
}

#[test]
fn lengths_and_order_do_not_matter() {
    let (student, teacher) = (Array::random([4, 3], 4), Array::random([4, 5], 5));
    let value = run(&term(1e-7), &student, &teacher).value;
    assert!(value > 1e-3);
    let longer = student.clone().map(|x| x * 100.0);
    close(&[run(&term(1e-7), &longer, &teacher).value], &[value], 1e-5);
    let order = [2, 0, 3, 1];
    let (s, t) = (student.samples(&order), teacher.samples(&order));
    close(&[run(&term(1e-7), &s, &t).value], &[value], 1e-5);
}

#[test]
fn masked_samples_are_out() {
    // Opposite in pairs, so that the value is large enough to compare.
    let student = Array::random([5, 3], 6);
    let teacher = Array::random([5, 2, 2, 1], 7).map(|x| x * 2.0);
    masked_samples_are_left_out(&term(1e-7), student, teacher);
}

#[test]
fn errors_say_what_is_wrong() {
    let (s, t) = (Array::random([2, 3], 1), Array::random([3, 3], 1));
    assert_eq!(
        check(&term(1e-7), &s, &t),
        "term \"pkt_s\": features \"s\" and \"t\" differ: student has [2, 3], teacher has [3, 3]"
    );
}

#[test]
fn weights_weight() {
    let (s, t) = (Array::random([4, 3], 11), Array::random([4, 5], 12));
    weights_are_repetitions(&term(1e-7), &s, &t, 1);
}
