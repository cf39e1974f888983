//! Knowledge on its way back: datasets that bring it along, and batches that it is part of.

use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Serialize;

use crate::data::batch::DistillBatch;
use crate::data::outputs::{Feature, Outputs, Recalled};
use crate::data::top_k::TopK;
use crate::error::{Error, Result};
use crate::knowledge::format::header::{Header, LogitsFormat};
use crate::knowledge::format::rows::{BatchFeature, BatchLogits, Rows};
use crate::knowledge::samples::{Sample, Samples};
use crate::knowledge::store::Store;

/// Any dataset whose items `serde` can write, with what was recorded of them.
pub trait KnowledgeDataset<Item>: Dataset<Item> + Sized + 'static
where
    Item: Serialize + Send + Sync + 'static,
{
    /// The items with what a store has of them, found by their content: a subset, another order or
    /// several epochs cannot mix them up.
    fn with_knowledge(self, store: &Store) -> WithKnowledge<Item> {
        Samples::new(self).with_knowledge(store)
    }
}

impl<Item, D> KnowledgeDataset<Item> for D
where
    Item: Serialize + Send + Sync + 'static,
    D: Dataset<Item> + 'static,
{
}

/// Samples with what a store has of them, a dataset.
///
/// A sample that was not recorded, or whose view was made from another seed, is an error that names it.
/// The knowledge of a batch is read at once, by the thread that prepares the batch.
#[derive(Debug, Clone)]
pub struct WithKnowledge<Item> {
    samples: Samples<Item>,
    store: Store,
}

/// A sample with its knowledge, for a [`KnowledgeBatcher`].
#[derive(Debug, Clone)]
pub struct Remembered<Item> {
    sample: Sample<Item>,
    /// What was read together.
    rows: Arc<Rows>,
    /// The place of this sample in it.
    at: usize,
    store: Store,
}

impl<Item> WithKnowledge<Item> {
    pub(crate) fn new(samples: Samples<Item>, store: Store) -> Self {
        Self { samples, store }
    }
}

impl<Item: Send + Sync + 'static> Dataset<Remembered<Item>> for WithKnowledge<Item> {
    fn get(&self, index: usize) -> Result<Remembered<Item>, DatasetError> {
        let mut one = self.get_many(vec![index])?;
        Ok(one.pop().expect("one for each that is asked for"))
    }

    fn get_many(&self, indexes: Vec<usize>) -> Result<Vec<Remembered<Item>>, DatasetError> {
        let samples = self.samples.get_many(indexes)?;
        let keys: Vec<_> = samples.iter().map(|sample| sample.key).collect();
        let rows = self.store.read(&keys).map_err(DatasetError::new)?;
        for (sample, recorded) in samples.iter().zip(&rows.seeds) {
            if sample.seed != *recorded {
                return Err(DatasetError::new(Error::KnowledgeMismatch {
                    directory: self.store.directory().into(),
                    what: format!("the seed of sample {}", sample.key),
                    recorded: recorded.to_string(),
                    given: sample.seed.to_string(),
                }));
            }
        }
        let rows = Arc::new(rows);
        let all = samples.into_iter().enumerate();
        let remembered = all.map(|(at, sample)| Remembered {
            sample,
            rows: rows.clone(),
            at,
            store: self.store.clone(),
        });
        Ok(remembered.collect())
    }

    fn len(&self) -> usize {
        self.samples.len()
    }
}

/// A batcher for items with their knowledge: the items' own, and the knowledge put into the batch.
#[derive(Debug, Clone)]
pub struct KnowledgeBatcher<B>(B);

impl<B> KnowledgeBatcher<B> {
    /// From the batcher of the items.
    pub fn new(batcher: B) -> Self {
        Self(batcher)
    }
}

impl<B, I, Item> Batcher<Remembered<Item>, DistillBatch<I>> for KnowledgeBatcher<B>
where
    B: Batcher<Item, DistillBatch<I>>,
{
    fn batch(&self, items: Vec<Remembered<Item>>, device: &Device) -> DistillBatch<I> {
        let Some(first) = items.first() else {
            return self.0.batch(Vec::new(), device);
        };
        let (store, whole) = (first.store.clone(), first.rows.clone());
        let is_whole = items.len() == whole.per_sample.len();
        let is_in_order = (items.iter().enumerate())
            .all(|(at, item)| item.at == at && Arc::ptr_eq(&item.rows, &whole));
        let keys: Vec<_> = items.iter().map(|item| item.sample.key).collect();
        let items = items.into_iter().map(|item| item.sample.item).collect();
        let mut batch = self.0.batch(items, device);
        let rows = match is_whole && is_in_order {
            // What was read is handed on without a copy: nobody else has it any more.
            true => Ok(Arc::try_unwrap(whole).unwrap_or_else(|rows| (*rows).clone())),
            // Something between dataset and batcher chose among them.
            false => store.read(&keys),
        };
        let outputs = rows.and_then(|rows| {
            let mask = batch.mask.as_ref();
            let mask = mask.map(|mask| mask.clone().into_data().iter::<bool>().collect());
            Place::new(&rows, mask)?.outputs(rows, store.header(), &device.clone().inner())
        });
        batch.recalled = Some(Recalled {
            outputs,
            teacher: store.header().teacher.as_str().into(),
        });
        batch
    }
}

