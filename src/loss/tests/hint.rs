use std::slice::from_ref;

use burn::tensor::Bool;

use super::*;
use crate::data::targets::Weights;
use crate::loss::testing::bench::*;

const VECTORS: [Regressor; 3] = [Regressor::Auto, Regressor::Linear, Regressor::Mlp];
const MAPS: [Regressor; 3] = [Regressor::Auto, Regressor::Conv1x1, Regressor::ConvBnRelu];

fn loss(regressor: Regressor) -> Hint {
    Hint::new("f0", "f0").with_regressor(regressor)
}

fn plain(student: &Feature, teacher: &Feature) -> Step {
    one_step(&loss(Regressor::Auto), student, teacher)
}

/// A step with weights through a regressor.
fn weighted(regressor: Regressor, student: &Feature, teacher: &Feature, by: Weights) -> Step {
    let (student, teacher) = ([student.clone()], [teacher.clone()]);
    let loss = loss(regressor);
    Bench::new(&loss, &student, &teacher).weighted_step(&student, &teacher, Some(by))
}

#[test]
fn two_elements_by_hand() {
    let student = tensor(vec![1.0, 2.0], [1, 2]).into();
    let teacher = tensor(vec![4.0, 6.0], [1, 2]).into();
    let found = plain(&student, &teacher);
    assert_close(&[found.value], &[12.5], 1e-6); // (3² + 4²)/2
    assert_close(&found.student[0], &[-3.0, -4.0], 1e-6); // 2·(1 − 4)/2, 2·(2 − 6)/2
}

#[test]
fn maps_are_pooled_to_the_smaller_size() {
    // Means over each row of the student's 2×2 map: 2 and 6.
    let student = tensor(vec![1.0, 3.0, 5.0, 7.0], [1, 1, 2, 2]).into();
    let teacher = tensor(vec![0.0, 0.0], [1, 1, 2, 1]).into();
    let found = plain(&student, &teacher);
    assert_close(&[found.value], &[20.0], 1e-6); // (2² + 6²)/2
    assert_close(&found.student[0], &[1.0, 1.0, 3.0, 3.0], 1e-6);
}

#[test]
fn a_regressor_is_there_where_asked_for_and_auto_where_widths_differ() {
    let described = |regressor: Regressor, student: &Feature, teacher: &Feature| {
        let loss = loss(regressor);
        let modules = Bench::new(&loss, from_ref(student), from_ref(teacher)).modules;
        modules.map(|modules| modules.get::<Projector>().describe())
    };
    let (s, t) = (vectors([4, 3], 1), vectors([4, 5], 2));
    for (regressor, same, other) in [
        (Regressor::Auto, None, "linear 3 -> 5"),
        (Regressor::Linear, Some("linear 3 -> 3"), "linear 3 -> 5"),
        (Regressor::Mlp, Some("mlp 3 -> 3 -> 3"), "mlp 3 -> 5 -> 5"),
    ] {
        assert_eq!(described(regressor, &s, &s).as_deref(), same);
        assert_eq!(described(regressor, &s, &t).as_deref(), Some(other));
    }
    let (s, t) = (maps([2, 3, 4, 4], 1), maps([2, 5, 2, 2], 2));
    for (regressor, same, other) in [
        (Regressor::Auto, None, "conv 1x1 3 -> 5"),
        (
            Regressor::Conv1x1,
            Some("conv 1x1 3 -> 3"),
            "conv 1x1 3 -> 5",
        ),
        (
            Regressor::ConvBnRelu,
            Some("conv 1x1, batch norm, relu 3 -> 3"),
            "conv 1x1, batch norm, relu 3 -> 5",
        ),
    ] {
        assert_eq!(described(regressor, &s, &s).as_deref(), same);
        assert_eq!(described(regressor, &s, &t).as_deref(), Some(other));
    }
}

#[test]
fn extremes_are_finite_through_every_regressor() {
    for regressor in VECTORS {
        let loss = loss(regressor);
        assert_finite_at_extremes(&loss, &[vectors([3, 4], 1)], &[vectors([3, 5], 2)]);
    }
    for regressor in MAPS {
        let loss = loss(regressor);
        assert_finite_at_extremes(&loss, &[maps([3, 2, 4, 4], 1)], &[maps([3, 5, 1, 1], 2)]);
    }
}

#[test]
fn masked_samples_are_out_of_every_regressor() {
    for regressor in VECTORS {
        let loss = loss(regressor);
        let (s, t) = (vectors([5, 3], 1), vectors([5, 4], 2));
        assert_masked_samples_do_not_count(&loss, &[s], &[t]);
        let (s, t) = (tokens([5, 2, 3], 1), tokens([5, 2, 4], 2));
        assert_masked_samples_do_not_count(&loss, &[s], &[t]);
        assert_masked_tokens_do_not_count(&loss, [3, 4]);
    }
    for regressor in MAPS {
        let loss = loss(regressor);
        let (s, t) = (maps([5, 2, 4, 4], 1), maps([5, 3, 2, 2], 2));
        assert_masked_samples_do_not_count(&loss, &[s], &[t]);
    }
}

