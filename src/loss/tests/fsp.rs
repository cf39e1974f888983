use super::*;
use crate::loss::testing::bench::*;

fn loss(form: FspForm) -> Fsp {
    let names = ["f0", "f1"];
    Fsp::new(names, names).with_form(form)
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
    fsp(student.clone(), teacher.clone(), form)
        .mean()
        .into_scalar()
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
        let value = fsp(student.clone(), teacher.clone(), form).mean();
        let gradients = value.backward();
        assert_close(&[value.into_scalar()], &[expected], 1e-6);
        let found = gradient(&student[0], &gradients).unwrap();
        assert_close(&found, &[slope * 1.5, slope * 2.0], 1e-6);
        let found = gradient(&student[1], &gradients).unwrap();
        assert_close(&found, &[slope * 0.5, slope], 1e-6);
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
    for form in FORMS {
        let loss = loss(form);
        let step = Bench::new(&loss, &student, &teacher).step(&student, &teacher, Some(&[true; 8]));
        assert_close(&[step.value], &[value(&student, &teacher, form)], 1e-5);
    }
}

#[test]
fn tokens_weigh_in_the_matrix() {
    let tokens = |x: f32, y: f32| Feature::from(tensor(vec![x, y], [1, 2, 1]));
    let student = [tokens(1.0, 4.0), tokens(2.0, 1.0)];
    let teacher = [tokens(1.0, 5.0), tokens(5.0, 1.0)];
    let loss = loss(FspForm::MeanSquare);
    let bench = Bench::new(&loss, &student, &teacher);
    // One token alone: 1 · 2 against 1 · 5.
    let step = bench.step(&student, &teacher, Some(&[true, false]));
    assert_close(&[step.value], &[9.0], 1e-6);
    // The second three times: (2 + 3·4)/4 against (5 + 3·5)/4.
    let by = weights(&[1.0, 3.0], [1, 2]);
    let step = bench.weighted_step(&student, &teacher, Some(by));
    assert_close(&[step.value], &[1.5 * 1.5], 1e-6);
}

#[test]
fn masked_pixels_are_out_of_means_and_maxima() {
    // Four columns to two, of which the third is masked and the largest.
    let row = |values: Vec<f32>| {
        let width = values.len();
        Feature::from(tensor(values, [1, 1, 1, width]))
    };
    let one = || row(vec![1.0, 1.0]);
    let student = [row(vec![-1.0, -3.0, f32::NAN, -5.0]), one()];
    let teacher = [row(vec![0.0; 4]), one()];
    for (form, expected) in [(FspForm::MeanSquare, -2.0), (FspForm::ColumnNorm, -1.0)] {
        let loss = loss(form);
        let bench = Bench::new(&loss, &student, &teacher);
        let by = weights(&[1.0, 1.0, 0.0, 1.0], [1, 1, 4]);
        let step = bench.weighted_step(&student, &teacher, Some(by));
        // A mean over two cells, the second of half the weight.
        let flow: f32 = (expected + 0.5 * -5.0) / 1.5;
        let expected = if form == FspForm::MeanSquare {
            flow * flow
        } else {
            flow.abs()
        };
        assert_close(&[step.value], &[expected], 1e-6);
        assert!(step.is_finite() && step.student[0][2] == 0.0);
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
            &[maps([2, 4, 4, 4], 1), maps([2, 2, 2, 2], 1)]
        ),
        "term \"fsp_f0_f1\": features \"f0\" and \"f0\" differ: student has [2, 3, 4, 4], teacher has [2, 4, 4, 4]"
    );
    let mixed = [maps([2, 3, 4, 4], 1), vectors([2, 2], 1)];
    assert_eq!(
        check_error(&loss, &mixed, &mixed),
        "term \"fsp_f0_f1\": feature \"f1\" of the student has shape [2, 2], expected the rank, the samples and the tokens of the first feature"
    );
    let longer = [tokens([2, 3, 4], 1), tokens([2, 5, 4], 1)];
    assert_eq!(
        check_error(&loss, &longer, &longer),
        "term \"fsp_f0_f1\": feature \"f1\" of the student has shape [2, 5, 4], expected the rank, the samples and the tokens of the first feature"
    );
}

#[test]
#[should_panic(expected = "student and teacher features have the same widths")]
fn two_widths_panic() {
    let wide = [maps([2, 4, 4, 4], 1), maps([2, 2, 2, 2], 1)];
    let _ = value(&step(2, 1), &wide, FspForm::MeanSquare);
}
