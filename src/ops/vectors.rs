//! Vectors of any rank: lengths, squares, and means over weighted rows.

use burn::tensor::{Bool, Tensor};

use crate::data::precision::single;

/// The mean of the squares along all axes but the first.
pub(crate) fn mean_square<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let x: Tensor<2> = x.flatten(1, D - 1);
    (x.clone() * x).mean_dim(1).squeeze_dim(1)
}

/// The Euclidean norm along an axis, whose gradient is zero where it is zero.
pub(crate) fn norm<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let squares = (x.clone() * x).sum_dim(axis);
    let zero = squares.clone().equal_elem(0.0);
    // The root of zero has an infinite slope, so it is taken of something else there.
    let root = squares.mask_fill(zero.clone(), 1.0).sqrt();
    root.mask_fill(zero, 0.0)
}

/// `x / ‖x‖` along the last axis.
///
/// A norm of zero is taken as one: a zero vector stays zero and receives a finite gradient.
pub(crate) fn unit<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let squares = (x.clone() * x.clone()).sum_dim(D - 1);
    let is_zero = squares.clone().equal_elem(0.0);
    // Before the root, whose derivative at zero is infinite and would turn into NaN.
    x / squares.mask_fill(is_zero, 1.0).sqrt()
}

/// Zero in the rows named by `ignored`.
pub(crate) fn mask_rows<const D: usize>(x: Tensor<D>, ignored: &Tensor<1, Bool>) -> Tensor<D> {
    let mut shape = [1; D];
    shape[0] = ignored.dims()[0];
    let ignored = ignored.clone().reshape(shape).expand(x.shape());
    x.mask_fill(ignored, 0.0)
}

/// The mean of one value per row, `Σ w·v / Σ w`, `[1]`; zero where all weights are. A row of weight zero
/// may hold anything, and values in half are summed in single precision.
pub(crate) fn mean_rows(values: Tensor<1>, weights: Option<&Tensor<1>>) -> Tensor<1> {
    let values = single(values);
    match weights {
        None => values.mean(),
        Some(weights) => {
            let weights = weights.clone().cast(values.dtype());
            let kept = values.mask_fill(weights.clone().equal_elem(0.0), 0.0);
            (kept * weights.clone()).sum() / or_one(weights.sum())
        }
    }
}

/// The weights over their sum, so that a weighted sum is a mean; all zero where they are.
pub(crate) fn normalised(weights: Tensor<1>) -> Tensor<1> {
    let sum = or_one(weights.clone().sum());
    weights / sum
}

/// The number itself, or one where it is zero.
pub(crate) fn or_one(x: Tensor<1>) -> Tensor<1> {
    let is_zero = x.clone().equal_elem(0.0);
    x.mask_fill(is_zero, 1.0)
}
