//! The student as a device runs it: no training, no files, no standard library.
//!
//! `examples/deploy_target` compiles this very file for machines without an operating system.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::activation::relu;
use burn::tensor::{Bytes, Device, Tensor};

/// A perceptron of 784, 96 and 10 units. The widths are multiples of 16, the values that share a
/// scale in the finer of the quantised forms.
#[derive(Module, Debug)]
pub struct Student {
    hidden: Linear,
    head: Linear,
}

impl Student {
    /// A student that has learned nothing.
    pub fn new(device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(784, 96).init(device),
            head: LinearConfig::new(96, 10).init(device),
        }
    }

    /// The student in a file of Burn's own format, quantised or not.
    ///
    /// # Errors
    ///
    /// If the bytes are not such a file, or one of another model.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self, RecordError> {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()))?;
        Self::new(device).try_load_record(record)
    }

    /// The same numbers as floats: four times the memory, and no unpacking in each forward pass.
    pub fn unpacked(self) -> Self {
        self.map(&mut Unpack)
    }

    /// From flat images `[N, 784]` to logits `[N, 10]`.
    pub fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.head.forward(relu(self.hidden.forward(images)))
    }
}

struct Unpack;

impl ModuleMapper for Unpack {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(Tensor::dequantize)
    }
}
