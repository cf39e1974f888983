use burn::tensor::Device;

use super::*;
use crate::ops::maps::at_one_size;

fn device() -> Device {
    Device::flex().autodiff()
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn near(found: Vec<f32>, expected: [f32; 4]) {
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }
}

fn weights(weights: &[f32]) -> Weights {
    Tensor::<1>::from_floats(weights, &Device::flex()).into()
}

fn samples(given: Option<&[f32]>, total: usize) -> Samples {
    let feature: Feature = Tensor::<2>::zeros([total, 1], &device()).into();
    Samples::of(&feature, &feature, given.map(weights).as_ref())
}

#[test]
fn lengths_and_directions_whatever_the_scale() {
    // Squares of the first overflow, squares of the second vanish.
    for scale in [1e25, 1e-11, 1.0] {
        let x = Tensor::<2>::from_floats([[3.0, -4.0], [0.0, 0.0]], &device()) * scale;
        let x = x.require_grad();
        let length = length(x.clone(), 1);
        let gradients = length.backward();
        assert_eq!(numbers(length / scale), [5.0, 0.0]);
        // The direction, and nothing at zero, where a root has an infinite derivative.
        near(numbers(x.grad(&gradients).unwrap()), [0.6, -0.8, 0.0, 0.0]);

        let unit = unit(x.clone(), 1);
        let gradients = unit.clone().slice([0..2, 0..1]).backward();
        near(numbers(unit), [0.6, -0.8, 0.0, 0.0]);
        // (1 − u₀²)/5 and −u₀u₁/5, over the scale.
        let gradient = numbers(x.grad(&gradients).unwrap() * scale);
        near(gradient, [0.64 / 5.0, 0.48 / 5.0, 0.0, 0.0]);
    }
}

#[test]
fn means_are_over_tuples_of_valid_samples() {
    let pairs = || {
        Tensor::<2>::from_floats(
            [[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]],
            &device(),
        )
    };
    assert_eq!(numbers(samples(None, 3).mean(pairs())), [511.0 / 9.0]);
    let two = samples(Some(&[1.0, 0.0, 1.0]), 3);
    assert_eq!(
        numbers(two.mean(pairs())),
        [(1.0 + 4.0 + 64.0 + 256.0) / 4.0]
    );
    let triples = Tensor::<3>::ones([3, 3, 3], &device());
    assert_eq!(numbers(two.keep(triples.clone()).sum()), [8.0]);
    assert_eq!(numbers(two.mean(triples)), [1.0]);
    assert_eq!(numbers(two.count(&pairs())), [2.0]);
    let none = samples(Some(&[0.0; 3]), 3);
    assert_eq!(numbers(none.mean(pairs())), [0.0]);
}

#[test]
fn a_tuple_has_the_product_of_its_weights() {
    let values = [[1.0, f32::NAN, 4.0], [f32::NAN; 3], [64.0, f32::NAN, 256.0]];
    let pairs = Tensor::<2>::from_floats(values, &device());
    let two = samples(Some(&[2.0, 0.0, 0.5]), 3);
    let sum = 4.0 * 1.0 + 1.0 * 4.0 + 1.0 * 64.0 + 0.25 * 256.0;
    assert_eq!(numbers(two.mean(pairs.clone())), [sum / 6.25]);
    assert_eq!(numbers(two.count(&pairs)), [2.5]);
    let single = Tensor::<1>::from_floats([1.0, f32::NAN, 6.0], &device());
    assert_eq!(numbers(two.mean(single)), [(2.0 + 3.0) / 2.5]);
}

#[test]
fn the_next_sample_is_the_next_valid_one() {
    let like = Tensor::<1>::zeros([4], &device());
    let next = numbers(samples(None, 4).next(&like));
    assert_eq!(
        next,
        [
            0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0.
        ]
    );
    let next = numbers(samples(Some(&[0.5, 0.0, 1.0, 3.0]), 4).next(&like));
    assert_eq!(
        next,
        [
            0., 0., 1., 0., 0., 0., 0., 0., 0., 0., 0., 1., 0., 0., 0., 0.
        ]
    );
}

