//! Leading axes as rows.

use burn::tensor::Tensor;

/// The rows of a tensor of rank 2 or more, `[rows, width]`. One of rank 2 is left as it is: a reshape would be
/// one more operation of the graph, forwards and backwards.
pub(crate) fn rows<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    match D {
        2 => Tensor::from_dispatch(x.into_dispatch()),
        _ => x.flatten(0, D - 2),
    }
}
