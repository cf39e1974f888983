//! The smallest distillation: teacher and student are both perceptrons 10-5-2.
//!
//! ```text
//! cargo run --release --example mlp_10_5_2
//! ```
//!
//! The example that introductions to distillation start with, done right: the teacher is trained,
//! the student learns from the teacher, and last, what copying parameters would have done instead.
//! After each step it prints how far the two are apart, in their weights and in their answers.
//! `docs/introduction.md` has the formulas, and what the usual code for this gets wrong.

mod common;

use std::error::Error;

use burn::backend::Backend;
use burn::data::dataset::InMemDataset;
use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::loss::SoftTargetConfig;
use burn_distill::metric::parameter_distance;
use burn_distill::report::measure;
use burn_distill::{
    DistillBatch, DistillData, Distiller, FitConfig, Frozen, Transfer, train_on_labels,
};
use clap::Parser;
use common::backend::BackendName;
use common::mlp::Mlp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const WIDTHS: [usize; 3] = [10, 5, 2];
const SAMPLES: usize = 100;

/// The smallest distillation: teacher and student are both perceptrons 10-5-2.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of data, weights and order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Two epochs instead of a hundred.
    #[arg(long)]
    quick: bool,
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
    let data = samples(args.seed);
    let config = FitConfig::new(if args.quick { 2 } else { 100 })
        .with_batch_size(10)
        .with_optimizer(SgdConfig::new().init(), 0.01)
        .with_seed(args.seed);
    at.seed(args.seed);
    let (teacher, student) = (Mlp::new(&WIDTHS, &at), Mlp::new(&WIDTHS, &at));

    println!(
        "{:28}{:>12}{:>12}{:>14}",
        "", "‖θ_T − θ_S‖", "agreement", "KL(T ‖ S)"
    );
    let compare = |step: &str, teacher: &Mlp, student: &Mlp| -> Result<(), Box<dyn Error>> {
        let distance = parameter_distance(teacher, student).distance;
        let frozen = Frozen::new(teacher.clone());
        let error = measure(student, Some(&frozen), &data, SAMPLES, &at)?;
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
    let config = config.with_label("teacher");
    let teacher =
        train_on_labels::<B, _, _>(device.clone(), teacher, &config, data.clone(), None)?.model;
    compare("after training the teacher", &teacher, &student)?;
    // 2. The student's objective: divergence from the teacher's soft targets.
    let config = config.with_label("student");
    let distilled = Distiller::<B, _, _>::new(device, teacher, student)
        .with(SoftTargetConfig::new(2.0), 1.0)
        .fit(&config, data.clone(), None)?;
    compare("after distillation", &distilled.teacher, &distilled.student)?;
    // 3. Another way to close the distance, open only to a student of the teacher's own shape.
    let (copy, summary) = Transfer::whole().apply(&distilled.teacher, distilled.student)?;
    compare("after transfer instead", &distilled.teacher, &copy)?;

    println!(
        "\nDistillation brings the answers together and leaves the weights to find their own way. The \
         transfer copied {} tensors: there is no distance left because the student is now the teacher.",
        summary.copied.len()
    );
    Ok(())
}
