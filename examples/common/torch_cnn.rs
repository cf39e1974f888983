//! The network of `examples/data/teacher/train.py`, and the way from a PyTorch file into it.

use std::error::Error;
use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::store::{ModuleSnapshot, PyTorchToBurnAdapter, PytorchStore, SafetensorsStore};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_distill::{Distillable, Outputs};

/// Two convolutions with batch norm, ReLU and pooling, and a linear layer, on images of 28×28.
///
/// Its fields have the names that PyTorch's have, so that the keys of a `state_dict` fit as they are.
#[derive(Module, Debug)]
pub struct TorchCnn {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    pool: MaxPool2d,
    fc: Linear,
}

impl TorchCnn {
    /// The network with these numbers of channels after its convolutions.
    pub fn new([first, second]: [usize; 2], device: &Device) -> Self {
        let conv = |channels| {
            Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        };
        Self {
            conv1: conv([1, first]).init(device),
            bn1: BatchNormConfig::new(first).init(device),
            conv2: conv([first, second]).init(device),
            bn2: BatchNormConfig::new(second).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc: LinearConfig::new(second * 7 * 7, 10).init(device),
        }
    }

    /// The network with the weights of a file that PyTorch wrote.
    pub fn with_weights(self, path: &Path) -> Result<Self, Box<dyn Error>> {
        load_pytorch(self, path)
    }
}

impl Distillable<Tensor<2>> for TorchCnn {
    fn outputs(&self, images: Tensor<2>) -> Outputs {
        let x = images.reshape([-1, 1, 28, 28]);
        let x = self.bn1.forward(self.conv1.forward(x));
        let x = self.pool.forward(relu(x));
        let x = self.bn2.forward(self.conv2.forward(x));
        let x = self.pool.forward(relu(x));
        Outputs::new(self.fc.forward(x.flatten::<2>(1, 3)))
    }
}

/// A module with the weights of a `.pt`, `.pth` or `.safetensors` file that PyTorch wrote.
///
/// PyTorch keeps the weights of linear layers transposed, and has other names for those of norms.
/// [`PytorchStore`] knows that. A safetensors file may come from anywhere, so there the adapter has to be named:
/// without it a square linear layer is loaded transposed, and nothing reports it.
pub fn load_pytorch<M: Module>(mut module: M, path: &Path) -> Result<M, Box<dyn Error>> {
    let loaded = match path
        .extension()
        .is_some_and(|ending| ending == "safetensors")
    {
        true => {
            let store = SafetensorsStore::from_file(path).with_from_adapter(PyTorchToBurnAdapter);
            module.load_from(&mut { store }).map_err(|e| e.to_string())
        }
        false => {
            let mut store = PytorchStore::from_file(path);
            module.load_from(&mut store).map_err(|e| e.to_string())
        }
    };
    match loaded {
        Ok(_) => Ok(module),
        Err(reason) => Err(format!("{}: {reason}", path.display()).into()),
    }
}
