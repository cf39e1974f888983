//! Half precision, made single where digits are needed.

use burn::module::{ModuleMapper, Param};
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

/// Makes parameters single that are in half, as they are where that is the device's default type.
pub(crate) struct InSingle;

impl ModuleMapper for InSingle {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| match tensor.dtype() {
            DType::F16 | DType::BF16 => {
                let is_trained = tensor.is_require_grad();
                single(tensor.detach()).set_require_grad(is_trained)
            }
            _ => tensor,
        })
    }
}
