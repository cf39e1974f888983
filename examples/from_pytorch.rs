//! A teacher that PyTorch trained, in a Burn module, with a student of its own.
//!
//! ```text
//! cargo run --release --example from_pytorch
//! ```
//!
//! `examples/data/teacher` has a small convolutional network that a Python script trained, as `.pt` and as
//! safetensors, and PyTorch's logits for some digits. The example loads it, checks that Burn
//! computes the same, and distils it into a network of a fourth of its channels, on 1,000 digits.
//!
//! ```text
//! digits_cnn.safetensors  logits of 16 digits differ from PyTorch's by at most 4.8e-6
//! digits_cnn.pt           logits of 16 digits differ from PyTorch's by at most 4.8e-6
//!
//!                                   teacher    labels only      distilled
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

use burn::optim::AdamConfig;
use burn_distill::loss::SoftTarget;
use burn_distill::{Distiller, FitConfig, Schedule};
use clap::Parser;
use common::args::{Common, Output};
use common::digits;
use common::known::Known;
use common::torch_cnn::TorchCnn;

const TEACHER: [usize; 2] = [8, 16];
const STUDENT: [usize; 2] = [2, 4];

/// A teacher that PyTorch trained, in a Burn module, with a student of its own.
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

    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/teacher");
    let known = Known::read()?;
    for name in ["digits_cnn.safetensors", "digits_cnn.pt"] {
        let teacher = TorchCnn::new(TEACHER, &device).with_weights(&files.join(name))?;
        println!(
            "{name:<24}logits of {} digits differ from PyTorch's by at most {:.1e}",
            known.digits(),
            known.largest_difference(&teacher, &device)?
        );
    }
    let teacher = TorchCnn::new(TEACHER, &device).with_weights(&files.join("digits_cnn.pt"))?;

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
    let student = TorchCnn::new(STUDENT, &device);
    let distilled = Distiller::on(device, teacher, student)
        .with(SoftTarget::new(4), 1)
        .fit(&config, few, digits::data(digits::test()?))?;
    println!("\n{}", distilled.report);
    output.save(&distilled.report)
}
