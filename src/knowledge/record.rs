//! Running a teacher over a dataset once.

use std::path::Path;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use indicatif::ProgressBar;

use crate::data::batch::DistillBatch;
use crate::data::outputs::{Distillable, Feature, Outputs};
use crate::device::check_device;
use crate::error::{Error, Result, Side};
use crate::knowledge::format::header::{
    FeatureFormat, FeaturePrecision, Header, LogitsFormat, LogitsPrecision,
};
use crate::knowledge::format::sample::{LogitsRecord, SampleRecord};
use crate::knowledge::samples::{Sample, Samples};
use crate::knowledge::store::writer::{Writer, WriterOptions};
use crate::progress::ProgressMode;
use crate::teacher::fingerprint::fingerprint;
use crate::teacher::frozen::Frozen;

/// What to record, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordOptions {
    /// Where the teacher runs.
    pub device: Device,
    /// Samples at a time, 128 by default. With one shard, that is what memory is needed for.
    pub batch_size: usize,
    /// How logits are kept: all of them in single precision by default.
    pub logits: LogitsFormat,
    /// Which features are kept; none by default.
    pub features: Vec<RecordFeature>,
    /// What is shown: a bar, or nothing.
    pub progress: ProgressMode,
    /// How files are written.
    pub writer: WriterOptions,
}

/// A feature to record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordFeature {
    /// Its name in the teacher's [`Outputs`].
    pub name: String,
    /// The numbers it is kept in.
    pub precision: FeaturePrecision,
    /// Whether its mean over tokens or places is kept instead of all of it.
    pub is_pooled: bool,
}

impl RecordOptions {
    /// All logits in single precision, no features.
    pub fn new(device: Device) -> Self {
        Self {
            device: device.inner(),
            batch_size: 128,
            logits: LogitsFormat::Dense {
                precision: LogitsPrecision::F32,
            },
            features: Vec::new(),
            progress: ProgressMode::default(),
            writer: WriterOptions::default(),
        }
    }

    /// Sets how logits are kept.
    #[must_use]
    pub fn with_logits(mut self, logits: LogitsFormat) -> Self {
        self.logits = logits;
        self
    }

    /// Adds a feature, kept whole.
    #[must_use]
    pub fn with_feature(self, name: impl Into<String>, precision: FeaturePrecision) -> Self {
        self.and_feature(name.into(), precision, false)
    }

    /// Adds a feature, of which the mean over tokens or places is kept, `[D]` or `[C]`.
    #[must_use]
    pub fn with_pooled_feature(self, name: impl Into<String>, precision: FeaturePrecision) -> Self {
        self.and_feature(name.into(), precision, true)
    }

    fn and_feature(mut self, name: String, precision: FeaturePrecision, is_pooled: bool) -> Self {
        self.features.push(RecordFeature {
            name,
            precision,
            is_pooled,
        });
        self
    }

    /// Sets how many samples are run at a time.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets what is shown.
    #[must_use]
    pub fn with_progress(mut self, progress: ProgressMode) -> Self {
        self.progress = progress;
        self
    }
}

/// What a recording came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recording {
    /// Samples in the store, each view counted.
    pub samples: u64,
    /// Of these, the ones that an earlier recording had left.
    pub resumed: u64,
}

