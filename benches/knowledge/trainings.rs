//! One training three ways: the teacher there, all its logits recorded, its likeliest classes recorded.
//!
//! A perceptron 784-1200-1200-10 teaches one of 784-800-10 the digits that come with the examples: soft
//! targets at one temperature, no labels. So many digits that every batch is full: matrix products of fewer rows
//! may add up in another order, and then a teacher does not say the same to the last bit.

use std::time::Duration;

use burn::backend::Dispatch;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_distill::knowledge::{
    KnowledgeBatcher, LogitsFormat, LogitsPrecision, RecordOptions, Samples, Store, ValuePrecision,
    record,
};
use burn_distill::loss::{SoftTargetConfig, SparseSoftTargetConfig};
use burn_distill::{
    DistillData, Distillable, Distilled, Distiller, FitConfig, IntoLoss, ProgressMode, Recorded,
    Schedule, train_on_labels,
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

/// A trained teacher, and what it says, both ways.
struct Bench {
    device: Device,
    teacher: Mlp,
    student: Mlp,
    train: Samples<Digit>,
    test: Samples<Digit>,
    digits: [Vec<Digit>; 2],
    /// For training and for testing, of the second and of the third way.
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
        let labelled = digits::data(digits[0].clone());
        let teacher = Mlp::new(&TEACHER, device);
        let config = config(teacher_epochs);
        let trained =
            train_on_labels::<Dispatch, _, _>(plain(device), teacher, &config, labelled, None);
        let teacher = trained.expect("the benchmark's own model and data").model;
        let directory = tempfile::tempdir().expect("a directory for the benchmark");
        let [train, test] = digits.clone().map(|it| Samples::new(InMemDataset::new(it)));
        let store = |name: &str, samples, logits| {
            let directory = directory.path().join(name);
            let options = RecordOptions::new(device.clone())
                .with_logits(logits)
                .with_progress(ProgressMode::Silent);
            record(&teacher, samples, &digits::batcher(), &directory, &options)
                .expect("room on the disk");
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
        let stores = [
            [store("train", &train, dense), store("test", &test, dense)],
            [
                store("train_4", &train, top_k),
                store("test_4", &test, top_k),
            ],
        ];
        Self {
            student: Mlp::new(&STUDENT, device),
            device: device.clone(),
            teacher,
            train,
            test,
            digits,
            stores,
            _directory: directory,
        }
    }

    fn fit(&self, way: usize, epochs: usize, is_tested: bool) -> Outcome {
        let soft = SoftTargetConfig::new(TEMPERATURE);
        let [train, test] = self.digits.clone();
        match way {
            0 => {
                let test = is_tested.then(|| digits::data(test));
                self.run(
                    self.teacher.clone(),
                    soft,
                    epochs,
                    digits::data(train),
                    test,
                )
            }
            1 => self.recorded(&self.stores[0], soft, epochs, is_tested),
            _ => {
                let sparse = SparseSoftTargetConfig::new(K).with_temperature(TEMPERATURE);
                self.recorded(&self.stores[1], sparse, epochs, is_tested)
            }
        }
    }

    fn recorded(
        &self,
        [train, test]: &[Store; 2],
        loss: impl IntoLoss,
        epochs: usize,
        is_tested: bool,
    ) -> Outcome {
        let known = |samples: &Samples<Digit>, store| {
            let batcher = KnowledgeBatcher::new(digits::batcher());
            DistillData::new(samples.with_knowledge(store), batcher)
        };
        let teacher = Recorded::new(train);
        let test = is_tested.then(|| known(&self.test, test));
        self.run(teacher, loss, epochs, known(&self.train, train), test)
    }

    fn run<T: Distillable<Tensor<2>>>(
        &self,
        teacher: T,
        loss: impl IntoLoss,
        epochs: usize,
        train: DistillData<Tensor<2>>,
        test: Option<DistillData<Tensor<2>>>,
    ) -> Outcome {
        self.device.seed(0);
        let student = self.student.clone();
        let Distilled {
            student, report, ..
        } = Distiller::<Dispatch, _, _>::new(plain(&self.device), teacher, student)
            .with(loss, 1.0)
            .fit(&config(epochs), train, test)
            .expect("the benchmark's own models and data fit each other");
        let record = student.into_record().into_bytes();
        Outcome {
            student: record.expect("a record in memory needs no file").to_vec(),
            report,
        }
    }
}

/// A student, and what is said of it.
struct Outcome {
    student: Vec<u8>,
    report: burn_distill::Report,
}

fn plain(device: &Device) -> burn::backend::DispatchDevice {
    device.clone().inner().as_dispatch().clone()
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
