use burn::module::Module;
use burn::tensor::{Bool, Device, Distribution, Tensor};

use super::super::pair::fixtures::assert_close;
use super::*;
use crate::Outputs;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Outputs with a feature `f` and logits of so many rows.
fn outputs(rows: usize, feature: impl Into<Feature>) -> Outputs {
    Outputs::new(Tensor::<2>::zeros([rows, 2], &Device::flex())).with_feature("f", feature)
}

fn loss() -> Hint {
    HintConfig::new("f", "f").init().unwrap()
}

#[test]
fn equal_features_give_zero_at_any_rank() {
    let (a, b, c) = (random([2, 3]), random([2, 3, 4]), random([2, 3, 4, 4]));
    for (s, t) in [
        (Feature::from(a.clone()), Feature::from(a)),
        (b.clone().into(), b.into()),
        (c.clone().into(), c.into()),
    ] {
        assert_eq!(hint(s, t).into_scalar::<f32>(), 0.0);
    }
}

#[test]
fn the_gradient_is_the_closed_form_and_the_teacher_gets_none() {
    let student = random([2, 3]).autodiff().require_grad();
    let teacher = random([2, 3]).autodiff().require_grad();
    let gradients = hint(student.clone().into(), teacher.clone().into()).backward();
    let expected = (student.clone().inner() - teacher.clone().inner()) * (2.0 / 6.0);
    let tolerance = burn::tensor::Tolerance::rel_abs(1e-5, 1e-7);
    let found = student.grad(&gradients).unwrap().into_data();
    found.assert_approx_eq::<f32>(&expected.into_data(), tolerance);
    assert!(teacher.grad(&gradients).is_none());
}

#[test]
fn maps_meet_at_the_smaller_size() {
    let device = Device::flex();
    let student = Tensor::<4>::from_floats([[[[1.0, 3.0], [5.0, 7.0]]]], &device);
    let teacher = Tensor::<4>::from_floats([[[[1.0]]]], &device);
    // The student's mean is 4.
    assert_eq!(
        hint(student.clone().into(), teacher.clone().into()).into_scalar::<f32>(),
        9.0
    );
    assert_eq!(
        hint(teacher.into(), student.into()).into_scalar::<f32>(),
        9.0
    );
}

#[test]
fn a_projector_is_inserted_where_widths_differ_and_learns() {
    let device = Device::flex();
    for (student, teacher, described, parameters) in [
        (
            Feature::from(random([2, 3])),
            Feature::from(random([2, 5])),
            "linear 3 -> 5",
            20,
        ),
        (
            random([2, 4, 3]).into(),
            random([2, 4, 5]).into(),
            "linear 3 -> 5",
            20,
        ),
        (
            random([2, 3, 4, 4]).into(),
            random([2, 5, 2, 2]).into(),
            "conv 1x1 3 -> 5",
            20,
        ),
    ] {
        let (student, teacher) = (outputs(2, student), outputs(2, teacher));
        let context = LossContext::new(&student, &teacher);
        loss().check(&context).unwrap();
        let parts = loss().parts(&context, &device).unwrap();
        assert_eq!(parts.describe(), described);
        assert_eq!(parts.num_params(), parameters);

        let parts = parts.train();
        let gradients = loss().forward(&context.with_parts(&parts)).backward();
        let found = burn::optim::GradientsParams::from_grads(gradients, &parts);
        assert_eq!(found.len(), 2);
    }
    let same = outputs(2, random([2, 3]));
    assert!(
        loss()
            .parts(&LossContext::new(&same, &same), &device)
            .is_none()
    );
}

#[test]
fn masks_name_samples_or_tokens() {
    let device = Device::flex();
    let feature = Tensor::<3>::from_floats([[[1.0], [2.0]], [[4.0], [8.0]]], &device);
    let zeros = Tensor::<3>::zeros([2, 2, 1], &device);
    let value = |rows: usize, mask: Tensor<1, Bool>| -> f32 {
        let (student, teacher) = (outputs(rows, feature.clone()), outputs(rows, zeros.clone()));
        let context = LossContext::new(&student, &teacher).with_mask(&mask);
        loss().check(&context).unwrap();
        loss().forward(&context).into_scalar()
    };
    let samples = Tensor::<1, Bool>::from_data([true, false], &device);
    assert_eq!(value(2, samples), 2.5); // (1 + 4) / 2
    let tokens = Tensor::<1, Bool>::from_data([true, false, false, true], &device);
    assert_eq!(value(4, tokens), 32.5); // (1 + 64) / 2
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |student: Outputs, teacher: Outputs| {
        let error = loss()
            .check(&LossContext::new(&student, &teacher))
            .unwrap_err();
        error.to_string()
    };
    let plain = Outputs::new(Tensor::<2>::zeros([2, 2], &Device::flex()));
    assert_eq!(
        error(
            plain.clone().with_feature("g", random([2, 3])),
            outputs(2, random([2, 3]))
        ),
        "term \"hint_f\" needs feature \"f\" of the student, which gives [\"g\"]"
    );
    assert_eq!(
        error(outputs(2, random([2, 3])), plain),
        "term \"hint_f\" needs feature \"f\" of the teacher, which gives []"
    );
    assert_eq!(
        error(outputs(2, random([2, 3])), outputs(2, random([2, 3, 4]))),
        "term \"hint_f\": features \"f\" and \"f\" differ: student has [2, 3], teacher has [2, 3, 4]"
    );
    assert_eq!(
        error(outputs(2, random([2, 3, 4])), outputs(2, random([2, 5, 4]))),
        "term \"hint_f\": features \"f\" and \"f\" differ: student has [2, 3, 4], teacher has [2, 5, 4]"
    );
}

#[test]
fn configs_round_trip_and_refuse() {
    let config = HintConfig::new("a", "b");
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<HintConfig>(&json).unwrap(), config);
    assert!(serde_json::from_str::<HintConfig>(r#"{"student":"a"}"#).is_err());
    assert!(serde_json::from_str::<HintConfig>(r#"{"student":"a","teacher":"b","x":1}"#).is_err());
    let error = HintConfig::new("a", "").init().unwrap_err();
    assert_eq!(
        error.to_string(),
        "hint.teacher is \"\", expected the name of a feature"
    );
}

/// Hidden states: the mean is over the elements of the tokens that count.
#[test]
fn masked_tokens_do_not_count() {
    let device = Device::flex().autodiff();
    let student = [[[1.0, 2.0], [f32::NAN, 7.0]], [[0.0, 0.0], [1.0, 1.0]]];
    let student = Tensor::<3>::from_floats(student, &device).require_grad();
    let teacher = [[[4.0, 6.0], [7.0, f32::NAN]], [[0.0, 0.0], [1.0, 2.0]]];
    let teacher = Tensor::<3>::from_floats(teacher, &device);
    let (s, t) = (outputs(4, student.clone()), outputs(4, teacher));
    let mask = Tensor::<1, Bool>::from_data([true, false, true, true], &device.inner());
    let context = LossContext::new(&s, &t).with_mask(&mask);
    let loss = HintConfig::new("f", "f").init().unwrap();
    loss.check(&context).unwrap();
    let value = loss.forward(&context);
    let gradients = value.backward();
    // 3² + 4² and 1² over the six elements of three tokens.
    assert_close(value, &[26.0 / 6.0], 1e-6);
    let expected = [-1.0, -4.0 / 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0 / 3.0];
    assert_close(student.grad(&gradients).unwrap(), &expected, 1e-6);
}
