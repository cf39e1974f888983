use std::slice::from_ref;

use burn::module::Module;
use burn::tensor::Device;

use super::*;
use crate::loss::known::KnownLoss;
use crate::loss::modules::translator::reconstruction;
use crate::loss::testing::bench::*;
use crate::ops::maps::expect_maps;

const FORMS: [FactorForm; 4] = [
    FactorForm::FlatL1,
    FactorForm::FlatL2,
    FactorForm::ChannelL1,
    FactorForm::ChannelSquare,
];

fn loss(form: FactorForm) -> FactorTransfer {
    FactorTransfer::new("f0", "f0").with_form(form)
}

fn value(student: &Feature, teacher: &Feature, form: FactorForm) -> f32 {
    factor_transfer(student.clone(), teacher.clone(), form)
        .mean()
        .into_scalar()
}

#[test]
fn values_by_hand() {
    // Directions 0.6, 0.8 and 0, 1.
    let student: Feature = tensor(vec![6.0, 8.0], [1, 2]).into();
    let teacher: Feature = tensor(vec![0.0, 5.0], [1, 2]).into();
    assert_close(
        &[value(&student, &teacher, FactorForm::FlatL1)],
        &[0.4],
        1e-6,
    );
    let expected = (0.36f32 + 0.04).sqrt();
    assert_close(
        &[value(&student, &teacher, FactorForm::FlatL2)],
        &[expected],
        1e-6,
    );

    // Squares 3, 4 with the direction 0.6, 0.8, and 0, 25 with 0, 1, each at two places.
    let student: Feature = tensor(vec![3f32.sqrt(), 2.0], [1, 1, 1, 2]).into();
    let teacher: Feature = tensor(vec![0.0, 5.0], [1, 1, 1, 2]).into();
    assert_close(
        &[value(&student, &teacher, FactorForm::ChannelL1)],
        &[0.4],
        1e-6,
    );
    assert_close(
        &[value(&student, &teacher, FactorForm::ChannelSquare)],
        &[0.2],
        1e-6,
    );
}

#[test]
fn the_gradient_by_hand() {
    let student = leaf(&tensor(vec![6.0, 8.0], [1, 2]).into());
    let teacher = tensor(vec![0.0, 5.0], [1, 2]);
    let gradients = factor_transfer(student.clone(), teacher, FactorForm::FlatL1)
        .mean()
        .backward();
    // (g − u (u·g)) / ‖f‖ with g = (½, −½), u = (0.6, 0.8), u·g = −0.1, ‖f‖ = 10
    assert_close(
        &gradient(&student, &gradients).unwrap(),
        &[0.056, -0.042],
        1e-5,
    );
}

#[test]
fn nothing_where_the_directions_agree() {
    let student = maps([2, 3, 4, 4], 1);
    let twice = changed(&student, |_, v| 2.0 * v);
    for form in FORMS {
        assert!(value(&student, &student, form) == 0.0, "{form:?}");
        // Twice is exact in floating point, and so is the direction.
        assert!(value(&student, &twice, form) < 1e-6, "{form:?}");
        let student = leaf(&student);
        let loss = factor_transfer(student.clone(), twice.clone(), form).mean();
        let gradients = loss.backward();
        assert!(
            gradient(&student, &gradients)
                .unwrap()
                .iter()
                .all(|g| g.is_finite())
        );
    }
}

#[test]
fn opposite_factors_are_two_apart() {
    let student = maps([2, 3, 4, 4], 1);
    let opposite = changed(&student, |_, v| -v);
    assert_close(
        &[value(&student, &opposite, FactorForm::FlatL2)],
        &[2.0],
        1e-5,
    );
    // A square does not see the sign.
    assert_eq!(value(&student, &opposite, FactorForm::ChannelL1), 0.0);
}

#[test]
fn channel_forms_take_any_number_of_channels() {
    let (student, teacher) = (maps([2, 2, 4, 4], 1), maps([2, 5, 2, 2], 2));
    assert!(value(&student, &teacher, FactorForm::ChannelL1) > 0.0);
    assert!(value(&student, &teacher, FactorForm::ChannelSquare) > 0.0);
}

#[test]
fn a_factor_of_zeros_has_a_finite_gradient() {
    for form in FORMS {
        let student = leaf(&changed(&maps([2, 3, 2, 2], 1), |_, _| 0.0));
        let value = factor_transfer(student.clone(), maps([2, 3, 2, 2], 2), form).mean();
        let gradients = value.backward();
        assert!(value.into_scalar::<f32>().is_finite());
        assert!(
            gradient(&student, &gradients)
                .unwrap()
                .iter()
                .all(|g| g.is_finite()),
            "{form:?}"
        );
    }
}

#[test]
fn the_teacher_of_a_paraphraser_gets_no_gradient() {
    let (student, teacher) = (maps([3, 3, 4, 4], 1), maps([3, 4, 2, 2], 2));
    for form in FORMS {
        let loss = loss(form);
        let paraphraser = Paraphraser::new(4, 0.5, &Device::flex().autodiff()).unwrap();
        let loss = loss.paraphrased(&paraphraser);
        assert_gradient_goes_to_the_student_alone(&loss, from_ref(&student), from_ref(&teacher));
    }
}

