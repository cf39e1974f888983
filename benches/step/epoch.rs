//! An epoch of `Distiller::fit` on images that have to be decoded first, with the teacher live, cached and
//! recorded, and with no, one and two workers.
//!
//! The perceptrons of `step/mlp`. Decoding a batch takes one thread about as long as the student's part of
//! its step: the two are printed. Without workers a step waits for its batch, and for a live teacher; with a
//! worker both are prepared while the student learns from the batch before, as far as there are cores for it.

use std::cell::LazyCell;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use burn::data::dataset::InMemDataset;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_distill::knowledge::{RecordOptions, SampleId, Store, record};
use burn_distill::loss::{HardLabel, SoftTarget, hard_label, soft_target};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, FitConfig, ProgressMode, Recorded, Teacher,
    TeacherCache,
};
use criterion::{BenchmarkId, Criterion, Throughput};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::common::cases::{BATCH, CLASSES, LEARNING_RATE, OPTIMIZERS, STUDENT, TEACHER};
use crate::common::nets::Mlp;
use crate::common::{TEMPERATURE, devices, sync};

/// Batches of an epoch, and epochs of a training. A cached teacher is asked in the first of them.
const BATCHES: usize = 16;
const EPOCHS: usize = 4;
const WORKERS: [usize; 3] = [0, 1, 2];

/// Height and width of what the models see, and how many times as large the images are kept.
const SIDE: usize = 28;
const SCALE: usize = 6;

/// A compressed image.
#[derive(Debug, Clone)]
struct Image {
    number: usize,
    bytes: Vec<u8>,
}

impl Image {
    /// Waves of 16 greys.
    fn new(number: usize) -> Self {
        let side = SIDE * SCALE;
        let (turns, slope) = ((number % 5 + 1) as f32, (number / 5 % 7 + 1) as f32);
        let grey = |at: usize| {
            let (row, column) = ((at / side) as f32, (at % side) as f32);
            let wave = ((column * turns + row * slope) * 0.06).sin();
            (128.0 + 100.0 * wave) as u8 & 0xf0
        };
        let pixels: Vec<u8> = (0..side * side).map(grey).collect();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder
            .write_all(&pixels)
            .expect("memory can be written to");
        let bytes = encoder.finish().expect("memory can be written to");
        Self { number, bytes }
    }

    /// Decompressed, scaled down, and brought to the mean 0 and the variance 1.
    fn decoded(&self) -> Vec<f32> {
        let side = SIDE * SCALE;
        let mut pixels = Vec::with_capacity(side * side);
        ZlibDecoder::new(self.bytes.as_slice())
            .read_to_end(&mut pixels)
            .expect("compressed above");
        let mut small = vec![0f32; SIDE * SIDE];
        for (y, row) in pixels.chunks_exact(side).enumerate() {
            let line = &mut small[y / SCALE * SIDE..][..SIDE];
            for (sum, block) in line.iter_mut().zip(row.chunks_exact(SCALE)) {
                *sum += block.iter().map(|grey| f32::from(*grey)).sum::<f32>();
            }
        }
        let count = small.len() as f32;
        let mean = small.iter().sum::<f32>() / count;
        let variance = small.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
        let scale = (variance + 1e-5).sqrt().recip();
        small.iter_mut().for_each(|x| *x = (*x - mean) * scale);
        small
    }
}

fn batch(images: &[Image], device: &Device) -> DistillBatch<Tensor<2>> {
    let pixels: Vec<f32> = images.iter().flat_map(Image::decoded).collect();
    let labels: Vec<i64> = images
        .iter()
        .map(|image| (image.number % CLASSES) as i64)
        .collect();
    let pixels = TensorData::new(pixels, [images.len(), SIDE * SIDE]);
    DistillBatch::new(Tensor::from_data(pixels, device))
        .with_classes(Tensor::<1, Int>::from_data(labels.as_slice(), device))
}

struct Case {
    device: Device,
    teacher: Mlp,
    student: Mlp,
    data: DistillData<Tensor<2>>,
    store: Store,
    _directory: tempfile::TempDir,
}

