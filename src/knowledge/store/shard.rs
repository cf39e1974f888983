//! Reading the samples of one shard from the bytes of its file, whatever they are.

use std::ops::Range;

use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};

use crate::data::key::{Key, SampleId};
use crate::knowledge::format::bits::Sound;
use crate::knowledge::format::form::{Form, feature_dtype};
use crate::knowledge::format::header::FeaturePrecision;
use crate::knowledge::format::numbers;
use crate::knowledge::format::ranks::Ranks;
use crate::knowledge::format::rows::{BatchFeature, BatchLogits, Rows};
use crate::knowledge::format::sparse::Row;
use crate::knowledge::store::columns::KeyDigest;

/// Where the columns of a shard are in its file. Every range is within the file and has the length that
/// the form asks for; what the columns say is checked when it is used.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) samples: usize,
    pub(crate) rows: usize,
    ids: Range<usize>,
    views: Range<usize>,
    seeds: Range<usize>,
    row_ends: Range<usize>,
    logits: Range<usize>,
    logit_ends: Range<usize>,
    features: Vec<FeatureLayout>,
}

#[derive(Debug)]
struct FeatureLayout {
    values: Range<usize>,
    /// Empty where there are none.
    scales: Range<usize>,
    /// Empty where no axis varies.
    ends: Range<usize>,
    /// The size of the first axis.
    length: usize,
}

/// What is used again from sample to sample.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    row: Row,
    /// The classes of each sparse row read so far.
    pub(crate) widths: Vec<usize>,
}

/// The list of tensors of a file that may or may not be a shard.
struct File {
    metadata: Metadata,
    /// Where the data begins.
    data: usize,
}

impl File {
    fn parse(bytes: &[u8]) -> Sound<Self> {
        let (head, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| format!("it is no safetensors file: {error}"))?;
        // Eight bytes tell the length of the head.
        let data = 8 + head;
        Ok(Self { metadata, data })
    }

    fn find(&self, name: &str, dtype: Dtype) -> Sound<(Range<usize>, &[usize])> {
        let info = self.metadata.info(name);
        let info = info.ok_or_else(|| format!("it has no tensor {name:?}"))?;
        if info.dtype != dtype {
            return Err(format!("{name:?} is {:?}, expected {dtype:?}", info.dtype).into());
        }
        let (start, end) = info.data_offsets;
        Ok((self.data + start..self.data + end, &info.shape))
    }

    /// A tensor of this shape.
    fn exact(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Sound<Range<usize>> {
        let (range, found) = self.find(name, dtype)?;
        if found != shape {
            return Err(format!("{name:?} has shape {found:?}, expected {shape:?}").into());
        }
        Ok(range)
    }

    /// A tensor of this shape behind a first axis of any size.
    fn open(&self, name: &str, dtype: Dtype, rest: &[usize]) -> Sound<(Range<usize>, usize)> {
        let (range, found) = self.find(name, dtype)?;
        match found.split_first() {
            Some((first, axes)) if axes == rest => Ok((range, *first)),
            _ => Err(format!("{name:?} has shape {found:?}, expected [n] and {rest:?}").into()),
        }
    }
}

impl Layout {
    /// Finds the columns in a file.
    pub(crate) fn parse(bytes: &[u8], form: &Form) -> Sound<Self> {
        let file = File::parse(bytes)?;
        let (ids, samples) = file.open("ids", Dtype::U64, &[2])?;
        let per_sample = |name: &str, dtype| file.exact(name, dtype, &[samples]);
        let views = per_sample("views", Dtype::U32)?;
        let seeds = per_sample("seeds", Dtype::U64)?;
        let row_ends = per_sample("row_ends", Dtype::U32)?;
        let (logits, logit_ends, most) = match (form.dense, &form.packed) {
            (Some(dtype), _) => {
                let (logits, rows) = file.open("logits", dtype, &[form.header.classes])?;
                (logits, 0..0, rows)
            }
            (None, packed) => {
                let (logits, bytes) = file.open("logits", Dtype::U8, &[])?;
                let least = packed.as_ref().map_or(1, |p| p.rows.least_bytes());
                let ends = per_sample("logit_ends", Dtype::U32)?;
                (logits, ends, bytes / least)
            }
        };
        let features = form.header.features.iter().map(|format| {
            let name = format!("value/{}", format.name);
            let dtype = feature_dtype(format.precision);
            let (values, length) = file.open(&name, dtype, &format.shape)?;
            if !format.varies && length != samples {
                return Err(format!("{name:?} has {length} samples, expected {samples}").into());
            }
            let scales = match format.precision {
                FeaturePrecision::Int8 => {
                    let vectors = values.len() / format.vector();
                    file.exact(&format!("scale/{}", format.name), Dtype::F32, &[vectors])?
                }
                _ => 0..0,
            };
            let ends = match format.varies {
                true => per_sample(&format!("ends/{}", format.name), Dtype::U32)?,
                false => 0..0,
            };
            Ok(FeatureLayout {
                values,
                scales,
                ends,
                length,
            })
        });
        let mut layout = Self {
            samples,
            rows: 0,
            ids,
            views,
            seeds,
            row_ends,
            logits,
            logit_ends,
            features: features.collect::<Sound<_>>()?,
        };
        if let Some(last) = samples.checked_sub(1) {
            layout.rows = u32_at(&bytes[layout.row_ends.clone()], last) as usize;
        }
        // So that rows never ask for more memory than there is to read.
        if layout.rows > most || (form.dense.is_some() && layout.rows != most) {
            return Err(format!("it has {} rows, and logits for {most}", layout.rows).into());
        }
        Ok(layout)
    }

