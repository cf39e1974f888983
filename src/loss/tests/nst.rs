use super::*;
use crate::loss::testing::features::*;

fn term(kernel: Kernel) -> Nst {
    NstConfig::new(STUDENT, TEACHER)
        .with_kernel(kernel)
        .init()
        .unwrap()
}

fn all() -> [Nst; 3] {
    [default_kernel(), Kernel::Gaussian, Kernel::Linear].map(term)
}

#[test]
fn two_channels_by_hand() {
    // The student's channels are [1, 0] and [0, 1] at length 1, the teacher's is [3, 4]/5.
    let student = Array::new([1, 2, 1, 2], &[2.0, 0.0, 0.0, 7.0]);
    let teacher = Array::new([1, 1, 1, 2], &[6.0, 8.0]);
    let [square, gaussian, linear] = all();
    // Means of squares: (1 + 1)/4, 1, (9/25 + 16/25)/2.
    let found = run(&square, &student, &teacher);
    close(&[found.value], &[0.5 + 1.0 - 1.0], 1e-6);
    // dL/ds_i = s_i − 2⟨s_i, t⟩t, of which only the part across s_i changes the channel's direction:
    // −2·(3/5)·(4/5) for both, over its length.
    let across = -0.96;
    close(
        &found.gradient,
        &[0.0, across / 2.0, across / 7.0, 0.0],
        1e-6,
    );
    // The means are [1/2, 1/2] and [3/5, 4/5].
    close(
        &[run(&linear, &student, &teacher).value],
        &[0.01 + 0.09],
        1e-6,
    );
    // ‖x − y‖² = 2 − 2⟨x, y⟩: 4/5 and 2/5 of mean 3/5 across, 2 between the student's.
    let k = |distance: f32| (-distance / 1.2).exp();
    let expected = (1.0 + k(2.0)) / 2.0 + 1.0 - (k(0.8) + k(0.4));
    close(
        &[run(&gaussian, &student, &teacher).value],
        &[expected],
        1e-6,
    );
}

#[test]
fn zero_where_student_is_teacher() {
    let feature = Array::random([2, 3, 3, 3], 1);
    for loss in all() {
        run(&loss, &feature, &feature).is_zero(1e-6);
    }
}

#[test]
fn extremes_are_finite() {
    for loss in all() {
        let teacher = Array::random([3, 4, 3, 3], 3).map(|x| x * 1e4);
        for scale in [1e-8, 1.0, 1e4] {
            let student = Array::random([3, 2, 5, 5], 2).map(|x| x * scale);
            let mut student = student.with_sample(1, 0.0);
            // A channel that is dead.
            student.data[..25].fill(0.0);
            let found = run(&loss, &student, &teacher);
            assert!(found.is_finite());
            close(&found.gradient[..25], &[0.0; 25], 0.0);
            let (one, other) = (student.samples(&[0]), teacher.samples(&[0]));
            assert!(run(&loss, &one, &other).is_finite());
        }
        let zero = Array::filled([3, 4, 3, 3], 0.0);
        run(&loss, &zero, &zero).is_zero(0.0);
    }
}

#[test]
fn order_and_scale_of_channels_do_not_matter() {
    let student = Array::random([1, 2, 3, 3], 4);
    let teacher = Array::random([1, 3, 3, 3], 5);
    let (first, second) = student.data.split_at(9);
    let scaled: Vec<f32> = first.iter().map(|x| 5.0 * x).collect();
    let other = Array::new([1, 2, 3, 3], &[second, &scaled].concat());
    for loss in all() {
        let value = run(&loss, &student, &teacher).value;
        assert!(value > 1e-2);
        close(&[run(&loss, &other, &teacher).value], &[value], 1e-5);
    }
}

#[test]
fn a_value_per_sample() {
    let (s, t) = (
        Array::random([3, 2, 3, 3], 4),
        Array::random([3, 4, 3, 3], 5),
    );
    let values = nst_no_reduction(s.feature(), t.feature(), Kernel::Gaussian);
    let values: Vec<f32> = values.into_data().iter::<f32>().collect();
    assert_eq!(values.len(), 3);
    for (i, value) in values.into_iter().enumerate() {
        let (s, t) = (s.samples(&[i]), t.samples(&[i]));
        close(
            &[run(&term(Kernel::Gaussian), &s, &t).value],
            &[value],
            1e-6,
        );
    }
}

#[test]
fn masked_samples_and_tokens_are_out() {
    for loss in all() {
        let (s, t) = (
            Array::random([5, 2, 4, 4], 6),
            Array::random([5, 3, 2, 2], 7),
        );
        masked_samples_do_not_count(&loss, s, t);

        let (s, t) = (Array::random([2, 3, 2], 8), Array::random([2, 3, 4], 9));
        // The last token of the first sample and the whole second one.
        let counts = [true, true, false, false, false, false];
        let found = run_with(&loss, &s, &t, Some(&counts), None);
        let (s, t) = (
            Array::new([1, 2, 2], &s.data[..4]),
            Array::new([1, 2, 4], &t.data[..8]),
        );
        let expected = run(&loss, &s, &t);
        close(&[found.value], &[expected.value], 1e-5);
        close(&found.gradient[..4], &expected.gradient, 1e-5);
        close(&found.gradient[4..], &[0.0; 8], 0.0);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let loss = term(default_kernel());
    let (s, t) = (Array::random([2, 3, 2, 2], 1), Array::random([2, 3], 1));
    assert_eq!(
        check(&loss, &s, &t, 2),
        "term \"nst_s\": feature \"t\" of the teacher has shape \
         [2, 3], expected [N, C, H, W] or [N, T, D]"
    );
    let t = Array::random([2, 4, 3], 1);
    assert_eq!(
        check(&loss, &s, &t, 2),
        "term \"nst_s\": features \"s\" and \"t\" differ: student has [2, 3, 2, 2], teacher has \
         [2, 4, 3]"
    );
}

#[test]
fn config_has_the_default_and_bounds() {
    let config: NstConfig = from_json(r#"{"student": "s", "teacher": "t"}"#);
    assert_eq!(config, NstConfig::new("s", "t"));
    let (degree, offset) = (2, 0.0);
    assert_eq!(config.kernel, Kernel::Polynomial { degree, offset });
    round_trip(&config);
    round_trip(&config.clone().with_kernel(Kernel::Gaussian));
    let text = r#"{"student": "s", "teacher": "t", "kernel": "linear"}"#;
    assert_eq!(from_json::<NstConfig>(text).kernel, Kernel::Linear);

    let error = config.with_kernel(Kernel::Polynomial { degree: 0, offset });
    assert_eq!(
        error.init().unwrap_err().to_string(),
        "nst.kernel.degree is 0, expected a whole number of at least 1"
    );
    let error = NstConfig::new("s", "").init().unwrap_err();
    let expected = "nst.teacher is \"\", expected the name of a feature";
    assert_eq!(error.to_string(), expected);
}
