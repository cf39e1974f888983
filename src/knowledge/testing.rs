//! What the tests of several rooms share: numbers that repeat, samples in every form.

use std::path::Path;

use super::fuzzing::headers;
use super::header::Header;
use super::key::{Key, SampleId};
use super::sample::{LogitsRecord, SampleRecord};
use super::writer::{RankChoice, Writer, WriterOptions};

/// SplitMix64.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Evenly between 0 and 1.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Near the standard normal distribution: the sum of twelve even numbers less six.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// `count` different classes below `classes`, ascending, every set alike.
    pub(super) fn classes(&mut self, count: usize, classes: usize) -> Vec<u32> {
        let mut chosen = std::collections::BTreeSet::new();
        while chosen.len() < count {
            chosen.insert(self.below(classes) as u32);
        }
        chosen.into_iter().collect()
    }
}

/// A sample with its own numbers.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) key: Key,
    pub(super) seed: u64,
    pub(super) rows: usize,
    pub(super) logits: Vec<f32>,
    pub(super) features: Vec<Vec<f32>>,
}

impl Owned {
    /// Sample number `n` for the headers of [`headers`]: 1 to 3 rows, features of 0 to 2 tokens.
    pub(super) fn new(n: u64, header: &Header) -> Self {
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

    pub(super) fn write(&self, writer: &mut Writer) -> crate::Result<()> {
        let features: Vec<&[f32]> = self.features.iter().map(Vec::as_slice).collect();
        writer.write(&SampleRecord {
            id: self.key.id,
            view: self.key.view,
            seed: self.seed,
            rows: self.rows,
            logits: LogitsRecord::Full(&self.logits),
            features: &features,
        })
    }
}

/// Options under which a shard holds few samples.
pub(super) fn small_shards() -> WriterOptions {
    WriterOptions {
        shard_bytes: 300,
        ranks: RankChoice::Auto,
    }
}

/// Records the samples 0 to `count` in small shards, and finishes.
pub(super) fn record(directory: &Path, header: &Header, count: u64) -> Vec<Owned> {
    let mut writer = Writer::create_or_resume_with(directory, header, small_shards()).unwrap();
    let samples: Vec<_> = (0..count).map(|n| Owned::new(n, header)).collect();
    for sample in &samples {
        sample.write(&mut writer).unwrap();
    }
    writer.finish().unwrap();
    samples
}

/// The headers' first: dense in single precision.
pub(super) fn dense() -> Header {
    headers().swap_remove(0)
}