#[test]
fn masked_samples_do_not_count() {
    let (student, teacher) = (maps([3, 3, 4, 4], 1), maps([3, 4, 4, 4], 2));
    for form in FORMS {
        assert_masked_samples_do_not_count(&loss(form), from_ref(&student), from_ref(&teacher));
        let paraphraser = Paraphraser::new(4, 0.5, &Device::flex()).unwrap();
        let loss = loss(form).paraphrased(&paraphraser);
        assert_masked_samples_do_not_count(&loss, from_ref(&student), from_ref(&teacher));
    }
}

#[test]
fn a_paraphraser_narrows_and_comes_back() {
    let device = Device::flex();
    let paraphraser = Paraphraser::new(6, 0.5, &device).unwrap();
    assert_eq!((paraphraser.width(), paraphraser.factor_width()), (6, 3));
    let x = Tensor::<4>::ones([2, 6, 5, 4], &device);
    assert_eq!(paraphraser.factor(x.clone()).dims(), [2, 3, 5, 4]);
    assert_eq!(paraphraser.reconstruct(x).dims(), [2, 6, 5, 4]);
    let narrow = Paraphraser::new(6, 0.01, &device).unwrap();
    assert_eq!(narrow.factor_width(), 1);
}

#[test]
fn the_translator_meets_the_paraphraser() {
    let (student, teacher) = ([maps([2, 3, 4, 4], 1)], [maps([2, 6, 4, 4], 2)]);
    let plain = loss(FactorForm::FlatL1);
    let widths = |loss: &dyn Loss| {
        let modules = Bench::new(loss, &student, &teacher).modules.unwrap();
        modules.get::<Translator>().widths()
    };
    assert_eq!(widths(&plain), [3, 6]);
    let paraphraser = Paraphraser::new(6, 0.5, &Device::flex()).unwrap();
    assert_eq!(widths(&plain.paraphrased(&paraphraser)), [3, 3]);
}

#[test]
fn a_paraphraser_stays_as_it_is() {
    let device = Device::flex().autodiff();
    let paraphraser = Paraphraser::new(6, 0.5, &device).unwrap();
    let loss = loss(FactorForm::FlatL2).paraphrased(&paraphraser);
    let teacher = expect_maps(&maps([2, 6, 4, 4], 2));
    let factor = |x: &Tensor<4>| loss.paraphraser.factor_on_device(x.clone());
    let before = factor(&teacher);
    assert!(!before.is_autodiff());
    // It is out of training: a sample's factor does not depend on the rest of its batch.
    let alone = factor(&teacher.clone().narrow(0, 0, 1));
    let same = alone.equal(before.clone().narrow(0, 0, 1)).all();
    assert!(same.into_scalar::<bool>());
    // Its original learns on: the statistics of its batch norms move.
    let _ = paraphraser.factor(Tensor::<4>::ones([2, 6, 4, 4], &device) * 100.0);
    let moved = paraphraser.valid().factor(teacher.clone());
    assert!(!moved.equal(before.clone()).all().into_scalar::<bool>());
    assert!(factor(&teacher).equal(before).all().into_scalar::<bool>());
}

#[test]
fn the_reconstruction_is_measured_against_the_maps() {
    let device = Device::flex().autodiff();
    let [found, maps] = [[1.0, 2.0], [4.0, 6.0]].map(|values| {
        let leaf = Tensor::<1>::from_floats(values, &device).require_grad();
        (leaf.clone(), leaf.reshape([1, 2, 1, 1]))
    });
    let loss = reconstruction(found.1, maps.1);
    let gradients = loss.backward();
    assert_eq!(loss.into_scalar::<f32>(), 12.5);
    let gradient: Vec<f32> = found
        .0
        .grad(&gradients)
        .unwrap()
        .into_data()
        .iter()
        .collect();
    assert_eq!(gradient, [-3.0, -4.0]);
    assert!(maps.0.grad(&gradients).is_none());
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let plain = loss(FactorForm::FlatL1);
    assert_eq!(
        check_error(&plain, &[vectors([2, 3], 1)], &[vectors([2, 3], 1)]),
        "term \"factor_transfer_f0\": feature \"f0\" of the student has shape [2, 3], expected feature maps [N, C, H, W]"
    );
    let paraphraser = Paraphraser::new(6, 0.5, &Device::flex()).unwrap();
    let joined = plain.paraphrased(&paraphraser);
    assert_eq!(
        check_error(&joined, &[maps([2, 3, 4, 4], 1)], &[maps([2, 4, 4, 4], 1)]),
        "term \"factor_transfer_f0\": the width of the paraphraser is 6, expected the width of the teacher's feature"
    );
}

#[test]
fn a_config_file_holds_no_paraphraser() {
    let paraphraser = Paraphraser::new(6, 0.5, &Device::flex()).unwrap();
    let loss = FactorTransfer::new("a", "b").with_paraphraser(&paraphraser);
    assert!(KnownLoss::of(&loss).is_none());
}

#[test]
fn a_paraphraser_out_of_range_is_refused() {
    let device = Device::flex();
    assert_eq!(
        error(Paraphraser::new(0, 0.5, &device)),
        "paraphraser.width is 0, expected at least 1"
    );
    for (rate, text) in [
        (0.0, "0"),
        (-1.0, "-1"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
    ] {
        assert_eq!(
            error(Paraphraser::new(4, rate, &device)),
            format!("paraphraser.rate is {text}, expected a number greater than 0")
        );
    }
}

#[test]
#[should_panic(expected = "student and teacher factors have one shape")]
fn two_widths_panic() {
    let _ = value(&vectors([2, 3], 1), &vectors([2, 4], 1), FactorForm::FlatL1);
}
