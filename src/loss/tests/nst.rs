use super::*;
use crate::loss::testing::bench::*;

fn term(kernel: Kernel) -> Nst {
    Nst::new("f0", "f0").with_kernel(kernel)
}

fn all() -> [Nst; 3] {
    [default_kernel(), Kernel::Gaussian, Kernel::Linear].map(term)
}

#[test]
fn two_channels_by_hand() {
    // The student's channels are [1, 0] and [0, 1] at length 1, the teacher's is [3, 4]/5.
    let student = Feature::from(tensor(vec![2.0, 0.0, 0.0, 7.0], [1, 2, 1, 2]));
    let teacher = Feature::from(tensor(vec![6.0, 8.0], [1, 1, 1, 2]));
    let [square, gaussian, linear] = all();
    // Means of squares: (1 + 1)/4, 1, (9/25 + 16/25)/2.
    let found = one_step(&square, &student, &teacher);
    assert_close(&[found.value], &[0.5 + 1.0 - 1.0], 1e-6);
    // dL/ds_i = s_i − 2⟨s_i, t⟩t, of which only the part across s_i changes the channel's direction:
    // −2·(3/5)·(4/5) for both, over its length.
    let across = -0.96;
    assert_close(
        &found.student[0],
        &[0.0, across / 2.0, across / 7.0, 0.0],
        1e-6,
    );
    // The means are [1/2, 1/2] and [3/5, 4/5].
    assert_close(
        &[one_step(&linear, &student, &teacher).value],
        &[0.01 + 0.09],
        1e-6,
    );
    // ‖x − y‖² = 2 − 2⟨x, y⟩: 4/5 and 2/5 of mean 3/5 across, 2 between the student's.
    let k = |distance: f32| (-distance / 1.2).exp();
    let expected = (1.0 + k(2.0)) / 2.0 + 1.0 - (k(0.8) + k(0.4));
    assert_close(
        &[one_step(&gaussian, &student, &teacher).value],
        &[expected],
        1e-6,
    );
}

#[test]
fn a_dead_channel_and_a_dead_sample_have_no_gradient() {
    let teacher = changed(&maps([3, 4, 3, 3], 3), |_, x| x * 1e4);
    for loss in all() {
        for scale in [1e-8, 1.0, 1e4] {
            let dead = |i: usize| i < 25 || (50..100).contains(&i);
            let alive = maps([3, 2, 5, 5], 2);
            let student = changed(&alive, |i, x| if dead(i) { 0.0 } else { x * scale });
            let found = one_step(&loss, &student, &teacher);
            assert!(found.is_finite());
            let gradients = found.student[0].iter().enumerate();
            assert!(gradients.filter(|(i, _)| dead(*i)).all(|(_, g)| *g == 0.0));
        }
    }
}

#[test]
fn a_value_per_sample() {
    let (s, t) = (maps([3, 2, 3, 3], 4), maps([3, 4, 3, 3], 5));
    let rows = nst(s.clone(), t.clone(), Kernel::Gaussian).per_row();
    let rows: Vec<f32> = rows.into_data().iter::<f32>().collect();
    assert_eq!(rows.len(), 3);
    for (i, value) in rows.into_iter().enumerate() {
        let (s, t) = (samples(&s, i..i + 1), samples(&t, i..i + 1));
        let found = one_step(&term(Kernel::Gaussian), &s, &t).value;
        assert_close(&[found], &[value], 1e-5);
    }
}

#[test]
fn masked_samples_and_tokens_are_out() {
    for loss in all() {
        let (s, t) = ([maps([5, 2, 4, 4], 6)], [maps([5, 3, 2, 2], 7)]);
        assert_masked_samples_do_not_count(&loss, &s, &t);

        // The last token of the first sample and the whole second one.
        let valid = [true, true, false, false, false, false];
        let (s, t) = (tokens([2, 3, 2], 8), tokens([2, 3, 4], 9));
        let (both, other) = ([s.clone()], [t.clone()]);
        let found = Bench::new(&loss, &both, &other).step(&both, &other, Some(&valid));
        let first = |x: &Feature| -> Feature {
            let Feature::Rank3(x) = x else { unreachable!() };
            x.clone().slice([0..1, 0..2]).into()
        };
        let expected = one_step(&loss, &first(&s), &first(&t));
        assert_close(&[found.value], &[expected.value], 1e-5);
        assert_close(&found.student[0][..4], &expected.student[0], 1e-5);
        assert_close(&found.student[0][4..], &[0.0; 8], 0.0);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let loss = term(default_kernel());
    let s = [maps([2, 3, 2, 2], 1)];
    assert_eq!(
        check_error(&loss, &s, &[vectors([2, 3], 1)]),
        "term \"nst_f0\": feature \"f0\" of the teacher has shape [2, 3], expected [N, C, H, W] or [N, T, D]"
    );
    assert_eq!(
        check_error(&loss, &s, &[tokens([2, 4, 3], 1)]),
        "term \"nst_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 2, 2], teacher has [2, 4, 3]"
    );
}
