//! The samples of one shard before they are a file: one column of bytes per tensor.
//!
//! ```text
//! ids          U64 [samples, 2]      low and high half of each id
//! views        U32 [samples]
//! seeds        U64 [samples]
//! row_ends     U32 [samples]         rows of this sample and of those before it
//! logits       F32, F16 or BF16 [rows, classes], or U8 [bytes]: packed rows, see `sparse`
//! logit_ends   U32 [samples]         bytes up to the end of this sample; packed rows only
//! value/NAME   F32, F16 or I8 [samples, shape], or [sum of lengths, shape] where an axis varies
//! scale/NAME   F32 [vectors]         of features in one byte a number
//! ends/NAME    U32 [samples]         lengths up to this sample; where an axis varies
//! ```

use safetensors::Dtype;
use xxhash_rust::xxh3::Xxh3;

use crate::knowledge::format::form::Form;
use crate::knowledge::format::header::{LogitsFormat, LogitsPrecision};
use crate::knowledge::format::numbers;
use crate::knowledge::format::ranks::Ranks;
use crate::knowledge::format::reduce::{Random, draw};
use crate::knowledge::format::sample::{LogitsRecord, SampleRecord};
use crate::knowledge::format::sparse::Row;
use crate::knowledge::format::tensors::Tensor;
use crate::knowledge::store::feature_column::FeatureColumn;

/// Places in a shard are 32 bits wide.
const MOST_BYTES: usize = u32::MAX as usize;

/// The columns of a shard, and what is used again from row to row.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) samples: usize,
    pub(crate) rows: usize,
    ids: Vec<u8>,
    views: Vec<u8>,
    seeds: Vec<u8>,
    row_ends: Vec<u8>,
    logits: Vec<u8>,
    logit_ends: Vec<u8>,
    features: Vec<FeatureColumn>,
    keys: KeyDigest,
    row: Row,
    pairs: Vec<(u32, u32)>,
}

/// The packed rows of a shard in another numbering of the classes.
#[derive(Debug)]
pub(crate) struct Renumbered {
    logits: Vec<u8>,
    logit_ends: Vec<u8>,
}

impl Renumbered {
    pub(crate) fn bytes(&self) -> usize {
        self.logits.len()
    }
}

