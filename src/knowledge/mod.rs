//! Recorded knowledge: the outputs of a teacher, written once and read many times.
//!
//! [`record`](fn@record) runs a teacher over [`Samples`] once. Afterwards
//! [`Samples::with_knowledge`], or [`with_knowledge`](KnowledgeDataset::with_knowledge) of any dataset,
//! and a [`KnowledgeBatcher`] bring what it said along with every batch, and
//! [`Recorded`](crate::Recorded) stands in its place. The documentation of `record` has all of it in code.
//!
//! A [`Store`] is a directory of [safetensors](https://huggingface.co/docs/safetensors) files, which other
//! programs open, and a JSON manifest. Its [`Writer`] takes plain numbers, from whatever teacher:
//!
//! ```
//! use burn_distill::knowledge::*;
//!
//! # fn main() -> burn_distill::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! let header = Header {
//!     teacher: "a digest of its weights".into(),
//!     classes: 4,
//!     logits: LogitsFormat::TopK {
//!         k: 2,
//!         temperature: 1.0,
//!         precision: ValuePrecision::Step(0.1),
//!     },
//!     features: Vec::new(),
//!     views: 1,
//! };
//! let mut writer = Writer::create_or_resume(directory, &header)?;
//! writer.write(&SampleRecord {
//!     id: SampleId(7),
//!     view: 0,
//!     seed: 0,
//!     rows: 1,
//!     logits: LogitsRecord::Full(&[0.0, 3.0, 1.0, 2.0]),
//!     features: &[],
//! })?;
//! writer.finish()?;
//!
//! let rows = Store::open(directory)?.read(&[Key::new(SampleId(7))])?;
//! let BatchLogits::Sparse { indices, .. } = rows.logits else {
//!     panic!("two classes of each row were recorded");
//! };
//! assert_eq!(indices, [1, 3]);
//! # Ok(())
//! # }
//! ```

mod bits;
mod ints;

mod key;
mod header;
mod sample;
mod rows;

mod sparse;
mod values;
mod numbers;
mod reduce;
mod form;

mod files;
mod map;
mod tensors;
mod ranks;

mod feature_column;
mod columns;
mod shard;
mod manifest;

mod store;
mod writer;

mod fingerprint;
mod samples;
mod recall;
mod record;

#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod testing;

pub(crate) use fingerprint::NAMED;
pub use fingerprint::fingerprint;
pub use header::{
    FeatureFormat, FeaturePrecision, Header, LogitsFormat, LogitsPrecision, ValuePrecision,
};
pub use key::{DataFingerprint, Key, SampleId};
pub use recall::{KnowledgeBatcher, KnowledgeDataset, Remembered, WithKnowledge};
pub use record::{RecordFeature, RecordOptions, Recording, record};
pub use rows::{BatchFeature, BatchLogits, Rows};
pub use sample::{LogitsRecord, SampleRecord};
pub use samples::{Sample, Samples, content_id};
pub use store::Store;
pub use writer::{RankChoice, Writer, WriterOptions};
