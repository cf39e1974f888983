//! One training three ways: the teacher there, all its logits recorded, its likeliest classes recorded.
//!
//! A perceptron 784-1200-1200-10 teaches one of 784-800-10 the digits that come with the examples: soft
//! targets at one temperature, no labels. So many digits that every batch is full: matrix products of fewer rows
//! may add up in another order, and then a teacher does not say the same to the last bit.

use std::time::Duration;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_distill::knowledge::{
    LogitsFormat, LogitsPrecision, RecordOptions, Store, ValuePrecision, record,
};
use burn_distill::loss::{HardLabel, SoftTarget, SparseSoftTarget};
use burn_distill::{
    Distilled, Distiller, FitConfig, IntoTerm, Objective, ProgressMode, Recorded, Report, Schedule,
    Teacher, train_supervised,
};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::common::cases::{BATCH, OPTIMIZERS, STUDENT, TEACHER};
use crate::common::nets::Mlp;
use crate::common::{self, TEMPERATURE};
use crate::digits::{self, Digit};

/// Classes that are kept where not all are.
const K: usize = 4;
/// The names of the three ways.
const WAYS: [&str; 3] = ["online", "dense", "top_4"];

/// A trained teacher, and what it predicts, both ways.
struct Bench {
    device: Device,
    teacher: Mlp,
    student: Mlp,
    /// For training and for testing.
    digits: [Vec<Digit>; 2],
    /// The training and the test digits, of the second and of the third way.
    stores: [[Store; 2]; 2],
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new(device: &Device, teacher_epochs: usize) -> Self {
        device.seed(0);
        let digits =
            [digits::train(), digits::test()].map(|it| it.expect("they are in the repository"));
        let [mut train, test] = digits;
        train.truncate(train.len() / BATCH * BATCH);
        let digits = [train, test];
        let data = digits.clone().map(digits::data);
        let labels = Objective::new().with(HardLabel::new(), 1);
        let trained = train_supervised(
            device.clone(),
            Mlp::new(&TEACHER, device),
            &labels,
            &config(teacher_epochs),
            data[0].clone(),
            None,
        );
        let teacher = trained.expect("the benchmark's own model and data").model;
        let directory = tempfile::tempdir().expect("a directory for the benchmark");
        let store = |name: &str, data, logits| {
            let directory = directory.path().join(name);
            let options = RecordOptions::new(device.clone())
                .with_logits(logits)
                .with_progress(ProgressMode::Silent);
            record(&teacher, data, &directory, &options).expect("room on the disk");
            Store::open(directory).expect("just written")
        };
        let dense = LogitsFormat::Dense {
            precision: LogitsPrecision::F32,
        };
        let top_k = LogitsFormat::TopK {
            k: K,
            temperature: TEMPERATURE,
            precision: ValuePrecision::Step(0.1),
        };
        let [train, test] = &data;
        let stores = [
            [store("train", train, dense), store("test", test, dense)],
            [store("train_4", train, top_k), store("test_4", test, top_k)],
        ];
        Self {
            student: Mlp::new(&STUDENT, device),
            device: device.clone(),
            teacher,
            digits,
            stores,
            _directory: directory,
        }
    }

    fn fit(&self, way: usize, epochs: usize, is_tested: bool) -> Outcome {
        let soft = SoftTarget::new(TEMPERATURE);
        let recorded = |[train, test]: &[Store; 2]| {
            let teacher = Recorded::new(train);
            match is_tested {
                true => teacher.and(test).expect("of one teacher"),
                false => teacher,
            }
        };
        match way {
            0 => self.run(self.teacher.clone(), soft, epochs, is_tested),
            1 => self.run(recorded(&self.stores[0]), soft, epochs, is_tested),
            _ => {
                let sparse = SparseSoftTarget::new(K).with_temperature(TEMPERATURE);
                self.run(recorded(&self.stores[1]), sparse, epochs, is_tested)
            }
        }
    }

    fn run<T: Teacher<Tensor<2>>>(
        &self,
        teacher: T,
        loss: impl IntoTerm,
        epochs: usize,
        is_tested: bool,
    ) -> Outcome {
        self.device.seed(0);
        let [train, test] = self.digits.clone().map(digits::data);
        let Distilled {
            student, report, ..
        } = Distiller::on(self.device.clone(), teacher, self.student.clone())
            .with(loss, 1.0)
            .fit(&config(epochs), train, is_tested.then_some(test))
            .expect("the benchmark's own models and data fit each other");
        let record = student.into_record().into_bytes();
        Outcome {
            student: record.expect("a record in memory needs no file").to_vec(),
            report,
        }
    }
}

/// A student, and what was measured of it.
struct Outcome {
    student: Vec<u8>,
    report: Report,
}

/// Stochastic gradient descent with momentum, as in the training steps of `step/mlp`.
fn config(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(BATCH)
        .with_optimizer(OPTIMIZERS[0].1(), 0.02)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_progress(ProgressMode::Silent)
}

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("knowledge/epoch");
    for (device_name, device) in common::devices() {
        let made = std::cell::LazyCell::new(|| Bench::new(&device, 1));
        for (way, name) in WAYS.into_iter().enumerate() {
            group.bench_function(BenchmarkId::new(name, device_name), |bencher| {
                // The check before training and the report after it do not count.
                bencher.iter_custom(|rounds| {
                    let epoch = |_| {
                        let training = made.fit(way, 1, false).report.training;
                        Duration::from_secs_f64(training.seconds)
                    };
                    (0..rounds).map(epoch).sum()
                });
            });
        }
        group.throughput(Throughput::Elements(10_000));
    }
}

/// Whole trainings, and what came of them.
pub fn print(epochs: usize) {
    println!(
        "| teacher | s per epoch | of online | bytes per sample | accuracy | agreement | same student |"
    );
    println!("|---|---:|---:|---:|---:|---:|---|");
    for (device_name, device) in common::devices() {
        let bench = Bench::new(&device, epochs.div_ceil(4));
        let (mut online, mut student) = (f64::NAN, Vec::new());
        for (way, name) in WAYS.into_iter().enumerate() {
            // Without looking at the test digits: measured on them after each epoch, it is a teacher's time too.
            let timed = bench.fit(way, epochs, false);
            let seconds = timed.report.training.seconds / epochs as f64;
            let Outcome {
                student: ours,
                report,
            } = bench.fit(way, epochs, true);
            if way == 0 {
                (online, student) = (seconds, ours.clone());
            }
            let bytes = way.checked_sub(1).map(|recorded| {
                let store = &bench.stores[recorded][0];
                format!("{:.1}", store.bytes() as f64 / store.len() as f64)
            });
            let percent = |part: Option<f64>| 100.0 * part.unwrap_or(f64::NAN);
            println!(
                "| {name} on {device_name} | {seconds:.3} | {:.2} | {} | {:.2} % | {:.2} % | {} |",
                seconds / online,
                bytes.unwrap_or("-".into()),
                percent(report.distilled.accuracy),
                percent(report.distilled.agreement),
                if ours == student { "bit for bit" } else { "no" },
            );
        }
    }
}
