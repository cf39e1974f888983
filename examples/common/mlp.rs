//! A multilayer perceptron of any size.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_distill::{Distillable, Outputs};

/// Linear layers with ReLU and dropout between them.
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    input_dropout: Dropout,
    hidden_dropout: Dropout,
}

impl Mlp {
    /// A perceptron with these widths, from input to output, without dropout.
    pub fn new(widths: &[usize], device: &Device) -> Self {
        let layer = |pair: &[usize]| LinearConfig::new(pair[0], pair[1]).init(device);
        Self {
            layers: widths.windows(2).map(layer).collect(),
            input_dropout: DropoutConfig::new(0.0).init(),
            hidden_dropout: DropoutConfig::new(0.0).init(),
        }
    }

    /// Sets the fractions of the input and of the hidden layers that are dropped in training.
    pub fn with_dropout(mut self, input: f64, hidden: f64) -> Self {
        self.input_dropout = DropoutConfig::new(input).init();
        self.hidden_dropout = DropoutConfig::new(hidden).init();
        self
    }
}

impl Distillable<Tensor<2>> for Mlp {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let (head, hidden) = self.layers.split_last().expect("a perceptron has layers");
        let mut x = self.input_dropout.forward(input);
        for layer in hidden {
            x = self.hidden_dropout.forward(relu(layer.forward(x)));
        }
        Outputs::new(head.forward(x.clone())).with_feature("hidden", x)
    }
}