    /// The samples and their seeds in the order in which they were recorded.
    pub(crate) fn keys<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = (Key, u64)> + use<'a> {
        let (ids, _) = bytes[self.ids.clone()].as_chunks();
        let (views, _) = bytes[self.views.clone()].as_chunks();
        let (seeds, _) = bytes[self.seeds.clone()].as_chunks();
        let keys = ids.iter().zip(views).map(|(id, view)| Key {
            id: SampleId(u128::from_le_bytes(*id)),
            view: u32::from_le_bytes(*view),
        });
        keys.zip(seeds.iter().map(|seed| u64::from_le_bytes(*seed)))
    }

    /// The digest that a manifest has of the keys.
    pub(crate) fn key_digest(&self, bytes: &[u8]) -> String {
        let mut digest = KeyDigest::default();
        for (key, seed) in self.keys(bytes) {
            digest.add(key.id.0, key.view, seed);
        }
        digest.text()
    }

    /// Appends one sample.
    pub(crate) fn read(
        &self,
        bytes: &[u8],
        sample: usize,
        form: &Form,
        ranks: Option<&Ranks>,
        scratch: &mut Scratch,
        out: &mut Rows,
    ) -> Sound<()> {
        if sample >= self.samples {
            return Err(format!("it has {} samples, not number {sample}", self.samples).into());
        }
        let rows = span(&bytes[self.row_ends.clone()], sample, self.rows)?;
        out.per_sample.push(rows.len());
        let seed = &bytes[self.seeds.clone()][sample * 8..][..8];
        out.seeds
            .push(seed.iter().rev().fold(0, |s, b| s << 8 | u64::from(*b)));

        let logits = &bytes[self.logits.clone()];
        match &mut out.logits {
            BatchLogits::Dense { values, .. } => {
                let width = form.header.classes;
                match form.dense {
                    Some(Dtype::F32) => {
                        let part = &logits[rows.start * width * 4..rows.end * width * 4];
                        numbers::read_f32(part, values);
                    }
                    dtype => {
                        let part = &logits[rows.start * width * 2..rows.end * width * 2];
                        match dtype {
                            Some(Dtype::F16) => numbers::read_f16(part, values),
                            _ => numbers::read_bf16(part, values),
                        }
                    }
                }
            }
            BatchLogits::Sparse {
                indices, log_probs, ..
            } => {
                let part = span(&bytes[self.logit_ends.clone()], sample, logits.len())?;
                let mut rest = &logits[part];
                let Some(packed) = &form.packed else {
                    return Err("its rows are not packed".into());
                };
                for _ in rows {
                    let read = packed.rows.decode(rest, &mut scratch.row)?;
                    rest = &rest[read..];
                    let row = &scratch.row;
                    let classes = row.classes.iter();
                    match ranks {
                        None => indices.extend(classes.map(|class| *class as i32)),
                        Some(ranks) => {
                            indices.extend(classes.map(|rank| ranks.class(*rank) as i32));
                        }
                    }
                    packed
                        .values
                        .log_probs(&row.values, row.log_rest, log_probs)?;
                    scratch.widths.push(row.classes.len());
                }
                if !rest.is_empty() {
                    return Err(format!("sample {sample} has bytes behind its last row").into());
                }
            }
        }

        let formats = self.features.iter().zip(&form.header.features);
        for ((layout, format), out) in formats.zip(&mut out.features) {
            let part = match format.varies {
                true => span(&bytes[layout.ends.clone()], sample, layout.length)?,
                false => sample..sample + 1,
            };
            layout.read(
                bytes,
                part,
                format.size(),
                format.vector(),
                format.precision,
                out,
            );
        }
        Ok(())
    }
}

impl FeatureLayout {
    fn read(
        &self,
        bytes: &[u8],
        part: Range<usize>,
        size: usize,
        vector: usize,
        precision: FeaturePrecision,
        out: &mut BatchFeature,
    ) {
        if let Some(lengths) = &mut out.lengths {
            lengths.push(part.len());
        }
        let values = &bytes[self.values.clone()];
        let cut = |width: usize| &values[part.start * size * width..part.end * size * width];
        match precision {
            FeaturePrecision::F32 => numbers::read_f32(cut(4), &mut out.values),
            FeaturePrecision::F16 => numbers::read_f16(cut(2), &mut out.values),
            FeaturePrecision::Int8 => {
                let scales = &bytes[self.scales.clone()];
                let vectors = size / vector;
                let scales = &scales[part.start * vectors * 4..part.end * vectors * 4];
                numbers::read_i8(cut(1), scales, vector, &mut out.values);
            }
        }
    }
}

fn u32_at(column: &[u8], at: usize) -> u32 {
    let (numbers, _) = column.as_chunks();
    u32::from_le_bytes(numbers[at])
}

/// The part of a sample, from the end of the one before it to its own.
fn span(ends: &[u8], sample: usize, total: usize) -> Sound<Range<usize>> {
    let start = match sample.checked_sub(1) {
        Some(before) => u32_at(ends, before) as usize,
        None => 0,
    };
    let end = u32_at(ends, sample) as usize;
    if start <= end && end <= total {
        Ok(start..end)
    } else {
        Err(format!("sample {sample} is said to be at {start} to {end} of {total}").into())
    }
}
