//! What a training is, as far as its course depends on it: what a checkpoint belongs to.

use std::collections::HashMap;

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::data::dataset::DistillData;
use crate::error::{Error, Result};
use crate::knowledge::format::input::InputSummary;
use crate::knowledge::probe::summary;
use crate::loss::known::KnownLoss;
use crate::objective::Objective;

/// Settings by name, as text to be equal and as numbers to be close.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    texts: Vec<(String, String)>,
    numbers: Vec<(String, InputSummary)>,
}

/// What differs, and both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub what: String,
    pub recorded: String,
    pub given: String,
}

impl Settings {
    pub fn text(&mut self, name: impl Into<String>, value: impl std::fmt::Display) {
        self.texts.push((name.into(), value.to_string()));
    }

    pub fn numbers(&mut self, numbers: impl IntoIterator<Item = (String, InputSummary)>) {
        self.numbers.extend(numbers);
    }

    /// The first setting that is another one now.
    pub fn difference(&self, given: &Self) -> Option<Difference> {
        let text = different(&self.texts, &given.texts, PartialEq::eq);
        text.or_else(|| different(&self.numbers, &given.numbers, InputSummary::is_like))
    }
}

fn different<T: std::fmt::Display>(
    recorded: &[(String, T)],
    given: &[(String, T)],
    is_same: impl Fn(&T, &T) -> bool,
) -> Option<Difference> {
    let (ours, theirs): (HashMap<_, _>, HashMap<_, _>) = (by_name(recorded), by_name(given));
    let shown = |side: Option<&&T>| side.map_or("none".to_string(), |side| short(*side));
    for (name, _) in recorded.iter().chain(given) {
        match (ours.get(name), theirs.get(name)) {
            (Some(recorded), Some(given)) if is_same(recorded, given) => {}
            (recorded, given) => {
                return Some(Difference {
                    what: name.clone(),
                    recorded: shown(recorded),
                    given: shown(given),
                });
            }
        }
    }
    None
}

fn by_name<T>(list: &[(String, T)]) -> HashMap<&String, &T> {
    list.iter().map(|(name, value)| (name, value)).collect()
}

/// A setting in a message.
fn short(value: &impl std::fmt::Display) -> String {
    let text = value.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Adds the terms of an objective. Where something of it follows progress, or may, the number of epochs
/// belongs to it.
pub(crate) fn add_objective(settings: &mut Settings, objective: &Objective, epochs: usize) {
    settings.text("class policy", format!("{:?}", objective.class_policy()));
    let mut follows_progress = false;
    for term in objective.terms() {
        let loss = KnownLoss::of(term.loss());
        let is_constant = term.weight().constant().is_some()
            && loss.is_some()
            && (term.loss().temperature()).is_none_or(|t| t.constant().is_some());
        follows_progress |= !is_constant;
        // A loss from code is known by its name alone.
        let loss = loss.and_then(|loss| serde_json::to_string(&loss).ok());
        let mut text = format!("{} · {}", term.weight(), loss.unwrap_or(term.loss().name()));
        if let Some(head) = term.head() {
            text += &format!(" on {head:?}");
        }
        if let Some(eps) = term.standardize() {
            text += &format!(" standardized by {eps}");
        }
        settings.text(format!("term {:?}", term.name()), text);
    }
    if follows_progress {
        settings.text("epochs, which a schedule follows,", epochs);
    }
}

/// The most samples that tell one data set from another.
const SAMPLES: usize = 256;

/// Adds what is known of data: how many samples, the names of some, and the first batch's input where it
/// is a tensor and the same each time.
pub(crate) fn add_data<I: Module + 'static, J>(
    settings: &mut Settings,
    what: &'static str,
    data: Option<&DistillData<I, J>>,
    batch_size: usize,
    device: &Device,
) -> Result<()> {
    let Some(data) = data else {
        settings.text(format!("{what} samples"), "none");
        return Ok(());
    };
    let unreadable = |error: burn::data::dataset::DatasetError| Error::Dataset {
        what,
        message: error.to_string(),
    };
    settings.text(format!("{what} samples"), data.len());
    if data.is_named() {
        let step = data.len().div_ceil(SAMPLES).max(1);
        let indices = (0..data.len()).step_by(step).collect();
        let mut hash = Xxh3::new();
        for name in data.names(indices).map_err(unreadable)? {
            hash.update(name.key.to_string().as_bytes());
            hash.update(&name.seed.to_le_bytes());
        }
        let digest = format!("{:032x}", hash.digest128());
        settings.text(format!("{what} samples with the fingerprint"), digest);
    }
    let first = || -> Result<Option<InputSummary>> {
        let indices = (0..batch_size.min(data.len())).collect();
        let batch = data.batch(indices, device).map_err(unreadable)?;
        Ok(summary(&batch.input))
    };
    if let (Some(one), Some(again)) = (first()?, first()?)
        && one.is_like(&again)
    {
        settings.numbers([(format!("a first {what} batch of"), one)]);
    }
    Ok(())
}

/// The learning rates of all steps so far.
#[derive(Clone)]
pub(crate) struct Rates {
    scheduler: ModuleLrScheduler,
    per_epoch: usize,
    steps: usize,
    digest: Xxh3,
    ends: Option<(f64, f64)>,
}

impl Rates {
    pub fn new(scheduler: ModuleLrScheduler, per_epoch: usize) -> Self {
        Self {
            scheduler,
            per_epoch,
            steps: 0,
            digest: Xxh3::new(),
            ends: None,
        }
    }

    /// Those of the first epochs, as a setting. Epochs do not come down.
    pub fn through(&mut self, epoch: usize) -> String {
        while self.steps < epoch * self.per_epoch {
            let rate = self.scheduler.step().base();
            self.digest.update(&rate.to_bits().to_le_bytes());
            self.ends = Some((self.ends.map_or(rate, |(first, _)| first), rate));
            self.steps += 1;
        }
        let (first, last) = self.ends.unwrap_or_default();
        let digest = self.digest.digest();
        format!("{first} to {last} in {} steps ({digest:016x})", self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_names_both_sides() {
        let mut recorded = Settings::default();
        recorded.text("seed", 1);
        recorded.numbers([("input".into(), InputSummary::new(&[1], [2.0].into_iter()))]);
        assert_eq!(recorded.difference(&recorded.clone()), None);
        let mut given = recorded.clone();
        given.numbers[0].1 = InputSummary::new(&[1], [3.0].into_iter());
        let difference = recorded.difference(&given).unwrap();
        assert_eq!(difference.what, "input");
        assert_eq!(difference.given, "shape [1], sum 3");
        given.text("term \"a\"", "x".repeat(1000));
        let difference = recorded.difference(&given).unwrap();
        assert_eq!(difference.what, "term \"a\"");
        assert_eq!(difference.recorded, "none");
        assert_eq!(difference.given.chars().count(), 301);
    }
}
