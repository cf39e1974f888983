use burn::tensor::{Device, Int};

use super::*;
use crate::data::feature::Feature;
use crate::data::targets::Targets;
use crate::loss::testing::features::{close, mask, outputs, weights};
use crate::loss::testing::numbers::{elements_close as assert_close, noise, numbers};

const DISTANCES: [AttentionDistance; 3] = [
    AttentionDistance::Mse,
    AttentionDistance::KlOfProbabilities,
    AttentionDistance::KlOfScores,
];

fn loss(distance: AttentionDistance, heads: AttentionHeads) -> AttentionMap {
    let loss = AttentionMap::new("s", "t");
    loss.with_distance(distance).with_heads(heads)
}

/// One sample and one head of two tokens.
fn map(rows: [[f32; 2]; 2]) -> Tensor<4> {
    Tensor::from_floats([[rows]], &Device::flex().autodiff()).require_grad()
}

/// Random probabilities or scores on an autodiff device.
fn random(shape: [usize; 4], seed: usize, distance: AttentionDistance) -> Tensor<4> {
    let scores = Tensor::from_data(noise(shape, seed), &Device::flex().autodiff());
    let map = match distance {
        AttentionDistance::KlOfProbabilities => softmax(scores, 3),
        _ => scores,
    };
    map.detach().require_grad()
}

fn each(student: Tensor<4>, teacher: Tensor<4>, distance: AttentionDistance) -> Tensor<1> {
    attention_map(student, teacher, distance, AttentionHeads::Each).mean()
}

#[test]
fn squared_error_by_hand() {
    let (student, teacher) = (map([[1.0, 2.0], [0.0, 1.0]]), map([[4.0, 6.0], [0.0, 2.0]]));
    let value = each(student.clone(), teacher, AttentionDistance::Mse);
    let gradients = value.backward();
    assert_close(value, &[26.0 / 4.0], 1e-6); // (3² + 4² + 0 + 1²) / 4
    assert_close(
        student.grad(&gradients).unwrap(),
        &[-1.5, -2.0, 0.0, -0.5],
        1e-6,
    );
}

#[test]
fn divergence_of_scores_by_hand() {
    // Probabilities 1/2, 1/2 and 3/4, 1/4 for the first query, equal ones for the second.
    let student = map([[0.0, 0.0], [5.0, 5.0]]);
    let teacher = map([[3f32.ln(), 0.0], [0.0, 0.0]]);
    let distance = AttentionDistance::KlOfScores;
    let value = each(student.clone(), teacher.clone(), distance);
    let gradients = value.backward();
    // 3/4·ln(3/2) + 1/4·ln(1/2), halved
    assert_close(value, &[0.130_812 / 2.0], 1e-6);
    assert_close(
        student.grad(&gradients).unwrap(),
        &[-0.125, 0.125, 0.0, 0.0],
        1e-6,
    );
    // The other way round it is 1/2·ln(2/3) + 1/2·ln 2.
    assert_close(each(teacher, student, distance), &[0.143_841 / 2.0], 1e-6);
}

#[test]
fn divergence_of_probabilities_by_hand() {
    let student = map([[0.5, 0.5], [0.25, 0.75]]);
    let teacher = map([[0.75, 0.25], [0.25, 0.75]]);
    let value = each(
        student.clone(),
        teacher,
        AttentionDistance::KlOfProbabilities,
    );
    let gradients = value.backward();
    assert_close(value, &[0.130_812 / 2.0], 1e-6);
    // (q − p) / q / 2: the rows are normalised, so that the gradient is orthogonal to them.
    assert_close(
        student.grad(&gradients).unwrap(),
        &[-0.25, 0.25, 0.0, 0.0],
        1e-6,
    );
}

#[test]
fn scores_and_their_probabilities_agree() {
    let (s, t) = (noise([2, 3, 4, 4], 1), noise([2, 3, 4, 4], 2));
    let [s, t] = [s, t].map(|data| Tensor::<4>::from_data(data, &Device::flex()) * 3.0);
    let scores = each(s.clone(), t.clone(), AttentionDistance::KlOfScores);
    let (s, t) = (softmax(s, 3), softmax(t, 3));
    let probabilities = each(s, t, AttentionDistance::KlOfProbabilities);
    assert_close(probabilities, &numbers(scores), 1e-6);
}

#[test]
fn sharp_attention_tends_to_the_logarithm_of_one_probability() {
    let student = map([[0.2, 0.8], [0.6, 0.4]]);
    let teacher = map([[1.0, 0.0], [0.0, 1.0]]);
    let value = each(student, teacher, AttentionDistance::KlOfProbabilities);
    assert_close(value, &[-(0.2f32.ln() + 0.4f32.ln()) / 2.0], 1e-6);
}

