use super::*;
use crate::loss::testing::bench::*;

fn config() -> AttentionTransfer {
    AttentionTransfer::new("f0", "f0")
}

fn both() -> [AttentionTransfer; 2] {
    [DifferenceReduction::Norm, DifferenceReduction::MeanSquare]
        .map(|reduction| config().with_reduction(reduction))
}

#[test]
fn one_channel_of_two_places_by_hand() {
    // Squares [9, 16] at length 1 are [9, 16]/√337, the teacher's are [1, 0].
    let student = Feature::from(tensor(vec![3.0, 4.0], [1, 1, 1, 2]));
    let teacher = Feature::from(tensor(vec![2.0, 0.0], [1, 1, 1, 2]));
    let [norm, mean_square] = both();
    // ‖u − v‖² = 2 − 2⟨u, v⟩ with ⟨u, v⟩ = 9/√337.
    let square = 2.0 - 18.0 / 337f32.sqrt();
    let found = one_step(&norm, &student, &teacher);
    assert_close(&[found.value], &[square.sqrt()], 1e-6);
    let by_square = one_step(&mean_square, &student, &teacher);
    assert_close(&[by_square.value], &[square / 2.0], 1e-6);

    // d⟨u, v⟩/da = (1/‖a‖)(v − ⟨u, v⟩u), a = f², so times 2f; d‖·‖²/2 = −d⟨u, v⟩.
    let (length, cosine) = (337f32.sqrt(), 9.0 / 337f32.sqrt());
    let by_map = [
        (1.0 - cosine * 9.0 / length) / length,
        -cosine * 16.0 / 337.0,
    ];
    let expected = [-by_map[0] * 6.0, -by_map[1] * 8.0];
    assert_close(&by_square.student[0], &expected, 1e-6);
    assert_close(
        &found.student[0],
        &expected.map(|g| g / square.sqrt()),
        1e-6,
    );
}

#[test]
fn a_high_power_leaves_the_strongest_place() {
    // (0.9)^64 is 0.001: attention is where the larger of the two is.
    let student = Feature::from(tensor(vec![1.0, 0.9], [1, 1, 1, 2]));
    let teacher = Feature::from(tensor(vec![0.9, 1.0], [1, 1, 1, 2]));
    let loss = config().with_power(64);
    let found = one_step(&loss, &student, &teacher);
    assert!((found.value - 2f32.sqrt()).abs() < 3e-3, "{}", found.value);
}

#[test]
fn scale_does_not_matter_where_powers_would_vanish_or_overflow() {
    let (student, teacher) = (maps([2, 2, 3, 3], 4), maps([2, 3, 3, 3], 5));
    let loss = config().with_power(12);
    let value = one_step(&loss, &student, &teacher).value;
    for scale in [1e-4, 1e4] {
        let other = changed(&student, |_, x| x * scale);
        assert_close(&[one_step(&loss, &other, &teacher).value], &[value], 1e-6);
    }
}

#[test]
fn a_feature_of_zeros_has_no_gradient() {
    let (zero, teacher) = (
        changed(&maps([2, 4, 3, 3], 1), |_, _| 0.0),
        maps([2, 4, 3, 3], 3),
    );
    for power in [1, 2, 3, 8] {
        for loss in both().map(|loss| loss.with_power(power)) {
            one_step(&loss, &zero, &zero).assert_zero(0.0);
            let found = one_step(&loss, &zero, &teacher);
            assert!(found.is_finite() && found.student[0].iter().all(|g| *g == 0.0));
        }
    }
}

#[test]
fn an_odd_power_keeps_signs_only_if_asked() {
    let student = Feature::from(tensor(vec![1.0, -1.0], [1, 1, 1, 2]));
    let teacher = Feature::from(tensor(vec![1.0, 1.0], [1, 1, 1, 2]));
    let loss = config().with_power(3);
    one_step(&loss, &student, &teacher).assert_zero(0.0);
    let signed = loss.with_signed(true);
    // [1, -1]/√2 against [1, 1]/√2.
    assert_close(
        &[one_step(&signed, &student, &teacher).value],
        &[2f32.sqrt()],
        1e-6,
    );
}

#[test]
fn sequences_attend_to_tokens() {
    // One sample of three tokens, the width last.
    let student = Feature::from(tensor(vec![1.0, 0.0, 0.0, 0.0, 5.0, 5.0], [1, 3, 2]));
    let teacher = Feature::from(tensor(vec![0.0, 2.0, 7.0], [1, 3, 1]));
    let loss = config();
    // Without the third token: [1, 0] against [0, 1].
    let (student, teacher) = ([student], [teacher]);
    let bench = Bench::new(&loss, &student, &teacher);
    let found = bench.step(&student, &teacher, Some(&[true, true, false]));
    assert_close(&[found.value], &[2f32.sqrt()], 1e-6);
    assert_close(&found.student[0][4..], &[0.0, 0.0], 0.0);
}

#[test]
fn masked_pixels_have_no_attention() {
    // Two columns of which one is masked, in an image twice as high and wide.
    let student = [Feature::from(tensor(
        vec![3.0, f32::NAN, 0.0],
        [1, 1, 1, 3],
    ))];
    let teacher = [Feature::from(tensor(
        vec![0.0, f32::NAN, 5.0],
        [1, 1, 1, 3],
    ))];
    let loss = config();
    let by = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0].repeat(2);
    let bench = Bench::new(&loss, &student, &teacher);
    let found = bench.weighted_step(&student, &teacher, Some(weights(&by, [1, 2, 6])));
    assert_close(&[found.value], &[2f32.sqrt()], 1e-6);
    assert!(found.is_finite());
}

#[test]
fn masked_samples_are_out() {
    for loss in both() {
        let (s, t) = (maps([5, 2, 4, 4], 6), maps([5, 3, 2, 2], 7));
        assert_masked_samples_do_not_count(&loss, &[s], &[t]);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let loss = config();
    let vector = [vectors([2, 3], 1)];
    assert_eq!(
        check_error(&loss, &vector, &vector),
        "term \"attention_transfer_f0\": feature \"f0\" of the student has shape [2, 3], expected [N, C, H, W] or [N, T, D]"
    );
    assert_eq!(
        check_error(&loss, &[tokens([2, 3, 4], 1)], &[tokens([2, 5, 4], 1)]),
        "term \"attention_transfer_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 4], teacher has [2, 5, 4]"
    );
}
