//! A small transformer learns to write from a larger one.
//!
//! ```text
//! cargo run --release --example text
//! ```
//!
//! A teacher of four layers reads 189 chapters of Genesis to Ruth. A student of two layers then
//! reads a quarter of their verses: with the words that follow only, with the teacher's predictions, or
//! with both; from random weights, or from the first and the third of the teacher's layers. The table
//! is about 23 chapters that no model has read (with `--features x86-v4`; other kernels round otherwise):
//!
//! ```text
//!                                             perplexity of a       agreement
//!                                   parameters   token   character   with teacher
//! -------------------------------------------------------------------------------
//! teacher                              1088256   24.74       2.745       100.00 %
//! its layers 1 and 3, untrained         691712   28.78       2.879        74.99 %
//! labels only, random start             691712   42.49       3.254        54.43 %
//! labels only, teacher's layers         691712   26.29       2.798        77.38 %
//! distilled, random start               691712   31.61       2.965        66.54 %
//! distilled, teacher's layers           691712   25.28       2.764        90.44 %
//! both, teacher's layers                691712   24.00       2.719        80.19 %
//! ```
//!
//! Perplexity is the number of tokens, or characters, between which a model wavers, as if all were
//! equally likely; agreement, how often its likeliest token is the teacher's. Half of the teacher's layers
//! are worth more than any predictions: without them, the best student is behind what they predict
//! untrained. The teacher's predictions bring the student closest to the teacher, labels beside them past
//! it: the layers it starts from have read everything four times, and it reads its quarter six times
//! more.
//!
//! Verses differ in length. They are padded in a batch, and a mask keeps the padding out of losses
//! and measurements. The models give their [`OutputLayer`](burn_distill::OutputLayer) instead of logits, so
//! that those of student and teacher are made a chunk of tokens at a time: with the 1,024 byte pairs of this
//! example that saves little, with the 100,000 of a large model most of the memory.
//!
//! A training stops when the validation loss no longer falls. After every epoch it leaves a checkpoint in
//! `target/text`, and `--resume` goes on from there. `model.rs` has the model, `pairs.rs` the byte pairs.

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod model;
mod pairs;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::AdamWConfig;
use burn::tensor::Device;
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::report::measure;
use burn_distill::{Distiller, FitConfig, Objective, Schedule, Transfer, train_supervised};
use clap::Parser;
use common::args::{Common, Output};
use corpus::{Corpus, Verses};
use model::{Size, Transformer};
use pairs::Pairs;

const PROMPT: &str = "And Moses said unto the people,";

/// A way to train a student.
struct Way {
    title: &'static str,
    /// Whether it starts from the teacher's layers.
    from_teacher: bool,
    objective: fn() -> Objective,
    /// The best with `--validate`.
    learning_rate: f64,
}

const WAYS: [Way; 5] = [
    Way {
        title: "labels only, random start",
        from_teacher: false,
        objective: labels,
        learning_rate: 2e-3,
    },
    Way {
        title: "labels only, teacher's layers",
        from_teacher: true,
        objective: labels,
        learning_rate: 3e-4,
    },
    Way {
        title: "distilled, random start",
        from_teacher: false,
        objective: predictions,
        learning_rate: 4e-3,
    },
    Way {
        title: "distilled, teacher's layers",
        from_teacher: true,
        objective: predictions,
        learning_rate: 1e-3,
    },
    Way {
        title: "both, teacher's layers",
        from_teacher: true,
        objective: both,
        learning_rate: 2e-3,
    },
];

fn labels() -> Objective {
    Objective::new().with(HardLabel::new(), 1)
}

fn predictions() -> Objective {
    Objective::new().with(SoftTarget::new(2), 1)
}

fn both() -> Objective {
    Objective::new()
        .with(SoftTarget::new(2), 0.7)
        .with(HardLabel::new(), 0.3)
}

