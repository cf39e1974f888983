//! A teacher's input for one sample, to be compared with what a batcher makes of it later.

use std::any::Any;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::dataset::DistillData;
use crate::error::{Error, Result};
use crate::knowledge::format::input::InputSummary;

/// A summary of the teacher's input for one sample, where that is a tensor.
pub(crate) fn summary_of_input<I, J: 'static>(
    data: &DistillData<I, J>,
    index: usize,
    device: &Device,
) -> Result<Option<InputSummary>> {
    let batch = data.batch(vec![index], device);
    let batch = batch.map_err(|error| Error::Dataset {
        what: "recorded",
        message: error.to_string(),
    })?;
    Ok(summary(&batch.teacher_input))
}

/// A summary of an input that is a tensor.
pub(crate) fn summary(input: &dyn Any) -> Option<InputSummary> {
    let data = numbers(input)?;
    Some(InputSummary::new(data.shape(), data.iter::<f64>()))
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
