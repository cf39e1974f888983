//! A network of a few kilobytes hears spoken digits, taught by a larger one.
//!
//! ```text
//! cargo run --release --example keywords
//! ```

#[path = "../common/mod.rs"]
mod common;
mod clips;
mod features;
mod models;

use std::error::Error;
use std::path::PathBuf;

use burn::backend::Backend;
use burn::data::dataset::InMemDataset;
use burn::optim::AdamConfig;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::loss::SoftTargetConfig;
use burn_distill::{DistillBatch, DistillData, Distiller, FitConfig, Schedule, train_on_labels};
use clap::Parser;
use clips::{Clip, Clips};
use common::backend::BackendName;
use features::{BANDS, FRAMES, Heard, Voices, listen};
use models::Network;

/// A network of a few kilobytes hears spoken digits, taught by a larger one.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights, order, dropout and noise; also picks the student's clips.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A few seconds instead of minutes, with results to match.
    #[arg(long)]
    quick: bool,
    /// A directory of recordings such as `7_jackson_32.wav` (digit, speaker, take) in place of
    /// synthesised speech: 16 bits, mono, 8 kHz.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Measures on the voices that are there for choosing settings, not on those of the test.
    #[arg(long)]
    validate: bool,
    /// Directory for report.json and student.safetensors.
    #[arg(long, default_value = "target/keywords")]
    out: PathBuf,
    #[arg(long, default_value_t = 10)]
    teacher_epochs: usize,
    #[arg(long, default_value_t = 40)]
    epochs: usize,
    #[arg(long, default_value_t = 5e-3)]
    rate: f64,
    #[arg(long, default_value_t = 3e-3)]
    teacher_rate: f64,
    #[arg(long, default_value_t = 4.0)]
    temperature: f64,
    #[arg(long, default_value_t = 2)]
    nth: usize,
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
    let clips = match &args.data {
        Some(directory) => Clips::recordings(directory)?,
        None => Clips::shipped()?,
    };
    let tested = if args.validate {
        clips.valid
    } else {
        clips.test
    };
    let all = clips.train;
    let few: Vec<Clip> = all
        .iter()
        .skip(args.seed as usize % args.nth)
        .step_by(args.nth)
        .cloned()
        .collect();
    let start = std::time::Instant::now();
    let times = (4000 / all.len()).max(1);
    let train = data(listen(&all, times, Voices::Varied, args.seed, &at));
    let few = data(listen(&few, times, Voices::Varied, args.seed + 1, &at));
    let times = (1200 / tested.len()).clamp(1, 4);
    let test = data(listen(&tested, times, Voices::AsTheyAre, 12, &at));
    println!(
        "features {:?} {} {} {}",
        start.elapsed(),
        train.len(),
        few.len(),
        test.len()
    );

    let recipe = |label: &str, epochs, rate| {
        FitConfig::new(if args.quick { 1 } else { epochs })
            .with_batch_size(32)
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), rate)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(args.seed)
            .with_label(label)
    };
    at.seed(args.seed);
    let config = recipe("teacher", args.teacher_epochs, args.teacher_rate);
    let teacher = train_on_labels::<B, _, _>(
        device.clone(),
        Network::teacher(&at),
        &config,
        train,
        test.clone(),
    )?;
    println!("teacher {:?}", start.elapsed());
    let config = recipe("student", args.epochs, args.rate).with_baseline(true);
    let distilled = Distiller::<B, _, _>::new(device, teacher.model, Network::student(&at))
        .with(SoftTargetConfig::new(args.temperature), 1.0)
        .fit(&config, few, test)?;
    println!("\n{}\n", distilled.report);
    println!("total {:?}", start.elapsed());

    std::fs::create_dir_all(&args.out)?;
    distilled.report.save_json(args.out.join("report.json"))?;
    let path = args.out.join("student.safetensors");
    let mut file = SafetensorsStore::from_file(&path).overwrite(true);
    distilled.student.save_into(&mut file)?;
    println!(
        "{}: {} bytes",
        path.display(),
        std::fs::metadata(&path)?.len()
    );
    Ok(())
}

fn data(heard: Vec<Heard>) -> DistillData<Tensor<4>> {
    DistillData::from_fn(InMemDataset::new(heard), |heard: Vec<Heard>, device| {
        let classes: Vec<i64> = heard.iter().map(|heard| heard.class as i64).collect();
        let shape = [heard.len(), 1, BANDS, FRAMES];
        let energies: Vec<f32> = heard.into_iter().flat_map(|heard| heard.energies).collect();
        DistillBatch::new(Tensor::from_data(TensorData::new(energies, shape), device))
            .with_classes(Tensor::<1, _>::from_data(classes.as_slice(), device))
    })
}
