//! A digest of a teacher's input: a batcher that changed is found by it.

use std::any::Any;

use burn::tensor::{Device, Int, Tensor, TensorData};
use xxhash_rust::xxh3::Xxh3Default;

use crate::data::dataset::DistillData;
use crate::error::{Error, Result};

/// A digest of the teacher's input for one sample, where that is a tensor.
pub(crate) fn input_digest<I, J: 'static>(
    data: &DistillData<I, J>,
    index: usize,
    device: &Device,
) -> Result<Option<String>> {
    let batch = data.batch(vec![index], device);
    let batch = batch.map_err(|error| Error::Dataset {
        what: "recorded",
        message: error.to_string(),
    })?;
    Ok(numbers(&batch.teacher_input).map(|data| {
        let mut digest = Xxh3Default::new();
        digest.update(format!("{:?}{:?}", data.shape(), data.dtype()).as_bytes());
        digest.update(data.as_bytes());
        format!("{:016x}", digest.digest())
    }))
}

/// The numbers of an input that is a tensor.
fn numbers(input: &dyn Any) -> Option<TensorData> {
    macro_rules! of {
        ($($tensor:ty),*) => {
            $(
                if let Some(tensor) = input.downcast_ref::<$tensor>() {
                    return Some(tensor.clone().into_data());
                }
            )*
        };
    }
    of!(Tensor<1>, Tensor<2>, Tensor<3>, Tensor<4>, Tensor<5>);
    of!(Tensor<1, Int>, Tensor<2, Int>, Tensor<3, Int>, Tensor<4, Int>);
    None
}
