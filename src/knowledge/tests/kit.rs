//! What the tests of several rooms share: numbers that repeat, samples in every form.

use std::path::Path;

use crate::data::key::{Key, SampleId};
use crate::knowledge::format::header::Header;
use crate::knowledge::format::sample::{LogitsRecord, SampleRecord};
use crate::knowledge::fuzzing::headers;
use crate::knowledge::store::writer::{RankChoice, Writer, WriterOptions};

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

    pub(crate) fn write(&self, writer: &mut Writer) -> crate::error::Result<()> {
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
pub(crate) fn small_shards() -> WriterOptions {
    WriterOptions {
        shard_bytes: 300,
        ranks: RankChoice::Auto,
    }
}

/// Records the samples 0 to `count` in small shards, and finishes.
pub(crate) fn record(directory: &Path, header: &Header, count: u64) -> Vec<Owned> {
    let mut writer = Writer::create_or_resume_with(directory, header, small_shards()).unwrap();
    let samples: Vec<_> = (0..count).map(|n| Owned::new(n, header)).collect();
    for sample in &samples {
        sample.write(&mut writer).unwrap();
    }
    writer.finish().unwrap();
    samples
}

/// The headers' first: dense in single precision.
pub(crate) fn dense() -> Header {
    headers().swap_remove(0)
}