#[test]
fn weight_two_is_the_sample_twice() {
    // Samples 0, 1, 2 and 2, and those of weight 1, 1 and 2.
    let twice = |x: &Feature| -> Feature {
        match (x.clone(), samples(x, 2..3)) {
            (Feature::Rank2(x), Feature::Rank2(y)) => Tensor::cat(vec![x, y], 0).into(),
            (Feature::Rank4(x), Feature::Rank4(y)) => Tensor::cat(vec![x, y], 0).into(),
            _ => unreachable!(),
        }
    };
    let check = |regressor: Regressor, s: Feature, t: Feature| {
        let by = weights(&[1.0, 1.0, 2.0], [3]);
        let found = weighted(regressor, &s, &t, by);
        let loss = loss(regressor);
        let bench = Bench::new(&loss, from_ref(&s), from_ref(&t));
        let expected = bench.step(&[twice(&s)], &[twice(&t)], None);
        assert_close(&[found.value], &[expected.value], 1e-5);
        let size = found.student[0].len() / 3;
        let (all, again) = expected.student[0].split_at(3 * size);
        let mut sum = all.to_vec();
        (sum[2 * size..].iter_mut().zip(again)).for_each(|(a, b)| *a += b);
        assert_close(&found.student[0], &sum, 1e-4);
        for (found, expected) in found.modules.iter().zip(&expected.modules) {
            assert_close(found.as_ref().unwrap(), expected.as_ref().unwrap(), 1e-4);
        }
    };
    for regressor in VECTORS {
        check(regressor, vectors([3, 3], 1), vectors([3, 4], 2));
    }
    for regressor in MAPS {
        check(regressor, maps([3, 2, 4, 4], 1), maps([3, 3, 2, 2], 2));
    }
}

#[test]
fn a_token_mask_makes_every_token_a_row() {
    // Two samples of two tokens, of which three are valid: 1, 4 and 16, each alone.
    let student: Feature = tensor(vec![1.0, 2.0, f32::NAN, 4.0], [2, 2, 1]).into();
    let teacher = tensor(vec![0.0; 4], [2, 2, 1]).into();
    let mask = || {
        let valid = Tensor::<2, Bool>::from_data([[true, true], [false, true]], &Device::flex());
        Weights::from(valid)
    };
    let found = weighted(Regressor::Auto, &student, &teacher, mask());
    assert_close(&[found.value], &[7.0], 1e-6);
    let slopes = [2.0 / 3.0, 4.0 / 3.0, 0.0, 8.0 / 3.0];
    assert_close(&found.student[0], &slopes, 1e-6);
    // One vector for both tokens of a sample is valid where any of them is.
    let vector: Feature = tensor(vec![1.0, 2.0], [2, 1]).into();
    let teacher = tensor(vec![0.0; 2], [2, 1]).into();
    let found = weighted(Regressor::Auto, &vector, &teacher, mask());
    assert_close(&[found.value], &[2.5], 1e-6);
}

#[test]
fn a_pixel_mask_meets_maps_of_another_size() {
    // Pixels of a 2×4 image; features of 1×2 and 1×4, compared at 1×2.
    let valid = [
        [[true, true, false, false], [true, false, false, false]],
        [[false; 4], [true, true, true, true]],
    ];
    let mask = Tensor::<3, Bool>::from_data(valid, &Device::flex());
    // Half or all of a column of the features is masked: 1×4 has the weights 1, ½, 0, 0 and ½ each,
    // 1×2 has ¾, 0 and ½, ½.
    let student = vec![1.0, 4.0, f32::NAN, f32::NAN, 2.0, 4.0, 1.0, 3.0];
    let student: Feature = tensor(student, [2, 1, 1, 4]).into();
    let teacher = tensor(vec![0.0, f32::NAN, 0.0, 0.0], [2, 1, 1, 2]).into();
    let found = weighted(Regressor::Auto, &student, &teacher, mask.into());
    // The mean of 1 and 4 by their weights is 2.
    let expected = (0.75 * 4.0 + 0.5 * 9.0 + 0.5 * 4.0) / 1.75;
    assert_close(&[found.value], &[expected], 1e-6);
    assert_eq!(found.student[0][2..4], [0.0, 0.0]);
    assert!(found.is_finite());
}

#[test]
fn pixels_of_weight_one_change_nothing() {
    let (s, t) = (maps([2, 3, 4, 4], 1), maps([2, 5, 2, 2], 2));
    for regressor in MAPS {
        let plain = one_step(&loss(regressor), &s, &t);
        let found = weighted(regressor, &s, &t, weights(&[1.0; 128], [2, 8, 8]));
        assert_close(&[found.value], &[plain.value], 1e-5);
        assert_close(&found.student[0], &plain.student[0], 1e-4);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let (s, t) = (vectors([2, 3], 1), tokens([2, 3, 4], 1));
    let check = |regressor, s: &Feature, t: &Feature| {
        check_error(&loss(regressor), from_ref(s), from_ref(t))
    };
    assert_eq!(
        check(Regressor::Auto, &s, &t),
        "term \"hint_f0\": features \"f0\" and \"f0\" differ: student has [2, 3], teacher has [2, 3, 4]"
    );
    assert_eq!(
        check(Regressor::ConvBnRelu, &s, &s),
        "term \"hint_f0\": feature \"f0\" of the student has shape [2, 3], expected [N, C, H, W] for a conv_bn_relu regressor"
    );
    let maps = maps([2, 3, 2, 2], 1);
    assert_eq!(
        check(Regressor::Linear, &maps, &maps),
        "term \"hint_f0\": feature \"f0\" of the student has shape [2, 3, 2, 2], expected [N, D] or [N, T, D] for a linear regressor"
    );
}
