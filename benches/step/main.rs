//! Time of a training step by hand with a live teacher, of the layers that it is made of, and of an epoch of
//! `Distiller::fit`, on every backend that is compiled in.
//!
//! ```text
//! cargo bench --bench step -- step/mlp
//! cargo bench --bench step -- epoch/              # how far preparing batches overlaps with the step
//! cargo bench --bench step --features x86-v4      # AVX-512 in the matrix products of flex
//! ```
//!
//! An id is `step/CASE/DEVICE/OPTIMIZER`, `layer/LAYER/DEVICE/SHAPE` or `epoch/TEACHER/DEVICE/WORKERS`.
//! Throughput counts samples.

#[path = "../common/mod.rs"]
mod common;
mod epoch;

use std::cell::LazyCell;

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttentionConfig};
use burn::nn::conv::Conv2dConfig;
use burn::nn::pool::MaxPool2dConfig;
use burn::nn::{BatchNormConfig, LayerNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use burn_distill::Distillable;
use common::cases::{BATCH, Case, OPTIMIZERS, POSITIONS, SEQUENCES, cnn, mlp, step, transformer};
use common::{normal, time};
use criterion::{BenchmarkId, Criterion, Throughput};

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

/// A layer of a network forward and backward, towards its input and its parameters.
fn layer<const D: usize, M, F>(
    criterion: &mut Criterion,
    (name, shape): (&str, [usize; D]),
    make: impl Fn(&Device) -> M,
    forward: F,
) where
    F: Fn(&M, Tensor<D>) -> Tensor<D>,
{
    let mut group = criterion.benchmark_group(format!("layer/{name}"));
    group.throughput(Throughput::Elements(shape[0] as u64));
    let size = shape.map(|n| n.to_string()).join("x");
    for (device_name, device) in common::devices() {
        let made = LazyCell::new(|| {
            device.seed(0);
            (make(&device), normal(shape, 1.0, &device))
        });
        group.bench_function(BenchmarkId::new(device_name, &size), |bencher| {
            let (layer, input) = &*made;
            time(bencher, &device, || {
                forward(layer, input.clone().require_grad())
                    .sum()
                    .backward()
            });
        });
    }
}

/// With the sizes that they have in the students of [`cnn`] and [`transformer`].
fn layers(criterion: &mut Criterion) {
    let maps = [BATCH, 16, 28, 28];
    layer(
        criterion,
        ("linear", [SEQUENCES * POSITIONS, 512]),
        |device| LinearConfig::new(512, 512).init(device),
        |linear, x| linear.forward(x),
    );
    layer(
        criterion,
        ("convolution", maps),
        |device| {
            let convolution = Conv2dConfig::new([16, 16], [3, 3]);
            let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
            convolution.with_padding(padding).init(device)
        },
        |convolution, x| convolution.forward(x),
    );
    layer(
        criterion,
        ("batch_norm", maps),
        |device| BatchNormConfig::new(16).init(device),
        |norm, x| norm.forward(x),
    );
    layer(
        criterion,
        ("max_pool", maps),
        |_| MaxPool2dConfig::new([2, 2]).init(),
        |pool, x| pool.forward(x),
    );
    layer(
        criterion,
        ("layer_norm", [SEQUENCES, POSITIONS, 512]),
        |device| LayerNormConfig::new(512).init(device),
        |norm, x| norm.forward(x),
    );
    layer(
        criterion,
        ("gelu", [SEQUENCES, POSITIONS, 2048]),
        |_| (),
        |(), x| gelu(x),
    );
    layer(
        criterion,
        ("attention", [SEQUENCES, POSITIONS, 512]),
        |device| {
            let attention = MultiHeadAttentionConfig::new(512, 8).with_dropout(0.0);
            attention.init(device)
        },
        |attention, x| attention.forward(MhaInput::self_attn(x)).context,
    );
}

fn main() {
    let mut criterion = common::criterion();
    steps(&mut criterion, ("mlp", BATCH), mlp);
    steps(&mut criterion, ("cnn", BATCH), cnn);
    steps(&mut criterion, ("transformer", SEQUENCES), transformer);
    layers(&mut criterion);
    epoch::bench(&mut criterion);
    criterion.final_summary();
}
