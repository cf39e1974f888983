//! A teacher that is not a network at all: a table of digits.
//!
//! ```text
//! cargo run --release --example any_teacher
//! ```
//!
//! Whatever gives outputs for a batch can teach: a closure is enough. Only 1,000 of 10,000 digits have a label. The
//! teacher compares an image with all of these and lets the nearest vote. The student, a perceptron, learns the
//! teacher's outputs for the 9,000 others and needs no table any more. Beside it stands the same perceptron trained on
//! the labels of the 1,000.
//!
//! The closure could as well call a C library, another program or a service: an error that it returns ends the
//! training with its reason. One that is slow or costs money is cached, as here: it is asked once for each image, and
//! not in every epoch. `docs/knowledge.md` is about recording a teacher for several trainings.
//!
//! ```text
//!                                   teacher    labels only      distilled
//! -----------------------------------------------------------------------
//! accuracy                          87.65 %        86.55 %        88.90 %
//! agreement with teacher                  -        85.30 %        90.65 %
//! cross-entropy                      0.4722         0.6381         0.4459
//! calibration error                  8.23 %         7.46 %        13.67 %
//! parameters                              -         79,510         79,510
//! ```
//!
//! The student becomes more accurate than its teacher, and less well calibrated.

mod common;

use std::error::Error;

use burn::optim::AdamConfig;
use burn::tensor::Tensor;
use burn_distill::loss::SoftTarget;
use burn_distill::{Distiller, FitConfig, Schedule, TeacherCache, teacher_fn};
use clap::Parser;
use common::args::{Common, Output};
use common::digits::{self, Digit, SIDE};
use common::mlp::Mlp;

/// A teacher that is not a network at all: a table of digits.
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
    let mut labelled = digits::train()?;
    let mut unlabelled = labelled.split_off(1000);
    let mut test = digits::test()?;
    if common.quick {
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

    device.seed(common.seed);
    // As many steps on the few as on the many.
    let config = |epochs: usize| {
        FitConfig::new(if common.quick { 2 } else { epochs })
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), 3e-3)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_teacher_cache(TeacherCache::memory(64 << 20))
            .with_seed(common.seed)
    };
    let test = digits::data(test);
    let student = Mlp::new(&[784, 100, 10], &device);
    let distiller = Distiller::on(device, teacher, student).with(SoftTarget::new(1), 1);
    let baseline = distiller.baseline(&config(90), &digits::data(labelled), Some(&test))?;
    let unlabelled = digits::data(unlabelled);
    let distilled = distiller.fit(&config(10).with_label("student"), unlabelled, test)?;
    let report = distilled.report.with_baseline(baseline.report);
    println!("\n{report}");
    output.save(&report)
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

    /// The logarithm of the fraction of the votes that each class gets. Half a vote is shared by all of them, so
    /// that no class is masked.
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
