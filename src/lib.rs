//! Knowledge distillation for [Burn](https://burn.dev): train a small module, the student, to
//! imitate a large one, the teacher, and see what it gained and lost.
//!
//! ```no_run
//! use burn::optim::AdamConfig;
//! use burn::tensor::{Device, Tensor};
//! use burn_distill::loss::{HardLabel, SoftTarget};
//! use burn_distill::{Distillable, DistillData, Distiller, FitConfig};
//!
//! fn distil<L: Distillable<Tensor<2>>, S: Distillable<Tensor<2>>>(
//!     device: Device,
//!     teacher: L,
//!     student: S,
//!     train: DistillData<Tensor<2>>,
//!     valid: DistillData<Tensor<2>>,
//! ) -> burn_distill::Result<S> {
//!     let distilled = Distiller::on(device, teacher, student)
//!         .with(SoftTarget::new(4.0), 0.9)
//!         .with(HardLabel::new(), 0.1)
//!         .fit(&FitConfig::new(30).with_optimizer(AdamConfig::new().init(), 3e-3), train, valid)?;
//!     println!("{}", distilled.report); // teacher and distilled student, side by side
//!     Ok(distilled.student) // an ordinary Burn module, ready for inference
//! }
//! ```
//!
//! # From here
//!
//! 1. Implement [`Distillable`] for your teacher and your student: input in, [`Outputs`] out. A model of
//!    another crate is [adapted](adapt), and a teacher that is not a Burn module is a closure:
//!    [`teacher_fn`].
//! 2. Wrap your dataset and its batcher in [`DistillData`]; batches are [`DistillBatch`]es.
//! 3. Choose the [objective](Objective): [soft targets](loss::SoftTarget) first. In code with
//!    [`Distiller::with`], from a closure with [`loss_fn`](loss::loss_fn), or from a file with
//!    [`Objective::from_file`].
//! 4. [`Distiller::fit`] checks everything on one batch, trains on Burn's own engine as
//!    [`FitConfig`] says, and hands back the student with a [`Report`], as a table or as
//!    [HTML](Report::save_html).
//!
//! The [guide](https://github.com/burn-distill/burn-distill/blob/main/docs/guide.md) goes this way at leisure, and
//! ends with what to do when something does not work.
//!
//! Also here: [`train_supervised`] trains a teacher, [`knowledge`] records a teacher's outputs,
//! [`Transfer`] copies some of its parameters into a student, [`metric`] measures how far the two are
//! apart, [`recipe`] has presets of papers and trainings of several stages, and every loss is a function
//! for a training loop of your own as well.
//!
//! # Feature flags
//!
//! - `flex` (default), `ndarray`: backends on the CPU.
//! - `wgpu`, `vulkan`, `metal`, `webgpu`, `cuda`, `rocm`: backends on the GPU, with Burn's kernel
//!   fusion and autotuning.
//! - `remote`: devices that another process serves; `remote-server` serves them.
//! - `tui`: Burn's terminal dashboard in place of bars and lines.

#![warn(missing_docs, missing_debug_implementations)]
#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod files;
mod schedule;
mod progress;
mod device;
mod attempt;
mod data;
mod ops;
mod transfer;
pub mod loss;
mod teacher;
pub mod knowledge;
mod objective;
pub mod metric;
mod train;
pub mod report;
mod supervised;
mod distiller;
pub mod recipe;

pub use crate::data::batch::DistillBatch;
pub use crate::data::dataset::DistillData;
pub use crate::data::distillable::Distillable;
pub use crate::data::feature::Feature;
pub use crate::data::head::{Head, HeadKind, Logits};
pub use crate::data::output_layer::OutputLayer;
pub use crate::data::outputs::Outputs;
pub use crate::data::samples::DataBuilder;
pub use crate::data::targets::{Target, TargetKind, Targets, Weights};
pub use crate::data::top_k::{MissingProbability, TopK};
pub use crate::device::check_device;
pub use crate::distiller::Distiller;
pub use crate::distiller::distilled::Distilled;
pub use crate::error::{Error, Result, Side};
pub use crate::knowledge::recorded::Recorded;
pub use crate::loss::term::{IntoTerm, Term};
pub use crate::objective::classes::ClassPolicy;
pub use crate::objective::value::ObjectiveValue;
pub use crate::objective::{Objective, ObjectiveModules};
pub use crate::progress::ProgressMode;
pub use crate::report::report::Report;
pub use crate::schedule::Schedule;
pub use crate::supervised::{Trained, train_supervised};
pub use crate::teacher::adapt::{Adapted, adapt};
pub use crate::teacher::any::AnyTeacher;
pub use crate::teacher::cache::TeacherCache;
pub use crate::teacher::closure::{TeacherOutputs, teacher_fn};
pub use crate::teacher::ensemble::{Combine, Ensemble};
pub use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};
pub use crate::train::checkpoint::student::load_student;
pub use crate::train::config::FitConfig;
pub use crate::train::preflight::Preflight;
pub use crate::train::summary::{History, TrainingSummary};
pub use crate::transfer::{Transfer, TransferSummary};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does that of the page on remote devices.
#[cfg(all(doctest, feature = "remote-server"))]
#[doc = include_str!("../docs/remote.md")]
struct Remote;

/// And that of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// And that of the page on what can go wrong.
#[cfg(doctest)]
#[doc = include_str!("../docs/reliability.md")]
struct Reliability;
