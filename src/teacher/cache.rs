//! A teacher that is asked once for each sample, and read afterwards.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::feature::Feature;
use crate::data::head::{Head, Logits};
use crate::data::key::Key;
use crate::data::output_layer::OutputLayer;
use crate::data::outputs::Outputs;
use crate::data::top_k::TopK;
use crate::error::Result;
use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};

/// Where the outputs of a teacher are kept between epochs; see
/// [`FitConfig::with_teacher_cache`](crate::FitConfig::with_teacher_cache).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeacherCache {
    /// In memory, up to a number of bytes. What does not fit is computed again in every epoch.
    Memory(usize),
    /// In a directory: everything is [recorded](fn@crate::knowledge::record) before the first epoch, and is
    /// there for the next training.
    Directory(PathBuf),
}

impl TeacherCache {
    /// A cache in memory, up to a number of bytes.
    pub fn memory(bytes: usize) -> Self {
        Self::Memory(bytes)
    }

    /// A cache in a directory.
    pub fn directory(path: impl AsRef<Path>) -> Self {
        Self::Directory(path.as_ref().into())
    }
}

/// A teacher with a cache in memory.
///
/// It answers with the numbers of the first time that the teacher was asked. They are bit for bit those
/// of the live teacher where every question has as many rows, see
/// [`TeacherInfo::wants_full_batches`].
pub(crate) struct Cached<J> {
    teacher: Arc<dyn Teacher<J>>,
    device: Device,
    /// Shared by the workers of all devices.
    memory: Arc<Memory>,
}

impl<J: 'static> Cached<J> {
    pub fn new(teacher: Arc<dyn Teacher<J>>, device: &Device, limit: usize) -> Self {
        Self {
            teacher,
            device: device.clone().inner(),
            memory: Arc::new(Memory {
                limit,
                kept: Mutex::default(),
            }),
        }
    }
}

impl<J: 'static> Teacher<J> for Cached<J> {
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        if batch.names.is_empty() {
            return self.teacher.ask(batch);
        }
        if let Some(outputs) = self.memory.read(batch, &self.device) {
            return Ok(outputs);
        }
        let outputs = self.teacher.ask(batch)?;
        self.memory.write(batch, &outputs);
        Ok(outputs)
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Self {
            teacher: self.teacher.on(device),
            device: device.clone().inner(),
            memory: self.memory.clone(),
        })
    }

    fn info(&self) -> TeacherInfo {
        self.teacher.info()
    }
}

struct Memory {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    samples: HashMap<(u64, Key), Sample>,
    /// Outputs without rows: their names, and what all samples share.
    template: Option<Outputs>,
    is_full: bool,
}

/// The outputs of one sample, tensor by tensor in the order of [`tensors`].
type Sample = Arc<Vec<TensorData>>;

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic elsewhere leaves whole samples behind.
        self.kept
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The outputs of a batch, if all of its samples are there in one shape.
    fn read<J>(&self, batch: &TeacherBatch<'_, J>, device: &Device) -> Option<Outputs> {
        let (template, samples) = {
            let kept = self.kept();
            let samples = batch.names.iter();
            let found = samples.map(|name| kept.samples.get(&(batch.scope, name.key)).cloned());
            (kept.template.clone()?, found.collect::<Option<Vec<_>>>()?)
        };
        let first = samples.first()?;
        let is_like_first = |sample: &Sample| {
            let mut pairs = sample.iter().zip(first.iter());
            pairs.all(|(a, b)| a.shape() == b.shape())
        };
        if !samples.iter().all(is_like_first) || !fits(batch, first) {
            return None;
        }
        let joined = (0..first.len()).map(|at| {
            let parts: Vec<&TensorData> = samples.iter().map(|sample| &sample[at]).collect();
            join(&parts)
        });
        let mut joined = joined.collect::<Vec<_>>().into_iter();
        Some(filled(template, &mut joined, device))
    }

    fn write<J>(&self, batch: &TeacherBatch<'_, J>, outputs: &Outputs) {
        if self.kept().is_full {
            return;
        }
        let count = batch.names.len();
        let tensors = tensors(outputs);
        if tensors
            .iter()
            .any(|data| !data.shape()[0].is_multiple_of(count))
        {
            return;
        }
        let mut kept = self.kept();
        kept.template
            .get_or_insert_with(|| outputs.clone().map(|h| h.slice(0..0), |f| f));
        for (at, name) in batch.names.iter().enumerate() {
            if kept.samples.contains_key(&(batch.scope, name.key)) {
                continue;
            }
            let sample: Vec<_> = tensors.iter().map(|data| part(data, at, count)).collect();
            let bytes: usize = sample.iter().map(|data| data.as_bytes().len()).sum();
            if kept.bytes + bytes > self.limit {
                kept.is_full = true;
                log::warn!(
                    "the teacher's cache is full with {} samples in {} bytes; the others are computed in every epoch",
                    kept.samples.len(),
                    kept.bytes
                );
                return;
            }
            kept.bytes += bytes;
            kept.samples
                .insert((batch.scope, name.key), Arc::new(sample));
        }
    }
}

