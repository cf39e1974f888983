//! A module that does not say what its outputs are.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_distill::{DistillData, Distiller, FitConfig};

#[derive(Module, Debug)]
struct Net {
    layer: Linear,
}

fn run(train: DistillData<Tensor<2>>) {
    let device = Device::flex();
    let net = || Net { layer: LinearConfig::new(4, 2).init(&Device::flex()) };
    let _ = Distiller::on(device, net(), net()).fit(&FitConfig::new(1), train, None);
}

fn main() {}
