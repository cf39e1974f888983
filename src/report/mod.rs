//! The report of a distillation: teacher, supervised baseline and distilled student, side by side.

pub(crate) mod advice;
pub(crate) mod batches;
pub(crate) mod categorical;
pub(crate) mod comparison;
pub(crate) mod heads;
pub(crate) mod html;
pub(crate) mod image;
pub(crate) mod measure;
pub(crate) mod model;
pub(crate) mod predictions;
pub(crate) mod real;
#[allow(clippy::module_inception)] // The type that the room is named for.
pub(crate) mod report;
pub(crate) mod table;

pub use crate::report::comparison::{Comparison, Disagreement, Prediction};
pub use crate::report::measure::measure;
pub use crate::report::model::{HeadReport, ModelReport};
