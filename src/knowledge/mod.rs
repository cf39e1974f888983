//! Recorded knowledge: the outputs of a teacher, written once and read many times.
//!
//! [`record`](fn@record) runs a teacher over [data](crate::DistillData) once. Afterwards
//! [`Recorded`](crate::Recorded) stands in its place, or
//! [`with_knowledge`](crate::DistillData::with_knowledge) brings its outputs along with the data. The
//! documentation of `record` has all of it in code.
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
//!     heads: Vec::new(),
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

pub(crate) mod capture;
pub(crate) mod format;
pub(crate) mod heads;
pub(crate) mod probe;
pub(crate) mod options;
pub(crate) mod record;
pub(crate) mod recorded;
pub(crate) mod store;

#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
#[path = "tests/kit.rs"]
mod testing;

pub use crate::data::key::{Key, SampleId, content_id};
pub use crate::knowledge::format::header::{
    FeatureFormat, FeaturePrecision, Header, LogitsFormat, LogitsPrecision, ValuePrecision,
};
pub use crate::knowledge::format::rows::{BatchLogits, Rows};
pub use crate::knowledge::format::sample::{LogitsRecord, SampleRecord};
pub use crate::knowledge::options::RecordOptions;
pub use crate::knowledge::record::{Recording, record};
pub use crate::knowledge::store::Store;
pub use crate::knowledge::store::writer::{RankChoice, Writer, WriterOptions};
pub use crate::teacher::fingerprint::fingerprint;
