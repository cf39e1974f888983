//! Batches in random order, out of the system's page cache: what a training waits for when it asks
//! [`Recorded`](burn_distill::Recorded), up to tensors on the device.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use burn::tensor::{Tensor, TensorData};
use burn_distill::Outputs;
use burn_distill::knowledge::{LogitsFormat, LogitsPrecision, Store, ValuePrecision};
use criterion::{BenchmarkId, Criterion, Throughput};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::numbers;

const CLASSES: usize = 1000;
const SAMPLES: usize = 32_768;
const BATCH: usize = 128;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("knowledge/read");
    let dense = |precision| LogitsFormat::Dense { precision };
    let top_k = LogitsFormat::TopK {
        k: 32,
        temperature: 1.0,
        precision: ValuePrecision::Step(0.1),
    };
    let mut order: Vec<u32> = (0..SAMPLES as u32).collect();
    order.shuffle(&mut StdRng::seed_from_u64(1));
    for (name, logits) in [
        ("f32", dense(LogitsPrecision::F32)),
        ("f16", dense(LogitsPrecision::F16)),
        ("bf16", dense(LogitsPrecision::Bf16)),
        ("top_32", top_k),
    ] {
        group.throughput(match logits {
            LogitsFormat::Dense { .. } => Throughput::Bytes((BATCH * CLASSES * 4) as u64),
            _ => Throughput::Elements(BATCH as u64),
        });
        let store = std::cell::LazyCell::new(|| write(logits));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            let (_directory, store) = &*store;
            bencher.iter_custom(|batches| {
                let samples = order.iter().copied().cycle();
                let samples = samples.take(batches as usize * BATCH).collect();
                let total = Arc::new(Mutex::new(Duration::ZERO));
                let sum = total.clone();
                numbers::read(store, samples, BATCH, move |_, _, time| {
                    *sum.lock().expect("no thread panics") += time;
                });
                *total.lock().expect("no thread panics")
            });
        });
    }
}

fn write(logits: LogitsFormat) -> (tempfile::TempDir, Store) {
    numbers::write(SAMPLES, BATCH, logits, |numbers, device| {
        let row = |number: &u32| {
            let mut random = StdRng::seed_from_u64(u64::from(*number));
            (0..CLASSES).map(move |_| random.random_range(-8.0f32..8.0))
        };
        let all: Vec<f32> = numbers.iter().flat_map(row).collect();
        let all = TensorData::new(all, [numbers.len(), CLASSES]);
        Outputs::new(Tensor::<2>::from_data(all, device))
    })
}
