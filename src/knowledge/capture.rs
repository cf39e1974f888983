//! The outputs of one batch on their way into a store.

use std::collections::HashSet;

use burn::tensor::{DType, Int, Tensor};

use crate::data::batch::DistillBatch;
use crate::data::feature::Feature;
use crate::data::head::{Head, Logits};
use crate::data::key::Name;
use crate::data::outputs::{LOGITS, Outputs};
use crate::data::precision::single;
use crate::data::top_k::{MissingProbability, TopK};
use crate::error::{Error, Result, Side};
use crate::knowledge::format::header::{
    FeatureFormat, FeaturePrecision, Header, LogitsFormat, LogitsPrecision, ValuePrecision,
};
use crate::knowledge::format::sample::{LogitsRecord, SampleRecord};
use crate::knowledge::heads::feature_of;
use crate::knowledge::options::{RecordFeature, RecordOptions};
use crate::knowledge::store::writer::Writer;
use crate::ops::sparse::SparseTeacher;

/// How many logits are read, or chosen from, at a time.
const LOGITS_PER_CHUNK: usize = 1 << 22;

/// The outputs of a batch, on the host, as far as they are recorded.
pub(crate) struct Capture {
    samples: usize,
    /// The heads in their order, unless there is one of the usual name.
    heads: Vec<String>,
    classes: usize,
    /// How the logits are recorded.
    pub format: LogitsFormat,
    logits: Captured,
    /// The rows of each sample that are recorded, as rows of the batch.
    rows: Vec<Vec<usize>>,
    formats: Vec<FeatureFormat>,
    features: Vec<Vec<f32>>,
}

/// Logits of the recorded rows, one after the other.
enum Captured {
    Dense(Vec<f32>),
    TopK {
        k: usize,
        indices: Vec<i32>,
        log_probs: Vec<f32>,
        log_rest: Vec<f32>,
    },
}

impl Capture {
    pub fn new<I, J>(
        outputs: &Outputs,
        batch: &DistillBatch<I, J>,
        options: &RecordOptions,
        format: Option<LogitsFormat>,
    ) -> Result<Self> {
        let samples = batch.names.len();
        let heads: Vec<&str> = outputs.heads().map(|(name, _)| name).collect();
        let main = (outputs.heads()).find_map(|(name, head)| Some((name, head.logits()?)));
        let weights = batch.targets.first_weights();
        let valid: Option<Vec<bool>> = weights.map(|weights| {
            let weights = weights.values().clone().into_data();
            weights.iter::<f32>().map(|weight| weight != 0.0).collect()
        });
        let rows_of = |count: usize| -> Result<Vec<Vec<usize>>> {
            if !count.is_multiple_of(samples) {
                let (what, side) = ("the batch to record", Side::Teacher);
                let name = main.map_or(LOGITS, |(name, _)| name);
                return Err(Error::row_mismatch(what, side, name, [count, 1], samples));
            }
            let tokens = count / samples;
            let mask = valid
                .as_ref()
                .filter(|valid| tokens > 1 && valid.len() == count);
            let is_valid = |row: &usize| mask.is_none_or(|mask| mask[*row]);
            let sample = |n: usize| (n * tokens..(n + 1) * tokens).filter(is_valid).collect();
            Ok((0..samples).map(sample).collect())
        };
        let (mut rows, mut classes) = (vec![Vec::new(); samples], 1);
        let mut logits = Captured::Dense(Vec::new());
        let format = format.unwrap_or_else(|| own_format(main.map(|(_, head)| head)));
        if let Some((_, head)) = main {
            rows = rows_of(head.shape()[0])?;
            classes = head.shape()[1];
            logits = Captured::new(head, &rows.concat(), format)?;
        }
        // What varies from sample to sample has the rows of the logits, where there are logits.
        let tokens = (valid.as_ref())
            .filter(|valid| main.is_none_or(|(_, head)| head.shape()[0] == valid.len()))
            .map(|valid| valid.len() / samples);
        let mask = tokens.filter(|tokens| *tokens > 1);
        let valid_rows = match mask {
            Some(tokens) => Some((tokens, rows_of(tokens * samples)?)),
            None => None,
        };
        let valid_rows = valid_rows
            .as_ref()
            .map(|(tokens, rows)| (*tokens, &rows[..]));
        let (mut formats, mut features) = (Vec::new(), Vec::new());
        for feature in &options.features {
            let (format, values) = captured_feature(outputs, feature, valid_rows)?;
            formats.push(format);
            features.push(values);
        }
        let others = outputs
            .heads()
            .filter(|(name, _)| Some(*name) != main.map(|(name, _)| name));
        for (name, head) in others {
            let (format, values) = captured_head(name, head, samples, valid_rows);
            formats.push(format);
            features.push(values);
        }
        // Rows of variable features are those of the mask, whether or not there are logits.
        let rows = match (main, valid_rows) {
            (None, Some((_, rows))) if formats.iter().any(|f| f.varies) => rows.to_vec(),
            _ => rows,
        };
        Ok(Self {
            samples,
            heads: match heads[..] == [LOGITS] && main.is_some() {
                true => Vec::new(),
                false => heads.into_iter().map(String::from).collect(),
            },
            classes,
            format,
            logits,
            rows,
            formats,
            features,
        })
    }

