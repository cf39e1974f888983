//! Early stopping, as a function of the losses of all epochs: a training that is resumed stops where an
//! undisturbed one does.

use std::sync::{Arc, Mutex};

use burn::train::EarlyStoppingStrategy;
use burn::train::metric::store::{Aggregate, EventStoreClient, Split};

use crate::train::metrics::LOSS;

/// The loss of each epoch from the first, of the validation set where there is one.
#[derive(Clone)]
pub(crate) struct Losses {
    split: Split,
    by_epoch: Arc<Mutex<Vec<Option<f64>>>>,
}

impl Losses {
    pub fn new(split: Split, known: Vec<Option<f64>>) -> Self {
        Self {
            split,
            by_epoch: Arc::new(Mutex::new(known)),
        }
    }

    /// The same with those that are known of the epochs before.
    pub fn with(&self, known: Vec<Option<f64>>) -> Self {
        Self::new(self.split.clone(), known)
    }

    /// The losses up to an epoch that has just ended.
    pub fn through(&self, epoch: usize, store: &EventStoreClient) -> Vec<Option<f64>> {
        let loss = store.find_metric(LOSS, epoch, Aggregate::Mean, &self.split);
        let mut by_epoch = self
            .by_epoch
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        by_epoch.resize(epoch, None);
        by_epoch[epoch - 1] = loss;
        by_epoch.clone()
    }
}

/// The epoch after which a training of these losses ends: the first that is so many epochs away from the
/// best before it.
pub(crate) fn ended_after(losses: &[Option<f64>], patience: usize) -> Option<usize> {
    let mut best = (1, f64::INFINITY);
    for (epoch, loss) in (1..).zip(losses) {
        match loss {
            Some(loss) if *loss < best.1 => best = (epoch, *loss),
            Some(_) if epoch - best.0 >= patience => return Some(epoch),
            _ => {}
        }
    }
    None
}

/// Stops after so many epochs without a better loss.
#[derive(Clone)]
pub(crate) struct EarlyStopping {
    pub losses: Losses,
    pub patience: usize,
}

impl EarlyStoppingStrategy for EarlyStopping {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        ended_after(&self.losses.through(epoch, store), self.patience) == Some(epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_ends_so_many_epochs_after_its_best() {
        let ended = |losses: &[f64], patience| {
            let losses: Vec<_> = losses.iter().copied().map(Some).collect();
            ended_after(&losses, patience)
        };
        let losses = [3.0, 2.0, 2.5, 2.0, 1.0, 1.5, 1.25, 1.0];
        assert_eq!(ended(&losses, 1), Some(3));
        assert_eq!(ended(&losses, 2), Some(4));
        assert_eq!(ended(&losses, 3), Some(8));
        assert_eq!(ended(&losses, 4), None);
        assert_eq!(ended(&losses[..7], 3), None);
        // What is not known neither is the best nor ends anything.
        let unknown = [None, None, Some(1.0), Some(2.0), None, Some(2.0)];
        assert_eq!(ended_after(&unknown, 2), Some(6));
    }
}
