//! What methods are worth: each of them on the same few digits, with several seeds.
//!
//! ```text
//! cargo run --release --example compare -- --seeds 5
//! ```
//!
//! A table like this says little without its controls, so it has three: label smoothing (are soft
//! targets more than smoothing?), a teacher whose other classes are shuffled (is it the similarity
//! of classes that helps?), and a teacher that was never trained (is it the teacher at all?). Every
//! method has its learning rate chosen over the same grid, on validation digits that neither the
//! student nor the table sees.

mod common;

use std::error::Error;
use std::time::Instant;

use burn::module::Module;
use burn::optim::AdamConfig;
use burn::tensor::{Device, Int, Tensor};
use burn_distill::loss::HardLabel;
use burn_distill::report::{ModelReport, measure};
use burn_distill::{
    DistillData, Distillable, Distiller, FitConfig, Objective, Outputs, ProgressMode, Schedule,
    TeacherCache, train_supervised,
};
use clap::Parser;
use common::arms::{Arm, TeacherKind};
use common::backend::BackendName;
use common::digits;
use common::mlp::Mlp;

const GRID: [f64; 3] = [3e-3, 1e-2, 2e-2];
const STUDENT: [usize; 3] = [784, 100, 10];

/// What methods are worth: each of them on the same few digits, with several seeds.
#[derive(Debug, Parser)]
struct Args {
    /// Where to compute.
    #[arg(long, default_value_t = BackendName::Flex)]
    backend: BackendName,
    /// Seeds per method; each has its own 1,000 digits, weights and order.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Epochs per student.
    #[arg(long, default_value_t = 100)]
    epochs: usize,
    /// Methods by name, separated by commas; all of them by default. `--list` shows the names.
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Shows the methods' names.
    #[arg(long)]
    list: bool,
    /// Two seeds, three epochs, three methods.
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::parse();
    if args.list {
        Arm::all().iter().for_each(|arm| println!("{}", arm.name));
        return Ok(());
    }
    if args.quick {
        args.seeds = 2;
        args.epochs = 3;
        if args.methods.is_empty() {
            args.methods = ["labels", "soft_target_8", "shuffled"]
                .map(String::from)
                .to_vec();
        }
    }
    let arms = Arm::chosen(&args.methods)?;
    let bench = Bench::new(args.backend.device()?, &args)?;
    println!(
        "teacher {:.2} % on {} test digits; {} seeds of 1,000 digits, {} epochs; learning rate of {GRID:?}\n",
        bench.teacher_accuracy * 100.0,
        bench.test.len(),
        args.seeds,
        args.epochs,
    );
    println!("| method | learning rate | accuracy % | agreement % | seconds per run |");
    println!("|---|---|---|---|---|");
    for arm in &arms {
        let rate = bench.tune(arm)?;
        let mut runs = Vec::new();
        let start = Instant::now();
        for seed in 0..args.seeds {
            runs.push(bench.student(arm, rate, seed, &bench.test)?);
        }
        let seconds = start.elapsed().as_secs_f64() / args.seeds as f64;
        let accuracy = spread(runs.iter().filter_map(|r| r.accuracy));
        let agreement = spread(runs.iter().filter_map(|r| r.agreement));
        println!(
            "| {} | {rate} | {accuracy} | {agreement} | {seconds:.1} |",
            arm.title
        );
    }
    Ok(())
}

/// Mean ± standard deviation, in percent.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.map(|v| v * 100.0).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    format!("{mean:.2} ± {:.2}", variance.sqrt())
}

/// Data and teachers, the same for all methods.
struct Bench {
    device: Device,
    epochs: usize,
    train: Vec<digits::Digit>,
    valid: DistillData<Tensor<2>>,
    test: DistillData<Tensor<2>>,
    teacher: Mlp,
    untrained: Mlp,
    teacher_accuracy: f64,
}

