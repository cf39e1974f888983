//! A model that lacks `#[derive(Module)]`.

use burn::nn::Linear;
use burn::tensor::Tensor;
use burn_distill::{Distillable, Outputs};

#[derive(Debug, Clone)]
struct Net {
    layer: Linear,
}

impl Distillable<Tensor<2>> for Net {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        Outputs::new(self.layer.forward(input))
    }
}

fn main() {}
