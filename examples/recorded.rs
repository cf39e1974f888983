//! The teacher runs once, is deleted, and teaches three students of different size.
//!
//! ```text
//! cargo run --release --example recorded
//! ```
//!
//! A teacher of 2.4 million parameters learns 10,000 handwritten digits and predicts each of them and each of the
//! 2,000 test digits. Its outputs are recorded, the teacher and its file are deleted, and three students learn from
//! the recording, without a single label. On two cores it takes half a minute and ends with
//!
//! ```text
//!                           parameters    accuracy   agreement   KL(T ‖ S)   seconds
//! the teacher, recorded        2395210     96.35 %
//! 784-32-10                      25450     92.70 %     94.90 %      0.1184       1.9
//! 784-100-10                     79510     95.40 %     97.85 %      0.0236       2.6
//! 784-300-10                    238510     96.05 %     98.65 %      0.0096       5.5
//! ```
//!
//! Where the teacher may stay, one line does as much for a training, and for the next one with the same data:
//! `config.with_teacher_cache(TeacherCache::directory("target/recorded/cache"))`.

mod common;

use std::error::Error;
use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::optim::AdamConfig;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn_distill::knowledge::{RecordOptions, Store, record};
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::{Distiller, FitConfig, Objective, Recorded, Schedule, train_supervised};
use clap::Parser;
use common::args::{Common, Output};
use common::digits;
use common::mlp::Mlp;

const TEACHER: [usize; 4] = [784, 1200, 1200, 10];
/// Hidden units of the students.
const STUDENTS: [usize; 3] = [32, 100, 300];

/// The teacher runs once, is deleted, and teaches three students of different size.
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
    if common.quick {
        train.truncate(2000);
    }
    // These samples are named by their content, so that a recording knows them in every subset and order.
    let (train, test) = (digits::data(train), digits::data(test));
    let directory = output.or("target/recorded")?;
    let file = directory.join("teacher.safetensors");

    println!("Teacher 784-1200-1200-10 on {} digits ...", train.len());
    device.seed(common.seed);
    let teacher = Mlp::new(&TEACHER, &device).with_dropout(0.1, 0.4);
    let labels = Objective::new().with(HardLabel::new(), 1);
    let config = fit_config(&common, if common.quick { 1 } else { 8 }, 3e-3).with_label("teacher");
    let trained = train_supervised(
        device.clone(),
        teacher,
        &labels,
        &config,
        train.clone(),
        None,
    )?;
    let teacher = trained.model;
    teacher.save_into(&mut SafetensorsStore::from_file(&file).overwrite(true))?;

    println!("It runs once on each digit ...");
    let outputs = directory.join("outputs");
    remove(&outputs)?;
    let options = RecordOptions::new(device.clone());
    // A store grows: the test digits are added to the training digits.
    for data in [&train, &test] {
        record(&teacher, data, &outputs, &options)?;
    }
    let store = Store::open(&outputs)?;
    println!(
        "A file of {:.2} MB gave outputs of {:.2} MB for {} digits. The teacher is deleted.\n",
        fs::metadata(&file)?.len() as f64 / 1e6,
        store.bytes() as f64 / 1e6,
        store.len(),
    );
    let parameters = teacher.num_params();
    drop(teacher);
    fs::remove_file(&file)?;

    let (train, test) = (train.with_knowledge(&store), test.with_knowledge(&store));
    let mut rows = Vec::new();
    for hidden in STUDENTS {
        let name = format!("784-{hidden}-10");
        let student = Mlp::new(&[784, hidden, 10], &device);
        let epochs = if common.quick { 2 } else { 20 };
        let config = fit_config(&common, epochs, 1e-2).with_label(&name);
        let distilled = Distiller::on(device.clone(), Recorded::new(&store), student)
            .with(SoftTarget::new(4), 1)
            .fit(&config, train.clone(), test.clone())?;
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
            student.parameters.unwrap_or_default(),
            percent(student.accuracy),
            percent(student.agreement),
            student.kl_teacher_student.unwrap_or(f64::NAN),
            report.training.seconds,
        );
    }
    Ok(())
}

fn fit_config(common: &Common, epochs: usize, learning_rate: f64) -> FitConfig {
    FitConfig::new(epochs)
        .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), learning_rate)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(common.seed)
}

/// The teacher of this run is another than the last one's, and a store belongs to one teacher.
fn remove(directory: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
