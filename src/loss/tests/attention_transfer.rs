use super::*;
use crate::loss::testing::features::*;

fn config() -> AttentionTransferConfig {
    AttentionTransferConfig::new(STUDENT, TEACHER)
}

fn both() -> [AttentionTransfer; 2] {
    [AttentionReduction::Norm, AttentionReduction::MeanSquare]
        .map(|reduction| config().with_reduction(reduction).init().unwrap())
}

#[test]
fn one_channel_of_two_places_by_hand() {
    // Squares [9, 16] at length 1 are [9, 16]/√337, the teacher's are [1, 0].
    let student = Array::new([1, 1, 1, 2], &[3.0, 4.0]);
    let teacher = Array::new([1, 1, 1, 2], &[2.0, 0.0]);
    let [norm, mean_square] = both();
    // ‖u − v‖² = 2 − 2⟨u, v⟩ with ⟨u, v⟩ = 9/√337.
    let square = 2.0 - 18.0 / 337f32.sqrt();
    let found = run(&norm, &student, &teacher);
    close(&[found.value], &[square.sqrt()], 1e-6);
    let by_square = run(&mean_square, &student, &teacher);
    close(&[by_square.value], &[square / 2.0], 1e-6);

    // d⟨u, v⟩/da = (1/‖a‖)(v − ⟨u, v⟩u), a = f², so times 2f; d‖·‖²/2 = −d⟨u, v⟩.
    let (length, cosine) = (337f32.sqrt(), 9.0 / 337f32.sqrt());
    let by_map = [
        (1.0 - cosine * 9.0 / length) / length,
        -cosine * 16.0 / 337.0,
    ];
    let expected = [-by_map[0] * 6.0, -by_map[1] * 8.0];
    close(&by_square.gradient, &expected, 1e-6);
    close(&found.gradient, &expected.map(|g| g / square.sqrt()), 1e-6);
}

#[test]
fn zero_where_student_is_teacher() {
    let feature = Array::random([3, 2, 4, 4], 1);
    for loss in both() {
        run(&loss, &feature, &feature).is_zero(0.0);
    }
}

#[test]
fn a_high_power_leaves_the_strongest_place() {
    // (0.9)^64 is 0.001: attention is where the larger of the two is.
    let student = Array::new([1, 1, 1, 2], &[1.0, 0.9]);
    let teacher = Array::new([1, 1, 1, 2], &[0.9, 1.0]);
    let loss = config().with_power(64).init().unwrap();
    let found = run(&loss, &student, &teacher);
    assert!((found.value - 2f32.sqrt()).abs() < 3e-3, "{}", found.value);
}

#[test]
fn extremes_are_finite() {
    for power in [1, 2, 3, 8] {
        for reduction in [AttentionReduction::Norm, AttentionReduction::MeanSquare] {
            let loss = config().with_power(power).with_reduction(reduction);
            let loss = loss.init().unwrap();
            let student = Array::random([3, 2, 3, 3], 2);
            let teacher = Array::random([3, 4, 3, 3], 3).map(|x| x * 1e4);
            for scale in [1e-8, 1.0, 1e4] {
                let student = student.clone().map(|x| x * scale).with_sample(1, 0.0);
                assert!(run(&loss, &student, &teacher).is_finite());
                let (one, other) = (student.samples(&[0]), teacher.samples(&[0]));
                assert!(run(&loss, &one, &other).is_finite());
            }
            let zero = Array::filled([3, 4, 3, 3], 0.0);
            run(&loss, &zero, &zero).is_zero(0.0);
            let found = run(&loss, &zero, &teacher);
            assert!(found.is_finite() && found.gradient.iter().all(|g| *g == 0.0));
        }
    }
}

