//! A small transformer learns to write from a larger one.
//!
//! ```text
//! cargo run --release --example text
//! ```
//!
//! A teacher of four layers reads 189 chapters of Genesis to Ruth. A student of two layers then
//! reads a quarter of their verses: with the words that follow alone, with the teacher's answers, or
//! with both; from random weights, or from the first and the third of the teacher's layers. The table
//! is about 23 chapters that nobody has read (with `--features x86-v4`; other kernels round otherwise):
//!
//! ```text
//!                                             perplexity of a       agreement
//!                                   parameters   token   character   with teacher
//! -------------------------------------------------------------------------------
//! teacher                              1088256   24.74       2.745       100.00 %
//! its layers 1 and 3, untrained         691712   28.78       2.879        74.99 %
//! labels alone, random start            691712   42.49       3.254        54.43 %
//! labels alone, teacher's layers        691712   26.29       2.798        77.38 %
//! distilled, random start               691712   31.61       2.965        66.54 %
//! distilled, teacher's layers           691712   25.28       2.764        90.44 %
//! both, teacher's layers                691712   24.00       2.719        80.19 %
//! ```
//!
//! Perplexity is how many tokens, or characters, a model wavers between, as if all were equally
//! likely; agreement, how often its likeliest token is the teacher's. Half of the teacher's layers
//! are worth more than any answers: without them, the best student is behind what they say
//! untrained. The teacher's answers bring the student closest to the teacher, labels beside them past
//! it: the layers it starts from have read everything four times, and it reads its quarter six times
//! more.
//!
//! Verses differ in length. They are padded in a batch, and a mask keeps the padding out of losses
//! and measurements. [`ChunkedHead`](burn_distill::loss::ChunkedHead) makes the logits of at most 512
//! tokens at a time, of student and teacher: with the 1,024 byte pairs of this example that saves
//! little, with the 100,000 of a large model most of the memory. `train.rs` has the loop, `model.rs`
//! the model, `pairs.rs` the byte pairs.

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod model;
mod pairs;
mod train;

use std::error::Error;
use std::io::Write;

use burn::backend::Backend;
use burn::module::Module;
use burn::tensor::Device;
use burn_distill::loss::HeadLoss;
use burn_distill::report::measure;
use burn_distill::{Frozen, Transfer};
use clap::Parser;
use common::backend::BackendName;
use corpus::{Corpus, Verses};
use model::{Size, Transformer};
use pairs::Pairs;
use train::Recipe;

const LABELS: HeadLoss = HeadLoss::HardLabel { smoothing: 0.0 };
const TEACHER: HeadLoss = HeadLoss::SoftTarget { temperature: 2.0 };
const BOTH: HeadLoss = HeadLoss::HardAndSoft {
    temperature: 2.0,
    alpha: 0.3,
};
const PROMPT: &str = "And Moses said unto the people,";

/// The ways to train a student: title, whether it starts from the teacher's layers, what is
/// compared, and the learning rate, each way's best with `--validate`.
const STUDENTS: [(&str, bool, HeadLoss, f64); 5] = [
    ("labels alone, random start", false, LABELS, 2e-3),
    ("labels alone, teacher's layers", true, LABELS, 3e-4),
    ("distilled, random start", false, TEACHER, 4e-3),
    ("distilled, teacher's layers", true, TEACHER, 1e-3),
    ("both, teacher's layers", true, BOTH, 2e-3),
];