/// Where recorded rows go in a batch: one behind the other, or to the places that a mask leaves.
struct Place {
    samples: usize,
    /// Rows per sample in the batch.
    tokens: usize,
    /// The places of the recorded rows, where these are not all.
    places: Option<Vec<usize>>,
}

impl Place {
    fn new(rows: &Rows, mask: Option<Vec<bool>>) -> Result<Self> {
        let samples = rows.per_sample.len();
        let longest = rows.per_sample.iter().max().copied().unwrap_or(0);
        let mask = mask.filter(|mask| mask.len() > samples);
        let Some(mask) = mask else {
            return match rows.per_sample.iter().all(|n| *n == longest) {
                true => Ok(Self {
                    samples,
                    tokens: longest,
                    places: None,
                }),
                false => Err(Error::KnowledgeRows {
                    reason: format!(
                        "samples have up to {longest} recorded rows, and no mask says where they go"
                    ),
                }),
            };
        };
        let tokens = mask.len() / samples.max(1);
        for (n, (mask, recorded)) in mask.chunks(tokens.max(1)).zip(&rows.per_sample).enumerate() {
            let counting = mask.iter().filter(|counts| **counts).count();
            if counting != *recorded {
                return Err(Error::KnowledgeRows {
                    reason: format!(
                        "sample {n} has {counting} rows that count, of which {recorded} were recorded"
                    ),
                });
            }
        }
        let places = mask.iter().enumerate().filter(|(_, counts)| **counts);
        Ok(Self {
            samples,
            tokens,
            places: Some(places.map(|(place, _)| place).collect()),
        })
    }

    fn rows(&self) -> usize {
        self.samples * self.tokens
    }

    /// Numbers of rows put where they go, with `blank` in between.
    fn spread<T: Copy>(&self, values: Vec<T>, width: usize, blank: T) -> Vec<T> {
        let Some(places) = &self.places else {
            return values;
        };
        let mut all = vec![blank; self.rows() * width];
        for (row, place) in values.chunks(width.max(1)).zip(places) {
            all[place * width..(place + 1) * width].copy_from_slice(row);
        }
        all
    }

    fn outputs(&self, rows: Rows, header: &Header, device: &Device) -> Result<Outputs> {
        let count = self.rows();
        let float = |values: Vec<f32>, width: usize| {
            Tensor::<2>::from_data(TensorData::new(values, [count, width]), device)
        };
        let mut outputs = match rows.logits {
            BatchLogits::Dense { classes, values } => {
                Outputs::new(float(self.spread(values, classes, 0.0), classes))
            }
            BatchLogits::Sparse {
                width,
                indices,
                log_probs,
                log_rest,
            } => {
                let temperature = match header.logits {
                    LogitsFormat::TopK { temperature, .. }
                    | LogitsFormat::Sampled { temperature, .. } => temperature,
                    LogitsFormat::Dense { .. } => unreachable!("dense logits are not sparse"),
                };
                let indices = self.spread(indices, width, 0);
                let log_probs = self.spread(log_probs, width, f32::NEG_INFINITY);
                let log_rest = self.spread(log_rest, 1, 0.0);
                let sparse = (&indices[..], &log_probs[..], &log_rest[..]);
                let logits = logits_of(sparse, [width, header.classes], temperature as f32);
                let indices = TensorData::new(indices, [count, width]);
                let top_k = TopK::new(
                    Tensor::<2, Int>::from_data(indices, device),
                    float(log_probs, width),
                );
                Outputs::new(float(logits, header.classes))
                    .with_top_k(top_k.at_temperature(temperature))
            }
        };
        for feature in rows.features {
            let name = feature.name.clone();
            outputs = outputs.with_feature(name, self.feature(feature, device)?);
        }
        Ok(outputs)
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
        match shape[..] {
            [d] => Ok(Tensor::<2>::from_data(data(vec![n, d]), device).into()),
            [t, d] => Ok(Tensor::<3>::from_data(data(vec![n, t, d]), device).into()),
            [c, h, w] => Ok(Tensor::<4>::from_data(data(vec![n, c, h, w]), device).into()),
            _ => Err(Error::KnowledgeRows {
                reason: format!(
                    "feature {name:?} has shape {shape:?}, and the losses know 1 to 3 axes"
                ),
            }),
        }
    }
}

/// Logits that agree with what is known of them, `[rows, classes]`: the mass left over is shared evenly by
/// the classes left out.
fn logits_of(
    (indices, log_probs, log_rest): (&[i32], &[f32], &[f32]),
    [width, classes]: [usize; 2],
    temperature: f32,
) -> Vec<f32> {
    let mut logits = Vec::with_capacity(log_rest.len() * classes);
    let rows = indices
        .chunks(width.max(1))
        .zip(log_probs.chunks(width.max(1)));
    for ((indices, log_probs), rest) in rows.zip(log_rest) {
        let known = log_probs.iter().filter(|l| **l > f32::NEG_INFINITY).count();
        let others = (classes - known).max(1) as f32;
        let start = logits.len();
        logits.resize(start + classes, (rest - others.ln()) * temperature);
        for (class, log_prob) in indices.iter().zip(log_probs) {
            if *log_prob > f32::NEG_INFINITY {
                logits[start + *class as usize] = log_prob * temperature;
            }
        }
    }
    logits
}