/// A digest of the keys of a shard in their order: ids, views and seeds.
#[derive(Default)]
pub(crate) struct KeyDigest(Box<Xxh3>);

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl KeyDigest {
    pub(crate) fn add(&mut self, id: u128, view: u32, seed: u64) {
        self.0.update(&id.to_le_bytes());
        self.0.update(&view.to_le_bytes());
        self.0.update(&seed.to_le_bytes());
    }

    pub(crate) fn text(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

impl Columns {
    /// Forgets all samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        (self.samples, self.rows) = (0, 0);
        for column in [
            &mut self.ids,
            &mut self.views,
            &mut self.seeds,
            &mut self.row_ends,
            &mut self.logits,
            &mut self.logit_ends,
        ] {
            column.clear();
        }
        for feature in &mut self.features {
            feature.clear();
        }
        self.keys = KeyDigest::default();
    }

    /// The bytes of all samples.
    pub(crate) fn bytes(&self) -> usize {
        let features: usize = self.features.iter().map(FeatureColumn::bytes).sum();
        // Id, view, seed and two ends.
        self.samples * 36 + self.logits.len() + features
    }

    /// Appends a sample, or nothing if it does not have the form.
    pub(crate) fn push(
        &mut self,
        sample: &SampleRecord,
        form: &Form,
        ranks: Option<&Ranks>,
    ) -> Result<(), String> {
        self.features
            .resize_with(form.header.features.len(), Default::default);
        let logits = self.logits.len();
        let marks: Vec<_> = self.features.iter().map(FeatureColumn::mark).collect();
        let pushed = self
            .push_logits(sample, form, ranks)
            .and_then(|()| self.push_features(sample, form))
            .and_then(|()| {
                let most = [self.logits.len(), self.rows + sample.rows];
                let features = self.features.iter().map(FeatureColumn::bytes);
                match most.into_iter().chain(features).max() {
                    Some(most) if most > MOST_BYTES => {
                        Err("a shard with it would have more than 4 GiB".into())
                    }
                    _ => Ok(()),
                }
            });
        if let Err(reason) = pushed {
            self.logits.truncate(logits);
            for (feature, mark) in self.features.iter_mut().zip(marks) {
                feature.back_to(mark);
            }
            return Err(reason);
        }

        self.samples += 1;
        self.rows += sample.rows;
        self.ids.extend(sample.key.id.0.to_le_bytes());
        self.views.extend(sample.key.view.to_le_bytes());
        self.seeds.extend(sample.seed.to_le_bytes());
        self.row_ends.extend((self.rows as u32).to_le_bytes());
        if form.packed.is_some() {
            let end = self.logits.len() as u32;
            self.logit_ends.extend(end.to_le_bytes());
        }
        for (feature, format) in self.features.iter_mut().zip(&form.header.features) {
            feature.end(format);
        }
        self.keys.add(sample.key.id.0, sample.key.view, sample.seed);
        Ok(())
    }

    fn push_logits(
        &mut self,
        sample: &SampleRecord,
        form: &Form,
        ranks: Option<&Ranks>,
    ) -> Result<(), String> {
        let classes = form.header.classes;
        match (form.header.logits, sample.logits) {
            (LogitsFormat::Dense { precision }, LogitsRecord::Full(logits)) => {
                check_full(logits, sample.rows, classes)?;
                let fits = match precision {
                    LogitsPrecision::F32 => {
                        numbers::write_f32(logits, &mut self.logits);
                        true
                    }
                    LogitsPrecision::F16 => numbers::write_f16(logits, &mut self.logits),
                    LogitsPrecision::Bf16 => numbers::write_bf16(logits, &mut self.logits),
                };
                match fits {
                    true => Ok(()),
                    false => Err("a logit is too large for half precision, record f32".into()),
                }
            }
            (
                LogitsFormat::TopK { k, .. },
                LogitsRecord::TopK {
                    indices,
                    log_probs,
                    log_rest,
                },
            ) => {
                check_length("classes", indices.len(), sample.rows, k)?;
                check_length("log-probabilities", log_probs.len(), sample.rows, k)?;
                check_length("masses left out", log_rest.len(), sample.rows, 1)?;
                let rows = indices.chunks_exact(k).zip(log_probs.chunks_exact(k));
                for ((indices, log_probs), log_rest) in rows.zip(log_rest) {
                    let outside =
                        |index: &&i32| usize::try_from(**index).map_or(true, |i| i >= classes);
                    if let Some(index) = indices.iter().find(outside) {
                        return Err(format!("class {index} is none of {classes}"));
                    }
                    let indices = indices.iter().map(|index| *index as u32);
                    self.push_top(indices, log_probs, log_rest.min(0.0), form, ranks)?;
                }
                Ok(())
            }
            (LogitsFormat::Sampled { draws, temperature }, LogitsRecord::Full(logits)) => {
                check_full(logits, sample.rows, classes)?;
                for (at, row) in logits.chunks_exact(classes).enumerate() {
                    let random = Random::new(sample.key, sample.seed, at);
                    let Row {
                        classes, values, ..
                    } = &mut self.row;
                    draw(row, draws, temperature, random, classes, values);
                    self.pairs.clear();
                    self.pairs
                        .extend(classes.iter().copied().zip(values.iter().copied()));
                    self.push_row(f32::NEG_INFINITY, form, ranks)?;
                }
                Ok(())
            }
            (LogitsFormat::TopK { .. }, LogitsRecord::Full(_)) => {
                Err("it has all logits, the store keeps the most likely classes".into())
            }
            (_, LogitsRecord::TopK { .. }) => {
                Err("it has the most likely classes, the store keeps something else".into())
            }
        }
    }

    fn push_top(
        &mut self,
        classes: impl Iterator<Item = u32>,
        log_probs: &[f32],
        log_rest: f32,
        form: &Form,
        ranks: Option<&Ranks>,
    ) -> Result<(), String> {
        let Some(packed) = &form.packed else {
            return Err("the store keeps all logits".into());
        };
        let log_rest = packed
            .values
            .quantise(log_probs, log_rest, &mut self.row.values)?;
        self.pairs.clear();
        self.pairs
            .extend(classes.zip(self.row.values.iter().copied()));
        self.push_row(log_rest, form, ranks)
    }

    /// Packs the row of `pairs`.
    fn push_row(
        &mut self,
        log_rest: f32,
        form: &Form,
        ranks: Option<&Ranks>,
    ) -> Result<(), String> {
        let Some(packed) = &form.packed else {
            return Err("the store keeps all logits".into());
        };
        if let Some(ranks) = ranks {
            for (class, _) in &mut self.pairs {
                *class = ranks.rank(*class);
            }
        }
        self.pairs.sort_unstable();
        if self.pairs.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err("a row names a class twice".into());
        }
        self.row.classes.clear();
        self.row.values.clear();
        for (class, value) in &self.pairs {
            self.row.classes.push(*class);
            self.row.values.push(*value);
        }
        self.row.log_rest = log_rest;
        packed.rows.encode(&self.row, &mut self.logits);
        Ok(())
    }

    fn push_features(&mut self, sample: &SampleRecord, form: &Form) -> Result<(), String> {
        let formats = &form.header.features;
        if sample.features.len() != formats.len() {
            return Err(format!(
                "it has {} features, the store keeps {}",
                sample.features.len(),
                formats.len()
            ));
        }
        let columns = self.features.iter_mut().zip(formats);
        for ((column, format), values) in columns.zip(sample.features) {
            column.push(format, values)?;
        }
        Ok(())
    }

    /// How often each class occurs in the rows.
    pub(crate) fn class_counts(&self, form: &Form) -> Result<Vec<u64>, String> {
        let mut counts = vec![0; form.header.classes];
        if let Some(packed) = &form.packed {
            let (mut rest, mut row) = (self.logits.as_slice(), Row::default());
            while !rest.is_empty() {
                let read = packed.rows.decode(rest, &mut row)?;
                rest = &rest[read..];
                for class in &row.classes {
                    counts[*class as usize] += 1;
                }
            }
        }
        Ok(counts)
    }

    /// All rows in another numbering of the classes.
    pub(crate) fn renumber(&self, form: &Form, ranks: &Ranks) -> Result<Renumbered, String> {
        let Some(packed) = &form.packed else {
            return Err("rows that are not packed name no classes".into());
        };
        let mut renumbered = Self::default();
        let (row_ends, _) = self.row_ends.as_chunks();
        let (mut rest, mut row, mut from) = (self.logits.as_slice(), Row::default(), 0);
        for end in row_ends.iter().map(|end| u32::from_le_bytes(*end)) {
            for _ in from..end {
                let read = packed.rows.decode(rest, &mut row)?;
                rest = &rest[read..];
                let pairs = row.classes.iter().copied().zip(row.values.iter().copied());
                renumbered.pairs.clear();
                renumbered.pairs.extend(pairs);
                renumbered.push_row(row.log_rest, form, Some(ranks))?;
            }
            from = end;
            let bytes = renumbered.logits.len() as u32;
            renumbered.logit_ends.extend(bytes.to_le_bytes());
        }
        Ok(Renumbered {
            logits: renumbered.logits,
            logit_ends: renumbered.logit_ends,
        })
    }

    /// Takes the rows in their new numbers.
    pub(crate) fn adopt(&mut self, renumbered: Renumbered) {
        self.logits = renumbered.logits;
        self.logit_ends = renumbered.logit_ends;
    }

    pub(crate) fn logit_bytes(&self) -> usize {
        self.logits.len()
    }

    pub(crate) fn keys(&self) -> String {
        self.keys.text()
    }

    /// The tensors of the file.
    pub(crate) fn tensors(&self, form: &Form) -> Vec<Tensor<'_>> {
        let n = self.samples;
        let mut all = vec![
            Tensor::new("ids", Dtype::U64, vec![n, 2], &self.ids),
            Tensor::new("views", Dtype::U32, vec![n], &self.views),
            Tensor::new("seeds", Dtype::U64, vec![n], &self.seeds),
            Tensor::new("row_ends", Dtype::U32, vec![n], &self.row_ends),
        ];
        let shape = vec![self.rows, form.header.classes];
        match form.dense {
            Some(dtype) => all.push(Tensor::new("logits", dtype, shape, &self.logits)),
            None => {
                let shape = vec![self.logits.len()];
                all.push(Tensor::new("logits", Dtype::U8, shape, &self.logits));
                let ends = Tensor::new("logit_ends", Dtype::U32, vec![n], &self.logit_ends);
                all.push(ends);
            }
        }
        for (column, format) in self.features.iter().zip(&form.header.features) {
            all.extend(column.tensors(format, n));
        }
        all
    }
}

fn check_length(what: &str, found: usize, rows: usize, width: usize) -> Result<(), String> {
    match rows.checked_mul(width) {
        Some(expected) if expected == found => Ok(()),
        _ => Err(format!(
            "it has {found} {what}, expected {rows} rows of {width}"
        )),
    }
}

fn check_full(logits: &[f32], rows: usize, classes: usize) -> Result<(), String> {
    check_length("logits", logits.len(), rows, classes)?;
    for (at, row) in logits.chunks_exact(classes).enumerate() {
        let (mut sound, mut finite) = (true, false);
        for z in row {
            sound &= !(z.is_nan() || *z == f32::INFINITY);
            finite |= z.is_finite();
        }
        if !(sound && finite) {
            return Err(format!(
                "row {at} of its logits has a NaN, an infinity or nothing finite"
            ));
        }
    }
    Ok(())
}
