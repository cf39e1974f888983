//! A small network learns handwritten digits from a large one.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! A teacher of 2.4 million parameters is trained on 10,000 digits. A student thirty times smaller
//! then sees only 1,000 of them, twice: once with their labels only, once with the teacher's
//! outputs instead. Both times the recipe is the one that suits it best on held-out digits.

mod common;

use std::error::Error;

use burn::optim::AdamConfig;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::{Distillable, Distiller, FitConfig, Objective, Schedule, train_supervised};
use clap::Parser;
use common::args::{self, Common, Output};
use common::digits::{self, Digit};
use common::mlp::Mlp;

const TEACHER: [usize; 4] = [784, 1200, 1200, 10];
const STUDENT: [usize; 3] = [784, 100, 10];

/// A small network learns handwritten digits from a large one.
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
    let (mut train, test) = (digits::train()?, digits::test()?);
    // Each seed has its own 1,000 digits, so that five seeds tell more than five orders would.
    let first = (common.seed as usize % 10) * 1000;
    let few: Vec<Digit> = train[first..first + 1000].to_vec();
    if common.quick {
        train.truncate(2000);
    }
    let (train, few, test) = (digits::data(train), digits::data(few), digits::data(test));
    let adam = || AdamConfig::new().with_epsilon(1e-8).init();

    println!("Teacher 784-1200-1200-10 on {} digits ...", train.len());
    device.seed(common.seed);
    let teacher = Mlp::new(&TEACHER, &device).with_dropout(0.1, 0.4);
    let labels = Objective::new().with(HardLabel::new(), 1);
    let config = FitConfig::new(if common.quick { 1 } else { 8 })
        .with_optimizer(adam(), 3e-3)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(common.seed)
        .with_label("teacher");
    let teacher = train_supervised(
        device.clone(),
        teacher,
        &labels,
        &config,
        train,
        test.clone(),
    )?;

    println!("Student 784-100-10 on 1,000 of them, from labels and from the teacher ...");
    let config = FitConfig::new(if common.quick { 10 } else { 100 })
        .with_optimizer(adam(), 2e-2)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(common.seed)
        .with_label("student")
        .with_baseline(true);
    let student = Mlp::new(&STUDENT, &device);
    let distilled = Distiller::on(device.clone(), teacher.model, student)
        .with(SoftTarget::new(8), 1)
        .fit(&config, few, test)?;

    println!("\n{}\n", distilled.report);
    println!(
        "Few labels are the setting that shows this: where labels are plentiful, the gain is small \
         or negative.\n"
    );

    let directory = output.or("target/quickstart")?;
    args::save_report(&distilled.report, &directory)?;
    let path = args::save_student(&distilled.student, &directory)?;

    let mut student = Mlp::new(&STUDENT, &device);
    student.load_from(&mut SafetensorsStore::from_file(&path))?;
    println!("The student, read from that file, looks at three test digits:");
    for digit in &digits::test()?[..3] {
        let image = digits::flat_images(std::slice::from_ref(digit), &device);
        let predicted: i64 = student.outputs(image).logits().argmax(1).into_scalar();
        println!(
            "{}\nIt predicts {predicted}, the label is {}.",
            digit.to_text(),
            digit.label
        );
    }
    Ok(())
}
