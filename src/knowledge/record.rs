//! Running a teacher over data once.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use indicatif::ProgressBar;

use crate::attempt::attempt;
use crate::data::dataset::DistillData;
use crate::data::key::{Key, Name};
use crate::device::check_device;
use crate::error::{Error, Result};
use crate::knowledge::capture::Capture;
use crate::knowledge::format::header::{FeaturePrecision, Header};
use crate::knowledge::format::manifest::NAME;
use crate::knowledge::options::RecordOptions;
use crate::knowledge::probe::summary_of_input;
use crate::knowledge::store::Store;
use crate::knowledge::store::writer::Writer;
use crate::progress::ProgressMode;
use crate::teacher::Teacher;
use crate::teacher::full_batch::ask;

/// What a recording came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recording {
    /// Samples of the data, each view counted, all of which are in the store now.
    pub samples: u64,
    /// Of these, the ones that were there before.
    pub resumed: u64,
}

/// Runs a teacher over all samples once and records its outputs in a directory.
///
/// A store grows: samples that are there already, by name, are not run again, whichever data they came
/// with. So an interrupted recording goes on after the last file that is whole, data added later are
/// recorded into the same directory, and training and validation data may share one. Invalid rows of
/// sequences are not recorded. The most likely classes are chosen on the device, a chunk of rows at a
/// time, before anything is read back.
///
/// # Errors
///
/// [`Error::EmptyDataset`] without samples, [`Error::InvalidParameter`] if samples are named by their
/// index alone, [`Error::MissingFeature`] if the teacher does not give a feature,
/// [`Error::KnowledgeMismatch`] if the directory holds the outputs of another teacher, or in another form,
/// or if the same sample is another input now, [`Error::Dataset`] if the data cannot be read, and what goes
/// wrong with files and devices.
///
/// # Example
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::knowledge::{RecordOptions, Store, record};
/// use burn_distill::{DistillBatch, DistillData, Outputs, ProgressMode, Recorded, adapt};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path();
/// let device = Device::flex();
/// let linear: Linear = LinearConfig::new(2, 3).init(&device);
/// let teacher = adapt(linear, |linear: &Linear, x: Tensor<2>| Outputs::new(linear.forward(x)));
/// let data = DistillData::builder(InMemDataset::new(vec![[0.0f32, 1.0], [1.0, 0.0]]))
///     .by_content()
///     .batched(|items: Vec<[f32; 2]>, device: &Device| {
///         let data = TensorData::new(items.concat(), [items.len(), 2]);
///         DistillBatch::new(Tensor::<2>::from_data(data, device))
///     });
/// let options = RecordOptions::new(device).with_progress(ProgressMode::Silent);
/// let recording = record(&teacher, &data, directory, &options)?;
/// assert_eq!((recording.samples, recording.resumed), (2, 0));
///
/// // From here on without the teacher, as often as you like.
/// let store = Store::open(directory)?;
/// let teacher = Recorded::new(&store);
/// let data = data.with_knowledge(&store); // or let a live teacher be read from its recording
/// # let _ = (teacher, data);
/// # Ok::<(), burn_distill::Error>(())
/// ```
pub fn record<T, I, J>(
    teacher: &T,
    data: &DistillData<I, J>,
    directory: impl AsRef<Path>,
    options: &RecordOptions,
) -> Result<Recording>
where
    T: Teacher<J>,
    I: Module + 'static,
    J: Module + 'static,
{
    record_first(usize::MAX, teacher, data, directory.as_ref(), options)
}

