use burn::tensor::Device;

use super::*;
use crate::loss::testing::bench::*;

fn loss(form: FspForm) -> Fsp {
    let names = ["f0", "f1"];
    FspConfig::new(names, names).with_form(form).init().unwrap()
}

const FORMS: [FspForm; 2] = [FspForm::MeanSquare, FspForm::ColumnNorm];

/// Two features of widths 3 and 2, of which the second is half as high and wide.
fn step(samples: usize, seed: usize) -> [Feature; 2] {
    [
        maps([samples, 3, 4, 4], seed),
        maps([samples, 2, 2, 2], seed + 1),
    ]
}

fn value(student: &[Feature; 2], teacher: &[Feature; 2], form: FspForm) -> f32 {
    fsp(student.clone(), teacher.clone(), form).into_scalar()
}

#[test]
fn value_and_gradient_by_hand() {
    // Two places, one channel each: G = (1·3 + 2·4)/2 = 5.5 against (1·1 + 1·1)/2 = 1.
    let map = |x: f32, y: f32| -> Feature { tensor(vec![x, y], [1, 1, 1, 2]).into() };
    let teacher = [map(1.0, 1.0), map(1.0, 1.0)];
    for (form, expected, slope) in [
        (FspForm::MeanSquare, 20.25, 9.0),
        (FspForm::ColumnNorm, 4.5, 1.0),
    ] {
        let student = [leaf(&map(1.0, 2.0)), leaf(&map(3.0, 4.0))];
        let value = fsp(student.clone(), teacher.clone(), form);
        let gradients = value.backward();
        assert_close(&[value.into_scalar()], &[expected], 1e-6);
        let found = gradient(&student[0], &gradients).unwrap();
        assert_close(&found, &[slope * 1.5, slope * 2.0], 1e-6);
        let found = gradient(&student[1], &gradients).unwrap();
        assert_close(&found, &[slope * 0.5, slope], 1e-6);
    }
}

#[test]
fn nothing_where_both_agree() {
    let features = step(2, 1);
    for form in FORMS {
        let loss = loss(form);
        let step = Bench::new(&loss, &features, &features).step(&features, &features, None);
        assert_eq!(step.value, 0.0);
        assert!(step.student.iter().flatten().all(|g| *g == 0.0), "{form:?}");
    }
}

#[test]
fn places_may_change_their_order() {
    // The same order on both maps of a side, here from the last to the first.
    let turned = |x: &Feature| -> Feature {
        let Feature::Rank4(x) = x else { unreachable!() };
        x.clone().flip([2, 3]).into()
    };
    for form in FORMS {
        let (student, teacher) = (step(2, 1), step(2, 5));
        let before = value(&student, &teacher, form);
        let after = value(&student.each_ref().map(turned), &teacher, form);
        assert_close(&[after], &[before], 1e-5);
    }
}

#[test]
fn the_second_power_of_a_scale() {
    // Both features of both sides twice as large: G is 4 times, its square 16 times as large.
    let twice = |step: &[Feature; 2]| step.each_ref().map(|x| changed(x, |_, v| 2.0 * v));
    for (form, factor) in [(FspForm::MeanSquare, 16.0), (FspForm::ColumnNorm, 4.0)] {
        let (student, teacher) = (step(2, 1), step(2, 5));
        let before = value(&student, &teacher, form);
        let after = value(&twice(&student), &twice(&teacher), form);
        assert_close(&[after], &[factor * before], 1e-5);
    }
}

#[test]
fn maximum_pooling_with_bins_that_overlap() {
    // Three columns to two: bins 0..2 and 1..3.
    let wide: Feature = tensor(vec![1.0, 5.0, 2.0], [1, 1, 1, 3]).into();
    let narrow: Feature = tensor(vec![1.0, 10.0], [1, 1, 1, 2]).into();
    let zero: Feature = tensor(vec![0.0, 0.0], [1, 1, 1, 2]).into();
    let found = value(
        &[wide, narrow.clone()],
        &[zero, narrow],
        FspForm::ColumnNorm,
    );
    assert_close(&[found], &[(5.0 * 1.0 + 5.0 * 10.0) / 2.0], 1e-6);
}

#[test]
fn a_sequence_of_which_every_token_counts() {
    let [student, teacher] =
        [1, 5].map(|seed| [tokens([2, 4, 3], seed), tokens([2, 4, 2], seed + 1)]);
    let plain = |side: &[Feature; 2]| {
        side.each_ref().map(|x| match x {
            Feature::Rank3(x) => x.clone(),
            _ => unreachable!(),
        })
    };
    let all = Tensor::<2, Bool>::from_data([[true; 4]; 2], &Device::flex());
    for form in FORMS {
        let masked = fsp_sequence(plain(&student), plain(&teacher), all.clone(), form);
        assert_close(
            &[masked.into_scalar()],
            &[value(&student, &teacher, form)],
            1e-5,
        );
    }
}

