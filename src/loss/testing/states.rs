//! Outputs with one feature, and plain numbers, for the losses on hidden states and embeddings.

use burn::tensor::{Tensor, TensorData};

use crate::{Feature, Outputs};

/// Outputs of `rows` rows with one feature.
pub fn outputs(rows: usize, name: &str, feature: impl Into<Feature>) -> Outputs {
    let feature = feature.into();
    let device = match &feature {
        Feature::Rank2(x) => x.device(),
        Feature::Rank3(x) => x.device(),
        Feature::Rank4(x) => x.device(),
    };
    Outputs::new(Tensor::<2>::zeros([rows, 2], &device)).with_feature(name, feature)
}

/// All elements.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Fails unless all elements are these, up to the tolerance.
#[track_caller]
pub fn assert_close<const D: usize>(tensor: Tensor<D>, expected: &[f32], tolerance: f32) {
    let found = numbers(tensor);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    let is_close = |(f, e): (&f32, &f32)| (f - e).abs() <= tolerance;
    let all = found.iter().zip(expected).all(is_close);
    assert!(all, "found {found:?}, expected {expected:?}");
}

/// Reproducible numbers between −1 and 1 without a pattern.
pub fn noise(shape: impl Into<Vec<usize>>, seed: u64) -> TensorData {
    let shape = shape.into();
    let count: usize = shape.iter().product();
    let number = |i: usize| {
        let mixed = (seed * 1_000_003 + i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    TensorData::new((0..count).map(number).collect::<Vec<f32>>(), shape)
}