/// Runs a teacher over all samples once and writes what it says into a directory.
///
/// A recording that was interrupted, at whatever moment, goes on after the last file that is whole; the
/// samples before it are compared, not run again. Rows that a batch's mask leaves out of sequences are not
/// recorded.
///
/// # Errors
///
/// [`Error::EmptyDataset`] without samples, [`Error::MissingFeature`] if the teacher does not give a feature,
/// [`Error::KnowledgeMismatch`] if the directory holds other knowledge or the data have changed since,
/// [`Error::Dataset`] if the data cannot be read, and what goes wrong with files and devices.
///
/// # Example
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::knowledge::{KnowledgeBatcher, RecordOptions, Samples, Store, record};
/// use burn_distill::{DistillBatch, DistillData, Distillable, Outputs, ProgressMode, Recorded, batch_fn};
/// # use burn::module::Module;
/// # #[derive(Module, Debug)]
/// # struct Net { layer: Linear }
/// # impl Distillable<Tensor<2>> for Net {
/// #     fn outputs(&self, x: Tensor<2>) -> Outputs { Outputs::new(self.layer.forward(x)) }
/// # }
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path();
/// let device = Device::flex();
/// let teacher = Net { layer: LinearConfig::new(2, 3).init(&device) };
/// let samples = Samples::new(InMemDataset::new(vec![[0.0f32, 1.0], [1.0, 0.0]]));
/// let batcher = batch_fn(|items: Vec<[f32; 2]>, device: &Device| {
///     let data = TensorData::new(items.concat(), [items.len(), 2]);
///     DistillBatch::new(Tensor::<2>::from_data(data, device))
/// });
/// let options = RecordOptions::new(device).with_progress(ProgressMode::Silent);
/// let recording = record(&teacher, &samples, &batcher, directory, &options)?;
/// assert_eq!(recording.samples, 2);
///
/// // From here on without the teacher, as often as you like.
/// let store = Store::open(directory)?;
/// let teacher = Recorded::new(&store);
/// let data = DistillData::new(samples.with_knowledge(&store), KnowledgeBatcher::new(batcher));
/// # let _ = (teacher, data);
/// # Ok::<(), burn_distill::Error>(())
/// ```
pub fn record<T, I, Item, B>(
    teacher: &T,
    samples: &Samples<Item>,
    batcher: &B,
    directory: impl AsRef<Path>,
    options: &RecordOptions,
) -> Result<Recording>
where
    T: Distillable<I>,
    I: Module + 'static,
    Item: Send + Sync + 'static,
    B: Batcher<Item, DistillBatch<I>>,
{
    if samples.len() == 0 {
        return Err(Error::EmptyDataset { what: "recorded" });
    }
    let device = &options.device;
    check_device(device)?;
    let digest = fingerprint(teacher);
    let teacher = Frozen::new(teacher.clone()).fork(device);
    let run = |chunk: &[usize]| -> Result<Answered> {
        let (keys, items) = unzip(read(samples, chunk)?);
        Answered::new(&teacher, batcher.batch(items, device), keys, options)
    };

    let indices: Vec<usize> = (0..samples.len()).collect();
    let size = options.batch_size.max(1);
    // What the header has to say shows in the first batch.
    let first = run(&indices[..size.min(indices.len())])?;
    let header = Header {
        teacher: digest,
        classes: first.classes,
        logits: options.logits,
        features: first.formats.clone(),
        views: samples.views(),
    };
    let directory = directory.as_ref();
    let writer = options.writer.clone();
    let mut writer = Writer::create_or_resume_with(directory, &header, writer)?;
    let resumed = writer.recorded();
    let given = indices.len() as u64;
    if given < resumed || (writer.is_complete() && given != resumed) {
        return Err(Error::KnowledgeMismatch {
            directory: directory.into(),
            what: "samples".into(),
            recorded: resumed.to_string(),
            given: given.to_string(),
        });
    }
    let done = resumed as usize;
    let bar = match options.progress {
        ProgressMode::Silent => ProgressBar::hidden(),
        _ => ProgressBar::new(indices.len() as u64),
    };
    for chunk in indices[..done].chunks(size) {
        let samples = read(samples, chunk)?;
        let keys: Vec<_> = samples.iter().map(|s| (s.key, s.seed)).collect();
        writer.expect(&keys)?;
        bar.inc(chunk.len() as u64);
    }
    let mut first = Some(first).filter(|_| done == 0);
    for chunk in indices[done..].chunks(size) {
        let answered = first.take().map_or_else(|| run(chunk), Ok)?;
        answered.write(&mut writer)?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    writer.finish()?;
    Ok(Recording {
        samples: given,
        resumed,
    })
}

type Keyed = (super::Key, u64);

fn read<Item: Send + Sync>(samples: &Samples<Item>, chunk: &[usize]) -> Result<Vec<Sample<Item>>> {
    samples
        .get_many(chunk.to_vec())
        .map_err(|error| Error::Dataset {
            what: "recorded",
            message: error.to_string(),
        })
}

fn unzip<Item>(samples: Vec<Sample<Item>>) -> (Vec<Keyed>, Vec<Item>) {
    let samples = samples.into_iter();
    samples.map(|s| ((s.key, s.seed), s.item)).unzip()
}

/// What a teacher said of a batch, on the host.
struct Answered {
    keys: Vec<Keyed>,
    classes: usize,
    /// `[rows, classes]`
    logits: Vec<f32>,
    /// The rows of each sample that are recorded, as places in the batch.
    rows: Vec<Vec<usize>>,
    formats: Vec<FeatureFormat>,
    features: Vec<Vec<f32>>,
}

impl Answered {
    fn new<T, I>(
        teacher: &Frozen<T>,
        batch: DistillBatch<I>,
        keys: Vec<Keyed>,
        options: &RecordOptions,
    ) -> Result<Self>
    where
        T: Distillable<I>,
        I: Module,
    {
        let outputs = teacher.teach(&batch)?;
        let [rows, classes] = outputs.logits.dims();
        let samples = keys.len();
        if rows % samples != 0 {
            return Err(Error::BatchMismatch {
                what: "the batch to record",
                side: Side::Teacher,
                expected: rows,
                found: samples,
            });
        }
        let tokens = rows / samples;
        let mask = batch
            .mask
            .map(|mask| mask.into_data().iter::<bool>().collect());
        let mask: Option<Vec<bool>> = mask.filter(|_| tokens > 1);
        let counts = |place: &usize| mask.as_ref().is_none_or(|mask| mask[*place]);
        let rows: Vec<Vec<usize>> = (0..samples)
            .map(|n| (n * tokens..(n + 1) * tokens).filter(counts).collect())
            .collect();
        let some_count = mask.is_some().then_some((tokens, &rows[..]));
        let (mut formats, mut features) = (Vec::new(), Vec::new());
        for feature in &options.features {
            let (format, values) = kept(&outputs, feature, some_count)?;
            formats.push(format);
            features.push(values);
        }
        Ok(Self {
            keys,
            classes,
            logits: numbers(outputs.logits),
            rows,
            formats,
            features,
        })
    }

    fn write(self, writer: &mut Writer) -> Result<()> {
        let samples = self.keys.len();
        for (n, (key, seed)) in self.keys.iter().enumerate() {
            let rows = &self.rows[n];
            let logits = gather(&self.logits, rows, self.classes);
            let features: Vec<Vec<f32>> = (self.formats.iter().zip(&self.features))
                .map(|(format, values)| match format.varies {
                    true => gather(values, rows, format.shape.iter().product()),
                    false => {
                        let size = values.len() / samples;
                        values[n * size..(n + 1) * size].to_vec()
                    }
                })
                .collect();
            let features: Vec<&[f32]> = features.iter().map(Vec::as_slice).collect();
            writer.write(&SampleRecord {
                id: key.id,
                view: key.view,
                seed: *seed,
                rows: rows.len(),
                logits: LogitsRecord::Full(&logits),
                features: &features,
            })?;
        }
        Ok(())
    }
}

/// Some rows of a matrix.
fn gather(values: &[f32], rows: &[usize], width: usize) -> Vec<f32> {
    let row = |row: &usize| &values[row * width..(row + 1) * width];
    rows.iter().flat_map(row).copied().collect()
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// The mean over the rows of each sample; zero where there is none.
fn means(values: &[f32], rows: &[Vec<usize>], width: usize) -> Vec<f32> {
    let mean = |rows: &Vec<usize>| {
        let mut sums = vec![0.0; width];
        for row in rows {
            let row = &values[row * width..(row + 1) * width];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let count = rows.len().max(1) as f32;
        sums.into_iter()
            .map(move |sum| sum / count)
            .collect::<Vec<_>>()
    };
    rows.iter().flat_map(mean).collect()
}

/// A feature as it is kept, and its form. Where a mask leaves out tokens, with how many there are and the
/// rows that count.
fn kept(
    outputs: &Outputs,
    feature: &RecordFeature,
    some_count: Option<(usize, &[Vec<usize>])>,
) -> Result<(FeatureFormat, Vec<f32>)> {
    let found = outputs.feature(&feature.name);
    let found = found.ok_or_else(|| Error::MissingFeature {
        term: "record".into(),
        name: feature.name.clone(),
        side: Side::Teacher,
        available: outputs.feature_names(),
    })?;
    let (shape, values, varies) = match (found.clone(), feature.is_pooled) {
        (Feature::Rank2(t), _) => (t.dims()[1..].to_vec(), numbers(t), false),
        (Feature::Rank3(t), true) => {
            let [_, own, width] = t.dims();
            let pooled = match some_count.filter(|(tokens, _)| *tokens == own) {
                Some((_, rows)) => means(&numbers(t), rows, width),
                None => numbers(t.mean_dim(1)),
            };
            (vec![width], pooled, false)
        }
        (Feature::Rank3(t), false) => {
            let [_, own, width] = t.dims();
            match some_count.is_some_and(|(tokens, _)| tokens == own) {
                true => (vec![width], numbers(t), true),
                false => (vec![own, width], numbers(t), false),
            }
        }
        (Feature::Rank4(t), true) => {
            let pooled: Tensor<2> = t.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2);
            (pooled.dims()[1..].to_vec(), numbers(pooled), false)
        }
        (Feature::Rank4(t), false) => (t.dims()[1..].to_vec(), numbers(t), false),
    };
    let format = FeatureFormat {
        name: feature.name.clone(),
        shape,
        varies,
        precision: feature.precision,
    };
    Ok((format, values))
}