impl Bench {
    fn new(device: Device, args: &Args) -> Result<Self, Box<dyn Error>> {
        // The last thousand training digits choose learning rates and nothing else.
        let mut train = digits::train()?;
        let valid = digits::data(train.split_off(9000));
        let test = digits::data(digits::test()?);
        let widths = [784, 1200, 1200, 10];
        device.seed(0);
        let config = FitConfig::new(if args.quick { 1 } else { 8 })
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), 3e-3)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_label("teacher");
        let teacher = Mlp::new(&widths, &device).with_dropout(0.1, 0.4);
        let data = digits::data(train.clone());
        let labels = Objective::new().with(HardLabel::new(), 1);
        let teacher = train_supervised(
            device.clone(),
            teacher,
            &labels,
            &config,
            data,
            test.clone(),
        )?;
        Ok(Self {
            untrained: Mlp::new(&widths, &device),
            teacher: teacher.model,
            teacher_accuracy: teacher.report.accuracy.unwrap_or_default(),
            epochs: args.epochs,
            device,
            train,
            valid,
            test,
        })
    }

    /// The learning rate with which the method does best on the validation digits.
    fn tune(&self, arm: &Arm) -> Result<f64, Box<dyn Error>> {
        let mut best = (f64::NEG_INFINITY, GRID[0]);
        for rate in GRID {
            // A seed that the table does not use.
            let measured = self.student(arm, rate, 8, &self.valid)?;
            let accuracy = measured.accuracy.unwrap_or(0.0);
            if accuracy > best.0 {
                best = (accuracy, rate);
            }
        }
        Ok(best.1)
    }

    fn student(
        &self,
        arm: &Arm,
        rate: f64,
        seed: u64,
        measured: &DistillData<Tensor<2>>,
    ) -> Result<ModelReport, Box<dyn Error>> {
        let first = (seed as usize % 9) * 1000;
        let few = digits::data(self.train[first..first + 1000].to_vec());
        self.device.seed(seed);
        let student = Mlp::new(&STUDENT, &self.device);
        let config = FitConfig::new(self.epochs)
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), rate)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(seed)
            // The teacher runs once on each digit, and not in every epoch.
            .with_teacher_cache(TeacherCache::memory(64 << 20))
            .with_progress(ProgressMode::Silent);
        let student = match arm.teacher {
            TeacherKind::Trained => self.fit(self.teacher.clone(), student, arm, &config, few)?,
            TeacherKind::Untrained => {
                self.fit(self.untrained.clone(), student, arm, &config, few)?
            }
            TeacherKind::Shuffled => {
                let teacher = Shuffled {
                    teacher: self.teacher.clone(),
                };
                self.fit(teacher, student, arm, &config, few)?
            }
        };
        Ok(measure(
            &student,
            Some(&self.teacher),
            measured,
            1000,
            &self.device,
        )?)
    }

    fn fit<T: Distillable<Tensor<2>>>(
        &self,
        teacher: T,
        student: Mlp,
        arm: &Arm,
        config: &FitConfig,
        few: DistillData<Tensor<2>>,
    ) -> Result<Mlp, Box<dyn Error>> {
        let distiller = Distiller::on(self.device.clone(), teacher, student);
        let distilled = distiller.with_objective(arm.objective.clone());
        Ok(distilled.fit(config, few, None)?.student)
    }
}

/// A teacher that predicts the same class as the one inside, as surely, and whose other classes have each
/// other's logits: always the same exchange for one image, another for the next.
#[derive(Module, Debug)]
struct Shuffled {
    teacher: Mlp,
}

impl Distillable<Tensor<2>> for Shuffled {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let logits = self.teacher.outputs(input.clone()).logits();
        let [rows, classes] = logits.dims();
        let others = classes as i64 - 1;
        let top: Tensor<2, Int> = logits.clone().argmax(1);
        // How far the other classes move on, 1 to 8, from the ink of the image.
        let ink = (input.sum_dim(1) * 255.0).int();
        let step = ink.remainder_scalar(others - 1) + 1;
        let class = Tensor::<1, Int>::arange(0..classes as i64, &logits.device());
        let class = class.unsqueeze_dim::<2>(0).expand([rows, classes]);
        let top = top.expand([rows, classes]);
        // The index of a class after the predicted one, from 0; the predicted one is last, and stays.
        let index = (class - top.clone() + (classes as i64 - 1)).remainder_scalar(classes as i64);
        let moved = (index.clone() + step.expand([rows, classes])).remainder_scalar(others);
        let index = moved.mask_where(index.clone().equal_elem(others), index);
        let source = (top + index + 1).remainder_scalar(classes as i64);
        Outputs::new(logits.gather(1, source))
    }
}
