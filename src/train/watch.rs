//! The number that tells which epoch is the best.

use burn::train::metric::store::{Aggregate, Direction, EventStoreClient, Split};

use crate::error::{Error, Result};
use crate::train::config::FitConfig;
use crate::train::metrics::{ACCURACY, LOSS, StepMetrics};

/// The number that tells which epoch is the best.
#[derive(Clone)]
pub(crate) struct Watch {
    pub metric: String,
    direction: Direction,
    split: Split,
}

impl Watch {
    /// What a training is told to watch: early stopping watches the loss where nothing else is said.
    pub fn of(config: &FitConfig, has_valid: bool) -> Option<Self> {
        config
            .keeps_best()
            .then(|| Self::or_loss(config, has_valid))
    }

    /// The same, and the loss where nothing is watched.
    pub fn or_loss(config: &FitConfig, has_valid: bool) -> Self {
        let best = config.best.clone();
        // A baseline has no teacher to agree with, and other terms.
        let best = best.filter(|(metric, _)| !config.is_baseline || metric == ACCURACY);
        let (metric, direction) = best.unwrap_or((LOSS.into(), Direction::Lowest));
        Self {
            metric,
            direction,
            split: match has_valid {
                true => Split::Valid,
                false => Split::Train,
            },
        }
    }

    /// Fails if no step reports the metric.
    pub fn check(&self, metrics: &StepMetrics) -> Result<()> {
        match metrics.names.contains(&self.metric) {
            true => Ok(()),
            false => Err(Error::InvalidParameter {
                name: "best".into(),
                value: format!("by {:?}, with {:?} reported", self.metric, metrics.names),
                expected: "a number that every step reports",
            }),
        }
    }

    pub fn value(&self, epoch: usize, store: &EventStoreClient) -> Option<f64> {
        store.find_metric(&self.metric, epoch, Aggregate::Mean, &self.split)
    }

    pub fn is_better(&self, value: f64, than: f64) -> bool {
        match self.direction {
            Direction::Lowest => value < than,
            Direction::Highest => value > than,
        }
    }

    /// What tells it from other numbers, such as `lowest validation loss`.
    pub fn identity(&self) -> String {
        let direction = match self.direction {
            Direction::Lowest => "lowest",
            Direction::Highest => "highest",
        };
        format!("{direction} {}", self.name())
    }

    /// The set and the metric, such as `validation loss`.
    pub fn name(&self) -> String {
        let set = match self.split {
            Split::Valid => "validation",
            _ => "training",
        };
        format!("{set} {}", self.metric)
    }
}