#[test]
fn scale_and_order_of_channels_do_not_matter() {
    let student = Array::random([2, 2, 3, 3], 4);
    let teacher = Array::random([2, 3, 3, 3], 5);
    let swapped: Vec<f32> = student
        .data
        .chunks(18)
        .flat_map(|sample| [&sample[9..], &sample[..9]].concat())
        .collect();
    for loss in both() {
        let value = run(&loss, &student, &teacher).value;
        assert!(value > 1e-3);
        let other = Array::new([2, 2, 3, 3], &swapped).map(|x| x * 7.0);
        close(&[run(&loss, &other, &teacher).value], &[value], 1e-6);
    }
    // Not even where the powers themselves would vanish or overflow.
    let loss = config().with_power(12).init().unwrap();
    let value = run(&loss, &student, &teacher).value;
    for scale in [1e-4, 1e4] {
        let other = student.clone().map(|x| x * scale);
        close(&[run(&loss, &other, &teacher).value], &[value], 1e-6);
    }
}

#[test]
fn an_odd_power_keeps_signs_only_if_asked() {
    let student = Array::new([1, 1, 1, 2], &[1.0, -1.0]);
    let teacher = Array::new([1, 1, 1, 2], &[1.0, 1.0]);
    let loss = config().with_power(3);
    run(&loss.init().unwrap(), &student, &teacher).is_zero(0.0);
    let signed = loss.with_map(ActivationMap::Signed).init().unwrap();
    // [1, -1]/√2 against [1, 1]/√2.
    close(
        &[run(&signed, &student, &teacher).value],
        &[2f32.sqrt()],
        1e-6,
    );
}

#[test]
fn sequences_attend_to_tokens() {
    // One sample of three tokens, the width last.
    let student = Array::new([1, 3, 2], &[1.0, 0.0, 0.0, 0.0, 5.0, 5.0]);
    let teacher = Array::new([1, 3, 1], &[0.0, 2.0, 7.0]);
    let loss = config().init().unwrap();
    // Without the third token: [1, 0] against [0, 1].
    let counts = [true, true, false];
    let found = run_with(&loss, &student, &teacher, Some(&counts), None);
    close(&[found.value], &[2f32.sqrt()], 1e-6);
    close(&found.gradient[4..], &[0.0, 0.0], 0.0);
}

#[test]
fn masked_samples_are_out() {
    for loss in both() {
        let (s, t) = (
            Array::random([5, 2, 4, 4], 6),
            Array::random([5, 3, 2, 2], 7),
        );
        masked_samples_do_not_count(&loss, s, t);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let loss = config().init().unwrap();
    let vector = Array::random([2, 3], 1);
    assert_eq!(
        check(&loss, &vector, &vector, 2),
        "term \"attention_transfer_s\": feature \"s\" of the \
         student has shape [2, 3], expected [N, C, H, W] or [N, T, D]"
    );
    let (s, t) = (Array::random([2, 3, 4], 1), Array::random([2, 5, 4], 1));
    assert_eq!(
        check(&loss, &s, &t, 2),
        "term \"attention_transfer_s\": features \"s\" and \"t\" differ: student has [2, 3, 4], \
         teacher has [2, 5, 4]"
    );
    assert_eq!(
        check(&loss, &s, &s, 5),
        "a masked feature has 2 rows, the student's logits have 5"
    );
}

#[test]
fn config_has_the_papers_defaults_and_bounds() {
    let config: AttentionTransferConfig = from_json(r#"{"student": "s", "teacher": "t"}"#);
    assert_eq!(config, AttentionTransferConfig::new("s", "t"));
    assert_eq!((config.power, config.map), (2, ActivationMap::Absolute));
    assert_eq!(config.reduction, AttentionReduction::Norm);
    round_trip(&config.clone().with_power(4).with_map(ActivationMap::Signed));

    assert!(config.clone().with_power(1).init().is_ok());
    let error = config.with_power(0).init().unwrap_err();
    assert_eq!(
        error.to_string(),
        "attention_transfer.power is 0, expected a whole number of at least 1"
    );
    let error = AttentionTransferConfig::new("s", "").init().unwrap_err();
    assert_eq!(
        error.to_string(),
        "attention_transfer.teacher is \"\", expected the name of a feature"
    );
}
