//! Recipes: what the field does with several trainings, several students or several teachers, as
//! plain sequences of what [`Distiller`](crate::Distiller) does.
//!
//! | recipe | |
//! |---|---|
//! | [`Preset`] | a method as its paper sets it up |
//! | [`Stages`] | one objective after another, such as hints first and soft targets then |
//! | [`born_again`] | the student of one generation teaches the next |
//! | [`mutual_learning`] | students that teach each other |
//! | [`Distiller::mean_teacher`](crate::Distiller::mean_teacher) | a teacher that is the average of its student |
//! | [`Ensemble`](crate::Ensemble) | several teachers that teach as one |

pub(crate) mod born_again;
pub(crate) mod mutual;
pub(crate) mod preset;
pub(crate) mod stages;

pub use crate::recipe::born_again::born_again;
pub use crate::recipe::mutual::{Mutual, MutualConfig, Peers, mutual_learning};
pub use crate::recipe::preset::Preset;
pub use crate::recipe::stages::{Stage, Stages, StagesConfig};
