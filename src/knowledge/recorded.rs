//! A teacher whose outputs were recorded.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::data::dataset::DistillData;
use crate::data::feature::Feature;
use crate::data::head::Head;
use crate::data::key::{Key, Name};
use crate::data::outputs::{LOGITS, Outputs};
use crate::data::recorded::RecordedOutputs;
use crate::data::targets::Weights;
use crate::data::top_k::TopK;
use crate::error::{Error, Result};
use crate::knowledge::format::header::{Header, LogitsFormat};
use crate::knowledge::format::rows::{BatchFeature, BatchLogits, Rows};
use crate::knowledge::heads::head_of;
use crate::knowledge::store::Store;
use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};

/// A teacher whose outputs were [recorded](fn@crate::knowledge::record): it stands in the teacher's place of
/// a [`Distiller`](crate::Distiller), with the same losses, and is read by the names of samples.
///
/// Where all logits were recorded, losses see them. Of [some classes](crate::knowledge::LogitsFormat::TopK)
/// they see a [`TopK`], which soft targets compare as it is. Features are there if they were recorded, and
/// a term that misses one is refused before training.
///
/// In a report it has neither size nor speed.
#[derive(Debug, Clone)]
pub struct Recorded {
    stores: Vec<Store>,
    device: Option<Device>,
}

impl Recorded {
    /// The teacher of a store.
    pub fn new(store: &Store) -> Self {
        Self {
            stores: vec![store.clone()],
            device: None,
        }
    }

    /// The same teacher with another store of its outputs, such as those for validation data.
    ///
    /// # Errors
    ///
    /// [`Error::OtherTeacher`] if the store is of another teacher.
    pub fn and(mut self, store: &Store) -> Result<Self> {
        let (expected, found) = (self.fingerprint(), &store.header().teacher);
        if expected != found {
            return Err(Error::OtherTeacher {
                expected: expected.to_string(),
                found: found.clone(),
            });
        }
        self.stores.push(store.clone());
        Ok(self)
    }

    /// The fingerprint of its weights; see [`fingerprint`](crate::knowledge::fingerprint).
    pub fn fingerprint(&self) -> &str {
        &self.stores[0].header().teacher
    }
}

impl<J: 'static> Teacher<J> for Recorded {
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        // Names of unnamed data are indices, which another store's ids may happen to be.
        if batch.names.is_empty() || batch.scope != 0 {
            return Err(Error::NoKnowledge);
        }
        let device = self.device.clone().unwrap_or_default();
        RecordedOutputs::read(self, batch.names, batch.weights, &device)
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Self {
            stores: self.stores.clone(),
            device: Some(device.clone().inner()),
        })
    }

    fn info(&self) -> TeacherInfo {
        TeacherInfo::named(self.fingerprint())
    }
}

impl<I, J> DistillData<I, J> {
    /// Brings the recorded outputs of the teacher along: a training reads them, by the names of the samples,
    /// instead of running the teacher. Several stores may serve the same data.
    ///
    /// # Example
    ///
    /// See [`record`](fn@crate::knowledge::record).
    #[must_use]
    pub fn with_knowledge(self, store: &Store) -> Self {
        let before = self.recorded().map(|recorded| recorded.as_any());
        let before = before.and_then(|recorded| recorded.downcast_ref::<Recorded>());
        let mut recorded = Recorded::new(store);
        let stores = before.into_iter().flat_map(|before| before.stores.clone());
        recorded.stores.extend(stores);
        self.with_recorded(Arc::new(recorded))
    }
}

impl RecordedOutputs for Recorded {
    fn read(&self, names: &[Name], weights: Option<&Weights>, device: &Device) -> Result<Outputs> {
        let of = |name: &Name| {
            let store = self.stores.iter().find(|store| store.contains(name.key));
            (store.unwrap_or(&self.stores[0]), name.key)
        };
        let samples: Vec<(&Store, Key)> = names.iter().map(of).collect();
        outputs(&samples, names, weights, device)
    }

