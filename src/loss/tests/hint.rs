use super::*;
use crate::loss::testing::features::*;

fn term(regressor: Regressor) -> Hint {
    HintConfig::new(STUDENT, TEACHER)
        .with_regressor(regressor)
        .init()
        .unwrap()
}

fn described(regressor: Regressor, student: &Array, teacher: &Array) -> Option<String> {
    parts(&term(regressor), student, teacher).map(|parts| parts.describe())
}

#[test]
fn two_elements_by_hand() {
    let student = Array::new([1, 2], &[1.0, 2.0]);
    let teacher = Array::new([1, 2], &[4.0, 6.0]);
    let found = run(&term(Regressor::Auto), &student, &teacher);
    close(&[found.value], &[12.5], 1e-6); // (3² + 4²)/2
    close(&found.gradient, &[-3.0, -4.0], 1e-6); // 2·(1 − 4)/2, 2·(2 − 6)/2
}

#[test]
fn zero_where_student_is_teacher() {
    for feature in [
        Array::random([3, 4], 1).map(|x| x * 1e4),
        Array::filled([1, 2], 0.0),
    ] {
        run(&term(Regressor::Auto), &feature, &feature).is_zero(0.0);
    }
    let maps = Array::random([2, 3, 4, 4], 2);
    run(&term(Regressor::Auto), &maps, &maps).is_zero(0.0);
}

#[test]
fn maps_are_pooled_to_the_smaller_size() {
    // Means over each row of the student's 2×2 map: 2 and 6.
    let student = Array::new([1, 1, 2, 2], &[1.0, 3.0, 5.0, 7.0]);
    let teacher = Array::new([1, 1, 2, 1], &[0.0, 0.0]);
    let found = run(&term(Regressor::Auto), &student, &teacher);
    close(&[found.value], &[20.0], 1e-6); // (2² + 6²)/2
    close(&found.gradient, &[1.0, 1.0, 3.0, 3.0], 1e-6);
}

#[test]
fn a_regressor_is_there_where_asked_for_and_auto_where_widths_differ() {
    let (s, t) = (Array::random([4, 3], 1), Array::random([4, 5], 2));
    assert_eq!(described(Regressor::Auto, &s, &s), None);
    assert_eq!(described(Regressor::Auto, &s, &t).unwrap(), "linear 3 -> 5");
    assert_eq!(
        described(Regressor::Linear, &s, &s).unwrap(),
        "linear 3 -> 3"
    );
    assert_eq!(
        described(Regressor::Mlp, &s, &t).unwrap(),
        "mlp 3 -> 5 -> 5"
    );

    let (s, t) = (
        Array::random([2, 3, 4, 4], 1),
        Array::random([2, 5, 2, 2], 2),
    );
    assert_eq!(described(Regressor::Auto, &s, &s), None);
    assert_eq!(
        described(Regressor::Auto, &s, &t).unwrap(),
        "conv 1x1 3 -> 5"
    );
    assert_eq!(
        described(Regressor::Conv1x1, &s, &s).unwrap(),
        "conv 1x1 3 -> 3"
    );
    assert_eq!(
        described(Regressor::ConvBnRelu, &s, &t).unwrap(),
        "conv 1x1, batch norm, relu 3 -> 5"
    );
}

#[test]
fn extremes_are_finite_through_every_regressor() {
    let vectors = [Regressor::Auto, Regressor::Linear, Regressor::Mlp];
    let maps = [Regressor::Auto, Regressor::Conv1x1, Regressor::ConvBnRelu];
    for scale in [0.0, 1.0, 1e4] {
        for regressor in vectors {
            let (s, t) = (Array::random([3, 4], 1), Array::random([3, 5], 2));
            finite(regressor, &s.map(|x| x * scale), &t.map(|x| x * 1e4));
        }
        for regressor in maps {
            let (s, t) = (
                Array::random([3, 2, 4, 4], 1),
                Array::random([3, 5, 1, 1], 2),
            );
            finite(regressor, &s.map(|x| x * scale), &t.map(|x| x * 1e4));
        }
    }
}

fn finite(regressor: Regressor, student: &Array, teacher: &Array) {
    let loss = term(regressor);
    let parts = parts(&loss, student, teacher);
    for samples in [vec![0], vec![0, 1, 2], vec![0, 0]] {
        let (s, t) = (student.samples(&samples), teacher.samples(&samples));
        let found = run_with(&loss, &s, &t, None, parts.as_ref());
        assert!(found.is_finite(), "{regressor:?}: {found:?}");
    }
}

