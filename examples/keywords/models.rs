//! Two convolutional networks: one that is good, and one that fits anywhere.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d,
};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_distill::{Distillable, Outputs};

/// Ten keywords, and every other word.
const CLASSES: usize = 11;

/// A convolution with batch normalisation and ReLU.
#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Layer {
    fn new(config: Conv2dConfig, device: &Device) -> Self {
        Self {
            norm: BatchNormConfig::new(config.channels[1]).init(device),
            // Batch normalisation has a bias.
            conv: config.with_bias(false).init(device),
        }
    }

    /// Three by three.
    fn square(channels: [usize; 2], stride: usize, groups: usize, device: &Device) -> Self {
        let config = Conv2dConfig::new(channels, [3, 3])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_groups(groups);
        Self::new(config, device)
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.norm.forward(self.conv.forward(x)))
    }
}

/// Layers of convolutions, the mean over bands and time, and a linear head.
#[derive(Module, Debug)]
pub struct Network {
    layers: Vec<Layer>,
    dropout: Dropout,
    head: Linear,
}

impl Network {
    /// Four full convolutions.
    pub fn teacher(device: &Device) -> Self {
        Self {
            layers: vec![
                Layer::square([1, 24], 2, 1, device),
                Layer::square([24, 48], 1, 1, device),
                Layer::square([48, 64], 2, 1, device),
                Layer::square([64, 96], 2, 1, device),
            ],
            dropout: DropoutConfig::new(0.3).init(),
            head: LinearConfig::new(96, CLASSES).init(device),
        }
    }

    /// Depthwise convolutions, each followed by one across channels.
    pub fn student(device: &Device) -> Self {
        let mut layers = vec![Layer::square([1, 24], 2, 1, device)];
        for [from, to] in [[24, 48], [48, 64]] {
            layers.push(Layer::square([from, from], 2, from, device));
            layers.push(Layer::new(Conv2dConfig::new([from, to], [1, 1]), device));
        }
        Self {
            layers,
            dropout: DropoutConfig::new(0.0).init(),
            head: LinearConfig::new(64, CLASSES).init(device),
        }
    }
}

impl Distillable<Tensor<4>> for Network {
    fn outputs(&self, energies: Tensor<4>) -> Outputs {
        let maps = self
            .layers
            .iter()
            .fold(energies, |x, layer| layer.forward(x));
        let [clips, channels, bands, frames] = maps.dims();
        let maps = maps.reshape([clips, channels, bands * frames]);
        let mean: Tensor<2> = maps.mean_dim(2).squeeze_dim(2);
        Outputs::new(self.head.forward(self.dropout.forward(mean)))
    }
}