    fn teachers(&self) -> Vec<&str> {
        let teacher = |store| -> &str { &Store::header(store).teacher };
        self.stores.iter().map(teacher).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What was recorded of these samples, as outputs of a batch.
fn outputs(
    samples: &[(&Store, Key)],
    names: &[Name],
    weights: Option<&Weights>,
    device: &Device,
) -> Result<Outputs> {
    let Some((first, _)) = samples.first() else {
        return Err(Error::NoKnowledge);
    };
    let rows = Store::read_across(samples)?;
    for ((name, recorded), (store, _)) in names.iter().zip(&rows.seeds).zip(samples) {
        if name.seed != *recorded {
            return Err(Error::KnowledgeMismatch {
                directory: store.directory().into(),
                what: format!("the seed of sample {}", name.key),
                recorded: recorded.to_string(),
                given: name.seed.to_string(),
            });
        }
    }
    Layout::new(&rows, weights)?.outputs(rows, first.header(), device)
}

/// Where recorded rows go in a batch: one after the other, or to the rows that weights leave.
struct Layout {
    samples: usize,
    /// Rows per sample in the batch.
    tokens: usize,
    /// The rows of the batch that were recorded, where these are not all.
    rows: Option<Vec<usize>>,
}

impl Layout {
    fn new(recorded: &Rows, weights: Option<&Weights>) -> Result<Self> {
        let samples = recorded.per_sample.len();
        let longest = recorded.per_sample.iter().max().copied().unwrap_or(0);
        let weights = weights.filter(|weights| weights.rows() > samples);
        let is_even = recorded.per_sample.iter().all(|n| *n == longest);
        let Some(weights) = weights else {
            return match is_even {
                true => Ok(Self::whole(samples, longest)),
                false => Err(Error::KnowledgeRows {
                    reason: format!(
                        "samples have up to {longest} recorded rows, and no mask says where they go"
                    ),
                }),
            };
        };
        let valid: Vec<bool> = (weights.values().clone().into_data().iter::<f32>())
            .map(|weight| weight != 0.0)
            .collect();
        let tokens = valid.len() / samples.max(1);
        let count = |valid: &[bool]| valid.iter().filter(|valid| **valid).count();
        let is_masked = (valid.chunks(tokens.max(1)).zip(&recorded.per_sample))
            .all(|(valid, recorded)| count(valid) == *recorded);
        // The weights are those of another head, or leave out what was recorded in full.
        if is_even && !is_masked && [1, tokens].contains(&longest) {
            return Ok(Self::whole(samples, longest));
        }
        if longest > 0 {
            let per_sample = valid.chunks(tokens.max(1)).zip(&recorded.per_sample);
            for (n, (valid, recorded)) in per_sample.enumerate() {
                let count = count(valid);
                if count != *recorded {
                    return Err(Error::KnowledgeRows {
                        reason: format!(
                            "sample {n} has {count} valid rows, of which {recorded} were recorded"
                        ),
                    });
                }
            }
        }
        let rows = valid.iter().enumerate().filter(|(_, valid)| **valid);
        Ok(Self {
            samples,
            tokens,
            rows: Some(rows.map(|(row, _)| row).collect()),
        })
    }

    fn whole(samples: usize, tokens: usize) -> Self {
        Self {
            samples,
            tokens,
            rows: None,
        }
    }

    fn count(&self) -> usize {
        self.samples * self.tokens
    }

    /// Numbers of rows put where they go, with `blank` in between.
    fn spread<T: Copy>(&self, values: Vec<T>, width: usize, blank: T) -> Vec<T> {
        let Some(rows) = &self.rows else {
            return values;
        };
        let mut all = vec![blank; self.count() * width];
        for (values, row) in values.chunks(width.max(1)).zip(rows) {
            all[row * width..(row + 1) * width].copy_from_slice(values);
        }
        all
    }

    fn outputs(&self, rows: Rows, header: &Header, device: &Device) -> Result<Outputs> {
        let mut outputs = Outputs::features_only();
        let mut heads: HashMap<String, Head> = HashMap::new();
        for feature in rows.features {
            let name = feature.name.clone();
            match head_of(&name) {
                Some((name, kind)) => {
                    let width = feature.shape.last().copied().unwrap_or(1);
                    let values = match feature.lengths {
                        Some(_) => self.spread(feature.values, width, 0.0),
                        None => feature.values,
                    };
                    let shape = [values.len() / width, width];
                    let values = TensorData::new(values, shape);
                    let tensor = Tensor::<2>::from_data(values, (device, DType::F32));
                    heads.insert(name.to_string(), kind.head(tensor));
                }
                None => outputs = outputs.with_feature(name, self.feature(feature, device)?),
            }
        }
        let mut logits = rows
            .per_sample
            .iter()
            .any(|rows| *rows > 0)
            .then(|| self.head(rows.logits, header, device));
        let usual = [LOGITS.to_string()];
        let names = match header.heads.is_empty() {
            true => &usual[..],
            false => &header.heads,
        };
        for name in names {
            if let Some(head) = heads.remove(name).or_else(|| logits.take()) {
                outputs = outputs.with_head(name, head);
            }
        }
        Ok(outputs)
    }

    fn head(&self, logits: BatchLogits, header: &Header, device: &Device) -> Head {
        let count = self.count();
        let float = |values: Vec<f32>, width: usize| {
            let values = TensorData::new(values, [count, width]);
            Tensor::<2>::from_data(values, (device, DType::F32))
        };
        match logits {
            BatchLogits::Dense { classes, values } => {
                float(self.spread(values, classes, 0.0), classes).into()
            }
            BatchLogits::Sparse {
                width,
                indices,
                log_probs,
            } => {
                let temperature = match header.logits {
                    LogitsFormat::TopK { temperature, .. }
                    | LogitsFormat::Sampled { temperature, .. } => temperature,
                    LogitsFormat::Dense { .. } => unreachable!("dense logits are not sparse"),
                };
                let indices = self.spread(indices, width, 0);
                let log_probs = self.spread(log_probs, width, f32::NEG_INFINITY);
                let indices = TensorData::new(indices, [count, width]);
                let indices = Tensor::<2, Int>::from_data(indices, (device, DType::I32));
                TopK::new(indices, float(log_probs, width), header.classes)
                    .at_temperature(temperature)
                    .into()
            }
        }
    }

    fn feature(&self, feature: BatchFeature, device: &Device) -> Result<Feature> {
        let BatchFeature {
            name,
            shape,
            lengths,
            values,
        } = feature;
        let (values, shape) = match lengths {
            None => (values, shape),
            Some(_) => {
                let width = shape.iter().product();
                let shape = std::iter::once(self.tokens).chain(shape).collect();
                (self.spread(values, width, 0.0), shape)
            }
        };
        let n = self.samples;
        let data = |dims: Vec<usize>| TensorData::new(values, dims);
        let options = (device, DType::F32);
        match shape[..] {
            [d] => Ok(Tensor::<2>::from_data(data(vec![n, d]), options).into()),
            [t, d] => Ok(Tensor::<3>::from_data(data(vec![n, t, d]), options).into()),
            [c, h, w] => Ok(Tensor::<4>::from_data(data(vec![n, c, h, w]), options).into()),
            _ => Err(Error::KnowledgeRows {
                reason: format!(
                    "feature {name:?} has shape {shape:?}, and the losses know 1 to 3 axes"
                ),
            }),
        }
    }
}

#[cfg(test)]
#[path = "tests/recorded.rs"]
mod tests;
