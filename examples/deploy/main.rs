//! A distilled student in fewer bits, and what that costs it.
//!
//! ```text
//! cargo run --release --example deploy
//! ```

#[path = "../common/mod.rs"]
mod common;
mod forms;
mod student;

use std::error::Error;
use std::path::PathBuf;

use burn::backend::Backend;
use burn::module::Module;
use burn::optim::AdamConfig;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::SoftTargetConfig;
use burn_distill::report::{ModelReport, measure};
use burn_distill::{Distillable, Distiller, FitConfig, Frozen, Outputs, Schedule, train_on_labels};
use clap::Parser;
use common::backend::BackendName;
use common::digits;
use common::mlp::Mlp;
use forms::{Form, RoundWeights};
use student::Student;

/// A distilled student in fewer bits, and what that costs it.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seed of weights, order and dropout; also picks the student's 1,000 digits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A few seconds instead of minutes, with results to match.
    #[arg(long)]
    quick: bool,
    /// Directory for the students' files.
    #[arg(long, default_value = "target/deploy")]
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    on_backend!(args.backend, run, &args)
}

impl Distillable<Tensor<2>> for Student {
    fn outputs(&self, images: Tensor<2>) -> Outputs {
        Outputs::new(self.forward(images))
    }
}

fn run<B>(device: B::Device, args: &Args) -> Result<(), Box<dyn Error>>
where
    B: Backend,
    B::Device: Into<Device>,
{
    let at: Device = device.clone().into();
    burn_distill::check_device(&at)?;
    let (mut train, mut test) = (digits::train()?, digits::test()?);
    let first = (args.seed as usize % 10) * 1000;
    let few = digits::data(train[first..first + 1000].to_vec());
    if args.quick {
        train.truncate(1000);
        test.truncate(500);
    }
    let (train, test) = (digits::data(train), digits::data(test));
    let recipe = |label: &str, epochs, rate| {
        FitConfig::new(if args.quick { 1 } else { epochs })
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), rate)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(args.seed)
            .with_label(label)
    };

    at.seed(args.seed);
    let widths = [784, 1200, 1200, 10];
    let teacher = Mlp::new(&widths, &at).with_dropout(0.1, 0.4);
    let config = recipe("teacher", 8, 3e-3);
    let teacher = train_on_labels::<B, _, _>(device.clone(), teacher, &config, train, None)?.model;

    let distil = |label: &str, student: Student| -> Result<Student, burn_distill::Error> {
        let distiller = Distiller::<B, _, _>::new(device.clone(), teacher.clone(), student)
            .with(SoftTargetConfig::new(8.0), 1.0);
        let config = recipe(label, 100, 2e-2);
        Ok(distiller.fit(&config, few.clone(), None)?.student)
    };
    let judge = Frozen::new(teacher.clone());
    let judged = |student: &Student| measure(student, Some(&judge), &test, 500, &at);

    std::fs::create_dir_all(&args.out)?;
    let mut table = Vec::new();
    // One start for all: what differs is the rounding.
    let untrained = Student::new(&at);
    let float = distil("32 bits", untrained.clone())?;
    let path = args.out.join("student-32.bpk");
    float.clone().into_record().save(path)?;
    table.push((
        "teacher",
        "",
        measure(&teacher, None::<&Frozen<Mlp>>, &test, 500, &at)?,
    ));
    table.push(("student, 32 bits", "", judged(&float)?));

    for form in Form::all(args.backend) {
        let scheme = form.scheme(&at);
        let after = forms::quantised(float.clone(), scheme);
        table.push((form.name, "after training", judged(&after)?));
        after
            .into_record()
            .save(args.out.join(form.file("after")))?;

        let rounded = untrained
            .clone()
            .apply_reparameterization(RoundWeights(scheme));
        let rounded = distil(form.name, rounded)?;
        // Takes the weights as the forward pass saw them. They are on the scheme's grid already,
        // so that quantising moves none of them.
        let within = forms::quantised(rounded.materialize(), scheme);
        table.push(("", "in training", judged(&within)?));
        within
            .into_record()
            .save(args.out.join(form.file("within")))?;
    }
    print(&table);

    let path = args.out.join(Form::all(args.backend)[0].file("within"));
    let student = Student::from_bytes(&std::fs::read(&path)?, &at)?.unpacked();
    let report = judged(&student)?;
    println!(
        "\n{} read back and unpacked once: accuracy {:.2} %, one sample in {:.3} ms.",
        path.display(),
        report.accuracy.unwrap_or_default() * 100.0,
        report.latency_ms,
    );
    Ok(())
}

fn print(table: &[(&str, &str, ModelReport)]) {
    let percent = |share: Option<f64>| share.map_or("-".into(), |x| format!("{:.2} %", x * 100.0));
    println!(
        "\n{:<26}{:<15}{:>10}{:>10}{:>9}{:>9}{:>11}",
        "", "quantised", "accuracy", "agrees", "KL", "kB", "one sample"
    );
    for (name, when, report) in table {
        let kl = report
            .kl_teacher_student
            .map_or("-".into(), |kl| format!("{kl:.4}"));
        println!(
            "{name:<26}{when:<15}{:>10}{:>10}{kl:>9}{:>9.1}{:>8.3} ms",
            percent(report.accuracy),
            percent(report.agreement),
            report.bytes as f64 / 1000.0,
            report.latency_ms,
        );
    }
}
