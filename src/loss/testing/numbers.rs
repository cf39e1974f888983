//! Numbers made up, numbers read, numbers compared.

use burn::tensor::{Tensor, TensorData};

/// Reproducible numbers between −1 and 1 without a pattern.
pub fn values(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| {
        let mixed = (seed * 1_000_003 + i + 1) as u64;
        let mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(number).collect()
}

/// [`values`] in a shape.
pub fn noise(shape: impl Into<Vec<usize>>, seed: usize) -> TensorData {
    let shape = shape.into();
    TensorData::new(values(shape.iter().product(), seed), shape)
}

/// All elements.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Fails unless each number is no further from the one expected than `allowed` says.
#[track_caller]
fn all_close<T>(found: &[T], expected: &[T], allowed: impl Fn(f64) -> f64)
where
    T: Copy + Into<f64> + std::fmt::Debug,
{
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let (found, e): (f64, f64) = ((*f).into(), (*e).into());
        // Not "greater than": a NaN must not pass.
        let is_close = (found - e).abs() <= allowed(e);
        assert!(is_close, "{i}: {found} is not {e} ± {}", allowed(e));
    }
}

/// Each within `tolerance`.
#[track_caller]
pub fn close<T>(found: &[T], expected: &[T], tolerance: f64)
where
    T: Copy + Into<f64> + std::fmt::Debug,
{
    all_close(found, expected, |_| tolerance);
}

/// Each within `tolerance`, times its size where that is above 1.
#[track_caller]
pub fn close_by_size(found: &[f32], expected: &[f32], tolerance: f32) {
    all_close(found, expected, |e| f64::from(tolerance) * e.abs().max(1.0));
}

/// Each within `tolerance` times the size of the largest.
#[track_caller]
pub fn close_by_largest(found: &[f32], expected: &[f32], tolerance: f32) {
    let size = expected.iter().fold(1e-6f32, |size, x| size.max(x.abs()));
    all_close(found, expected, |_| f64::from(tolerance * size));
}

/// The elements of a tensor, each within `tolerance`.
#[track_caller]
pub fn elements_close<const D: usize>(tensor: Tensor<D>, expected: &[f32], tolerance: f32) {
    close(&numbers(tensor), expected, f64::from(tolerance));
}