#[test]
fn a_sample_without_tokens_does_not_count() {
    let [student, teacher] =
        [1, 5].map(|seed| [tokens([2, 4, 3], seed), tokens([2, 4, 2], seed + 1)]);
    let first = |side: &[Feature; 2]| side.each_ref().map(|x| samples(x, 0..1));
    let mut mask = [true; 8];
    mask[4..].fill(false);
    for form in FORMS {
        let loss = loss(form);
        let step = Bench::new(&loss, &student, &teacher).step(&student, &teacher, Some(&mask));
        let expected = value(&first(&student), &first(&teacher), form);
        assert_close(&[step.value], &[expected], 1e-5);
        assert!(
            step.student
                .iter()
                .all(|g| g[g.len() / 2..].iter().all(|g| *g == 0.0))
        );
    }
}

#[test]
fn masked_tokens_do_not_count() {
    let [student, teacher] =
        [1, 5].map(|seed| [tokens([2, 4, 3], seed), tokens([2, 4, 2], seed + 1)]);
    // The last two tokens of both samples.
    let mask = [true, true, false, false, true, true, false, false];
    let poison = |side: &[Feature; 2]| {
        side.each_ref().map(|x| {
            let width = x.width();
            changed(x, |i, v| if mask[i / width] { v } else { f32::NAN })
        })
    };
    let short = |side: &[Feature; 2]| {
        side.each_ref().map(|x| match x {
            Feature::Rank3(x) => Feature::from(x.clone().narrow(1, 0, 2)),
            _ => unreachable!(),
        })
    };
    for form in FORMS {
        let loss = loss(form);
        let bench = Bench::new(&loss, &student, &teacher);
        let masked = bench.step(&poison(&student), &poison(&teacher), Some(&mask));
        let short = bench.step(&short(&student), &short(&teacher), None);
        assert_close(&[masked.value], &[short.value], 1e-5);
        assert!(masked.is_finite());
        for (gradient, width) in masked.student.iter().zip([3, 2]) {
            let ignored = gradient
                .iter()
                .enumerate()
                .filter(|(i, _)| !mask[i / width]);
            assert!(ignored.clone().count() > 0 && ignored.into_iter().all(|(_, g)| *g == 0.0));
        }
    }
}

#[test]
fn finite_at_extremes() {
    for form in FORMS {
        assert_finite_at_extremes(&loss(form), &step(2, 1), &step(2, 5));
    }
}

#[test]
fn the_teacher_gets_no_gradient() {
    for form in FORMS {
        assert_gradient_goes_to_the_student_alone(&loss(form), &step(2, 1), &step(2, 5));
    }
}

#[test]
fn masked_samples_do_not_count() {
    for form in FORMS {
        assert_masked_samples_do_not_count(&loss(form), &step(3, 1), &step(3, 5));
    }
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let loss = loss(FspForm::MeanSquare);
    assert_eq!(
        check_error(
            &loss,
            &step(2, 1),
            &[maps([2, 4, 4, 4], 1), maps([2, 2, 2, 2], 1)],
            None
        ),
        "term \"fsp_f0_f1\": features \"f0\" and \"f0\" differ: student has [2, 3, 4, 4], teacher has [2, 4, 4, 4]"
    );
    let mixed = [maps([2, 3, 4, 4], 1), vectors([2, 2], 1)];
    assert_eq!(
        check_error(&loss, &mixed, &mixed, None),
        "term \"fsp_f0_f1\": feature \"f1\" of the student has shape [2, 2], expected the rank, the samples and the tokens of the first feature"
    );
    let longer = [tokens([2, 3, 4], 1), tokens([2, 5, 4], 1)];
    assert_eq!(
        check_error(&loss, &longer, &longer, None),
        "term \"fsp_f0_f1\": feature \"f1\" of the student has shape [2, 5, 4], expected the rank, the samples and the tokens of the first feature"
    );
    assert_eq!(
        check_error(&loss, &step(2, 1), &step(2, 1), Some(&[true; 3])),
        "a masked feature has 2 rows, the student's logits have 3"
    );
}

#[test]
#[should_panic(expected = "student and teacher features have the same widths")]
fn two_widths_panic() {
    let wide = [maps([2, 4, 4, 4], 1), maps([2, 2, 2, 2], 1)];
    let _ = value(&step(2, 1), &wide, FspForm::MeanSquare);
}

#[test]
fn config() {
    let config = FspConfig::new(["a", "b"], ["c", "d"]);
    assert_eq!(
        config,
        read(r#"{"student": ["a", "b"], "teacher": ["c", "d"]}"#)
    );
    assert_eq!(config.form, FspForm::MeanSquare);
    assert_config("fsp", &config);
    assert_config("fsp", &config.with_form(FspForm::ColumnNorm));
    assert_eq!(
        error(FspConfig::new(["a", ""], ["c", "d"]).init()),
        "fsp.student is \"\", expected the name of a feature"
    );
    assert_eq!(
        error(FspConfig::new(["a", "b"], ["", "d"]).init()),
        "fsp.teacher is \"\", expected the name of a feature"
    );
}