#[test]
fn extremes_stay_finite() {
    let cases = [
        (
            [[1e4, -1e4], [-1e4, 1e4]],
            [[-1e4, 1e4], [-1e4, 1e4]],
            DISTANCES[2],
        ),
        (
            [[1e4, -1e4], [-1e4, 1e4]],
            [[-1e4, 1e4], [-1e4, 1e4]],
            DISTANCES[0],
        ),
        (
            [[1.0, 0.0], [0.0, 1.0]],
            [[0.0, 1.0], [0.0, 1.0]],
            DISTANCES[1],
        ),
    ];
    for (student, teacher, distance) in cases {
        let student = map(student);
        let value = each(student.clone(), map(teacher), distance);
        let gradients = value.backward();
        let (value, gradient) = (numbers(value), numbers(student.grad(&gradients).unwrap()));
        assert!(value[0].is_finite() && value[0] > 1.0, "{value:?}");
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    }
}

/// A masked last token is as if the map had been made without it, for queries and for keys.
#[test]
fn masked_tokens_are_left_out_as_queries_and_as_keys() {
    for distance in DISTANCES {
        let (student, teacher) = (
            random([1, 2, 3, 3], 1, distance),
            random([1, 2, 3, 3], 2, distance),
        );
        let kept = |x: &Tensor<4>| {
            let kept = x.clone().detach().slice([0..1, 0..2, 0..2, 0..2]);
            match distance {
                AttentionDistance::KlOfProbabilities => kept.clone() / kept.sum_dim(3),
                _ => kept,
            }
        };
        let expected = each(kept(&student), kept(&teacher), distance);

        // Whatever the token holds, as a query and as a key.
        let hole = Tensor::<1>::from_floats([0.0, 0.0, f32::NAN], &Device::flex());
        let holes = hole.clone().reshape([1, 1, 3, 1]) + hole.reshape([1, 1, 1, 3]);
        let (student, teacher) = (student + holes.clone(), teacher + holes);
        let student = student.detach().require_grad();
        let (s, t) = (outputs("s", student.clone()), outputs("t", teacher));
        let valid = Targets::new().with_weights(mask(&[true, true, false]));
        let context = LossContext::new(&s, &t).with_targets(&valid);
        let loss = loss(distance, AttentionHeads::Each);
        loss.check(&context).unwrap();
        let value = loss.forward(&context);
        let gradients = value.backward();
        assert_close(value, &numbers(expected), 1e-6);
        let gradient = student.grad(&gradients).unwrap();
        assert!(numbers(gradient.clone()).iter().all(|g| g.is_finite()));
        assert_close(gradient.clone().narrow(3, 2, 1), &[0.0; 6], 0.0);
        assert_close(gradient.clone().narrow(2, 2, 1), &[0.0; 6], 0.0);
        assert!(numbers(gradient).iter().any(|g| *g != 0.0));
    }
}

#[test]
fn a_masked_sample_leaves_out_all_its_tokens() {
    for distance in DISTANCES {
        let (student, teacher) = (
            random([2, 2, 3, 3], 1, distance),
            random([2, 2, 3, 3], 2, distance),
        );
        let each = AttentionHeads::Each;
        let rows = attention_map(student.clone(), teacher.clone(), distance, each).per_row();
        let (s, t) = (outputs("s", student), outputs("t", teacher));
        let valid = Targets::new().with_weights(mask(&[false, true]));
        let context = LossContext::new(&s, &t).with_targets(&valid);
        let value = loss(distance, each).forward(&context);
        assert_close(value, &numbers(rows)[1..], 1e-6);
    }
}

