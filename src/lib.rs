//! Knowledge distillation for [Burn](https://burn.dev): train a small module, the student, to
//! imitate a large one, the teacher, and see what it gained and lost.
//!
//! ```no_run
//! # use burn::backend::Flex;
//! # use burn::tensor::Tensor;
//! # use burn::optim::AdamConfig;
//! # use burn_distill::{Distillable, DistillData, Distiller, Error, FitConfig};
//! # use burn_distill::loss::{HardLabelConfig, SoftTargetConfig};
//! # fn example<Large, Small>(teacher: Large, student: Small, train: DistillData<Tensor<2>>, valid: DistillData<Tensor<2>>) -> Result<(), Error>
//! # where Large: Distillable<Tensor<2>>, Small: Distillable<Tensor<2>> {
//! let distilled = Distiller::<Flex, _, _>::new(Default::default(), teacher, student)
//!     .with(SoftTargetConfig::new(4.0), 0.9)
//!     .with(HardLabelConfig::new(), 0.1)
//!     .fit(&FitConfig::new(30).with_optimizer(AdamConfig::new().init(), 3e-3), train, valid)?;
//!
//! println!("{}", distilled.report); // teacher and distilled student, side by side
//! let student = distilled.student; // an ordinary Burn module, ready for inference
//! # Ok(())
//! # }
//! ```
//!
//! # From here
//!
//! 1. Implement [`Distillable`] for your teacher and your student: input in, [`Outputs`] out. A teacher
//!    that is no Burn module is a closure: [`teacher_fn`].
//! 2. Wrap your dataset and its batcher in [`DistillData`]; batches are [`DistillBatch`]es.
//! 3. Choose the [objective](Objective): [soft targets](loss::SoftTarget) first. In code with
//!    [`Distiller::with`], from a closure with [`loss_fn`](loss::loss_fn), or from a file with
//!    [`ObjectiveConfig`].
//! 4. [`Distiller::fit`] checks everything on one batch, trains on Burn's own engine as
//!    [`FitConfig`] says, and hands back the student with a [`Report`], as a table or as
//!    [a page](Report::save_html).
//!
//! The [guide](https://github.com/burn-distill/burn-distill/blob/main/docs/guide.md) goes this way at leisure, and
//! ends with what to do when something does not work.
//!
//! Around it: [`train_on_labels`] trains a teacher, [`teacher_fn`] makes one of a closure,
//! [`knowledge`] keeps what a teacher said, [`Transfer`] copies some of its parameters into
//! a student, [`metric`] measures how far the two are apart, and every loss is also a pure function
//! for a training loop of your own.
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
mod schedule;
mod progress;
mod device;
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
mod distiller;
pub mod recipe;

pub use crate::data::batch::{DistillBatch, Targets};
pub use crate::data::dataset::{BatchFn, DistillData, batch_fn};
pub use crate::data::outputs::{Distillable, Feature, Outputs, Recalled};
pub use crate::device::check_device;
pub use crate::distiller::{Distilled, Distiller, Trained, train_on_labels};
pub use crate::error::{Error, Result, Side};
pub use crate::knowledge::recorded::Recorded;
pub use crate::loss::modules::contrast::Contrast;
pub use crate::loss::modules::projector::{ConvBnRelu, Mlp, Projector, Regressor};
pub use crate::objective::classes::ClassPolicy;
pub use crate::objective::{IntoLoss, LossConfig, Objective, ObjectiveConfig, Term, TermConfig};
pub use crate::progress::ProgressMode;
pub use crate::report::Report;
pub use crate::schedule::{Changing, Schedule};
pub use crate::teacher::closure::{Answer, TeacherFn, teacher_fn};
pub use crate::teacher::ensemble::{Combine, Ensemble};
pub use crate::teacher::frozen::Frozen;
pub use crate::train::config::{FitConfig, OptimizerState};
pub use crate::train::history::History;
pub use crate::train::preflight::{Preflight, PreflightLine};
pub use crate::transfer::{Copied, Mismatch, Transfer, TransferSummary};

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
