//! Vectors of any rank: lengths, squares, and rows that do not count.

use burn::tensor::{Bool, Tensor};

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
/// A norm of zero counts as one: a zero vector stays what it is and receives a finite gradient.
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

/// The mean of one value per row over the rows that count, `[1]`; zero where none counts.
pub(crate) fn mean_rows(values: Tensor<1>, mask: Option<&Tensor<1, Bool>>) -> Tensor<1> {
    match mask {
        None => values.mean(),
        Some(mask) => {
            let kept = values.mask_fill(mask.clone().bool_not(), 0.0);
            let count = mask.clone().int().sum().float().cast(kept.dtype());
            kept.sum() / count.clamp_min(1.0)
        }
    }
}
