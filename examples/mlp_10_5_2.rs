//! The smallest distillation: teacher and student are both perceptrons 10-5-2.
//!
//! ```text
//! cargo run --release --example mlp_10_5_2
//! ```
//!
//! The example that introductions to distillation start with, done right: the teacher is trained,
//! the student learns from the teacher, and last, what copying parameters would have done instead.
//! After each step it prints how far the two are apart, in their weights and in their predictions.
//! `docs/introduction.md` has the formulas, and what the usual code for this gets wrong.

mod common;

use std::error::Error;

use burn::data::dataset::InMemDataset;
use burn::optim::SgdConfig;
use burn::tensor::{Tensor, TensorData};
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::metric::parameter_distance;
use burn_distill::report::measure;
use burn_distill::{
    DistillBatch, DistillData, Distiller, FitConfig, Objective, Transfer, train_supervised,
};
use clap::Parser;
use common::args::{Common, Output};
use common::mlp::Mlp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const WIDTHS: [usize; 3] = [10, 5, 2];
const SAMPLES: usize = 100;

/// The smallest distillation: teacher and student are both perceptrons 10-5-2.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: Output,
}

/// Ten numbers and the class they belong to.
#[derive(Debug, Clone)]
struct Sample {
    input: [f32; 10],
    class: i64,
}

/// Points of a cube, on one side or the other of a plane through its middle.
fn samples(seed: u64) -> DistillData<Tensor<2>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sample = || {
        let input: [f32; 10] = std::array::from_fn(|_| random.random_range(-1.0..1.0));
        let side: f32 = input.iter().step_by(2).sum::<f32>() - input[1];
        Sample {
            input,
            class: i64::from(side > 0.0),
        }
    };
    let samples = InMemDataset::new((0..SAMPLES).map(|_| sample()).collect());
    DistillData::from_fn(samples, |samples: Vec<Sample>, device| {
        let inputs: Vec<f32> = samples.iter().flat_map(|s| s.input).collect();
        let classes: Vec<i64> = samples.iter().map(|s| s.class).collect();
        let inputs = TensorData::new(inputs, [samples.len(), 10]);
        DistillBatch::new(Tensor::<2>::from_data(inputs, device))
            .with_classes(Tensor::<1, _>::from_data(classes.as_slice(), device))
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let Args { common, output } = Args::parse();
    let device = common.device()?;
    let data = samples(common.seed);
    let config = FitConfig::new(if common.quick { 2 } else { 100 })
        .with_batch_size(10)
        .with_optimizer(SgdConfig::new().init(), 0.01)
        .with_seed(common.seed);
    device.seed(common.seed);
    let (teacher, student) = (Mlp::new(&WIDTHS, &device), Mlp::new(&WIDTHS, &device));

    println!(
        "{:28}{:>12}{:>12}{:>14}",
        "", "‖θ_T − θ_S‖", "agreement", "KL(T ‖ S)"
    );
    let compare = |step: &str, teacher: &Mlp, student: &Mlp| -> Result<(), Box<dyn Error>> {
        let distance = parameter_distance(teacher, student).distance;
        let error = measure(student, Some(teacher), &data, SAMPLES, &device)?;
        let (agreement, kl) = (
            error.agreement.unwrap_or(0.0),
            error.kl_teacher_student.unwrap_or(0.0),
        );
        println!(
            "{step:28}{distance:>12.4}{:>10.0} %{kl:>14.5}",
            agreement * 100.0
        );
        Ok(())
    };

    compare("before", &teacher, &student)?;
    // 1. The teacher's objective: cross-entropy with the labels.
    let labels = Objective::new().with(HardLabel::new(), 1);
    let config = config.with_label("teacher");
    let trained = train_supervised(
        device.clone(),
        teacher,
        &labels,
        &config,
        data.clone(),
        None,
    )?;
    let teacher = trained.model;
    compare("after training the teacher", &teacher, &student)?;
    // 2. The student's objective: divergence from the teacher's soft targets.
    let config = config.with_label("student");
    let distilled = Distiller::on(device.clone(), teacher, student)
        .with(SoftTarget::new(2), 1)
        .fit(&config, data.clone(), None)?;
    compare("after distillation", &distilled.teacher, &distilled.student)?;
    // 3. Another way to close the distance, open only to a student of the teacher's own shape.
    let (copy, summary) = Transfer::whole().apply(&distilled.teacher, distilled.student)?;
    compare("after transfer instead", &distilled.teacher, &copy)?;

    println!(
        "\nDistillation brings the predictions together and leaves the weights to find their own way. The \
         transfer copied {} tensors: there is no distance left because the student is now the teacher.",
        summary.copied.len()
    );
    output.save(&distilled.report)
}
