//! How a model was trained, as numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metric::json::{curves, number};

/// How a model was trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingSummary {
    /// The objective, as a formula.
    pub objective: String,
    /// Epochs asked for.
    pub epochs: usize,
    /// The last epoch that was begun.
    pub last_epoch: usize,
    /// The epoch that the student handed back comes from, where the best was asked for.
    #[serde(default)]
    pub best_epoch: Option<usize>,
    /// By what it is the best, such as `validation loss`.
    #[serde(default)]
    pub best_by: Option<String>,
    /// Training samples.
    pub samples: usize,
    /// Samples per step and device.
    pub batch_size: usize,
    /// The base learning rate.
    #[serde(deserialize_with = "number")]
    pub learning_rate: f64,
    /// The seed.
    pub seed: u64,
    /// The device.
    pub device: String,
    /// Wall-clock time of the training itself.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// The epoch of the checkpoint that training went on from.
    pub resumed_from: Option<usize>,
    /// Why training stopped early, if it was asked to.
    pub interrupted: Option<String>,
    /// What deserves a look, such as data that a model cannot learn from as they are batched, or a checkpoint
    /// that was damaged and passed over.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Means per epoch.
    pub history: History,
    /// The version of this crate.
    pub version: String,
    /// The version of Burn that it was built for.
    #[serde(default)]
    pub burn_version: String,
    /// The processor, how many threads it runs at once, and the system.
    #[serde(default)]
    pub hardware: String,
}

/// The mean of each reported number over each epoch.
///
/// Training numbers are means over the epoch while the weights move, in training mode; validation
/// numbers are taken after it, in inference mode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// The first epoch recorded: 1, or the one after the checkpoint that was resumed.
    pub first_epoch: usize,
    /// From `loss`, the name of a term, `agreement` or `accuracy` to one value per epoch.
    #[serde(deserialize_with = "curves")]
    pub train: BTreeMap<String, Vec<f64>>,
    /// The same over the validation set, where there is one.
    #[serde(deserialize_with = "curves")]
    pub valid: BTreeMap<String, Vec<f64>>,
    /// What followed a schedule, as it was at the first step of each epoch: `learning_rate`, and
    /// `TERM weight` and `TERM temperature` of each term that has them.
    #[serde(default, deserialize_with = "curves")]
    pub schedules: BTreeMap<String, Vec<f64>>,
}

impl TrainingSummary {
    /// Whether it was stopped before its end, in words.
    pub(crate) fn stopped(&self) -> Option<String> {
        let reason = self.interrupted.as_ref()?;
        let (last, all) = (self.last_epoch, self.epochs);
        Some(format!("stopped in epoch {last} of {all} ({reason})"))
    }
}