impl Case {
    fn new(name: &str, device: &Device) -> Self {
        device.seed(0);
        let (teacher, student) = (Mlp::new(&TEACHER, device), Mlp::new(&STUDENT, device));
        let images: Vec<Image> = (0..BATCHES * BATCH).map(Image::new).collect();
        print_parts(name, device, &images[..BATCH], &student);
        let data = DistillData::builder(InMemDataset::new(images))
            .with_ids(|image: &Image| SampleId(image.number as u128))
            .batched(|images: Vec<Image>, device: &Device| batch(&images, device));
        let directory = tempfile::tempdir().expect("a directory for the benchmark");
        let path = directory.path().join("store");
        let options = RecordOptions::new(device.clone()).with_progress(ProgressMode::Silent);
        record(&teacher, &data, &path, &options).expect("room on the disk");
        Self {
            device: device.clone(),
            teacher,
            student,
            data,
            store: Store::open(path).expect("just written"),
            _directory: directory,
        }
    }

    /// What an epoch takes in `fit`. The check before it and the report after it do not count.
    fn epoch(&self, kind: &str, workers: usize) -> Duration {
        let config = FitConfig::new(EPOCHS)
            .with_batch_size(BATCH)
            .with_optimizer(OPTIMIZERS[0].1(), LEARNING_RATE)
            .with_workers(workers)
            .with_progress(ProgressMode::Silent);
        match kind {
            "live" => self.fit(self.teacher.clone(), config),
            "cached" => {
                let cache = TeacherCache::memory(1 << 30);
                self.fit(self.teacher.clone(), config.with_teacher_cache(cache))
            }
            _ => self.fit(Recorded::new(&self.store), config),
        }
    }

    fn fit<T: Teacher<Tensor<2>>>(&self, teacher: T, config: FitConfig) -> Duration {
        let distilled = Distiller::on(self.device.clone(), teacher, self.student.clone())
            .with(SoftTarget::new(TEMPERATURE), 0.5)
            .with(HardLabel::new(), 0.5)
            .fit(&config, self.data.clone(), None)
            .expect("the benchmark's own models and data fit each other");
        Duration::from_secs_f64(distilled.report.training.seconds / EPOCHS as f64)
    }
}

/// Says how long a batch and the student's part of a step take here, on stderr.
fn print_parts(name: &str, device: &Device, images: &[Image], student: &Mlp) {
    let shortest = |run: &mut dyn FnMut()| {
        let times = (0..5).map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        });
        let shortest = times.min().expect("five of them");
        shortest.as_secs_f64() * 1e3
    };
    let plain = device.clone().inner();
    let decoding = shortest(&mut || {
        drop(batch(images, &plain));
        sync(device);
    });
    let (made, mut optimizer) = (batch(images, device), OPTIMIZERS[0].1());
    let labels = made.targets.target("").and_then(|target| target.classes());
    let labels = labels.expect("made with labels");
    let taught: Tensor<2> = Tensor::zeros([BATCH, CLASSES], &plain);
    let mut student = Some(student.clone());
    let learning = shortest(&mut || {
        let before = student.take().expect("each step puts it back");
        let logits = before.outputs(made.input.clone()).logits();
        let soft = soft_target(logits.clone(), taught.clone(), TEMPERATURE).mean();
        let loss = soft * 0.5 + hard_label(logits, labels.clone(), 0.0).mean() * 0.5;
        let gradients = GradientsParams::from_grads(loss.backward(), &before);
        student = Some(optimizer.step(LEARNING_RATE, before, gradients));
        sync(device);
    });
    eprintln!(
        "epoch on {name}: {decoding:.2} ms to decode a batch, {learning:.2} ms for the student's step"
    );
}

pub fn bench(criterion: &mut Criterion) {
    let samples = (BATCHES * BATCH) as u64;
    for (name, device) in devices() {
        let case = LazyCell::new(|| Case::new(name, &device));
        for kind in ["live", "cached", "recorded"] {
            let mut group = criterion.benchmark_group(format!("epoch/{kind}"));
            group.throughput(Throughput::Elements(samples));
            for workers in WORKERS {
                let id = BenchmarkId::new(name, format!("{workers}_workers"));
                group.bench_function(id, |bencher| {
                    bencher
                        .iter_custom(|rounds| (0..rounds).map(|_| case.epoch(kind, workers)).sum());
                });
            }
        }
    }
}