    pub fn header(&self, teacher: String, views: u32) -> Header {
        Header {
            teacher,
            heads: self.heads.clone(),
            classes: self.classes,
            logits: self.format,
            features: self.formats.clone(),
            views,
        }
    }

    pub fn write(self, names: &[Name], writer: &mut Writer) -> Result<()> {
        let mut first = 0;
        let has_logits = !matches!(&self.logits, Captured::Dense(all) if all.is_empty());
        for (n, name) in names.iter().enumerate() {
            let rows = &self.rows[n];
            let features: Vec<Vec<f32>> = (self.formats.iter().zip(&self.features))
                .map(|(format, values)| match format.varies {
                    true => gather(values, rows, format.shape.iter().product()),
                    false => {
                        let size = values.len() / self.samples;
                        values[n * size..(n + 1) * size].to_vec()
                    }
                })
                .collect();
            let features: Vec<&[f32]> = features.iter().map(Vec::as_slice).collect();
            let count = if has_logits { rows.len() } else { 0 };
            writer.write(&SampleRecord {
                key: name.key,
                seed: name.seed,
                rows: count,
                logits: self.logits.rows(first..first + count, self.classes),
                features: &features,
            })?;
            first += count;
        }
        Ok(())
    }
}

impl Captured {
    /// The logits of some rows, a chunk at a time: what is not recorded is not read back.
    fn new(logits: &Logits, rows: &[usize], format: LogitsFormat) -> Result<Self> {
        let [_, classes] = logits.shape();
        if let Logits::TopK(top_k) = logits {
            check_top_k(top_k, format)?;
        }
        let chunk = (LOGITS_PER_CHUNK / classes.max(1)).max(1);
        let chunks = rows.chunks(chunk).map(|rows| {
            let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
            let rows = Tensor::<1, Int>::from_data(&rows[..], (&logits.device(), DType::I32));
            logits.clone().select(&rows)
        });
        let LogitsFormat::TopK { k, temperature, .. } = format else {
            let dense = chunks.map(|chunk| numbers(chunk.dense()));
            return Ok(Self::Dense(dense.collect::<Vec<_>>().concat()));
        };
        let (mut indices, mut log_probs, mut log_rest) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            let missing = MissingProbability::Bucket;
            let sparse = match chunk {
                Logits::TopK(top_k) => SparseTeacher::from_top_k(top_k, temperature, missing),
                other => SparseTeacher::from_logits(single(other.dense()), k, temperature, missing),
            };
            indices.extend(sparse.indices.into_data().iter::<i32>());
            log_probs.extend(numbers(sparse.log_p));
            let rest = sparse.log_tail.expect("a bucket has a tail");
            // The lowest number stands for no probability at all.
            let rest = numbers(rest).into_iter();
            log_rest.extend(rest.map(|rest| {
                if rest <= f32::MIN {
                    f32::NEG_INFINITY
                } else {
                    rest
                }
            }));
        }
        name_each_once(&mut indices, &log_probs, k);
        Ok(Self::TopK {
            k,
            indices,
            log_probs,
            log_rest,
        })
    }

    fn rows(&self, rows: std::ops::Range<usize>, classes: usize) -> LogitsRecord<'_> {
        let wide = |width: usize| rows.start * width..rows.end * width;
        match self {
            Self::Dense(all) => LogitsRecord::Full(&all[wide(classes)]),
            Self::TopK {
                k,
                indices,
                log_probs,
                log_rest,
            } => LogitsRecord::TopK {
                indices: &indices[wide(*k)],
                log_probs: &log_probs[wide(*k)],
                log_rest: &log_rest[rows],
            },
        }
    }
}

