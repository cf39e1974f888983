//! Recorded knowledge: the outputs of a teacher, written once and read many times.
//!
//! [`record`](fn@record) runs a teacher over [data](crate::DistillData) once. Afterwards
//! [`Recorded`](crate::Recorded) stands in its place, or
//! [`with_knowledge`](crate::DistillData::with_knowledge) brings its outputs along with the data. The
//! documentation of `record` has all of it in code.
//!
//! A [`Store`] is a directory of [safetensors](https://huggingface.co/docs/safetensors) files, which other
//! programs open, and a JSON manifest. Numbers of any other program come into it through a
//! [closure](crate::teacher_fn): all logits, or no more than a top k.
//!
//! ```
//! use burn::data::dataset::InMemDataset;
//! use burn::tensor::{Device, Int, Tensor};
//! use burn_distill::knowledge::{RecordOptions, Store, record};
//! use burn_distill::{DistillBatch, DistillData, Outputs, ProgressMode, TopK, teacher_fn};
//!
//! # fn main() -> burn_distill::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! // Samples and their numbers in a table that another program wrote: the two likeliest of 1000 classes.
//! let samples = vec![(0u32, [0.5f32, 1.0]), (1, [2.0, 0.0])];
//! let table = [([417, 3], [0.75f32, 0.2]), ([3, 99], [0.6, 0.3])];
//! let data = DistillData::builder(InMemDataset::new(samples)).by_content().batched(
//!     |samples: Vec<(u32, [f32; 2])>, device: &Device| {
//!         let (numbers, inputs): (Vec<u32>, Vec<[f32; 2]>) = samples.into_iter().unzip();
//!         let inputs = Tensor::<1>::from_data(&inputs.concat()[..], device).reshape([-1, 2]);
//!         DistillBatch::<Tensor<2>>::new(inputs)
//!             .with_teacher_input(Tensor::<1, Int>::from_data(&numbers[..], device))
//!     },
//! );
//! let teacher = teacher_fn("a table of May 3rd", move |numbers: Tensor<1, Int>| {
//!     let device = numbers.device();
//!     let numbers: Vec<u32> = numbers.into_data().iter().collect();
//!     let rows = numbers.into_iter().map(|number| table[number as usize]);
//!     let (classes, probabilities): (Vec<[i32; 2]>, Vec<[f32; 2]>) = rows.unzip();
//!     let classes = Tensor::<1, Int>::from_data(&classes.concat()[..], &device).reshape([-1, 2]);
//!     let probabilities = Tensor::<1>::from_data(&probabilities.concat()[..], &device);
//!     Outputs::new(TopK::new(classes, probabilities.reshape([-1, 2]).log(), 1000))
//! });
//! let options = RecordOptions::new(Device::flex()).with_progress(ProgressMode::Silent);
//! record(&teacher, &data, directory, &options)?;
//! assert_eq!(Store::open(directory)?.rows(), 2);
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

pub use crate::data::key::{SampleId, content_id};
pub use crate::knowledge::format::header::{
    FeaturePrecision, LogitsFormat, LogitsPrecision, ValuePrecision,
};
pub use crate::knowledge::options::RecordOptions;
pub use crate::knowledge::record::{Recording, record};
pub use crate::knowledge::store::Store;
pub use crate::teacher::fingerprint::fingerprint;
