//! A teacher of images and a student of vectors, and batches with one input.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_distill::{DistillData, Distillable, Distiller, FitConfig, Outputs};

#[derive(Module, Debug)]
struct Small {
    layer: Linear,
}

#[derive(Module, Debug)]
struct Large {
    layer: Linear,
}

impl Distillable<Tensor<2>> for Small {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        Outputs::new(self.layer.forward(input))
    }
}

impl Distillable<Tensor<4>> for Large {
    fn outputs(&self, input: Tensor<4>) -> Outputs {
        Outputs::new(self.layer.forward(input.flatten::<2>(1, 3)))
    }
}

fn run(train: DistillData<Tensor<2>>) {
    let device = Device::flex();
    let layer = || LinearConfig::new(4, 2).init(&Device::flex());
    let (teacher, student) = (Large { layer: layer() }, Small { layer: layer() });
    let _ = Distiller::on(device, teacher, student).fit(&FitConfig::new(1), train, None);
}

fn main() {}
