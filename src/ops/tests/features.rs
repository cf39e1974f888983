use super::*;

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

fn counts(mask: &[bool]) -> Tensor<1, Bool> {
    Tensor::from_data(mask, &Device::flex())
}

fn samples(mask: Option<&[bool]>, total: usize) -> Samples {
    let feature: Feature = Tensor::<2>::zeros([total, 1], &device()).into();
    Samples::of(&feature, &feature, mask.map(counts).as_ref())
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
fn means_are_over_tuples_that_count() {
    let pairs = || {
        Tensor::<2>::from_floats(
            [[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]],
            &device(),
        )
    };
    assert_eq!(numbers(samples(None, 3).mean(pairs())), [511.0 / 9.0]);
    let two = samples(Some(&[true, false, true]), 3);
    assert_eq!(
        numbers(two.mean(pairs())),
        [(1.0 + 4.0 + 64.0 + 256.0) / 4.0]
    );
    let triples = Tensor::<3>::ones([3, 3, 3], &device());
    assert_eq!(numbers(two.keep(triples.clone()).sum()), [8.0]);
    assert_eq!(numbers(two.mean(triples)), [1.0]);
    assert_eq!(numbers(two.count(&pairs())), [2.0]);
    let none = samples(Some(&[false; 3]), 3);
    assert_eq!(numbers(none.mean(pairs())), [0.0]);
}

#[test]
fn the_next_sample_is_the_next_that_counts() {
    let like = Tensor::<1>::zeros([4], &device());
    let next = numbers(samples(None, 4).next(&like));
    assert_eq!(
        next,
        [
            0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0.
        ]
    );
    let next = numbers(samples(Some(&[true, false, true, true]), 4).next(&like));
    assert_eq!(
        next,
        [
            0., 0., 1., 0., 0., 0., 0., 0., 0., 0., 0., 1., 0., 0., 0., 0.
        ]
    );
}

#[test]
fn a_sample_counts_if_any_of_its_tokens_does() {
    let tokens = [true, false, false, false, false, true];
    let three = samples(Some(&tokens), 3);
    assert_eq!(
        numbers(three.count(&Tensor::<1>::zeros([1], &device()))),
        [2.0]
    );

    let x = Tensor::<3>::ones([3, 2, 2], &device());
    let Feature::Rank3(x) = masked(x.into(), Some(&counts(&tokens))) else {
        panic!("masking keeps the rank");
    };
    assert_eq!(numbers(x), [1., 1., 0., 0., 0., 0., 0., 0., 0., 0., 1., 1.]);
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
