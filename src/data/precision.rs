//! Half precision, made single where digits are needed.

use burn::tensor::{DType, Tensor};

/// The tensor in single precision where it is in half.
///
/// Half precision has too few digits for a sum over many classes, and squares overflow from 256 on.
/// The cast is part of the graph: a gradient arrives in the type that the tensor had before.
pub(crate) fn single<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.cast(DType::F32),
        _ => x,
    }
}
