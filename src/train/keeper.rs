//! Students that outlast a training: that of the last whole epoch, or that of the best.

use std::sync::{Arc, Mutex, MutexGuard};

use burn::module::Module;
use burn::train::EarlyStoppingStrategy;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;

use crate::teacher::mean::Average;
use crate::train::best::{BestFiles, Score, Snapshot};
use crate::train::feed::Failure;
use crate::train::stopping::{Patience, Scores};
use crate::train::watch::Watch;

/// Keeps the student of the best epoch where one is asked for, and of the last whole epoch otherwise.
pub(crate) struct Keeper<S>(Arc<Inner<S>>);

struct Inner<S> {
    watch: Option<Watch>,
    /// Where the best is kept beside checkpoints.
    files: Option<BestFiles>,
    failure: Failure,
    kept: Mutex<Kept<S>>,
}

struct Kept<S> {
    /// As the last step left it, in training mode.
    latest: Option<Snapshot<S>>,
    /// The last epoch that was looked at. Every worker of a training on several devices asks.
    seen: usize,
    score: Option<f64>,
    epoch: Option<(usize, Snapshot<S>)>,
}

impl<S> Clone for Keeper<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Module> Keeper<S> {
    pub fn new(watch: Option<Watch>, files: Option<BestFiles>, failure: Failure) -> Self {
        let kept = Mutex::new(Kept {
            latest: None,
            seen: 0,
            score: None,
            epoch: None,
        });
        Self(Arc::new(Inner {
            watch,
            files,
            failure,
            kept,
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept<S>> {
        let kept = self.0.kept.lock();
        kept.unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes note of the student as a step leaves it.
    pub fn step(&self, student: &S, average: Option<&Average<S>>) {
        self.kept().latest = Some(Snapshot {
            student: student.clone(),
            average: average.map(|average| average.model.clone()),
        });
    }

    /// Finds the best of the epochs that are done. Says if it is not there.
    pub fn start(
        &self,
        epochs_done: usize,
        scores: &Scores,
        models: &Snapshot<S>,
    ) -> Option<String> {
        let files = self.0.files.as_ref()?;
        if epochs_done == 0 {
            return None;
        }
        let (score, snapshot) = match files.load(models) {
            // A training that was killed after it saved its best comes to it again.
            Ok(Some((score, _))) if score.epoch > epochs_done => return None,
            Ok(Some(found)) if scores.of(found.0.epoch) == Some(found.0.value) => found,
            other => {
                let reason = match other {
                    Err(reason) => format!(" ({reason})"),
                    Ok(_) => String::new(),
                };
                return Some(format!(
                    "the best of the epochs up to {epochs_done} is not there{reason}: the best is one after them"
                ));
            }
        };
        let mut kept = self.kept();
        kept.score = Some(score.value);
        kept.epoch = Some((score.epoch, snapshot));
        None
    }

    /// Looks at an epoch of which training and validation are done.
    fn end_of_epoch(&self, epoch: usize, store: &EventStoreClient) {
        let mut kept = self.kept();
        if kept.seen >= epoch {
            return;
        }
        kept.seen = epoch;
        let value = self.0.watch.as_ref().map(|it| (it, it.value(epoch, store)));
        let is_kept = match value {
            Some((watch, Some(value))) => {
                let is_best = kept.score.is_none_or(|best| watch.is_better(value, best));
                if is_best {
                    kept.score = Some(value);
                }
                is_best
            }
            Some((_, None)) => false,
            None => true,
        };
        let Some(latest) = kept.latest.as_ref().filter(|_| is_kept) else {
            return;
        };
        let snapshot = Snapshot {
            // Running statistics are shared between clones: a copy of its own.
            student: latest.student.valid(),
            average: latest.average.as_ref().map(Module::valid),
        };
        if let (Some(files), Some(value)) = (&self.0.files, kept.score)
            && let Err(error) = files.save(Score { epoch, value }, &snapshot)
        {
            self.0.failure.report(error);
        }
        kept.epoch = Some((epoch, snapshot));
    }

    /// The epoch that is kept, with its student.
    pub fn take(&self) -> Option<(usize, Snapshot<S>)> {
        let mut kept = self.kept();
        kept.latest = None;
        kept.epoch.take()
    }
}

/// What the engine asks at the end of each epoch: whether to stop.
#[derive(Clone)]
pub(crate) struct EndOfEpoch<S> {
    pub keeper: Keeper<S>,
    pub patience: Option<Patience>,
}

impl<S: Module> EarlyStoppingStrategy for EndOfEpoch<S> {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        self.keeper.end_of_epoch(epoch, store);
        let is_over = |patience: &Patience| patience.is_over(epoch, store);
        self.keeper.0.failure.has_any() || self.patience.as_ref().is_some_and(is_over)
    }
}

/// Looks at an epoch before its checkpoint is written: a training that goes on from that checkpoint
/// finds the best of all epochs up to it.
pub(crate) struct BeforeCheckpoint<S, C> {
    pub keeper: Keeper<S>,
    pub strategy: C,
}

impl<S: Module, C: CheckpointingStrategy> CheckpointingStrategy for BeforeCheckpoint<S, C> {
    fn checkpointing(
        &mut self,
        epoch: usize,
        store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        self.keeper.end_of_epoch(epoch, store);
        self.strategy.checkpointing(epoch, store)
    }
}
