//! Time of a whole training step with a teacher that answers along the way, on every backend that
//! is compiled in, and of `fit` beside a loop written by hand.
//!
//! ```text
//! cargo bench --bench step -- step/mlp
//! cargo bench --bench step --features x86-v4      # AVX-512 in the matrix products of flex
//! cargo bench --bench step -- epochs              # fit beside a loop
//! ```
//!
//! An id is `step/CASE/DEVICE/OPTIMIZER` or `epochs/WAY/DEVICE/CASE`. Throughput counts samples.

mod common;

use std::cell::LazyCell;
use std::time::{Duration, Instant};

use burn::backend::Dispatch;
use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_distill::loss::{HardLabelConfig, SoftTargetConfig, hard_label, soft_target};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, FitConfig, Frozen, ProgressMode,
};
use common::nets::{Cnn, Mlp, Transformer};
use common::{TEMPERATURE, classes, normal, sync, time};
use criterion::{BenchmarkId, Criterion, Throughput};

/// So small that the students stay what they are, however often they are trained.
const LEARNING_RATE: f64 = 1e-5;

/// Samples in a batch of vectors or images.
const BATCH: usize = 128;
const CLASSES: usize = 10;
const TEACHER: [usize; 4] = [784, 1200, 1200, CLASSES];
const STUDENT: [usize; 3] = [784, 800, CLASSES];

/// Sequences in a batch, words in a sequence, words there are.
const SEQUENCES: usize = 16;
const PLACES: usize = 64;
const WORDS: usize = 8192;

