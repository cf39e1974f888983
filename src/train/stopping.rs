//! Early stopping, as a function of the scores of all epochs: a training that is resumed stops where an
//! undisturbed one does.

use std::sync::{Arc, Mutex};

use burn::train::metric::store::EventStoreClient;

use crate::train::watch::Watch;

/// The watched number of each epoch from the first.
#[derive(Clone)]
pub(crate) struct Scores {
    watch: Watch,
    by_epoch: Arc<Mutex<Vec<Option<f64>>>>,
}

impl Scores {
    pub fn new(watch: Watch, known: Vec<Option<f64>>) -> Self {
        Self {
            watch,
            by_epoch: Arc::new(Mutex::new(known)),
        }
    }

    /// The same with those that are known of the epochs before.
    pub fn with(&self, known: Vec<Option<f64>>) -> Self {
        Self::new(self.watch.clone(), known)
    }

    /// The score of an epoch, where it is known.
    pub fn of(&self, epoch: usize) -> Option<f64> {
        let by_epoch = self.by_epoch.lock();
        let by_epoch = by_epoch.unwrap_or_else(|poisoned| poisoned.into_inner());
        by_epoch.get(epoch - 1).copied().flatten()
    }

    /// The scores up to an epoch that has just ended.
    pub fn through(&self, epoch: usize, store: &EventStoreClient) -> Vec<Option<f64>> {
        let score = self.watch.value(epoch, store);
        let by_epoch = self.by_epoch.lock();
        let mut by_epoch = by_epoch.unwrap_or_else(|poisoned| poisoned.into_inner());
        by_epoch.resize(epoch, None);
        by_epoch[epoch - 1] = score;
        by_epoch.clone()
    }

    /// The epoch after which a training of these scores ends: the first that is `patience` epochs away
    /// from the best before it.
    pub fn ended_after(&self, scores: &[Option<f64>], patience: usize) -> Option<usize> {
        let mut best = (1, None);
        for (epoch, score) in (1..).zip(scores) {
            match score {
                Some(score) if best.1.is_none_or(|it| self.watch.is_better(*score, it)) => {
                    best = (epoch, Some(*score));
                }
                Some(_) if epoch - best.0 >= patience => return Some(epoch),
                _ => {}
            }
        }
        None
    }
}

/// Stops after `epochs` epochs without a better score.
#[derive(Clone)]
pub(crate) struct Patience {
    pub scores: Scores,
    pub epochs: usize,
}

impl Patience {
    pub fn is_over(&self, epoch: usize, store: &EventStoreClient) -> bool {
        let scores = self.scores.through(epoch, store);
        self.scores.ended_after(&scores, self.epochs) == Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use burn::train::metric::store::Direction;

    use super::*;
    use crate::train::config::FitConfig;

    #[test]
    fn a_training_ends_so_many_epochs_after_its_best() {
        let losses = [3.0, 2.0, 2.5, 2.0, 1.0, 1.5, 1.25, 1.0];
        let config = FitConfig::new(8);
        let accuracy = config.clone().with_best("accuracy", Direction::Highest);
        for (config, sign) in [(config, 1.0), (accuracy, -1.0)] {
            let scores = Scores::new(Watch::or_loss(&config, true), Vec::new());
            let ended = |losses: &[f64], patience| {
                let losses: Vec<_> = losses.iter().map(|it| Some(it * sign)).collect();
                scores.ended_after(&losses, patience)
            };
            assert_eq!(ended(&losses, 1), Some(3));
            assert_eq!(ended(&losses, 2), Some(4));
            assert_eq!(ended(&losses, 3), Some(8));
            assert_eq!(ended(&losses, 4), None);
            assert_eq!(ended(&losses[..7], 3), None);
        }
        // What is not known neither is the best nor ends anything.
        let scores = Scores::new(Watch::or_loss(&FitConfig::new(8), false), Vec::new());
        let unknown = [None, None, Some(1.0), Some(2.0), None, Some(2.0)];
        assert_eq!(scores.ended_after(&unknown, 2), Some(6));
    }
}