/// A small transformer learns to write from a larger one.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: Output,
    /// Goes on where an earlier run with the same settings was interrupted.
    #[arg(long)]
    resume: bool,
    /// Epochs without a better validation loss after which a training stops.
    #[arg(long, default_value_t = 2)]
    patience: usize,
    /// Measures on the chapters that settings were chosen on, instead of those of the table.
    #[arg(long)]
    validate: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let Common { seed, quick, .. } = args.common;
    let device = args.common.device()?;
    let Corpus {
        mut train,
        mut valid,
        mut test,
    } = Corpus::read()?;
    if quick {
        train.truncate(128);
        valid.truncate(16);
        test.truncate(16);
    }
    let few: Vec<String> = train.iter().step_by(4).cloned().collect();
    let pairs = Pairs::learn(&train, if quick { 400 } else { 1024 });
    let [all, few, valid, test] = [train, few, valid, test].map(|text| Verses::new(&text, &pairs));
    println!(
        "{} verses are {} tokens of {} kinds.",
        all.tokens.len(),
        all.count(),
        pairs.vocabulary()
    );
    let size = Size {
        vocabulary: pairs.vocabulary(),
        positions: 256,
        layers: 4,
        width: 128,
    };
    let trainings = Trainings::new(&args)?;

    println!("\nTeacher, on {} verses ...", all.tokens.len());
    device.seed(seed);
    let teacher = Transformer::new(size, 0.1, &device);
    let config = trainings.config("teacher", if quick { 1 } else { 4 }, 2e-3);
    let (data, validation) = (all.data(), valid.data());
    let teacher = train_supervised(
        device.clone(),
        teacher,
        &labels(),
        &config,
        data,
        validation.clone(),
    )?;
    let teacher = teacher.model;

    // From here on whatever the teacher has drawn.
    device.seed(seed + 1);
    // Draws its weights now, so that all students start alike.
    let random = Transformer::new(Size { layers: 2, ..size }, 0.0, &device).valid();
    let transfer = Transfer::layers([
        ("tokens", "tokens"),
        ("positions", "positions"),
        ("encoder.layers.0", "encoder.layers.0"),
        ("encoder.layers.2", "encoder.layers.1"),
        ("norm", "norm"),
        ("head", "head"),
    ]);
    // Strict: a path that leads nowhere is an error, not a student that starts from chance.
    let (copied, _) = transfer.strict().apply(&teacher, random.clone())?;

    let table = Table {
        teacher: &teacher,
        held_out: if args.validate { &valid } else { &test },
        device: &device,
    };
    let mut lines = vec![
        table.line("teacher", &teacher)?,
        table.line("its layers 1 and 3, untrained", &copied)?,
    ];
    let mut last = None;
    for way in WAYS {
        println!("Student, {} ...", way.title);
        let start = if way.from_teacher { &copied } else { &random };
        let config = trainings.config(way.title, if quick { 1 } else { 6 }, way.learning_rate);
        let distilled = Distiller::on(device.clone(), teacher.clone(), start.clone())
            .with_objective((way.objective)())
            .fit(&config, few.data(), validation.clone())?;
        lines.push(table.line(way.title, &distilled.student)?);
        last = Some(distilled);
    }
    println!("\n{:44}perplexity of a       agreement", "");
    println!("{:32}  parameters   token   character   with teacher", "");
    println!("{}\n{}\n", "-".repeat(79), lines.join("\n"));

    let most = if quick { 10 } else { 60 };
    let continued = |model: &Transformer| model.continued(PROMPT, most, &pairs, seed);
    println!(
        "{PROMPT}\n... the teacher continues:{}",
        continued(&teacher)
    );
    if let Some(distilled) = last {
        println!(
            "... the student continues:{}",
            continued(&distilled.student)
        );
        println!(
            "\nThe last student in full, on the validation chapters:\n{}",
            distilled.report
        );
        args.output.save(&distilled.report)?;
    }
    Ok(())
}

/// How all models are trained, and where their checkpoints are.
struct Trainings<'a> {
    args: &'a Args,
    checkpoints: PathBuf,
}

impl<'a> Trainings<'a> {
    /// Without `--resume`, checkpoints of an earlier run are deleted: nothing shall go on from them later.
    fn new(args: &'a Args) -> std::io::Result<Self> {
        let name = match args.common.quick {
            true => "checkpoints-quick",
            false => "checkpoints",
        };
        let checkpoints = args.output.or("target/text")?.join(name);
        if !args.resume && checkpoints.exists() {
            fs::remove_dir_all(&checkpoints)?;
        }
        Ok(Self { args, checkpoints })
    }

    fn config(&self, name: &str, epochs: usize, learning_rate: f64) -> FitConfig {
        let adam = AdamWConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay(0.01);
        let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
        FitConfig::new(epochs)
            .with_batch_size(16)
            .with_optimizer(adam.init(), learning_rate)
            .with_gradient_clipping(GradientClippingConfig::Norm(1.0))
            .with_lr_schedule(Schedule::cosine(1.0, 0.0).warm_up(0.05))
            .with_early_stopping(self.args.patience)
            .with_checkpoints(self.checkpoints.join(words.join("-")))
            .with_resume(self.args.resume)
            .with_seed(self.args.common.seed)
            .with_label(name)
    }
}

/// Measures models on verses that none of them has read.
struct Table<'a> {
    teacher: &'a Transformer,
    held_out: &'a Verses,
    device: &'a Device,
}

impl Table<'_> {
    fn line(&self, title: &str, model: &Transformer) -> Result<String, Box<dyn Error>> {
        let data = self.held_out.data();
        let report = measure(model, Some(self.teacher), &data, 32, self.device)?;
        let (Some(perplexity), Some(agreement)) = (report.perplexity, report.agreement) else {
            return Err(
                "every token of a verse has a label and a prediction of the teacher".into(),
            );
        };
        // The same nats, spread over more of them.
        let tokens_per_character = self.held_out.count() as f64 / self.held_out.characters as f64;
        Ok(format!(
            "{title:32} {:11} {perplexity:7.2} {:11.3} {:12.2} %",
            report.parameters.unwrap_or_default(),
            perplexity.powf(tokens_per_character),
            agreement * 100.0
        ))
    }
}