/// Logits as a teacher gives them, in single precision.
fn own_format(logits: Option<&Logits>) -> LogitsFormat {
    match logits {
        Some(Logits::TopK(top_k)) => LogitsFormat::TopK {
            k: top_k.log_probs.dims()[1],
            temperature: top_k.temperature,
            precision: ValuePrecision::F32,
        },
        _ => LogitsFormat::Dense {
            precision: LogitsPrecision::F32,
        },
    }
}

/// Fails unless a teacher's own top k are recorded as they are: made dense, they would be other knowledge.
fn check_top_k(top_k: &TopK, format: LogitsFormat) -> Result<()> {
    let own = top_k.log_probs.dims()[1];
    match format {
        LogitsFormat::TopK { k, temperature, .. }
            if k == own && temperature == top_k.temperature =>
        {
            Ok(())
        }
        other => Err(Error::invalid(
            "RecordOptions.logits",
            format!(
                "{other:?} of a teacher that gives its top {own} at temperature {}",
                top_k.temperature
            ),
            "`LogitsFormat::TopK` with the teacher's own k and temperature",
        )),
    }
}

/// Puts classes that a row does not name yet where it names one again without probability.
fn name_each_once(indices: &mut [i32], log_probs: &[f32], k: usize) {
    for (row, log_probs) in indices.chunks_mut(k).zip(log_probs.chunks(k)) {
        let is_filler = |slot: usize| log_probs[slot] == f32::NEG_INFINITY;
        let mut named: HashSet<i32> = (0..row.len())
            .filter(|slot| !is_filler(*slot))
            .map(|slot| row[slot])
            .collect();
        let mut unnamed = 0;
        for slot in (0..row.len()).filter(|slot| is_filler(*slot)) {
            while !named.insert(row[slot]) {
                row[slot] = unnamed;
                unnamed += 1;
            }
        }
    }
}

/// A head that is recorded among the features, in single precision.
fn captured_head(
    name: &str,
    head: &Head,
    samples: usize,
    valid: Option<(usize, &[Vec<usize>])>,
) -> (FeatureFormat, Vec<f32>) {
    let [rows, width] = head.shape();
    let tokens = rows / samples.max(1);
    let varies = valid.is_some_and(|(valid, _)| valid == tokens);
    let shape = match (varies, tokens) {
        (true, _) | (_, 1) => vec![width],
        _ => vec![tokens, width],
    };
    let format = FeatureFormat {
        name: feature_of(name, head.kind()),
        shape,
        varies,
        precision: FeaturePrecision::F32,
    };
    (format, numbers(head.tensor()))
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

/// A feature as it is recorded, and its form. Where a mask leaves out tokens, `valid` has how many there are
/// and the valid rows.
fn captured_feature(
    outputs: &Outputs,
    feature: &RecordFeature,
    valid: Option<(usize, &[Vec<usize>])>,
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
            let pooled = match valid.filter(|(tokens, _)| *tokens == own) {
                Some((_, rows)) => means(&numbers(t), rows, width),
                None => numbers(t.mean_dim(1)),
            };
            (vec![width], pooled, false)
        }
        (Feature::Rank3(t), false) => {
            let [_, own, width] = t.dims();
            match valid.is_some_and(|(tokens, _)| tokens == own) {
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
