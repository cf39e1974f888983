use burn::tensor::{Device, Int};

use super::*;
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::loss::testing::features::{Array, close, device, mask, weights};
use crate::loss::testing::numbers::numbers;

fn layer(shape: [usize; 3], data: &[f32], device: &Device) -> Tensor<3> {
    Tensor::<1>::from_floats(data, device).reshape(shape)
}

fn random(shape: [usize; 3], seed: u32, device: &Device) -> Tensor<3> {
    layer(shape, &Array::random(shape, seed).data, device)
}

fn term() -> GramMse {
    GramMse::new(["a", "b"], ["c", "d"])
}

fn outputs<const N: usize>(features: [(&str, Tensor<3>); N]) -> Outputs {
    let empty = Outputs::features_only();
    features
        .into_iter()
        .fold(empty, |all, (name, x)| all.with_feature(name, x))
}

#[test]
fn two_tokens_by_hand() {
    let device = device();
    // G = [[1·2, 1·0], [3·2, 3·0]], the teacher's [[1, 1], [1, 1]].
    let first = layer([1, 2, 1], &[1.0, 3.0], &device).require_grad();
    let second = layer([1, 2, 1], &[2.0, 0.0], &device).require_grad();
    let ones = layer([1, 2, 2], &[1.0; 4], &device).require_grad();
    let loss = gram_mse(
        [first.clone(), second.clone()],
        [ones.clone(), ones.clone()],
        None,
    );
    let gradients = loss.backward();
    // (1 + 1 + 25 + 1)/4, with differences [[1, −1], [5, −1]] / 2 as the gradient of G.
    close(&numbers(loss), &[7.0], 1e-6);
    close(&numbers(first.grad(&gradients).unwrap()), &[1.0, 5.0], 1e-6);
    close(
        &numbers(second.grad(&gradients).unwrap()),
        &[8.0, -2.0],
        1e-6,
    );
    assert!(ones.grad(&gradients).is_none());
}

#[test]
fn a_rotation_of_both_layers_does_not_matter() {
    let device = device();
    let turn = layer([1, 2, 2], &[0.8, 0.6, -0.6, 0.8], &device);
    let student = [1, 2].map(|seed| random([2, 3, 2], seed, &device));
    let turned = student
        .clone()
        .map(|x| x.matmul(turn.clone().expand([2, 2, 2])));
    let teacher = [3, 4].map(|seed| random([2, 3, 5], seed, &device));
    let value = numbers(gram_mse(student, teacher.clone(), None));
    assert!(value[0] > 1e-3);
    close(&numbers(gram_mse(turned, teacher, None)), &value, 1e-5);
}

#[test]
fn masked_tokens_and_samples_are_out() {
    let device = device();
    let teacher = [3, 4].map(|seed| random([2, 2, 3], seed, &device));
    let leaf = random([2, 2, 4], 1, &device).require_grad();
    let second = random([2, 2, 4], 2, &device);
    let broken = |x: Tensor<3>| x.slice_fill(1..2, f32::NAN);

    let student = outputs([("a", broken(leaf.clone())), ("b", broken(second.clone()))]);
    let [t0, t1] = teacher.clone();
    let wrong = outputs([("c", broken(t0)), ("d", broken(t1))]);
    let valid = Targets::new().with_weights(mask(&[true, false]));
    let context = LossContext::new(&student, &wrong).with_targets(&valid);
    term().check(&context).unwrap();
    let loss = term().forward(&context);
    let gradient = numbers(leaf.grad(&loss.backward()).unwrap());

    let kept = |x: Tensor<3>| x.slice(0..1);
    let [t0, t1] = teacher.map(kept);
    let alone = gram_mse([kept(leaf.clone()), kept(second.clone())], [t0, t1], None);
    let expected = numbers(leaf.grad(&alone.backward()).unwrap());
    close(&numbers(loss), &numbers(alone), 1e-6);
    close(&gradient, &expected, 1e-6);
    assert!(gradient[..8].iter().any(|g| g.abs() > 1e-4));
    assert_eq!(gradient[8..], [0.0; 8]);

    // With one token of the first sample: its square alone.
    let tokens = Targets::new().with_weights(mask(&[true, false, false, false]));
    let student = outputs([("a", leaf), ("b", second)]);
    let context = LossContext::new(&student, &wrong).with_targets(&tokens);
    term().check(&context).unwrap();
    let first = |outputs: &Outputs, name: &str| -> Vec<f32> {
        let Some(Feature::Rank3(x)) = outputs.feature(name) else {
            panic!("no feature {name:?}");
        };
        numbers(x.clone().slice([0..1, 0..1]))
    };
    let product = |outputs: &Outputs, x: &str, y: &str| -> f32 {
        let (x, y) = (first(outputs, x), first(outputs, y));
        x.iter().zip(&y).map(|(x, y)| x * y).sum::<f32>() / x.len() as f32
    };
    let difference = product(&student, "a", "b") - product(&wrong, "c", "d");
    let found = numbers(term().forward(&context));
    close(&found, &[difference * difference], 1e-6);

    let none = Targets::new().with_weights(mask(&[false; 4]));
    let context = LossContext::new(&student, &wrong).with_targets(&none);
    assert_eq!(numbers(term().forward(&context)), [0.0]);
}

