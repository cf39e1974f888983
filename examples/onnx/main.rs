//! A teacher from an ONNX file.
//!
//! ```text
//! cargo run --release --example onnx
//! ```
//!
//! Burn turns an ONNX file into Rust code and a file of weights, with a program or in a build script. Here it was the
//! program, so that the example needs nothing more to build:
//!
//! ```text
//! cargo install burn-onnx --version 0.22.0
//! onnx2burn --no-development examples/data/teacher/digits_cnn.onnx examples/onnx
//! ```
//!
//! `digits_cnn.rs` is what came out, but for its paths. Its `Model` is an ordinary module, which `adapt` makes a
//! teacher with one closure, here of a network with a fourth of its channels. A graph that the program does not
//! understand can be run by whatever does, behind a closure: see the example `any_teacher`.
//!
//! ```text
//! Logits of 16 digits differ from PyTorch's by at most 5.7e-6.
//!
//!                                   teacher    labels only      distilled
//! -----------------------------------------------------------------------
//! accuracy                          97.60 %        91.40 %        95.70 %
//! agreement with teacher                  -        92.15 %        96.65 %
//! parameters                          9,098          2,090          2,090
//! gap recovered       69.35 %
//! ```

#[path = "../common/mod.rs"]
mod common;

/// What `onnx2burn` wrote. It names Burn's store by its own crate, which is `burn::store`.
mod digits_cnn {
    #![allow(clippy::all, dead_code)]
    use burn::store as burn_store;
    include!("digits_cnn.rs");
}

use std::error::Error;
use std::path::Path;

use burn::optim::AdamConfig;
use burn::tensor::Tensor;
use burn_distill::loss::SoftTarget;
use burn_distill::{Distiller, FitConfig, Outputs, Schedule, adapt};
use clap::Parser;
use common::args::{Common, Output};
use common::digits;
use common::known::Known;
use common::torch_cnn::TorchCnn;
use digits_cnn::Model;

/// A teacher from an ONNX file.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Args { common, output } = Args::parse();
    let device = common.device()?;
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/onnx/digits_cnn.bpk");
    // The model takes images, and digits come flat.
    let teacher = adapt(
        Model::from_file(weights, &device),
        |model: &Model, flat: Tensor<2>| Outputs::new(model.forward(flat.reshape([-1, 1, 28, 28]))),
    );
    let known = Known::read()?;
    println!(
        "Logits of {} digits differ from PyTorch's by at most {:.1e}.",
        known.digits(),
        known.largest_difference(&teacher, &device)?
    );

    // Each seed has its own 1,000 digits.
    let first = (common.seed as usize % 10) * 1000;
    let few = digits::data(digits::train()?[first..first + 1000].to_vec());
    device.seed(common.seed);
    let config = FitConfig::new(if common.quick { 2 } else { 60 })
        .with_batch_size(32)
        .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), 1e-2)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(common.seed)
        .with_label("student")
        .with_baseline(true);
    let student = TorchCnn::new([2, 4], &device);
    let distilled = Distiller::on(device, teacher, student)
        .with(SoftTarget::new(4), 1)
        .fit(&config, few, digits::data(digits::test()?))?;
    println!("\n{}", distilled.report);
    output.save(&distilled.report)
}
