//! What the tests of several rooms share: numbers that repeat, samples in every form.

use std::path::Path;

use crate::data::key::{Key, SampleId};
use crate::error::Result;
use crate::knowledge::format::header::{Header, LogitsFormat};
use crate::knowledge::format::rows::Rows;
use crate::knowledge::format::sample::{LogitsRecord, SampleRecord};
use crate::knowledge::fuzzing::headers;
use crate::knowledge::store::Store;
use crate::knowledge::store::writer::Writer;

/// SplitMix64.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Evenly between 0 and 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Near the standard normal distribution: the sum of twelve even numbers less six.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// `count` different classes below `classes`, ascending, every set alike.
    pub(crate) fn classes(&mut self, count: usize, classes: usize) -> Vec<u32> {
        let mut chosen = std::collections::BTreeSet::new();
        while chosen.len() < count {
            chosen.insert(self.below(classes) as u32);
        }
        chosen.into_iter().collect()
    }
}

/// A sample with its own numbers.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) key: Key,
    pub(crate) seed: u64,
    pub(crate) rows: usize,
    pub(crate) logits: Vec<f32>,
    pub(crate) features: Vec<Vec<f32>>,
}

impl Owned {
    /// Sample number `n` for the headers of [`headers`]: 1 to 3 rows, features of 0 to 2 tokens.
    pub(crate) fn new(n: u64, header: &Header) -> Self {
        let mut numbers = Numbers(n);
        let rows = 1 + numbers.below(3);
        let mut take =
            |count: usize| -> Vec<f32> { (0..count).map(|_| numbers.normal() as f32).collect() };
        let logits = take(rows * header.classes);
        let tokens = n as usize % 3;
        let size = |varies: bool, size: usize| if varies { tokens * size } else { size };
        let features = header.features.iter();
        Self {
            key: Key::new(SampleId(n.into())),
            seed: n * 3,
            rows,
            logits,
            features: features.map(|f| take(size(f.varies, f.size()))).collect(),
        }
    }

    pub(crate) fn write(&self, header: &Header, writer: &mut Writer) -> Result<()> {
        let features: Vec<&[f32]> = self.features.iter().map(Vec::as_slice).collect();
        let (mut indices, mut log_probs, mut log_rest) = (Vec::new(), Vec::new(), Vec::new());
        let logits = match header.logits {
            LogitsFormat::TopK { k, temperature, .. } => {
                for row in self.logits.chunks(header.classes) {
                    let exact = exact_log_probs(row, temperature);
                    let mut order: Vec<i32> = (0..row.len() as i32).collect();
                    order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]));
                    let log_prob = |class: &i32| exact[*class as usize];
                    let (top, others) = order.split_at(k);
                    log_probs.extend(top.iter().map(|class| log_prob(class) as f32));
                    let rest: f64 = others.iter().map(|class| log_prob(class).exp()).sum();
                    log_rest.push(rest.ln() as f32);
                    indices.extend_from_slice(top);
                }
                LogitsRecord::TopK {
                    indices: &indices,
                    log_probs: &log_probs,
                    log_rest: &log_rest,
                }
            }
            LogitsFormat::Dense { .. } | LogitsFormat::Sampled { .. } => {
                LogitsRecord::Full(&self.logits)
            }
        };
        writer.write(&SampleRecord {
            key: self.key,
            seed: self.seed,
            rows: self.rows,
            logits,
            features: &features,
        })
    }
}

/// The logarithms of the probabilities of one row.
pub(crate) fn exact_log_probs(logits: &[f32], temperature: f64) -> Vec<f64> {
    let scaled = |z: &f32| f64::from(*z) / temperature;
    let sum: f64 = logits.iter().map(|z| scaled(z).exp()).sum();
    logits.iter().map(|z| scaled(z) - sum.ln()).collect()
}

/// The bytes of a shard that holds few samples.
pub(crate) const SMALL: usize = 300;
/// The bytes of a shard that holds all of them.
pub(crate) const LARGE: usize = 1 << 20;

impl Store {
    /// What is recorded of these samples, at least one.
    pub(crate) fn read(&self, keys: &[Key]) -> Result<Rows> {
        let samples: Vec<_> = keys.iter().map(|key| (self, *key)).collect();
        Self::read_across(&samples)
    }
}

/// Records the samples 0 to `count` in small shards, and finishes.
pub(crate) fn record(directory: &Path, header: &Header, count: u64) -> Vec<Owned> {
    let mut writer = Writer::create_or_resume(directory, header, SMALL).unwrap();
    let samples: Vec<_> = (0..count).map(|n| Owned::new(n, header)).collect();
    for sample in &samples {
        sample.write(header, &mut writer).unwrap();
    }
    writer.finish().unwrap();
    samples
}

/// The headers' first: dense in single precision.
pub(crate) fn dense() -> Header {
    headers().swap_remove(0)
}
