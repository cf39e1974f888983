use burn::tensor::Bool;

use super::*;
use crate::loss::testing::features::outputs;
use crate::loss::testing::numbers::{elements_close as assert_close, noise, numbers};
use crate::objective::LossConfig;

const NORMS: [CosineNorm; 2] = [CosineNorm::Added, CosineNorm::Clamped];

fn loss() -> HiddenCosine {
    HiddenCosineConfig::new("s", "t").init().unwrap()
}

fn vectors<const N: usize>(rows: [[f32; 2]; N]) -> Tensor<2> {
    Tensor::from_floats(rows, &Device::flex().autodiff()).require_grad()
}

#[test]
fn value_and_gradient_by_hand() {
    for norm in NORMS {
        let student = vectors([[3.0, 4.0]]);
        let teacher = vectors([[10.0, 0.0]]);
        let value = hidden_cosine(student.clone().into(), teacher.into(), norm);
        let gradients = value.backward();
        assert_close(value, &[0.4], 1e-6);
        // (cos · ŝ − t̂) / ‖s‖ = (0.6 · [0.6, 0.8] − [1, 0]) / 5
        assert_close(student.grad(&gradients).unwrap(), &[-0.128, 0.096], 1e-6);
    }
}

#[test]
fn zero_where_the_student_is_the_teacher() {
    for norm in NORMS {
        let student = vectors([[3.0, 4.0], [-1.0, 0.5]]);
        let value = hidden_cosine(student.clone().into(), student.clone().into(), norm);
        let gradients = value.backward();
        assert_close(value, &[0.0], 1e-6);
        assert_close(student.grad(&gradients).unwrap(), &[0.0; 4], 1e-6);
    }
}

#[test]
fn right_angles_give_one_and_opposites_two() {
    for norm in NORMS {
        let student = vectors([[2.0, 0.0], [2.0, 0.0]]);
        let teacher = vectors([[0.0, 5.0], [-7.0, 0.0]]);
        let rows = hidden_cosine_no_reduction(student.into(), teacher.into(), norm);
        assert_close(rows, &[1.0, 2.0], 1e-6);
    }
}

#[test]
fn zero_vectors_and_extremes_stay_finite() {
    for norm in NORMS {
        let student = vectors([[0.0, 0.0], [1e4, -1e4], [1e-6, 1e-6]]);
        let teacher = vectors([[1.0, 2.0], [0.0, 0.0], [1e4, 1e4]]);
        let rows = hidden_cosine_no_reduction(student.clone().into(), teacher.into(), norm);
        let gradients = rows.clone().mean().backward();
        let (rows, gradient) = (numbers(rows), numbers(student.grad(&gradients).unwrap()));
        // A zero vector has no direction: its cosine is 0.
        assert_eq!(rows[..2], [1.0, 1.0]);
        assert!(
            rows.iter().chain(&gradient).all(|x| x.is_finite()),
            "{rows:?} {gradient:?}"
        );
    }
}

#[test]
fn lengths_do_not_matter() {
    let device = Device::flex();
    let student = Tensor::<3>::from_data(noise([2, 3, 4], 1), &device);
    let teacher = Tensor::<3>::from_data(noise([2, 3, 4], 2), &device);
    let value = |s: Tensor<3>, t: Tensor<3>| hidden_cosine(s.into(), t.into(), CosineNorm::Added);
    let longer = value(student.clone() * 30.0, teacher.clone() * 0.1);
    assert_close(longer, &numbers(value(student, teacher)), 1e-6);
}

#[test]
fn nothing_flows_into_the_teacher() {
    let (student, teacher) = (vectors([[3.0, 4.0]]), vectors([[10.0, 0.0]]));
    let value = hidden_cosine(student.into(), teacher.clone().into(), CosineNorm::Added);
    assert!(teacher.grad(&value.backward()).is_none());
}

#[test]
fn masked_tokens_do_not_count() {
    let device = Device::flex().autodiff();
    let student = [[[3.0, 4.0], [f32::NAN, 1.0]], [[1.0, 0.0], [0.0, 1.0]]];
    let student = Tensor::<3>::from_floats(student, &device).require_grad();
    let teacher = [[[10.0, 0.0], [1.0, f32::NAN]], [[1.0, 0.0], [9.0, 0.0]]];
    let teacher = Tensor::<3>::from_floats(teacher, &device);
    let (s, t) = (outputs(4, "s", student.clone()), outputs(4, "t", teacher));
    let mask = Tensor::<1, Bool>::from_data([true, false, true, true], &device.inner());
    let context = LossContext::new(&s, &t).with_mask(&mask);
    loss().check(&context).unwrap();
    let value = loss().forward(&context);
    let gradients = value.backward();
    // Three tokens count: 1 − 3/5, 0 and 1.
    assert_close(value, &[1.4 / 3.0], 1e-6);
    let gradient = numbers(student.grad(&gradients).unwrap());
    assert_eq!(gradient[2..4], [0.0, 0.0]);
    assert!(gradient.iter().all(|x| x.is_finite()), "{gradient:?}");
}

