//! The networks of the training steps, without dropout, so that every step is the same work.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig, PaddingConfig2d,
};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_distill::{Distillable, Outputs};

/// Linear layers with ReLU between them.
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// With these widths, from input to output.
    pub fn new(widths: &[usize], device: &Device) -> Self {
        let layer = |pair: &[usize]| LinearConfig::new(pair[0], pair[1]).init(device);
        Self {
            layers: widths.windows(2).map(layer).collect(),
        }
    }
}

impl Distillable<Tensor<2>> for Mlp {
    fn outputs(&self, mut x: Tensor<2>) -> Outputs {
        let (head, hidden) = self.layers.split_last().expect("a perceptron has layers");
        for layer in hidden {
            x = relu(layer.forward(x));
        }
        Outputs::new(head.forward(x))
    }
}

/// Blocks of convolution, batch normalisation, ReLU and pooling, and a linear head.
#[derive(Module, Debug)]
pub struct Cnn {
    blocks: Vec<(Conv2d, BatchNorm)>,
    pool: MaxPool2d,
    head: Linear,
}

impl Cnn {
    /// For images of 28 by 28 points in one channel; one block for each number of channels.
    pub fn new(channels: &[usize], classes: usize, device: &Device) -> Self {
        let inputs = [1].iter().chain(channels);
        let block = |(inputs, outputs): (&usize, &usize)| {
            let convolution = Conv2dConfig::new([*inputs, *outputs], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
            let norm = BatchNormConfig::new(*outputs);
            (convolution.init(device), norm.init(device))
        };
        let side = 28 >> channels.len();
        let last = channels.last().expect("a block or more");
        Self {
            blocks: inputs.zip(channels).map(block).collect(),
            pool: MaxPool2dConfig::new([2, 2]).init(),
            head: LinearConfig::new(last * side * side, classes).init(device),
        }
    }
}

impl Distillable<Tensor<4>> for Cnn {
    fn outputs(&self, mut x: Tensor<4>) -> Outputs {
        for (convolution, norm) in &self.blocks {
            x = self
                .pool
                .forward(relu(norm.forward(convolution.forward(x))));
        }
        Outputs::new(self.head.forward(x.flatten::<2>(1, 3)))
    }
}

/// A transformer encoder with a class for each word of its vocabulary at each position.
#[derive(Module, Debug)]
pub struct Transformer {
    words: Embedding,
    positions: Param<Tensor<3>>,
    encoder: TransformerEncoder,
    head: Linear,
}

impl Transformer {
    /// With this number of words, of positions in a sequence, and of numbers per position.
    pub fn new(
        [words, positions, width]: [usize; 3],
        layers: usize,
        heads: usize,
        device: &Device,
    ) -> Self {
        let encoder =
            TransformerEncoderConfig::new(width, 4 * width, heads, layers).with_dropout(0.0);
        let near_zero = Distribution::Normal(0.0, 0.02);
        Self {
            words: EmbeddingConfig::new(words, width).init(device),
            positions: Param::from_tensor(Tensor::random([1, positions, width], near_zero, device)),
            encoder: encoder.init(device),
            head: LinearConfig::new(width, words).init(device),
        }
    }
}

impl Distillable<Tensor<2, Int>> for Transformer {
    fn outputs(&self, words: Tensor<2, Int>) -> Outputs {
        let x = self.words.forward(words) + self.positions.val();
        let x = self.encoder.forward(TransformerEncoderInput::new(x));
        Outputs::new(self.head.forward(x))
    }
}
