use super::*;
use crate::loss::modules::projector::Projector;
use crate::loss::testing::features::*;

fn term(kernel: Kernel) -> Mmd {
    Mmd::new(STUDENT, TEACHER).with_kernel(kernel)
}

fn all() -> [Mmd; 3] {
    let (degree, offset) = (2, 1.0);
    [
        Kernel::Gaussian,
        Kernel::Linear,
        Kernel::Polynomial { degree, offset },
    ]
    .map(term)
}

#[test]
fn two_samples_by_hand() {
    let student = Array::new([2, 1], &[0.0, 1.0]);
    let teacher = Array::new([2, 1], &[2.0, 3.0]);
    let [gaussian, linear, square] = all();
    // The means are 1/2 and 5/2; d(m_s − m_t)²/ds is 2·(−2)/2.
    let found = run(&linear, &student, &teacher);
    close(&[found.value], &[4.0], 1e-5);
    close(&found.gradient, &[-2.0, -2.0], 1e-5);
    // (xy + 1)²: (1 + 1 + 1 + 4)/4, (25 + 49 + 49 + 100)/4, (1 + 1 + 9 + 16)/4 twice.
    close(
        &[run(&square, &student, &teacher).value],
        &[7.0 / 4.0 + 223.0 / 4.0 - 13.5],
        1e-5,
    );
    // Squared distances 4, 9, 1, 4 across, of mean 9/2, and 1 within each.
    let k = |distance: f32| (-distance / 9.0).exp();
    let expected = 1.0 + k(1.0) - (k(4.0) + k(9.0) + k(1.0) + k(4.0)) / 2.0;
    close(
        &[run(&gaussian, &student, &teacher).value],
        &[expected],
        1e-6,
    );
}

#[test]
fn zero_where_both_have_the_same_samples() {
    let feature = Array::random([4, 3], 1);
    for loss in all() {
        run(&loss, &feature, &feature).is_zero(1e-5);
        run(&loss, &feature, &feature.samples(&[3, 1, 0, 2])).is_zero(1e-5);
    }
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
            assert!(run(&loss, &alike, &alike).is_finite());
            let (one, other) = (student.samples(&[0]), teacher.samples(&[0]));
            assert!(run(&loss, &one, &other).is_finite());
        }
        let zero = Array::filled([4, 3], 0.0);
        run(&loss, &zero, &zero).is_zero(0.0);
    }
}

#[test]
fn a_rotation_of_both_does_not_matter() {
    let (student, teacher) = (Array::random([4, 2], 4), Array::random([4, 2], 5));
    let turned = |x: &Array| {
        let turn = |v: &[f32]| [0.8 * v[0] - 0.6 * v[1], 0.6 * v[0] + 0.8 * v[1]];
        let data: Vec<f32> = x.data.chunks(2).flat_map(turn).collect();
        Array::new([4, 2], &data)
    };
    for loss in all() {
        let value = run(&loss, &student, &teacher).value;
        assert!(value > 1e-3);
        let found = run(&loss, &turned(&student), &turned(&teacher));
        close(&[found.value], &[value], 1e-5);
    }
}

#[test]
fn masked_samples_are_out() {
    for loss in all() {
        let (s, t) = (Array::random([5, 3], 6), Array::random([5, 3], 7));
        masked_samples_are_left_out(&loss, s, t);
        // Pooled, and projected from 2 channels to 3.
        let (s, t) = (
            Array::random([5, 2, 4, 4], 8),
            Array::random([5, 3, 2, 2], 9),
        );
        masked_samples_are_left_out(&loss, s, t);
    }
}

#[test]
fn a_projector_stands_where_widths_differ() {
    let loss = term(Kernel::Gaussian);
    let (s, t) = (Array::random([4, 3], 1), Array::random([4, 5], 2));
    let projector = modules(&loss, &s, &t).unwrap();
    assert_eq!(projector.get::<Projector>().describe(), "linear 3 -> 5");
    assert!(modules(&loss, &s, &s).is_none());
}

#[test]
fn errors_say_what_is_wrong() {
    let loss = term(Kernel::Linear);
    let (s, t) = (Array::random([2, 3], 1), Array::random([2, 3, 4], 1));
    assert_eq!(
        check(&loss, &s, &t),
        "term \"mmd_s\": features \"s\" and \"t\" differ: student has [2, 3], teacher has [2, 3, 4]"
    );
}

#[test]
fn weights_weight() {
    let (s, t) = (Array::random([4, 3], 11), Array::random([4, 3], 12));
    for loss in all() {
        weights_are_repetitions(&loss, &s, &t, 0);
    }
}
