//! One packed row: which classes, what about each, and the mass of the others.
//!
//! ```text
//! count    distinct classes less one   only where rows differ in it
//! rest     32 bits                     logarithm of the mass left out, only where there is one
//! classes  a list of small numbers     numbers of classes in ascending order: the first, then gaps
//! values   raw bits, or a list of small numbers
//! ```
//!
//! A row ends at a whole byte and tells its own length.

use crate::knowledge::format::bits::{BitReader, BitWriter, Sound};
use crate::knowledge::format::header::{Header, LogitsFormat, ValuePrecision};
use crate::knowledge::format::ints;

/// What a row says of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// This many bits.
    Raw(u32),
    /// A small number.
    Small,
}

/// What all rows of a store have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFormat {
    classes: u32,
    /// The classes of a row, or the most of them where rows differ.
    entries: usize,
    /// Whether rows differ in how many classes they have; then none is left out either.
    drawn: bool,
    values: Values,
}

/// A row as whole numbers, before they are given a meaning.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    /// Numbers of classes, ascending.
    pub(crate) classes: Vec<u32>,
    /// One number for each of them.
    pub(crate) values: Vec<u32>,
    /// The logarithm of the mass left out.
    pub(crate) log_rest: f32,
}

impl RowFormat {
    /// The format of a header's rows, `None` where logits are dense.
    pub(crate) fn new(header: &Header) -> Option<Self> {
        let (entries, drawn, values) = match header.logits {
            LogitsFormat::Dense { .. } => return None,
            LogitsFormat::TopK { k, precision, .. } => {
                let values = match precision {
                    ValuePrecision::F32 => Values::Raw(32),
                    ValuePrecision::F16 => Values::Raw(16),
                    ValuePrecision::Step(_) => Values::Small,
                };
                (k, false, values)
            }
            LogitsFormat::Sampled { draws, .. } => (draws, true, Values::Small),
        };
        Some(Self {
            classes: header.classes as u32,
            entries,
            drawn,
            values,
        })
    }

    fn count_bits(&self) -> u32 {
        (self.entries as u32 - 1)
            .checked_ilog2()
            .map_or(0, |b| b + 1)
    }

    /// The fewest bytes a row can have.
    pub(crate) fn least_bytes(&self) -> usize {
        if self.drawn { 2 } else { 4 + self.entries / 8 }
    }

    /// Appends a row, whose classes ascend and are in range.
    pub(crate) fn encode(&self, row: &Row, out: &mut Vec<u8>) {
        let mut bits = BitWriter::new(out);
        if self.drawn {
            bits.write(row.classes.len() as u32 - 1, self.count_bits());
        } else {
            bits.write(row.log_rest.to_bits(), 32);
        }
        let mut next = 0;
        let gap = |class: &u32| {
            let gap = class - next;
            next = class + 1;
            gap
        };
        let gaps: Vec<u32> = row.classes.iter().map(gap).collect();
        ints::write(&mut bits, &gaps, 1);
        match self.values {
            Values::Raw(width) => row.values.iter().for_each(|v| bits.write(*v, width)),
            Values::Small => ints::write(&mut bits, &row.values, 0),
        }
        bits.finish();
    }

    /// Reads the row at the beginning of `bytes`, and says how many of them it has.
    pub(crate) fn decode(&self, bytes: &[u8], row: &mut Row) -> Sound<usize> {
        let mut bits = BitReader::new(bytes);
        let entries = if self.drawn {
            row.log_rest = f32::NEG_INFINITY;
            bits.read(self.count_bits())? as usize + 1
        } else {
            row.log_rest = f32::from_bits(bits.read(32)?);
            self.entries
        };
        // Each class has a bit at least: a short row cannot ask for much memory.
        if entries > self.entries || entries > bytes.len() * 8 {
            return Err("a row has more classes than it can".into());
        }
        if row.log_rest.is_nan() || row.log_rest > 0.0 {
            return Err("the mass left out of a row is no probability".into());
        }

        row.classes.resize(entries, 0);
        ints::read(&mut bits, &mut row.classes, 1)?;
        let mut next = 0u64;
        for class in &mut row.classes {
            let place = next + u64::from(*class);
            if place >= u64::from(self.classes) {
                return Err("a row has a class out of range".into());
            }
            *class = place as u32;
            next = place + 1;
        }

        row.values.resize(entries, 0);
        match self.values {
            Values::Raw(width) => {
                for value in &mut row.values {
                    *value = bits.read(width)?;
                }
            }
            Values::Small => ints::read(&mut bits, &mut row.values, 0)?,
        }
        Ok(bits.bytes_read())
    }
}

#[cfg(test)]
#[path = "../tests/sparse.rs"]
mod tests;
