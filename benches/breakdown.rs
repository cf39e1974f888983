//! Where a training step spends its time, and what `fit` adds to a loop written by hand.
//!
//! ```text
//! cargo bench --bench breakdown --features x86-v4
//! ```
//!
//! Prints two tables for every backend that is compiled in: the parts of each step, every part
//! waited for, and whole epochs both ways, taken in turn so that both see the same machine.

mod common;

use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_distill::loss::{HardLabel, SoftTarget, hard_label, soft_target};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, FitConfig, ProgressMode, Target,
};
use common::cases::{
    BATCH, CLASSES, Case, LEARNING_RATE, OPTIMIZERS, STUDENT, TEACHER, cnn, mlp, step, taught,
    transformer,
};
use common::nets::Mlp;
use common::{TEMPERATURE, sync};

/// The parts of a step, in order.
const PARTS: [&str; 5] = ["teacher", "student", "losses", "backward", "optimizer"];

/// The median time of each part, with the first of the optimizers.
fn parts<I, T, S>(device: &Device, steps: usize, case: Case<I, T, S>) -> [Duration; PARTS.len()]
where
    I: Module,
    T: Distillable<I>,
    S: Distillable<I>,
{
    let mut optimizer = OPTIMIZERS[0].1();
    let mut student = case.student;
    let mut times = PARTS.map(|_| Vec::with_capacity(steps));
    // The first step makes the optimizer's state and warms up.
    for number in 0..=steps {
        let mut start = Instant::now();
        let mut part = 0;
        let mut lap = || {
            sync(device);
            if number > 0 {
                times[part].push(start.elapsed());
            }
            (part, start) = (part + 1, Instant::now());
        };
        let taught = taught(&case.teacher, &case.input);
        lap();
        let logits = student.outputs(case.input.clone()).logits();
        lap();
        let soft = soft_target(logits.clone(), taught, TEMPERATURE).mean();
        let hard = hard_label(logits, case.labels.clone(), 0.0).mean();
        let loss = soft * 0.5 + hard * 0.5;
        lap();
        let gradients = GradientsParams::from_grads(loss.backward(), &student);
        lap();
        student = optimizer.step(LEARNING_RATE, student, gradients);
        lap();
    }
    times.map(median)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn print_parts(steps: usize) {
    println!("| step | {} | sum, ms |", PARTS.join(" | "));
    println!("|---|{}---:|", "---:|".repeat(PARTS.len()));
    for (name, device) in common::devices() {
        device.seed(0);
        for (case, times) in [
            ("mlp", parts(&device, steps, mlp(&device))),
            ("cnn", parts(&device, steps, cnn(&device))),
            ("transformer", parts(&device, steps, transformer(&device))),
        ] {
            let sum: Duration = times.iter().sum();
            let share = |time: Duration| 100.0 * time.as_secs_f64() / sum.as_secs_f64();
            let shares = times.map(|time| format!("{:.1} %", share(time)));
            let ms = sum.as_secs_f64() * 1e3;
            println!("| {case} on {name} | {} | {ms:.2} |", shares.join(" | "));
        }
    }
}

/// Epochs of one training, and batches in each: enough that what a training does once hardly counts.
const EPOCHS: usize = 4;
const BATCHES: usize = 25;

type Image = (Vec<f32>, i64);

fn images() -> InMemDataset<Image> {
    let image = |i: usize| {
        let point = |k: usize| ((i * 37 + k * 101 + i * k * 13) % 97) as f32 / 48.0 - 1.0;
        ((0..TEACHER[0]).map(point).collect(), (i % CLASSES) as i64)
    };
    InMemDataset::new((0..BATCHES * BATCH).map(image).collect())
}

#[derive(Clone)]
struct Batches;

impl Batcher<Image, DistillBatch<Tensor<2>>> for Batches {
    fn batch(&self, images: Vec<Image>, device: &Device) -> DistillBatch<Tensor<2>> {
        let (images, labels): (Vec<_>, Vec<_>) = images.into_iter().unzip();
        let images = TensorData::new(images.concat(), [images.len(), TEACHER[0]]);
        let labels = Tensor::<1, Int>::from_data(labels.as_slice(), device);
        DistillBatch::new(Tensor::from_data(images, device)).with_classes(labels)
    }
}

/// What a training by hand takes: Burn's loader, the losses, the optimizer, the mean loss.
fn by_hand(device: &Device, teacher: Mlp, student: Mlp) -> Duration {
    let (teacher, mut student) = (teacher.valid(), student.train());
    let loader = DataLoaderBuilder::new(Batches)
        .batch_size(BATCH)
        .shuffle(0)
        .set_device(device.clone())
        .build(images());
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let start = Instant::now();
    for _ in 0..EPOCHS {
        let mut sum = 0.0;
        for batch in loader.iter() {
            let batch = batch.expect("data in memory can be read");
            let labels = batch.targets.target("").and_then(Target::classes);
            let labels = labels.expect("made with labels").clone();
            let loss;
            (student, loss) = step(&teacher, student, &mut optimizer, (batch.input, labels));
            sum += loss.into_scalar::<f32>();
        }
        assert!(sum.is_finite());
    }
    sync(device);
    start.elapsed()
}

/// What the same training takes in `fit`, from its first step to its last. The check before it and
/// the report after it, which it does once, do not count.
fn by_fit(device: &Device, teacher: Mlp, student: Mlp) -> Duration {
    let config = FitConfig::new(EPOCHS)
        .with_batch_size(BATCH)
        .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), LEARNING_RATE)
        .with_progress(ProgressMode::Silent);
    let distilled = Distiller::on(device.clone(), teacher, student)
        .with(SoftTarget::new(TEMPERATURE), 0.5)
        .with(HardLabel::new(), 0.5)
        .fit(&config, DistillData::new(images(), Batches), None)
        .expect("the benchmark's own models and data fit each other");
    Duration::from_secs_f64(distilled.report.training.seconds)
}

/// Whole trainings in turn: one pair is not timed, of the others each way's medians are compared.
fn print_epochs(rounds: usize) {
    println!("| epochs | by hand, ms | fit, ms | ratio |");
    println!("|---|---:|---:|---:|");
    for (name, device) in common::devices() {
        device.seed(0);
        let teacher = Mlp::new(&TEACHER, &device);
        let student = Mlp::new(&STUDENT, &device);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (way, times) in [by_hand, by_fit].into_iter().zip(&mut times) {
                let time = way(&device, teacher.clone(), student.clone());
                if round > 0 {
                    times.push(time);
                }
            }
        }
        let [hand, fit] = times.map(|times| median(times).as_secs_f64() * 1e3);
        println!(
            "| mlp on {name} | {hand:.1} | {fit:.1} | {:.3} |",
            fit / hand
        );
    }
}

fn main() {
    // As criterion has it: with `--test`, everything runs once.
    let is_test = std::env::args().any(|arg| arg == "--test");
    let (steps, rounds) = if is_test { (1, 1) } else { (30, 21) };
    print_parts(steps);
    println!();
    print_epochs(rounds);
}
