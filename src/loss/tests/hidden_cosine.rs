use super::*;
use crate::data::targets::{Targets, Weights};
use crate::loss::modules::projector::Projector;
use crate::loss::testing::features::{mask, outputs, weights};
use crate::loss::testing::numbers::{elements_close as assert_close, noise, numbers};

const NORMS: [CosineNorm; 2] = [CosineNorm::Added, CosineNorm::Clamped];

fn loss() -> HiddenCosine {
    HiddenCosine::new("s", "t")
}

fn vectors<const N: usize>(rows: [[f32; 2]; N]) -> Tensor<2> {
    Tensor::from_floats(rows, &Device::flex().autodiff()).require_grad()
}

#[test]
fn value_and_gradient_by_hand() {
    for norm in NORMS {
        let student = vectors([[3.0, 4.0]]);
        let teacher = vectors([[10.0, 0.0]]);
        let value = hidden_cosine(student.clone(), teacher, norm).mean();
        let gradients = value.backward();
        assert_close(value, &[0.4], 1e-6);
        // (cos · ŝ − t̂) / ‖s‖ = (0.6 · [0.6, 0.8] − [1, 0]) / 5
        assert_close(student.grad(&gradients).unwrap(), &[-0.128, 0.096], 1e-6);
    }
}

#[test]
fn right_angles_give_one_and_opposites_two() {
    for norm in NORMS {
        let student = vectors([[2.0, 0.0], [2.0, 0.0]]);
        let teacher = vectors([[0.0, 5.0], [-7.0, 0.0]]);
        let rows = hidden_cosine(student, teacher, norm).per_row();
        assert_close(rows, &[1.0, 2.0], 1e-6);
    }
}

#[test]
fn zero_vectors_and_extremes_stay_finite() {
    for norm in NORMS {
        let student = vectors([[0.0, 0.0], [1e4, -1e4], [1e-6, 1e-6]]);
        let teacher = vectors([[1.0, 2.0], [0.0, 0.0], [1e4, 1e4]]);
        let rows = hidden_cosine(student.clone(), teacher, norm).per_row();
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
    let value = |s: Tensor<3>, t: Tensor<3>| hidden_cosine(s, t, CosineNorm::Added).mean();
    let longer = value(student.clone() * 30.0, teacher.clone() * 0.1);
    assert_close(longer, &numbers(value(student, teacher)), 1e-6);
}

#[test]
fn masked_tokens_are_left_out() {
    let device = Device::flex().autodiff();
    let student = [[[3.0, 4.0], [f32::NAN, 1.0]], [[1.0, 0.0], [0.0, 1.0]]];
    let student = Tensor::<3>::from_floats(student, &device).require_grad();
    let teacher = [[[10.0, 0.0], [1.0, f32::NAN]], [[1.0, 0.0], [9.0, 0.0]]];
    let teacher = Tensor::<3>::from_floats(teacher, &device);
    let (s, t) = (outputs("s", student.clone()), outputs("t", teacher));
    let valid = Targets::new().with_weights(mask(&[true, false, true, true]));
    let context = LossContext::new(&s, &t).with_targets(&valid);
    loss().check(&context).unwrap();
    let value = loss().forward(&context);
    let gradients = value.backward();
    // Three tokens are valid: 1 − 3/5, 0 and 1.
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
    let s = outputs("s", Tensor::<3>::from_floats(student, &device));
    let t = outputs("t", teacher);
    let valid = Targets::new().with_weights(mask(&[false, true]));
    let value = loss().forward(&LossContext::new(&s, &t).with_targets(&valid));
    assert_close(value, &[0.5], 1e-6);
}

#[test]
fn different_widths_are_projected() {
    let device = Device::flex();
    let student = Tensor::<3>::from_data(noise([2, 3, 4], 1), &device).autodiff();
    let teacher = Tensor::<3>::from_data(noise([2, 3, 6], 2), &device);
    let (s, t) = (outputs("s", student), outputs("t", teacher));
    let context = LossContext::new(&s, &t);
    loss().check(&context).unwrap();
    let modules = loss().modules(&context, &device.autodiff()).unwrap();
    let projector: &Projector = modules.get();
    assert_eq!(projector.describe(), "linear 4 -> 6");
    let value = loss().forward(&context.with_modules(&modules));
    let Projector::Linear(linear) = projector else {
        panic!("a linear projector")
    };
    let gradient = linear.weight.val().grad(&value.backward()).unwrap();
    assert!(numbers(gradient).iter().any(|g| *g != 0.0));
}

#[test]
fn errors_say_what_does_not_fit() {
    let device = Device::flex();
    let text = |student: Feature, teacher: Feature| {
        let (s, t) = (outputs("s", student), outputs("t", teacher));
        let context = LossContext::new(&s, &t);
        loss().check(&context).unwrap_err().to_string()
    };
    let rank3 = |tokens| Feature::from(Tensor::<3>::zeros([2, tokens, 4], &device));
    let rank4 = || Feature::from(Tensor::<4>::zeros([2, 3, 4, 4], &device));
    assert_eq!(
        text(rank3(3), rank3(5)),
        r#"term "hidden_cosine_s": features "s" and "t" differ: student has [2, 3, 4], teacher has [2, 5, 4]"#
    );
    assert_eq!(
        text(rank3(3), rank4()),
        r#"term "hidden_cosine_s": feature "t" of the teacher has shape [2, 3, 4, 4], expected [N, D] or [N, T, D]"#
    );
    let s = outputs("s", Tensor::<2>::zeros([2, 4], &device));
    assert_eq!(
        loss()
            .check(&LossContext::new(&s, &s))
            .unwrap_err()
            .to_string(),
        r#"term "hidden_cosine_s" needs feature "t" of the teacher, which gives ["s"]"#
    );
}

#[test]
fn weights_of_tokens_and_of_samples() {
    let device = Device::flex();
    // Distances 2/5 and 1, then 0 and 2.
    let student = [[[3.0, 4.0], [0.0, 1.0]], [[1.0, 0.0], [-1.0, 0.0]]];
    let student = Tensor::<3>::from_floats(student, &device);
    let teacher = Tensor::<3>::from_floats([[[1.0, 0.0]; 2]; 2], &device);
    let (s, t) = (outputs("s", student.clone()), outputs("t", teacher.clone()));
    let found = |weights: Weights| {
        let targets = Targets::new().with_weights(weights);
        loss().forward(&LossContext::new(&s, &t).with_targets(&targets))
    };
    let by_token = found(weights(&[1.0, 0.5, 7.0, 3.0]));
    assert_close(by_token, &[(0.4 + 0.5 + 6.0) / 11.5], 1e-6);
    let by_sample = (1.4 / 2.0 + 3.0) / 4.0;
    assert_close(found(weights(&[1.0, 3.0])), &[by_sample], 1e-6);
    let value = hidden_cosine(student, teacher, CosineNorm::Added);
    let value = value.weighted(weights(&[1.0, 3.0])).mean();
    assert_close(value, &[by_sample], 1e-6);
}