#[test]
fn heads_of_different_number_are_averaged_on_request() {
    let device = Device::flex();
    let mean = AttentionHeads::Mean;
    let distance = AttentionDistance::KlOfProbabilities;
    // Two student heads that are together what the one of the teacher is.
    let student = [[[[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]]];
    let student = Tensor::<4>::from_floats(student, &device);
    let teacher = Tensor::<4>::from_floats([[[[0.75, 0.25], [0.5, 0.5]]]], &device);
    for distance in [distance, AttentionDistance::Mse] {
        let value = attention_map(student.clone(), teacher.clone(), distance, mean).mean();
        assert_close(value, &[0.0], 1e-6);
    }
    // Of scores the probabilities are averaged.
    let scores = student.clamp_min(1e-12).log() + 3.0;
    let value = attention_map(scores, teacher.log(), AttentionDistance::KlOfScores, mean);
    assert_close(value.mean(), &[0.0], 1e-6);
}

/// A token of weight 2 is a token that is there twice, as a query and as a key.
#[test]
fn weights_of_tokens_are_repetitions() {
    let twice = Tensor::<1, Int>::from_ints([0, 0, 1, 2], &Device::flex());
    for heads in [AttentionHeads::Each, AttentionHeads::Mean] {
        for distance in DISTANCES {
            let (student, teacher) = (
                random([2, 2, 3, 3], 1, distance),
                random([2, 2, 3, 3], 2, distance),
            );
            let repeated = |x: &Tensor<4>| {
                let x = x.clone().select(2, twice.clone()).select(3, twice.clone());
                match distance {
                    // Both copies have half of what there is for one.
                    AttentionDistance::KlOfProbabilities => x.clone() / x.sum_dim(3),
                    _ => x,
                }
            };
            // So that a mean over heads is one over equal distributions.
            let (student, teacher) = match heads {
                AttentionHeads::Each => (student, teacher),
                AttentionHeads::Mean => [student, teacher]
                    .map(|x| x.narrow(1, 0, 1).expand([2, 2, 3, 3]))
                    .into(),
            };
            let (s, t) = (repeated(&student), repeated(&teacher));
            let expected = numbers(attention_map(s, t, distance, heads).mean());
            let (s, t) = (outputs("s", student), outputs("t", teacher));
            for scale in [1.0, 0.1] {
                let w = [2.0, 1.0, 1.0, 2.0, 1.0, 1.0].map(|w| w * scale);
                let targets = Targets::new().with_weights(weights(&w));
                let context = LossContext::new(&s, &t).with_targets(&targets);
                assert_close(loss(distance, heads).forward(&context), &expected, 1e-5);
            }
        }
    }
}

#[test]
fn weights_reach_maps_between_two_sequences() {
    let device = Device::flex();
    let student = Tensor::<4>::from_data(noise([2, 1, 2, 3], 1), &device);
    let teacher = Tensor::<4>::from_data(noise([2, 1, 2, 3], 2), &device);
    let square: Tensor<3> = (student.clone() - teacher.clone()).square().squeeze_dim(1);
    let per_query: Tensor<1> = square.mean_dim(2).flatten(0, 2);
    let (s, t) = (outputs("s", student), outputs("t", teacher));
    let found = |w: &[f32]| {
        let targets = Targets::new().with_weights(weights(w));
        let context = LossContext::new(&s, &t).with_targets(&targets);
        numbers(loss(AttentionDistance::Mse, AttentionHeads::Each).forward(&context))
    };
    let q = numbers(per_query);
    let by_query = (q[0] + 3.0 * q[1] + 0.5 * q[3]) / 4.5;
    close(&found(&[1.0, 3.0, 0.0, 0.5]), &[by_query], 1e-6);
    let by_sample = (q[0] + q[1] + 3.0 * (q[2] + q[3])) / 8.0;
    close(&found(&[1.0, 3.0]), &[by_sample], 1e-6);
}

#[test]
fn errors_say_what_does_not_fit() {
    let device = Device::flex();
    let text = |student: Feature, teacher: Feature, heads: AttentionHeads| {
        let (s, t) = (outputs("s", student), outputs("t", teacher));
        let checked = loss(AttentionDistance::Mse, heads).check(&LossContext::new(&s, &t));
        checked.map_err(|error| error.to_string())
    };
    let map = |shape: [usize; 4]| Feature::from(Tensor::<4>::zeros(shape, &device));
    let (each, mean) = (AttentionHeads::Each, AttentionHeads::Mean);
    assert_eq!(
        text(map([2, 4, 3, 3]), map([2, 12, 3, 3]), each).unwrap_err(),
        r#"term "attention_map_s": features "s" and "t" differ: student has [2, 4, 3, 3], teacher has [2, 12, 3, 3]"#
    );
    assert!(text(map([2, 4, 3, 3]), map([2, 12, 3, 3]), mean).is_ok());
    assert!(text(map([2, 4, 3, 5]), map([2, 4, 3, 5]), each).is_ok());
    let rank3 = Feature::from(Tensor::<3>::zeros([2, 3, 3], &device));
    assert_eq!(
        text(rank3, map([2, 4, 3, 3]), each).unwrap_err(),
        r#"term "attention_map_s": feature "s" of the student has shape [2, 3, 3], expected [N, heads, T, T]"#
    );
}