type Optimizer = (&'static str, fn() -> ModuleOptimizer);

const OPTIMIZERS: [Optimizer; 2] = [
    ("sgd", || {
        let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
        SgdConfig::new().with_momentum(Some(momentum)).init()
    }),
    ("adam", || AdamConfig::new().with_epsilon(1e-8).init()),
];

/// Both models and one batch.
struct Case<I, T, S> {
    teacher: Frozen<T>,
    student: S,
    input: I,
    labels: Tensor<1, Int>,
}

impl<I, T, S> Case<I, T, S>
where
    I: Module,
    T: Distillable<I>,
    S: Distillable<I>,
{
    fn new(teacher: T, student: S, input: I, labels: Tensor<1, Int>) -> Self {
        Self {
            teacher: Frozen::new(teacher),
            student,
            input,
            labels,
        }
    }
}

/// One step as it stands in a loop written by hand: half soft targets, half labels.
fn step<I, T, S>(
    teacher: &Frozen<T>,
    student: S,
    optimizer: &mut ModuleOptimizer,
    (input, labels): (I, Tensor<1, Int>),
) -> (S, Tensor<1>)
where
    I: Module,
    T: Distillable<I>,
    S: Distillable<I>,
{
    let taught = teacher.outputs(&input).logits;
    let logits = student.outputs(input).logits;
    let soft = soft_target(logits.clone(), taught, TEMPERATURE);
    let loss = soft * 0.5 + hard_label(logits, labels, 0.0) * 0.5;
    let gradients = GradientsParams::from_grads(loss.backward(), &student);
    (optimizer.step(LEARNING_RATE, student, gradients), loss)
}

fn steps<I, T, S>(
    criterion: &mut Criterion,
    (case, samples): (&str, usize),
    make: impl Fn(&Device) -> Case<I, T, S>,
) where
    I: Module,
    T: Distillable<I>,
    S: Distillable<I>,
{
    let mut group = criterion.benchmark_group(format!("step/{case}"));
    group.throughput(Throughput::Elements(samples as u64));
    for (name, device) in common::devices() {
        let made = LazyCell::new(|| {
            device.seed(0);
            make(&device)
        });
        for (optimizer, init) in OPTIMIZERS {
            group.bench_function(BenchmarkId::new(name, optimizer), |bencher| {
                let case = &*made;
                let mut optimizer = init();
                let mut student = Some(case.student.clone());
                time(bencher, &device, || {
                    let batch = (case.input.clone(), case.labels.clone());
                    let before = student.take().expect("each step puts it back");
                    let (after, loss) = step(&case.teacher, before, &mut optimizer, batch);
                    student = Some(after);
                    loss
                });
            });
        }
    }
}

fn all_steps(criterion: &mut Criterion) {
    steps(criterion, ("mlp", BATCH), |device| {
        let (teacher, student) = (Mlp::new(&TEACHER, device), Mlp::new(&STUDENT, device));
        let images = normal([BATCH, TEACHER[0]], 1.0, device);
        Case::new(teacher, student, images, classes([BATCH], CLASSES, device))
    });
    steps(criterion, ("cnn", BATCH), |device| {
        let teacher = Cnn::new(&[32, 64, 128], CLASSES, device);
        let student = Cnn::new(&[16, 32], CLASSES, device);
        let images = normal([BATCH, 1, 28, 28], 1.0, device);
        Case::new(teacher, student, images, classes([BATCH], CLASSES, device))
    });
    steps(criterion, ("transformer", SEQUENCES), |device| {
        let teacher = Transformer::new([WORDS, PLACES, 512], 6, 8, device);
        let student = Transformer::new([WORDS, PLACES, 256], 3, 4, device);
        let words = classes([SEQUENCES, PLACES], WORDS, device);
        let labels = classes([SEQUENCES * PLACES], WORDS, device);
        Case::new(teacher, student, words, labels)
    });
}

/// Epochs of one training, and batches in each: enough that what a training does once hardly counts.
const EPOCHS: usize = 4;
const BATCHES: usize = 25;

type Image = (Vec<f32>, i64);

fn images() -> InMemDataset<Image> {
    let image = |i: usize| {
        let point = |k: usize| ((i * 37 + k * 101 + i * k * 13) % 97) as f32 / 48.0 - 1.0;
        ((0..TEACHER[0]).map(point).collect(), (i % CLASSES) as i64)
    };
    InMemDataset::new((0..BATCHES * BATCH).map(image).collect())
}

#[derive(Clone)]
struct Batches;

impl Batcher<Image, DistillBatch<Tensor<2>>> for Batches {
    fn batch(&self, images: Vec<Image>, device: &Device) -> DistillBatch<Tensor<2>> {
        let (images, labels): (Vec<_>, Vec<_>) = images.into_iter().unzip();
        let images = TensorData::new(images.concat(), [images.len(), TEACHER[0]]);
        let labels = Tensor::<1, Int>::from_data(labels.as_slice(), device);
        DistillBatch::new(Tensor::from_data(images, device)).with_classes(labels)
    }
}

/// What a training by hand takes: Burn's loader, the losses, the optimizer, the mean loss.
fn by_hand(device: &Device, teacher: Mlp, student: Mlp) -> Duration {
    let (teacher, mut student) = (Frozen::new(teacher), student.train());
    let loader = DataLoaderBuilder::new(Batches)
        .batch_size(BATCH)
        .shuffle(0)
        .set_device(device.clone())
        .build(images());
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let start = Instant::now();
    for _ in 0..EPOCHS {
        let mut sum = 0.0;
        for batch in loader.iter() {
            let batch = batch.expect("data in memory can be read");
            let labels = batch.targets.classes().expect("made with labels").clone();
            let loss;
            (student, loss) = step(&teacher, student, &mut optimizer, (batch.input, labels));
            sum += loss.into_scalar::<f32>();
        }
        assert!(sum.is_finite());
    }
    sync(device);
    start.elapsed()
}

/// What the same training takes in `fit`, from its first step to its last. The check before it and
/// the report after it, which it does once, do not count.
fn by_fit(device: &Device, teacher: Mlp, student: Mlp) -> Duration {
    let plain = device.clone().inner().as_dispatch().clone();
    let config = FitConfig::new(EPOCHS)
        .with_batch_size(BATCH)
        .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), LEARNING_RATE)
        .with_progress(ProgressMode::Silent);
    let distilled = Distiller::<Dispatch, _, _>::new(plain, teacher, student)
        .with(SoftTargetConfig::new(TEMPERATURE), 0.5)
        .with(HardLabelConfig::new(), 0.5)
        .fit(&config, DistillData::new(images(), Batches), None)
        .expect("the benchmark's own models and data fit each other");
    Duration::from_secs_f64(distilled.report.training.seconds)
}

type Way = (&'static str, fn(&Device, Mlp, Mlp) -> Duration);

const WAYS: [Way; 2] = [("by_hand", by_hand), ("fit", by_fit)];

fn epochs(criterion: &mut Criterion) {
    for (name, device) in common::devices() {
        for (way, train) in WAYS {
            let mut group = criterion.benchmark_group(format!("epochs/{way}"));
            group.throughput(Throughput::Elements((EPOCHS * BATCHES * BATCH) as u64));
            group.bench_function(BenchmarkId::new(name, "mlp"), |bencher| {
                device.seed(0);
                let teacher = Mlp::new(&TEACHER, &device);
                let student = Mlp::new(&STUDENT, &device);
                bencher.iter_custom(|times| {
                    let once = |_| train(&device, teacher.clone(), student.clone());
                    (0..times).map(once).sum()
                });
            });
        }
    }
}

fn main() {
    let mut criterion = common::criterion();
    all_steps(&mut criterion);
    epochs(&mut criterion);
    criterion.final_summary();
}