/// The same for the first samples alone.
pub(crate) fn record_first<T, I, J>(
    count: usize,
    teacher: &T,
    data: &DistillData<I, J>,
    directory: &Path,
    options: &RecordOptions,
) -> Result<Recording>
where
    T: Teacher<J>,
    I: Module + 'static,
    J: Module + 'static,
{
    let data = &data.clone().without_recorded();
    if data.is_empty() {
        return Err(Error::EmptyDataset { what: "recorded" });
    }
    if !data.is_named() {
        return Err(Error::invalid(
            "the names of the samples to record",
            "their index",
            "`DistillData::builder(dataset).by_content()`, or `.with_ids(..)`",
        ));
    }
    let device = &options.device;
    check_device(device)?;
    let names = names(data, count, options.batch_size)?;
    let before = match directory.join(NAME).exists() {
        true => Some(Store::open_partial(directory)?),
        false => None,
    };
    let info = teacher.info();
    let digest = info.digest().ok_or_else(|| {
        Error::invalid(
            "the fingerprint of the teacher to record",
            "none",
            "a name, as `teacher_fn(name, ..)` and `TeacherInfo::named` give one",
        )
    })?;
    if let Some(store) = &before {
        check_same(store, &digest, data, options)?;
        check_seeds(store, &names)?;
        check_inputs(store, data, &names, device)?;
    }
    let is_there = |name: &Name| {
        before
            .as_ref()
            .is_some_and(|store| store.contains(name.key))
    };
    let mut seen = HashSet::new();
    let todo: Vec<usize> = (0..names.len())
        .filter(|index| !is_there(&names[*index]) && seen.insert(names[*index].key))
        .collect();
    let samples = names.len() as u64;
    let recording = Recording {
        samples,
        resumed: names.iter().filter(|name| is_there(name)).count() as u64,
    };

    // There is nothing to do, also where nothing can be written.
    if todo.is_empty() && before.as_ref().is_some_and(Store::is_complete) {
        return Ok(recording);
    }
    let bar = match options.progress {
        ProgressMode::Silent => ProgressBar::hidden(),
        _ => ProgressBar::new(samples),
    };
    bar.inc(recording.resumed);
    let teacher = teacher.on(device);
    let size = options.batch_size.max(1);
    let mut writer = match &before {
        Some(store) => Some(Writer::create_or_resume(
            directory,
            store.header(),
            options.shard_bytes,
        )?),
        None => None,
    };
    let recorded_as = before.as_ref().map(|store| store.header().logits);
    let mut format = options.logits.or(recorded_as);
    let outcome = todo.chunks(size).try_for_each(|chunk| {
        let full = info.wants_full_batches;
        let (batch, outputs) = attempt("recorded", chunk, || {
            let batch = data.read("recorded", chunk.to_vec(), device, true)?;
            let outputs = ask(teacher.as_ref(), data, &batch, size, device, full)?;
            Ok((batch, outputs))
        })?;
        let captured = Capture::new(&outputs, &batch, options, format)?;
        format = Some(captured.format);
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let header = captured.header(digest.clone(), data.views());
                let mut made = Writer::create_or_resume(directory, &header, options.shard_bytes)?;
                made.probe(
                    batch.names[0].key,
                    summary_of_input(data, chunk[0], device)?,
                );
                writer.insert(made)
            }
        };
        captured.write(&batch.names, writer)?;
        bar.inc(chunk.len() as u64);
        Ok(())
    });
    bar.finish_and_clear();
    if outcome.is_err()
        && let Some(writer) = &mut writer
        // What the teacher said before it failed is kept. Its error is the one to tell.
        && let Err(error) = writer.flush()
    {
        log::warn!("{error}");
    }
    outcome?;
    writer.map_or(Ok(()), Writer::finish)?;
    Ok(recording)
}

/// Fails if a view was recorded that was made from another seed.
fn check_seeds(store: &Store, names: &[Name]) -> Result<()> {
    let seeds: HashMap<Key, u64> = store.keys().collect();
    let recorded = |name: &Name| seeds.get(&name.key).copied();
    let other = names
        .iter()
        .find(|name| recorded(name).is_some_and(|seed| seed != name.seed));
    match other {
        None => Ok(()),
        Some(name) => Err(Error::KnowledgeMismatch {
            directory: store.directory().into(),
            what: format!("the augmentation of sample {} from seed", name.key),
            recorded: recorded(name).unwrap_or_default().to_string(),
            given: name.seed.to_string(),
        }),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Error {
    Error::Dataset {
        what: "recorded",
        message: error.to_string(),
    }
}

/// The names of the first samples, in order.
fn names<I, J>(data: &DistillData<I, J>, count: usize, batch_size: usize) -> Result<Vec<Name>> {
    let indices: Vec<usize> = (0..data.len().min(count)).collect();
    let mut names = Vec::with_capacity(indices.len());
    for chunk in indices.chunks(batch_size.max(1)) {
        names.extend(
            data.names(chunk.to_vec())
                .map_err(|error| unreadable(&error))?,
        );
    }
    Ok(names)
}

/// Fails if a store is of another teacher, or in another form than is asked for.
fn check_same<I, J>(
    store: &Store,
    digest: &str,
    data: &DistillData<I, J>,
    options: &RecordOptions,
) -> Result<()> {
    let recorded = store.header();
    let given = Header {
        teacher: digest.to_string(),
        logits: options.logits.unwrap_or(recorded.logits),
        views: data.views(),
        ..recorded.clone()
    };
    let names = |header: &Header| -> Vec<(String, FeaturePrecision)> {
        let own = header.features.iter();
        let own = own.filter(|f| crate::knowledge::heads::head_of(&f.name).is_none());
        own.map(|f| (f.name.clone(), f.precision)).collect()
    };
    let asked: Vec<_> = (options.features.iter())
        .map(|feature| (feature.name.clone(), feature.precision))
        .collect();
    let features = (names(recorded) != asked).then(|| {
        (
            "features",
            format!("{:?}", names(recorded)),
            format!("{asked:?}"),
        )
    });
    match recorded.difference(&given).or(features) {
        None => Ok(()),
        Some((what, recorded, given)) => Err(Error::KnowledgeMismatch {
            directory: store.directory().into(),
            what: what.into(),
            recorded,
            given,
        }),
    }
}

/// Fails if the first sample that was recorded is another input now: then the batcher changed.
fn check_inputs<I, J: 'static>(
    store: &Store,
    data: &DistillData<I, J>,
    names: &[Name],
    device: &Device,
) -> Result<()> {
    let Some((key, recorded)) = store.probe() else {
        return Ok(());
    };
    let Some(index) = names.iter().position(|name| name.key == key) else {
        return Ok(());
    };
    match summary_of_input(data, index, device)? {
        Some(given) if !given.is_like(recorded) => Err(Error::KnowledgeMismatch {
            directory: store.directory().into(),
            what: format!("the input of sample {key} with"),
            recorded: recorded.to_string(),
            given: given.to_string(),
        }),
        _ => Ok(()),
    }
}
