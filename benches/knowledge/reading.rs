//! Batches in random order, out of the system's page cache.

use burn_distill::knowledge::{
    Header, Key, LogitsFormat, LogitsPrecision, LogitsRecord, Rows, SampleId, SampleRecord, Store,
    ValuePrecision, Writer,
};
use criterion::{BenchmarkId, Criterion, Throughput};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

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
            let mut random = StdRng::seed_from_u64(1);
            let mut keys: Vec<_> = (0..SAMPLES)
                .map(|i| Key::new(SampleId(i as u128)))
                .collect();
            keys.shuffle(&mut random);
            let mut batches = keys.chunks_exact(BATCH).cycle();
            let mut rows = Rows::new(store.header());
            bencher.iter(|| {
                let keys = batches.next().expect("there is always another batch");
                store.read_into(keys, &mut rows).expect("all are recorded");
            });
        });
    }
}

fn write(logits: LogitsFormat) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a directory for the benchmark");
    let header = Header {
        teacher: "a generator of random numbers".into(),
        heads: Vec::new(),
        classes: CLASSES,
        logits,
        features: Vec::new(),
        views: 1,
    };
    let mut writer =
        Writer::create_or_resume(directory.path(), &header).expect("an empty directory");
    let mut random = StdRng::seed_from_u64(0);
    for i in 0..SAMPLES {
        let row: Vec<f32> = (0..CLASSES)
            .map(|_| random.random_range(-8.0..8.0))
            .collect();
        let sample = SampleRecord {
            id: SampleId(i as u128),
            view: 0,
            seed: 0,
            rows: 1,
            logits: LogitsRecord::Full(&row),
            features: &[],
        };
        writer.write(&sample).expect("room on the disk");
    }
    writer.finish().expect("room on the disk");
    let store = Store::open(directory.path()).expect("just written");
    store.verify().expect("just written");
    (directory, store)
}
