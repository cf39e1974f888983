//! A network whose gradients over a batch are the mean of those over its halves: no dropout, no batch norm.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_distill::{Distillable, Outputs};

use super::net::{CLASSES, INPUTS, initialized};

/// Two linear layers, the same in every call.
#[derive(Module, Debug)]
pub struct Plain {
    first: Linear,
    head: Linear,
}

impl Plain {
    pub fn new(hidden: usize) -> Self {
        let device = Device::flex();
        device.seed(5);
        let layer = |from, to| LinearConfig::new(from, to).init(&device);
        initialized(Self {
            first: layer(INPUTS, hidden),
            head: layer(hidden, CLASSES),
        })
    }
}

impl Distillable<Tensor<2>> for Plain {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let hidden = self.first.forward(input).tanh();
        Outputs::new(self.head.forward(hidden.clone())).with_feature("hidden", hidden)
    }
}
