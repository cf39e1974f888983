//! Time of each loss and its gradient, on every backend that is compiled in.
//!
//! ```text
//! cargo bench --bench losses                            # all of them
//! cargo bench --bench losses -- loss/soft_target        # one loss
//! cargo bench --bench losses -- flex/256x32000          # one device and shape
//! BURN_DISTILL_BENCH_LARGE=1 cargo bench --bench losses # with 512 rows of 128,256 classes
//! ```
//!
//! An id is `loss/NAME/DEVICE/SHAPE`. Throughput counts the numbers of the student's tensors.

mod common;

use std::cell::LazyCell;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use burn_distill::loss::*;
use burn_distill::{Feature, MissingProbability, TopK};
use common::{TEMPERATURE, classes, normal, time_loss};
use criterion::{BenchmarkId, Criterion, Throughput};

/// Rows and classes.
const SHAPES: [[usize; 2]; 3] = [[128, 10], [128, 1000], [256, 32000]];
/// Large: two gigabytes and more of memory. Only if asked for.
const LARGE: [usize; 2] = [512, 128256];
const ASKS_FOR_LARGE: &str = "BURN_DISTILL_BENCH_LARGE";

/// How many classes a top-k teacher gives.
const TOP_K: usize = 64;

/// Both sides' logits, and labels.
struct Logits {
    student: Tensor<2>,
    teacher: Tensor<2>,
    labels: Tensor<1, Int>,
    top_k: TopK,
}

impl Logits {
    fn new([rows, count]: [usize; 2], device: &Device) -> Self {
        device.seed(0);
        let teacher = normal([rows, count], 2.0, device);
        // Any classes cost what the likeliest do, and need no sorting.
        let k = TOP_K.min(count);
        let every = Tensor::arange_step(0..(k * (count / k)) as i64, count / k, device);
        let indices = every.unsqueeze::<2>().repeat_dim(0, rows);
        let log_probs = log_softmax(teacher.clone() / TEMPERATURE, 1).gather(1, indices.clone());
        Self {
            student: normal([rows, count], 1.0, device),
            labels: classes([rows], count, device),
            top_k: TopK::new(indices, log_probs, count).at_temperature(TEMPERATURE),
            teacher,
        }
    }
}

type OnLogits = fn(Tensor<2>, &Logits) -> Tensor<1>;

/// Every loss on logits, with the settings of its paper.
const ON_LOGITS: [(&str, OnLogits); 16] = [
    ("soft_target", |s, x| {
        soft_target(s, x.teacher.clone(), TEMPERATURE).mean()
    }),
    ("soft_target_and_hard_label", |s, x| {
        let soft = soft_target(s.clone(), x.teacher.clone(), TEMPERATURE).mean();
        soft * 0.5 + hard_label(s, x.labels.clone(), 0.0).mean() * 0.5
    }),
    ("soft_cross_entropy", |s, x| {
        soft_cross_entropy(s, x.teacher.clone(), TEMPERATURE, TemperatureScale::Squared).mean()
    }),
    ("sparse_soft_target", |s, x| {
        let missing = MissingProbability::Bucket;
        sparse_soft_target(s, x.top_k.clone(), TEMPERATURE, missing).mean()
    }),
    ("reverse_kl", |s, x| {
        reverse_kl(s, x.teacher.clone(), TEMPERATURE, TemperatureScale::Squared).mean()
    }),
    ("symmetric_kl", |s, x| {
        symmetric_kl(s, x.teacher.clone(), TEMPERATURE, TemperatureScale::Squared).mean()
    }),
    ("jensen_shannon", |s, x| {
        let (teacher, squared) = (x.teacher.clone(), TemperatureScale::Squared);
        jensen_shannon(s, teacher, TEMPERATURE, squared, 0.5).mean()
    }),
    ("total_variation", |s, x| {
        total_variation(s, x.teacher.clone(), TEMPERATURE).mean()
    }),
    ("dkd", |s, x| {
        let (teacher, labels) = (x.teacher.clone(), x.labels.clone());
        dkd(s, teacher, labels, TEMPERATURE, 1.0, 8.0).mean()
    }),
    ("nkd", |s, x| {
        nkd(s, x.teacher.clone(), x.labels.clone(), 1.0, 1.5).mean()
    }),
    ("dist", |s, x| {
        dist(s, x.teacher.clone(), TEMPERATURE, 1.0, 1.0)
    }),
    ("standardized_soft_target", |s, x| {
        let teacher = standardize(x.teacher.clone(), 1e-7);
        soft_target(standardize(s, 1e-7), teacher, 2.0).mean()
    }),
    ("logit_mse", |s, x| {
        logit_mse(s, x.teacher.clone(), Reduction::Mean).mean()
    }),
    ("logit_cosine", |s, x| {
        logit_cosine(s, x.teacher.clone(), false).mean()
    }),
    ("hard_label", |s, x| {
        hard_label(s, x.labels.clone(), 0.0).mean()
    }),
    ("virtual_teacher", |s, x| {
        virtual_teacher(s, x.labels.clone(), 20.0, 0.99).mean()
    }),
];

