//! The teacher answers once, is deleted, and teaches three students of different size.
//!
//! ```text
//! cargo run --release --example recorded
//! ```
//!
//! A teacher of 2.4 million parameters learns 10,000 handwritten digits and says what it thinks of each of
//! them and of the 2,000 test digits. That is written down, the teacher and its file are gone, and three
//! students learn from what was written, without a single label. On two cores it takes half a minute and ends with
//!
//! ```text
//!                           parameters    accuracy   agreement   KL(T ‖ S)   seconds
//! the teacher, recorded        2395210     96.35 %
//! 784-32-10                      25450     92.70 %     94.90 %      0.1184       1.9
//! 784-100-10                     79510     95.40 %     97.85 %      0.0236       2.6
//! 784-300-10                    238510     96.05 %     98.65 %      0.0096       5.5
//! ```

mod common;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Backend;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::AdamConfig;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Tensor};
use burn_distill::knowledge::{KnowledgeBatcher, RecordOptions, Samples, Store, record};
use burn_distill::loss::SoftTargetConfig;
use burn_distill::{DistillData, Distiller, FitConfig, Recorded, Schedule, train_on_labels};
use clap::Parser;
use common::backend::BackendName;
use common::digits::{self, Digit};
use common::mlp::Mlp;

const TEACHER: [usize; 4] = [784, 1200, 1200, 10];
/// Hidden units of the students.
const STUDENTS: [usize; 3] = [32, 100, 300];

/// The teacher answers once, is deleted, and teaches three students of different size.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights, order and dropout.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A few seconds instead of half a minute, with results to match.
    #[arg(long)]
    quick: bool,
    /// Directory for what is recorded; what an earlier run left there is replaced.
    #[arg(long, default_value = "target/recorded")]
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
    if args.quick {
        train.truncate(2000);
    }
    let file = args.out.join("teacher.safetensors");
    fs::create_dir_all(&args.out)?;

    println!("Teacher 784-1200-1200-10 on {} digits ...", train.len());
    at.seed(args.seed);
    let teacher = Mlp::new(&TEACHER, &at).with_dropout(0.1, 0.4);
    let config = fit_config(args, if args.quick { 1 } else { 8 }, 3e-3).with_label("teacher");
    let labelled = digits::data(train.clone());
    let trained = train_on_labels::<B, _, _>(device.clone(), teacher, &config, labelled, None)?;
    trained
        .model
        .save_into(&mut SafetensorsStore::from_file(&file).overwrite(true))?;

    println!("It looks once at each digit ...");
    let train = Samples::new(InMemDataset::new(train));
    let test = Samples::new(InMemDataset::new(test));
    let write = |name: &str, samples: &Samples<Digit>| -> Result<Store, Box<dyn Error>> {
        let directory = args.out.join(name);
        remove(&directory)?;
        let options = RecordOptions::new(at.clone());
        record(
            &trained.model,
            samples,
            &digits::batcher(),
            &directory,
            &options,
        )?;
        Ok(Store::open(directory)?)
    };
    let (train_store, test_store) = (write("train", &train)?, write("test", &test)?);
    println!(
        "{:.2} MB of weights said {:.2} MB about {} digits. The teacher is deleted.\n",
        fs::metadata(&file)?.len() as f64 / 1e6,
        (train_store.bytes() + test_store.bytes()) as f64 / 1e6,
        train_store.len() + test_store.len(),
    );
    let parameters = trained.model.num_params();
    drop(trained);
    fs::remove_file(&file)?;

    let known = |samples: &Samples<Digit>, store: &Store| -> DistillData<Tensor<2>> {
        DistillData::new(
            samples.with_knowledge(store),
            KnowledgeBatcher::new(digits::batcher()),
        )
    };
    let mut rows = Vec::new();
    for hidden in STUDENTS {
        let name = format!("784-{hidden}-10");
        let student = Mlp::new(&[784, hidden, 10], &at);
        let config = fit_config(args, if args.quick { 2 } else { 20 }, 1e-2).with_label(&name);
        let distilled =
            Distiller::<B, _, _>::new(device.clone(), Recorded::new(&train_store), student)
                .with(SoftTargetConfig::new(4.0), 1.0)
                .fit(
                    &config,
                    known(&train, &train_store),
                    known(&test, &test_store),
                )?;
        rows.push((name, distilled.report));
    }

    println!(
        "\n{:24}{:>12}{:>12}{:>12}{:>12}{:>10}",
        "", "parameters", "accuracy", "agreement", "KL(T ‖ S)", "seconds"
    );
    let percent = |part: Option<f64>| part.map_or("-".into(), |p| format!("{:.2} %", 100.0 * p));
    let teacher = rows[0].1.teacher.as_ref().and_then(|it| it.accuracy);
    println!(
        "{:24}{parameters:>12}{:>12}",
        "the teacher, recorded",
        percent(teacher)
    );
    for (name, report) in rows {
        let student = report.distilled;
        println!(
            "{name:24}{:>12}{:>12}{:>12}{:>12.4}{:>10.1}",
            student.parameters,
            percent(student.accuracy),
            percent(student.agreement),
            student.kl_teacher_student.unwrap_or(f64::NAN),
            report.training.seconds,
        );
    }
    Ok(())
}

fn fit_config(args: &Args, epochs: usize, learning_rate: f64) -> FitConfig {
    FitConfig::new(epochs)
        .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), learning_rate)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(args.seed)
}

/// The teacher of this run is another than the last one's, and a store belongs to one teacher.
fn remove(directory: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
