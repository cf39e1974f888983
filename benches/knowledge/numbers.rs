//! Samples that are numbers, and what is read of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::data::dataset::InMemDataset;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use burn_distill::knowledge::{LogitsFormat, RecordOptions, SampleId, Store, record};
use burn_distill::report::measure;
use burn_distill::{
    DistillBatch, DistillData, Outputs, ProgressMode, Recorded, Result, Teacher, TeacherBatch,
    TeacherInfo, adapt, teacher_fn,
};

/// The numbers of the samples of a batch.
pub type Numbers = Tensor<1, Int>;

/// These samples, which are their own names.
pub fn data(numbers: Vec<u32>) -> DistillData<Numbers> {
    DistillData::builder(InMemDataset::new(numbers))
        .with_ids(|number: &u32| SampleId(u128::from(*number)))
        .batched(|numbers: Vec<u32>, device: &Device| {
            DistillBatch::new(Numbers::from_data(&numbers[..], device))
        })
}

/// Records what a closure gives for the samples 0 to `count`, a batch at a time.
pub fn write(
    count: usize,
    batch_size: usize,
    logits: LogitsFormat,
    outputs: impl Fn(Vec<u32>, &Device) -> Outputs + Send + Sync + 'static,
) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a directory for the benchmark");
    let teacher = teacher_fn("a generator of random numbers", move |numbers: Numbers| {
        let device = numbers.device();
        outputs(numbers.into_data().iter().collect(), &device)
    });
    let options = RecordOptions::new(Device::flex())
        .with_logits(logits)
        .with_batch_size(batch_size)
        .with_progress(ProgressMode::Silent);
    let data = data((0..count as u32).collect());
    record(&teacher, &data, &directory, &options).expect("room on the disk");
    let store = Store::open(&directory).expect("just written");
    store.verify().expect("just written");
    (directory, store)
}

/// A recorded teacher, and a closure that sees what it gives for a batch, and how long that took.
struct Watched<F> {
    recorded: Arc<dyn Teacher<Numbers>>,
    watch: Arc<F>,
}

impl<F> Teacher<Numbers> for Watched<F>
where
    F: Fn(&[usize], &Outputs, Duration) + Send + Sync + 'static,
{
    fn ask(&self, batch: &TeacherBatch<'_, Numbers>) -> Result<Outputs> {
        let start = Instant::now();
        let outputs = self.recorded.ask(batch)?;
        (self.watch)(batch.indices, &outputs, start.elapsed());
        Ok(outputs)
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<Numbers>> {
        Arc::new(Self {
            recorded: self.recorded.on(device),
            watch: self.watch.clone(),
        })
    }

    fn info(&self) -> TeacherInfo {
        self.recorded.info()
    }
}

/// Reads all samples as a training does, batch by batch.
pub fn read(
    store: &Store,
    numbers: Vec<u32>,
    batch_size: usize,
    watch: impl Fn(&[usize], &Outputs, Duration) + Send + Sync + 'static,
) {
    let device = Device::flex();
    // Compared with nothing, nothing is left but to ask.
    let linear: Linear = LinearConfig::new(1, 1).init(&device);
    let student = adapt(linear, |_: &Linear, _: Numbers| Outputs::features_only());
    let teacher = Watched {
        recorded: Arc::new(Recorded::new(store)),
        watch: Arc::new(watch),
    };
    measure(
        &student,
        Some(&teacher),
        &data(numbers),
        batch_size,
        &device,
    )
    .expect("all are recorded");
}
