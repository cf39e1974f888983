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
//! `digits_cnn.rs` is what came out, but for its paths. Its `Model` is an ordinary module, and ten lines make it a
//! teacher, here of a network with a fourth of its channels. A graph that the program does not understand can be
//! run by whatever does, behind a closure: see the example `any_teacher`.
//!
//! ```text
//! Logits of 16 digits differ from PyTorch's by at most 5.7e-6.
//!
//!                                   teacher   labels alone      distilled
//! -----------------------------------------------------------------------
//! accuracy                          97.60 %        91.40 %        95.70 %
//! agreement with teacher                  -        92.15 %        96.65 %
//! parameters                          9,098          2,090          2,090
//! gap recovered       69.35 %
//! ```

#[path = "../common/mod.rs"]
mod common;

/// What `onnx2burn` wrote. It names Burn's store by its own crate, which is the same as `burn::store`.
mod digits_cnn {
    #![allow(clippy::all, dead_code)]
    use burn::store as burn_store;
    include!("digits_cnn.rs");
}

use std::error::Error;
use std::path::Path;

use burn::backend::Backend;
use burn::module::Module;
use burn::optim::AdamConfig;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::SoftTargetConfig;
use burn_distill::{Distillable, Distiller, FitConfig, Outputs, Schedule};
use clap::Parser;
use common::backend::BackendName;
use common::digits;
use common::known::Known;
use common::torch_cnn::TorchCnn;
use digits_cnn::Model;

/// A teacher from an ONNX file.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights and order; also picks the student's 1,000 digits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Two epochs, with results to match.
    #[arg(long)]
    quick: bool,
}

/// The imported model as a teacher: it takes images, and digits come flat.
#[derive(Module, Debug)]
struct Teacher {
    model: Model,
}

impl Distillable<Tensor<2>> for Teacher {
    fn outputs(&self, images: Tensor<2>) -> Outputs {
        Outputs::new(self.model.forward(images.reshape([-1, 1, 28, 28])))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    on_backend!(args.backend, run, &args)
}

fn run<B>(device: B::Device, args: &Args) -> Result<(), Box<dyn Error>>
where
    B: Backend,
    B::Device: Into<Device>,
{
    let at: Device = device.clone().into();
    burn_distill::check_device(&at)?;
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/onnx/digits_cnn.bpk");
    let teacher = Teacher {
        model: Model::from_file(weights, &at),
    };
    let known = Known::read()?;
    println!(
        "Logits of {} digits differ from PyTorch's by at most {:.1e}.",
        known.digits(),
        known.largest_difference(&teacher, &at)?
    );

    // Each seed has its own 1,000 digits.
    let first = (args.seed as usize % 10) * 1000;
    let few = digits::data(digits::train()?[first..first + 1000].to_vec());
    at.seed(args.seed);
    let config = FitConfig::new(if args.quick { 2 } else { 60 })
        .with_batch_size(32)
        .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), 1e-2)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(args.seed)
        .with_label("student")
        .with_baseline(true);
    let distilled = Distiller::<B, _, _>::new(device, teacher, TorchCnn::new([2, 4], &at))
        .with(SoftTargetConfig::new(4.0), 1.0)
        .fit(&config, few, digits::data(digits::test()?))?;
    println!("\n{}", distilled.report);
    Ok(())
}
