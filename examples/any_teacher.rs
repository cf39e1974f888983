//! A teacher that is no network at all: a table of digits.
//!
//! ```text
//! cargo run --release --example any_teacher
//! ```
//!
//! Whatever answers a batch can teach: a closure is enough. Only 1,000 of 10,000 digits have a label. The teacher
//! compares an image with all of these and lets the nearest vote. The student, a perceptron, learns what the
//! teacher says of the 9,000 others and needs no table any more. Beside it stands the same perceptron on the labels of the
//! 1,000.
//!
//! The closure could as well call a C library, another program or a service: an error that it returns ends the
//! training with its reason. One that costs money is better recorded first, see `docs/knowledge.md`.
//!
//! ```text
//!                                   teacher   labels alone      distilled
//! -----------------------------------------------------------------------
//! accuracy                          87.65 %        86.55 %        88.90 %
//! agreement with teacher                  -        85.30 %        90.65 %
//! cross-entropy                      0.4722         0.6381         0.4459
//! calibration error                  8.23 %         7.46 %        13.67 %
//! parameters                              -         79,510         79,510
//! ```
//!
//! The student becomes better than its teacher at the answer, and worse at knowing how sure it is.

mod common;

use std::error::Error;

use burn::backend::Backend;
use burn::optim::AdamConfig;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::SoftTargetConfig;
use burn_distill::{Distiller, FitConfig, Schedule, teacher_fn};
use clap::Parser;
use common::backend::BackendName;
use common::digits::{self, Digit, SIDE};
use common::mlp::Mlp;

/// A teacher that is no network at all: a table of digits.
#[derive(Debug, Parser)]
struct Args {
    /// Where the student computes.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights and order; also picks the student's 1,000 digits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A small table and two epochs, with results to match.
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
    let mut labelled = digits::train()?;
    let mut unlabelled = labelled.split_off(1000);
    let mut test = digits::test()?;
    if args.quick {
        labelled.truncate(200);
        unlabelled.truncate(300);
        test.truncate(300);
    }

    let table = Table::new(&labelled);
    let teacher = teacher_fn("nearest neighbours", move |images: Tensor<2>| {
        let pixels: Vec<f32> = images.into_data().iter().collect();
        let images = pixels.chunks(SIDE * SIDE);
        images.map(|image| table.logits(image)).collect::<Vec<_>>()
    });

    at.seed(args.seed);
    // As many steps on the few as on the many.
    let config = |epochs: usize| {
        FitConfig::new(if args.quick { 2 } else { epochs })
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), 3e-3)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(args.seed)
    };
    let test = digits::data(test);
    let student = Mlp::new(&[784, 100, 10], &at);
    let distiller =
        Distiller::<B, _, _>::new(device, teacher, student).with(SoftTargetConfig::new(1.0), 1.0);
    let alone = distiller.labels_alone(&config(90), &digits::data(labelled), Some(&test))?;
    let unlabelled = digits::data(unlabelled);
    let distilled = distiller.fit(&config(10).with_label("student"), unlabelled, test)?;
    println!("\n{}", distilled.report.with_labels_alone(alone.report));
    Ok(())
}

/// Digits at half their size, and their labels.
struct Table(Vec<(Vec<u8>, u8)>);

impl Table {
    const NEIGHBOURS: usize = 5;

    fn new(digits: &[Digit]) -> Self {
        let row = |digit: &Digit| {
            let pixels: Vec<f32> = digit.pixels.iter().map(|p| f32::from(*p) / 255.0).collect();
            (halved(&pixels), digit.label)
        };
        Self(digits.iter().map(row).collect())
    }

    /// The logarithm of the share of the votes that each class gets. Half a vote goes to all of them, so that
    /// none is ruled out.
    fn logits(&self, image: &[f32]) -> [f32; 10] {
        let image = halved(image);
        let distance = |(other, label): &(Vec<u8>, u8)| {
            let pairs = image.iter().zip(other);
            let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b)).pow(2)).sum();
            (sum, *label)
        };
        let mut distances: Vec<(u32, u8)> = self.0.iter().map(distance).collect();
        let (nearest, last, _) = distances.select_nth_unstable(Self::NEIGHBOURS - 1);
        let mut votes = [0.05; 10];
        for (_, label) in nearest.iter().chain([&*last]) {
            votes[usize::from(*label)] += 1.0;
        }
        votes.map(|votes: f32| (votes / (Self::NEIGHBOURS as f32 + 0.5)).ln())
    }
}

/// The mean of every four pixels, 0 to 255, from an image of numbers between 0 and 1.
fn halved(image: &[f32]) -> Vec<u8> {
    let at = |row: usize, column: usize| image[row * SIDE + column];
    let mean = |row, column| {
        at(row, column) + at(row, column + 1) + at(row + 1, column) + at(row + 1, column + 1)
    };
    let rows = (0..SIDE).step_by(2);
    rows.flat_map(|row| (0..SIDE).step_by(2).map(move |column| (row, column)))
        .map(|(row, column)| (mean(row, column) / 4.0 * 255.0).round() as u8)
        .collect()
}