#[test]
fn a_masked_sample_leaves_out_all_its_tokens() {
    let device = Device::flex();
    let student = [[[f32::NAN, 4.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]];
    let teacher = Tensor::<3>::from_floats([[[1.0, 0.0]; 2]; 2], &device);
    let s = outputs(2, "s", Tensor::<3>::from_floats(student, &device));
    let t = outputs(2, "t", teacher);
    let mask = Tensor::<1, Bool>::from_data([false, true], &device);
    let value = loss().forward(&LossContext::new(&s, &t).with_mask(&mask));
    assert_close(value, &[0.5], 1e-6);
}

#[test]
fn different_widths_are_projected() {
    let device = Device::flex();
    let student = Tensor::<3>::from_data(noise([2, 3, 4], 1), &device).autodiff();
    let teacher = Tensor::<3>::from_data(noise([2, 3, 6], 2), &device);
    let (s, t) = (outputs(6, "s", student), outputs(6, "t", teacher));
    let context = LossContext::new(&s, &t);
    loss().check(&context).unwrap();
    let parts = loss().parts(&context, &device.autodiff()).unwrap();
    assert_eq!(parts.describe(), "linear 4 -> 6");
    let value = loss().forward(&context.with_parts(&parts));
    let Parts::Projector(Projector::Linear(linear)) = &parts else {
        panic!("a linear projector")
    };
    let gradient = linear.weight.val().grad(&value.backward()).unwrap();
    assert!(numbers(gradient).iter().any(|g| *g != 0.0));
}

#[test]
fn errors_say_what_does_not_fit() {
    let device = Device::flex();
    let text = |student: Feature, teacher: Feature, mask: Option<usize>| {
        let (s, t) = (outputs(6, "s", student), outputs(6, "t", teacher));
        let mask = mask.map(|rows| Tensor::<1>::ones([rows], &device).bool());
        let mut context = LossContext::new(&s, &t);
        context.mask = mask.as_ref();
        loss().check(&context).unwrap_err().to_string()
    };
    let rank3 = |tokens| Feature::from(Tensor::<3>::zeros([2, tokens, 4], &device));
    let rank4 = || Feature::from(Tensor::<4>::zeros([2, 3, 4, 4], &device));
    assert_eq!(
        text(rank3(3), rank3(5), None),
        r#"term "hidden_cosine_s": features "s" and "t" differ: student has [2, 3, 4], teacher has [2, 5, 4]"#
    );
    assert_eq!(
        text(rank3(3), rank4(), None),
        r#"term "hidden_cosine_s": feature "t" of the teacher has shape [2, 3, 4, 4], expected [N, D] or [N, T, D]"#
    );
    assert_eq!(
        text(rank3(3), rank3(3), Some(5)),
        "a masked feature has 2 rows, the student's logits have 5"
    );
    let s = outputs(2, "s", Tensor::<2>::zeros([2, 4], &device));
    assert_eq!(
        loss()
            .check(&LossContext::new(&s, &s))
            .unwrap_err()
            .to_string(),
        r#"term "hidden_cosine_s" needs feature "t" of the teacher, which gives ["s"]"#
    );
}

#[test]
fn the_config_is_checked_and_survives_a_round_trip() {
    let config = HiddenCosineConfig::new("s", "t");
    assert_eq!(config.norm, CosineNorm::Added);
    let json = r#"{"hidden_cosine":{"student":"s","teacher":"t","norm":"clamped"}}"#;
    let read: LossConfig = serde_json::from_str(json).unwrap();
    assert_eq!(read, config.clone().with_norm(CosineNorm::Clamped).into());
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
    let short: HiddenCosineConfig =
        serde_json::from_str(r#"{"student":"s","teacher":"t"}"#).unwrap();
    assert_eq!(short, config);

    let unknown = r#"{"student":"s","teacher":"t","eps":1}"#;
    let error = serde_json::from_str::<HiddenCosineConfig>(unknown).unwrap_err();
    assert!(
        error.to_string().starts_with("unknown field `eps`"),
        "{error}"
    );
    let error = HiddenCosineConfig::new("s", "").init().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"hidden_cosine.teacher is "", expected the name of a feature"#
    );
}