#[test]
fn errors_say_what_is_wrong() {
    let device = Device::flex();
    let (x, y) = (random([2, 3, 4], 1, &device), random([2, 3, 5], 2, &device));
    let message = |s: &Outputs, t: &Outputs| {
        let error = term().check(&LossContext::new(s, t)).unwrap_err();
        error.to_string()
    };
    let student = outputs([("a", x.clone()), ("b", x.clone())]);
    let uneven = outputs([("c", x.clone()), ("d", y.clone())]);
    assert_eq!(
        message(&student, &uneven),
        "term \"gram_mse_a\": the two features of one side differ: student has [2, 3, 4, 2, 3, 4], \
         teacher has [2, 3, 4, 2, 3, 5]"
    );
    let missing = outputs([("c", x.clone())]);
    assert_eq!(
        message(&student, &missing),
        "term \"gram_mse_a\" needs feature \"d\" of the teacher, which gives [\"c\"]"
    );
    let flat = outputs([("c", x)]).with_feature("d", Tensor::<2>::zeros([2, 3], &device));
    assert_eq!(
        message(&student, &flat),
        "term \"gram_mse_a\": feature \"d\" of the teacher has shape [2, 3], expected [N, T, D]"
    );
}

/// Weights of tokens are tokens that are there as often, weights of samples are samples.
#[test]
fn weights_are_repetitions() {
    let device = Device::flex();
    let layers = |seed: u32, width| [0, 1].map(|i| random([2, 2, width], seed + i, &device));
    let [student, teacher] = [layers(1, 3), layers(3, 4)];
    let indices = |indices: &[i64]| Tensor::<1, Int>::from_data(indices, &device);
    let (samples, tokens) = (indices(&[0, 0, 1]), indices(&[0, 1, 1]));

    let times = |axis: usize, at: &Tensor<1, Int>, side: &[Tensor<3>; 2]| {
        side.clone().map(|x| x.select(axis, at.clone()))
    };
    let repeated = |axis, at| gram_mse(times(axis, at, &student), times(axis, at, &teacher), None);
    let weighted = |w: &[f32]| gram_mse(student.clone(), teacher.clone(), Some(&weights(w)));
    let plain = numbers(gram_mse(student.clone(), teacher.clone(), None))[0];

    let by_sample = numbers(repeated(0, &samples));
    assert!((by_sample[0] - plain).abs() > 1e-4);
    close(&numbers(weighted(&[2.0, 1.0])), &by_sample, 1e-5);
    close(&numbers(weighted(&[0.2, 0.1])), &by_sample, 1e-5);
    let by_token = numbers(repeated(1, &tokens));
    assert!((by_token[0] - plain).abs() > 1e-4);
    close(&numbers(weighted(&[1.0, 2.0, 1.0, 2.0])), &by_token, 1e-5);
    close(&numbers(weighted(&[0.1, 0.2, 0.1, 0.2])), &by_token, 1e-5);
}

#[test]
fn it_needs_two_features_per_side() {
    let pairs = [("a", "c"), ("b", "d")].map(|(s, t)| (s.to_string(), t.to_string()));
    assert_eq!(term().needs().features, pairs);
}