#[test]
fn masked_samples_are_out_of_every_regressor() {
    for regressor in [Regressor::Auto, Regressor::Linear, Regressor::Mlp] {
        let (s, t) = (Array::random([5, 3], 1), Array::random([5, 4], 2));
        masked_samples_do_not_count(&term(regressor), s, t);
        let (s, t) = (Array::random([5, 2, 3], 1), Array::random([5, 2, 4], 2));
        masked_samples_do_not_count(&term(regressor), s, t);
    }
    for regressor in [Regressor::Auto, Regressor::Conv1x1, Regressor::ConvBnRelu] {
        let (s, t) = (
            Array::random([5, 2, 4, 4], 1),
            Array::random([5, 3, 2, 2], 2),
        );
        masked_samples_do_not_count(&term(regressor), s, t);
    }
}

#[test]
fn a_masked_nan_does_not_reach_the_regressor() {
    let (s, t) = (Array::random([3, 2], 1), Array::random([3, 4], 2));
    let loss = term(Regressor::Auto);
    let parts = parts(&loss, &s, &t).unwrap();
    let Parts::Projector(Projector::Linear(linear)) = &parts else {
        panic!("{parts:?}");
    };
    let gradient = |samples: &Array, teacher: &Array, counts: Option<&[bool]>| -> Vec<f32> {
        let rows = counts.map_or(samples.shape[0], <[bool]>::len);
        let logits =
            || crate::data::outputs::Outputs::new(Tensor::<2>::zeros([rows, 1], &device()));
        let student = logits().with_feature(STUDENT, samples.feature());
        let teacher = logits().with_feature(TEACHER, teacher.feature());
        let counts = counts.map(mask);
        let mut context = LossContext::new(&student, &teacher).with_parts(&parts);
        context.mask = counts.as_ref();
        let gradients = loss.forward(&context).backward();
        let gradient = linear.weight.val().grad(&gradients).unwrap();
        gradient.into_data().iter::<f32>().collect()
    };
    let alone = gradient(&s.samples(&[0, 2]), &t.samples(&[0, 2]), None);
    let broken = s.with_sample(1, f32::NAN);
    let masked = gradient(&broken, &t, Some(&[true, false, true]));
    close(&masked, &alone, 1e-6);
}

#[test]
fn a_token_mask_makes_every_token_a_row() {
    // Two samples of two tokens, of which three tokens count: 1, 4 and 16, each alone.
    let student = Array::new([2, 2, 1], &[1.0, 2.0, f32::NAN, 4.0]);
    let teacher = Array::filled([2, 2, 1], 0.0);
    let counts = [true, true, false, true];
    let found = run_with(
        &term(Regressor::Auto),
        &student,
        &teacher,
        Some(&counts),
        None,
    );
    close(&[found.value], &[7.0], 1e-6);
    close(
        &found.gradient,
        &[2.0 / 3.0, 4.0 / 3.0, 0.0, 8.0 / 3.0],
        1e-6,
    );
}

#[test]
fn errors_say_what_is_wrong() {
    let (s, t) = (Array::random([2, 3], 1), Array::random([2, 3, 4], 1));
    assert_eq!(
        check(&term(Regressor::Auto), &s, &t, 2),
        "term \"hint_s\": features \"s\" and \"t\" differ: student has [2, 3], teacher has [2, 3, 4]"
    );
    assert_eq!(
        check(&term(Regressor::Auto), &s, &s, 3),
        "a masked feature has 2 rows, the student's logits have 3"
    );
    assert_eq!(
        check(&term(Regressor::ConvBnRelu), &s, &s, 2),
        "term \"hint_s\": feature \"s\" of the \
         student has shape [2, 3], expected [N, C, H, W] for a conv_bn_relu regressor"
    );
    let maps = Array::random([2, 3, 2, 2], 1);
    assert_eq!(
        check(&term(Regressor::Linear), &maps, &maps, 2),
        "term \"hint_s\": feature \"s\" of the \
         student has shape [2, 3, 2, 2], expected [N, D] or [N, T, D] for a linear regressor"
    );
}

#[test]
fn config_keeps_its_default_and_reads_every_regressor() {
    let config: HintConfig = from_json(r#"{"student": "s", "teacher": "t"}"#);
    assert_eq!(config, HintConfig::new("s", "t"));
    assert_eq!(config.regressor, Regressor::Auto);
    let all = [
        ("auto", Regressor::Auto),
        ("linear", Regressor::Linear),
        ("conv1x1", Regressor::Conv1x1),
        ("conv_bn_relu", Regressor::ConvBnRelu),
        ("mlp", Regressor::Mlp),
    ];
    for (name, regressor) in all {
        let text = format!(r#"{{"student": "s", "teacher": "t", "regressor": "{name}"}}"#);
        assert_eq!(from_json::<HintConfig>(&text).regressor, regressor);
        round_trip(&config.clone().with_regressor(regressor));
    }
    let error = HintConfig::new("", "t").init().unwrap_err();
    let expected = "hint.student is \"\", expected the name of a feature";
    assert_eq!(error.to_string(), expected);
}
