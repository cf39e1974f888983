//! A teacher that PyTorch trained, in a Burn module, with a student of its own.
//!
//! ```text
//! cargo run --release --example from_pytorch
//! ```
//!
//! `examples/data/teacher` has a small convolutional network that a Python script trained, as `.pt` and as
//! safetensors, and PyTorch's logits for some digits. The example loads it, sees that Burn computes the
//! same, and distils it into a network of a fourth of its channels, on 1,000 digits.
//!
//! ```text
//! digits_cnn.safetensors  logits of 16 digits differ from PyTorch's by at most 4.8e-6
//! digits_cnn.pt           logits of 16 digits differ from PyTorch's by at most 4.8e-6
//!
//!                                   teacher   labels alone      distilled
//! -----------------------------------------------------------------------
//! accuracy                          97.60 %        91.40 %        95.75 %
//! agreement with teacher                  -        92.15 %        96.60 %
//! parameters                          9,194          2,090          2,090
//! gap recovered       70.16 %
//! ```
//!
//! Reading `.pt` and `.pth` files takes Burn's feature `pytorch`, reading safetensors its feature `safetensors`:
//! `burn = { version = "0.22", features = ["store", "pytorch", "safetensors"] }`.

mod common;

use std::error::Error;
use std::path::Path;

use burn::backend::Backend;
use burn::optim::AdamConfig;
use burn::tensor::Device;
use burn_distill::loss::SoftTargetConfig;
use burn_distill::{Distiller, FitConfig, Schedule};
use clap::Parser;
use common::backend::BackendName;
use common::digits;
use common::known::Known;
use common::torch_cnn::TorchCnn;

const TEACHER: [usize; 2] = [8, 16];
const STUDENT: [usize; 2] = [2, 4];

/// A teacher that PyTorch trained, in a Burn module, with a student of its own.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights and order; also picks the student's 1,000 digits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A few seconds instead of a minute, with results to match.
    #[arg(long)]
    quick: bool,
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

    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/teacher");
    let known = Known::read()?;
    for name in ["digits_cnn.safetensors", "digits_cnn.pt"] {
        let teacher = TorchCnn::new(TEACHER, &at).with_weights(&files.join(name))?;
        println!(
            "{name:<24}logits of {} digits differ from PyTorch's by at most {:.1e}",
            known.digits(),
            known.largest_difference(&teacher, &at)?
        );
    }
    let teacher = TorchCnn::new(TEACHER, &at).with_weights(&files.join("digits_cnn.pt"))?;

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
    let student = TorchCnn::new(STUDENT, &at);
    let distilled = Distiller::<B, _, _>::new(device, teacher, student)
        .with(SoftTargetConfig::new(4.0), 1.0)
        .fit(&config, few, digits::data(digits::test()?))?;
    println!("\n{}", distilled.report);
    Ok(())
}