/// Whether a sample has as many rows as the batch's weights say: sequences are as long as the longest of
/// their batch.
fn fits<J>(batch: &TeacherBatch<'_, J>, sample: &Sample) -> bool {
    let Some(weights) = batch.weights else {
        return true;
    };
    let rows = weights.rows() / batch.names.len().max(1);
    sample.first().is_none_or(|head| head.shape()[0] == rows)
}

/// All tensors of some outputs on the host: those of heads, in order, then those of features.
fn tensors(outputs: &Outputs) -> Vec<TensorData> {
    let mut all = Vec::new();
    for (_, head) in outputs.heads() {
        match head {
            Head::Categorical(Logits::Dense(x)) | Head::Binary(x) | Head::Continuous(x) => {
                all.push(x.clone().into_data());
            }
            Head::Categorical(Logits::Projected(layer)) => {
                all.push(layer.hidden().clone().into_data());
            }
            Head::Categorical(Logits::TopK(top_k)) => {
                all.push(top_k.indices.clone().into_data());
                all.push(top_k.log_probs.clone().into_data());
            }
        }
    }
    for (_, feature) in outputs.features() {
        all.push(match feature {
            Feature::Rank2(x) => x.clone().into_data(),
            Feature::Rank3(x) => x.clone().into_data(),
            Feature::Rank4(x) => x.clone().into_data(),
        });
    }
    all
}

/// The template with the numbers of a batch.
fn filled(
    template: Outputs,
    data: &mut impl Iterator<Item = TensorData>,
    device: &Device,
) -> Outputs {
    let mut next = || {
        data.next()
            .expect("a sample has every tensor of the outputs")
    };
    let mut outputs = Outputs::features_only();
    for (name, head) in template.heads() {
        let head = match head {
            Head::Categorical(Logits::Dense(_)) => Head::from(tensor::<2>(next(), device)),
            Head::Binary(_) => Head::Binary(tensor(next(), device)),
            Head::Continuous(_) => Head::Continuous(tensor(next(), device)),
            Head::Categorical(Logits::Projected(layer)) => {
                let layer: OutputLayer = layer.clone().moved_to(device);
                Head::from(layer.with_hidden(tensor(next(), device)))
            }
            Head::Categorical(Logits::TopK(top_k)) => {
                let indices = next();
                let dtype = indices.dtype();
                Head::from(TopK {
                    indices: Tensor::<2, Int>::from_data(indices, (device, dtype)),
                    log_probs: tensor(next(), device),
                    ..top_k.clone()
                })
            }
        };
        outputs = outputs.with_head(name, head);
    }
    for (name, feature) in template.features() {
        let feature: Feature = match feature {
            Feature::Rank2(_) => tensor::<2>(next(), device).into(),
            Feature::Rank3(_) => tensor::<3>(next(), device).into(),
            Feature::Rank4(_) => tensor::<4>(next(), device).into(),
        };
        outputs = outputs.with_feature(name, feature);
    }
    outputs
}

fn tensor<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
    let dtype = data.dtype();
    Tensor::from_data(data, (device, dtype))
}

/// The part of sample `at` of `count` along the first axis.
fn part(data: &TensorData, at: usize, count: usize) -> TensorData {
    let bytes = data.as_bytes();
    let size = bytes.len() / count;
    let mut shape = data.shape().to_vec();
    shape[0] /= count;
    TensorData::from_bytes_vec(
        bytes[at * size..(at + 1) * size].to_vec(),
        shape,
        data.dtype(),
    )
}

/// Parts of one shape along the first axis.
fn join(parts: &[&TensorData]) -> TensorData {
    let mut shape = parts[0].shape().to_vec();
    shape[0] *= parts.len();
    let bytes = parts.iter().flat_map(|part| part.as_bytes()).copied();
    TensorData::from_bytes_vec(bytes.collect(), shape, parts[0].dtype())
}