#[test]
fn a_sample_is_valid_if_any_of_its_tokens_is() {
    let tokens = weights(&[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let feature: Feature = Tensor::<2>::zeros([3, 1], &device()).into();
    let three = Samples::of(&feature, &feature, Some(&tokens));
    let like = Tensor::<1>::zeros([1], &device());
    assert_eq!(numbers(three.count(&like)), [2.0]);

    let x = Tensor::<3>::ones([3, 2, 2], &device());
    let Feature::Rank3(x) = masked(x.into(), Some(&tokens)) else {
        panic!("masking keeps the rank");
    };
    assert_eq!(numbers(x), [1., 1., 0., 0., 0., 0., 0., 0., 0., 0., 1., 1.]);
}

#[test]
fn masked_rows_are_zero_whatever_they_hold() {
    let nan = || Tensor::<4>::full([2, 1, 2, 2], f32::NAN, &device()).require_grad();
    // Of samples, and of pixels, twice as fine as the map in both directions.
    let pixels = Tensor::<3>::zeros([2, 4, 4], &Device::flex());
    for given in [weights(&[0.0, 0.0]), pixels.into()] {
        let x = nan();
        let Feature::Rank4(found) = masked(x.clone().into(), Some(&given)) else {
            panic!("masking keeps the rank");
        };
        let gradients = found.clone().sum().backward();
        assert_eq!(numbers(found), [0.0; 8]);
        assert_eq!(numbers(x.grad(&gradients).unwrap()), [0.0; 8]);
    }
}

#[test]
fn rows_are_as_fine_as_weights_and_feature() {
    let dims = |feature: Feature, weights: &Weights| {
        let rows = WeightedRows::new(feature.clone(), feature, Some(weights));
        let own = rows.weights.expect("weights were given");
        assert_eq!(rows.student.dims(), rows.teacher.dims());
        assert_eq!(own.dims()[0], rows.student.dims()[0]);
        (rows.student.dims(), numbers(own))
    };
    let tokens = || -> Feature { Tensor::<3>::ones([2, 3, 4], &device()).into() };
    let maps = || -> Feature { Tensor::<4>::ones([2, 5, 1, 2], &device()).into() };
    let each = [1.0, 0.0, 2.0, 0.5, 0.0, 0.0];
    assert_eq!(dims(tokens(), &weights(&each)), ([6, 4], each.to_vec()));
    let by_sample = weights(&[0.5, 0.0]);
    assert_eq!(dims(tokens(), &by_sample), ([2, 12], vec![0.5, 0.0]));
    assert_eq!(dims(maps(), &by_sample), ([2, 10], vec![0.5, 0.0]));
    // Tokens that are not those of the feature: a sample has the largest of its weights.
    let others = weights(&[0.0, 0.25, 0.0, 0.0]);
    assert_eq!(dims(tokens(), &others), ([2, 12], vec![0.25, 0.0]));
    // Pixels, averaged to the positions.
    let pixels = [[[1.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 0.0, 2.0]]];
    let pixels: Weights = Tensor::<3>::from_floats(pixels, &Device::flex()).into();
    assert_eq!(dims(maps(), &pixels), ([4, 5], vec![0.5, 1.0, 0.0, 1.0]));
}

#[test]
fn pooling_goes_to_the_smaller_of_both_axes() {
    let maps =
        |height, width| -> Feature { Tensor::<4>::ones([1, 1, height, width], &device()).into() };
    let (s, t) = at_one_size(maps(4, 2), maps(2, 3));
    assert_eq!((s.shape(), t.shape()), (vec![1, 1, 2, 2], vec![1, 1, 2, 2]));
}

#[test]
#[should_panic(expected = "features are both feature maps or both sequences")]
fn channels_of_a_vector_are_refused() {
    let vector = || Tensor::<2>::zeros([2, 3], &device()).into();
    let _ = channels(vector(), vector(), None);
}

#[test]
#[should_panic(expected = "student and teacher have one number of samples")]
fn batches_of_two_sizes_are_refused() {
    let vectors_of = |n| Tensor::<2>::zeros([n, 3], &device()).into();
    let _ = vectors(vectors_of(2), vectors_of(3), None);
}