/// A small transformer learns to write from a larger one.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights, order and dropout.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A few seconds instead of minutes, with results to match.
    #[arg(long)]
    quick: bool,
    /// Measures on the chapters that settings were chosen on, instead of those of the table.
    #[arg(long)]
    validate: bool,
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
    let at: Device = device.into();
    burn_distill::check_device(&at)?;
    let Corpus {
        mut train,
        valid,
        test,
    } = Corpus::read()?;
    let mut held_out = if args.validate { valid } else { test };
    if args.quick {
        train.truncate(128);
        held_out.truncate(16);
    }
    let few: Vec<String> = train.iter().step_by(4).cloned().collect();
    let pairs = Pairs::learn(&train, if args.quick { 400 } else { 1024 });
    let [all, few, held_out] = [train, few, held_out].map(|text| Verses::new(&text, &pairs));
    println!(
        "{} verses are {} tokens of {} kinds.",
        all.tokens.len(),
        all.count(),
        pairs.vocabulary()
    );
    let size = Size {
        vocabulary: pairs.vocabulary(),
        places: 256,
        layers: 4,
        width: 128,
    };

    say(&format!("\nTeacher, on {} verses ", all.tokens.len()))?;
    at.seed(args.seed);
    let learning = at.clone().autodiff();
    let recipe = Recipe {
        loss: LABELS,
        epochs: if args.quick { 1 } else { 4 },
        learning_rate: 2e-3,
        seed: args.seed,
    };
    let teacher = Transformer::new(size, 0.1, &learning);
    let teacher = train::train(teacher, None, &all, &recipe, &at)?;

    // From here on whatever the teacher has drawn.
    at.seed(args.seed + 1);
    let random = Transformer::new(Size { layers: 2, ..size }, 0.0, &learning);
    let transfer = Transfer::layers([
        ("tokens", "tokens"),
        ("places", "places"),
        ("encoder.layers.0", "encoder.layers.0"),
        ("encoder.layers.2", "encoder.layers.1"),
        ("norm", "norm"),
        ("head", "head"),
    ]);
    // Strict: a path that leads nowhere is an error, not a student that starts from chance.
    let (copied, _) = transfer.strict().apply(&teacher, random.clone())?;

    let table = Table::new(&teacher, &held_out, &at);
    let mut lines = vec![
        table.line("teacher", &teacher)?,
        table.line("its layers 1 and 3, untrained", &copied.valid())?,
    ];
    let mut last = None;
    for (title, from_teacher, loss, learning_rate) in STUDENTS {
        say(&format!("Student, {title} "))?;
        let start = if from_teacher { &copied } else { &random };
        let recipe = Recipe {
            loss,
            epochs: if args.quick { 1 } else { 6 },
            learning_rate,
            ..recipe
        };
        let answers = (loss != LABELS).then_some(&teacher);
        let student = train::train(start.clone(), answers, &few, &recipe, &at)?;
        lines.push(table.line(title, &student)?);
        last = Some(student);
    }
    println!("\n{:44}perplexity of a       agreement", "");
    println!("{:32}  parameters   token   character   with teacher", "");
    println!("{}\n{}\n", "-".repeat(79), lines.join("\n"));

    let most = if args.quick { 10 } else { 60 };
    let says = |model: &Transformer| model.continued(PROMPT, most, &pairs, args.seed);
    println!("{PROMPT}\n... says the teacher:{}", says(&teacher));
    if let Some(student) = last {
        println!("... says the student:{}", says(&student));
    }
    Ok(())
}

/// Without the end of the line, which comes after the training.
fn say(what: &str) -> std::io::Result<()> {
    print!("{what}");
    std::io::stdout().flush()
}

/// Measures models on verses that none of them has read.
struct Table<'a> {
    teacher: Frozen<Transformer>,
    held_out: &'a Verses,
    device: &'a Device,
}

impl<'a> Table<'a> {
    fn new(teacher: &Transformer, held_out: &'a Verses, device: &'a Device) -> Self {
        Self {
            teacher: Frozen::new(teacher.clone()),
            held_out,
            device,
        }
    }

    fn line(&self, title: &str, model: &Transformer) -> Result<String, Box<dyn Error>> {
        let data = self.held_out.data();
        let report = measure(model, Some(&self.teacher), &data, 32, self.device)?;
        let (Some(nats), Some(agreement)) = (report.cross_entropy, report.agreement) else {
            return Err("verses have tokens, and the teacher says something of each".into());
        };
        // The same nats, spread over more of them.
        let tokens_per_character = self.held_out.count() as f64 / self.held_out.characters as f64;
        Ok(format!(
            "{title:32} {:11} {:7.2} {:11.3} {:12.2} %",
            report.parameters,
            nats.exp(),
            (nats * tokens_per_character).exp(),
            agreement * 100.0
        ))
    }
}
