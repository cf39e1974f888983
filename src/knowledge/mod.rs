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

pub(crate) mod format;
pub(crate) mod recall;
pub(crate) mod record;
pub(crate) mod recorded;
pub(crate) mod samples;
pub(crate) mod store;

#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
#[path = "tests/kit.rs"]
mod testing;

pub use crate::knowledge::format::header::{
    FeatureFormat, FeaturePrecision, Header, LogitsFormat, LogitsPrecision, ValuePrecision,
};
pub use crate::knowledge::format::key::{DataFingerprint, Key, SampleId};
pub use crate::knowledge::format::rows::{BatchFeature, BatchLogits, Rows};
pub use crate::knowledge::format::sample::{LogitsRecord, SampleRecord};
pub use crate::knowledge::recall::{KnowledgeBatcher, KnowledgeDataset, Remembered, WithKnowledge};
pub use crate::knowledge::record::{RecordFeature, RecordOptions, Recording, record};
pub use crate::knowledge::samples::{Sample, Samples, content_id};
pub use crate::knowledge::store::Store;
pub use crate::knowledge::store::writer::{RankChoice, Writer, WriterOptions};
pub use crate::teacher::fingerprint::fingerprint;