fn on_logits(criterion: &mut Criterion) {
    let large = std::env::var_os(ASKS_FOR_LARGE).map(|_| LARGE);
    for (name, device) in common::devices() {
        for shape in SHAPES.into_iter().chain(large) {
            // Made only if a case that needs them is selected, and dropped before the next shape.
            let logits = LazyCell::new(|| Logits::new(shape, &device));
            let [rows, count] = shape;
            for (loss, value) in ON_LOGITS {
                let mut group = criterion.benchmark_group(format!("loss/{loss}"));
                group.throughput(Throughput::Elements((rows * count) as u64));
                let id = BenchmarkId::new(name, format!("{rows}x{count}"));
                group.bench_function(id, |bencher| {
                    let logits = &*logits;
                    time_loss(bencher, &logits.student, |s| value(s, logits));
                });
            }
        }
    }
}

/// Samples, channels, height and width of feature maps.
const MAPS: [usize; 4] = [64, 64, 16, 16];

type OnMaps = fn(Tensor<4>, Tensor<4>) -> Tensor<1>;

const ON_MAPS: [(&str, OnMaps); 5] = [
    ("hint", |s, t| hint(s, t).mean()),
    ("attention_transfer", |s, t| {
        attention_transfer(s, t, 2, false, DifferenceReduction::Norm).mean()
    }),
    ("channel_wise", |s, t| {
        channel_wise(s, t, TEMPERATURE).mean()
    }),
    ("similarity_preserving", |s, t| {
        similarity_preserving(s, t, SimilarityNorm::L2)
    }),
    ("nst", |s, t| {
        let (degree, offset) = (2, 0.0);
        nst(s, t, Kernel::Polynomial { degree, offset }).mean()
    }),
];

/// Samples, and numbers per sample.
const VECTORS: [usize; 2] = [128, 512];

type OnVectors = fn(Feature, Feature) -> Tensor<1>;

const ON_VECTORS: [(&str, OnVectors); 4] = [
    ("hidden_cosine", |s, t| {
        hidden_cosine(s, t, CosineNorm::default()).mean()
    }),
    ("pkt", |s, t| pkt(s, t, 1e-7)),
    ("rkd_distance", |s, t| rkd_distance(s, t, false)),
    ("rkd_angle", rkd_angle),
];

fn on_features(criterion: &mut Criterion) {
    for (name, device) in common::devices() {
        let maps = LazyCell::new(|| pair(MAPS, &device));
        for (loss, value) in ON_MAPS {
            let mut group = criterion.benchmark_group(format!("loss/{loss}"));
            group.throughput(Throughput::Elements(MAPS.iter().product::<usize>() as u64));
            let id = BenchmarkId::new(name, MAPS.map(|n| n.to_string()).join("x"));
            group.bench_function(id, |bencher| {
                let (student, teacher) = &*maps;
                time_loss(bencher, student, |s| value(s, teacher.clone()));
            });
        }
        let vectors = LazyCell::new(|| pair(VECTORS, &device));
        for (loss, value) in ON_VECTORS {
            let mut group = criterion.benchmark_group(format!("loss/{loss}"));
            group.throughput(Throughput::Elements(
                VECTORS.iter().product::<usize>() as u64
            ));
            let id = BenchmarkId::new(name, VECTORS.map(|n| n.to_string()).join("x"));
            group.bench_function(id, |bencher| {
                let (student, teacher) = &*vectors;
                time_loss(bencher, student, |s| {
                    value(s.into(), teacher.clone().into())
                });
            });
        }
    }
}

/// A student's tensor and a teacher's.
fn pair<const D: usize>(shape: [usize; D], device: &Device) -> (Tensor<D>, Tensor<D>) {
    device.seed(0);
    (normal(shape, 1.0, device), normal(shape, 2.0, device))
}

fn main() {
    let mut criterion = common::criterion();
    on_logits(&mut criterion);
    on_features(&mut criterion);
    criterion.final_summary();
}
