use burn::tensor::Device;

use super::*;
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::loss::testing::features::{mask, outputs, weights};
use crate::loss::testing::numbers::{elements_close as assert_close, noise, numbers};

fn loss() -> PatientKd {
    PatientKd::new("s", "t")
}

fn vectors<const N: usize>(rows: [[f32; 2]; N]) -> Tensor<2> {
    Tensor::from_floats(rows, &Device::flex().autodiff()).require_grad()
}

#[test]
fn value_and_gradient_by_hand() {
    let (student, teacher) = (vectors([[3.0, 4.0]]), vectors([[5.0, 0.0]]));
    let value = patient_kd(student.clone(), teacher).mean();
    let gradients = value.backward();
    assert_close(value, &[0.8], 1e-6); // (0.6 − 1)² + 0.8²
    // 2 (0.6 · [0.6, 0.8] − [1, 0]) / 5
    assert_close(student.grad(&gradients).unwrap(), &[-0.256, 0.192], 1e-6);
}

#[test]
fn only_the_first_token_is_compared() {
    let device = Device::flex();
    let student = Tensor::<3>::from_data(noise([2, 3, 4], 1), &device);
    let teacher = Tensor::<3>::from_data(noise([2, 5, 4], 2), &device);
    let first = |x: &Tensor<3>| -> Tensor<2> { x.clone().narrow(1, 0, 1).squeeze_dim(1) };
    let rows = patient_kd(first(&student), first(&teacher)).per_row();
    let all = patient_kd(student, teacher).per_row();
    assert_close(all, &numbers(rows), 0.0);
}

#[test]
fn opposites_give_four() {
    let value = patient_kd(vectors([[3.0, 0.0]]), vectors([[-9.0, 0.0]])).mean();
    assert_close(value, &[4.0], 0.0);
}

#[test]
fn zero_vectors_and_extremes_stay_finite() {
    let student = vectors([[0.0, 0.0], [1e4, -1e4], [3.0, 4.0]]);
    let teacher = vectors([[0.6, 0.8], [1.0, -1.0], [0.0, 0.0]]);
    let rows = patient_kd(student.clone(), teacher).per_row();
    let gradients = rows.clone().sum().backward();
    // A zero vector stays zero: its distance to a unit vector is 1.
    assert_close(rows, &[1.0, 0.0, 1.0], 1e-6);
    // At zero, −2 t̂. The second agrees, and against zero no direction is better than another.
    let expected = [-1.2, -1.6, 0.0, 0.0, 0.0, 0.0];
    assert_close(student.grad(&gradients).unwrap(), &expected, 1e-6);
}

#[test]
fn lengths_do_not_matter() {
    let device = Device::flex();
    let student = Tensor::<2>::from_data(noise([3, 4], 1), &device);
    let teacher = Tensor::<2>::from_data(noise([3, 4], 2), &device);
    let value = |s: Tensor<2>, t: Tensor<2>| patient_kd(s, t).mean();
    let longer = value(student.clone() * 30.0, teacher.clone() * 0.1);
    assert_close(longer, &numbers(value(student, teacher)), 1e-6);
}

#[test]
fn pairs_add_up() {
    let outputs = |names: [&str; 2], states: [[f32; 2]; 2]| {
        let [first, second] = states.map(|state| vectors([state]));
        Outputs::features_only()
            .with_feature(names[0], first)
            .with_feature(names[1], second)
    };
    let s = outputs(["s1", "s2"], [[3.0, 4.0], [2.0, 0.0]]);
    let t = outputs(["t2", "t4"], [[5.0, 0.0], [-1.0, 0.0]]);
    let loss = PatientKd::new("s1", "t2").with_pair("s2", "t4");
    let context = LossContext::new(&s, &t);
    loss.check(&context).unwrap();
    assert_close(loss.forward(&context), &[0.8 + 4.0], 1e-6);
    assert_eq!(
        loss.needs().features[1],
        ("s2".to_string(), "t4".to_string())
    );
}

#[test]
fn a_sample_has_the_weight_of_its_first_token() {
    let device = Device::flex().autodiff();
    let student = [[[3.0, 4.0], [9.0, 9.0]], [[f32::NAN, 1.0], [9.0, 9.0]]];
    let student = Tensor::<3>::from_floats(student, &device).require_grad();
    let teacher = [[[5.0, 0.0], [9.0, 9.0]], [[1.0, f32::NAN], [9.0, 9.0]]];
    let teacher = Tensor::<3>::from_floats(teacher, &device);
    // By sample, and by token, where the first token of each decides.
    let masks: [&[bool]; 2] = [&[true, false], &[true, false, false, true]];
    for valid in masks {
        let (s, t) = (outputs("s", student.clone()), outputs("t", teacher.clone()));
        let targets = Targets::new().with_weights(mask(valid));
        let context = LossContext::new(&s, &t).with_targets(&targets);
        loss().check(&context).unwrap();
        let value = loss().forward(&context);
        let gradients = value.backward();
        assert_close(value, &[0.8], 1e-6);
        let expected = [-0.256, 0.192, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_close(student.grad(&gradients).unwrap(), &expected, 1e-6);
    }
}

#[test]
fn weights_weight() {
    let student = vectors([[3.0, 4.0], [1.0, 0.0]]);
    let teacher = vectors([[5.0, 0.0], [-1.0, 0.0]]);
    let (s, t) = (outputs("s", student.clone()), outputs("t", teacher.clone()));
    // Distances 4/5 and 4.
    let expected = (0.5 * 0.8 + 1.5 * 4.0) / 2.0;
    for w in [&[0.5, 1.5][..], &[0.5, 9.0, 1.5, 0.0]] {
        let targets = Targets::new().with_weights(weights(w));
        let context = LossContext::new(&s, &t).with_targets(&targets);
        assert_close(loss().forward(&context), &[expected], 1e-6);
    }
    let value = patient_kd(student, teacher).weighted(weights(&[0.5, 1.5]));
    assert_close(value.mean(), &[expected], 1e-6);
}

#[test]
fn errors_say_what_does_not_fit() {
    let device = Device::flex();
    let text = |student: Feature, teacher: Feature| {
        let (s, t) = (outputs("s", student), outputs("t", teacher));
        loss()
            .check(&LossContext::new(&s, &t))
            .unwrap_err()
            .to_string()
    };
    let rank2 = |width| Feature::from(Tensor::<2>::zeros([2, width], &device));
    let rank4 = || Feature::from(Tensor::<4>::zeros([2, 4, 1, 1], &device));
    assert_eq!(
        text(rank2(4), rank2(5)),
        r#"term "patient_kd": features "s" and "t" differ: student has [2, 4], teacher has [2, 5]"#
    );
    assert_eq!(
        text(rank4(), rank2(4)),
        r#"term "patient_kd": feature "s" of the student has shape [2, 4, 1, 1], expected [N, D] or [N, T, D]"#
    );
}
