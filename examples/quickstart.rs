//! A small network learns handwritten digits from a large one.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! A teacher of 2.4 million parameters is trained on 10,000 digits. A student thirty times smaller
//! then sees only 1,000 of them, twice: once with their labels alone, once with the teacher's
//! answers instead. Both times the recipe is the one that suits it best on held-out digits.

mod common;

use std::error::Error;
use std::path::PathBuf;

use burn::backend::Backend;
use burn::optim::AdamConfig;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use burn_distill::loss::SoftTargetConfig;
use burn_distill::{Distillable, Distiller, FitConfig, Schedule, train_on_labels};
use clap::Parser;
use common::backend::BackendName;
use common::digits::{self, Digit};
use common::mlp::Mlp;

const TEACHER: [usize; 4] = [784, 1200, 1200, 10];
const STUDENT: [usize; 3] = [784, 100, 10];

/// A small network learns handwritten digits from a large one.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights, order and dropout; also picks the student's 1,000 digits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A few seconds instead of a minute, with results to match.
    #[arg(long)]
    quick: bool,
    /// Directory for report.html, report.json and student.safetensors.
    #[arg(long, default_value = "target/quickstart")]
    out: PathBuf,
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
    let (mut train, test) = (digits::train()?, digits::test()?);
    // Each seed has its own 1,000 digits, so that five seeds tell more than five orders would.
    let first = (args.seed as usize % 10) * 1000;
    let few: Vec<Digit> = train[first..first + 1000].to_vec();
    if args.quick {
        train.truncate(2000);
    }
    let (train, few, test) = (digits::data(train), digits::data(few), digits::data(test));
    let adam = || AdamConfig::new().with_epsilon(1e-8).init();

    println!("Teacher 784-1200-1200-10 on {} digits ...", train.len());
    at.seed(args.seed);
    let teacher = Mlp::new(&TEACHER, &at).with_dropout(0.1, 0.4);
    let config = FitConfig::new(if args.quick { 1 } else { 8 })
        .with_optimizer(adam(), 3e-3)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(args.seed)
        .with_label("teacher");
    let teacher =
        train_on_labels::<B, _, _>(device.clone(), teacher, &config, train, test.clone())?;

    println!("Student 784-100-10 on 1,000 of them, from labels and from the teacher ...");
    let config = FitConfig::new(if args.quick { 10 } else { 100 })
        .with_optimizer(adam(), 2e-2)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(args.seed)
        .with_label("student")
        .with_baseline(true);
    let student = Mlp::new(&STUDENT, &at);
    let distilled = Distiller::<B, _, _>::new(device, teacher.model, student)
        .with(SoftTargetConfig::new(8.0), 1.0)
        .fit(&config, few, test)?;

    println!("\n{}\n", distilled.report);
    println!(
        "Few labels are the setting that shows this: where labels are plentiful, the gain is small \
         or negative."
    );

    std::fs::create_dir_all(&args.out)?;
    distilled.report.save_json(args.out.join("report.json"))?;
    distilled.report.save_html(args.out.join("report.html"))?;
    let path = args.out.join("student.safetensors");
    let mut file = SafetensorsStore::from_file(&path).overwrite(true);
    distilled.student.save_into(&mut file)?;
    println!(
        "\nWrote report.html, report.json and student.safetensors to {}",
        args.out.display()
    );

    let mut student = Mlp::new(&STUDENT, &at);
    student.load_from(&mut SafetensorsStore::from_file(&path))?;
    println!("The student, read from that file, looks at three test digits:");
    for digit in &digits::test()?[..3] {
        let outputs = student.outputs(digits::flat_images(std::slice::from_ref(digit), &at));
        let answer: i64 = outputs.logits.argmax(1).into_scalar();
        println!(
            "{}\nIt says {answer}, the label says {}.",
            digit.to_text(),
            digit.label
        );
    }
    Ok(())
}
