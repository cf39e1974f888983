//! Recipes: several trainings, students or teachers, and methods as their papers set them up.
//!
//! - [`Preset`]: objectives of published methods;
//! - [`Stages`]: trainings of one student after each other;
//! - [`born_again`]: generations of which each teaches the next;
//! - [`mutual_learning`]: peers that teach each other;
//! - [`Distiller::mean_teacher`](crate::Distiller::mean_teacher): a student that is taught by its average;
//! - [`Ensemble`](crate::Ensemble): several teachers that teach as one.

pub(crate) mod born_again;
pub(crate) mod mutual;
pub(crate) mod preset;
pub(crate) mod stages;

pub use crate::recipe::born_again::born_again;
pub use crate::recipe::mutual::{Mutual, mutual_learning};
pub use crate::recipe::preset::Preset;
pub use crate::recipe::stages::{Stage, Stages};
