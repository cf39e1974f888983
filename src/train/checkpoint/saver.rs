//! The engine's checkpointers, which write the three files of a set, and make it whole once all are there.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use burn::tensor::Bytes;
use burn::train::checkpoint::{
    Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn::train::metric::store::EventStoreClient;

use crate::error::Error;
use crate::files::{Written, write_whole};
use crate::train::checkpoint::directory::Sets;
use crate::train::checkpoint::manifest::{Manifest, PARTS, part_name};
use crate::train::checkpoint::settings::{Rates, Settings};
use crate::train::feed::Failure;
use crate::train::stopping::Scores;

/// Everything about the sets of a training.
pub(crate) struct Saver {
    pub sets: Sets,
    pub keep: usize,
    /// Without the learning rates, which come with the epochs.
    pub settings: Settings,
    pub rates: Mutex<Rates>,
    pub scores: Scores,
    /// The parameter tensors of the student.
    pub student: usize,
    pub failure: Failure,
    pub writing: Mutex<Writing>,
    /// A set is whole, or one will never be.
    pub settled: Condvar,
    /// The parts of the set that training goes on from, until the engine takes them.
    pub restored: Mutex<[Vec<u8>; 3]>,
}

/// What is being written.
#[derive(Default)]
pub(crate) struct Writing {
    set: Option<Begun>,
    has_failed: bool,
}

/// A set of which some parts are written.
struct Begun {
    epoch: usize,
    settings: Settings,
    scores: Vec<Option<f64>>,
    parts: [Option<Written>; 3],
}

/// The name of the setting that comes with the epochs.
pub(crate) const RATES: &str = "learning rates";

impl Saver {
    /// The settings of a training that has come to this epoch.
    pub fn settings_at(&self, epoch: usize) -> Settings {
        let mut settings = self.settings.clone();
        settings.text(RATES, hold(&self.rates).through(epoch));
        settings
    }

    /// Begins a set when the one before is whole, so that the disk never holds parts of two. The engine
    /// trains on while a set is written.
    fn begin(&self, epoch: usize, scores: Vec<Option<f64>>) {
        let mut writing = hold(&self.writing);
        while writing.set.is_some() && !writing.has_failed {
            let waited = self.settled.wait(writing);
            writing = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        writing.set = Some(Begun {
            epoch,
            settings: self.settings_at(epoch),
            scores,
            parts: [const { None }; 3],
        });
    }

    /// Writes a part; the last one makes the set whole.
    fn write(&self, epoch: usize, part: usize, bytes: &[u8]) -> Result<(), CheckpointerError> {
        let name = part_name(part, epoch);
        let written = write_whole(&self.sets.folder, &name, [bytes]);
        let written = written.map_err(|error| self.failed(self.sets.folder.join(&name), error))?;
        let mut writing = hold(&self.writing);
        let Some(set) = writing.set.as_mut().filter(|set| set.epoch == epoch) else {
            let reason = format!("{name} was written out of turn");
            return Err(CheckpointerError::Unknown(reason));
        };
        set.parts[part] = Some(written);
        let parts: Vec<Written> = set.parts.iter().flatten().cloned().collect();
        if parts.len() == PARTS.len() {
            let settings = std::mem::take(&mut set.settings);
            let manifest = Manifest::new(epoch, settings, &set.scores, self.student, parts);
            let added = self.sets.add(&manifest, self.keep);
            added.map_err(|error| self.failed(self.sets.folder.clone(), error))?;
            writing.set = None;
            self.settled.notify_all();
        }
        Ok(())
    }

    /// Keeps what happened, for the training to end with an error that names the file.
    fn failed(&self, path: PathBuf, error: std::io::Error) -> CheckpointerError {
        self.failure.report(Error::io(path, &error));
        CheckpointerError::IOError(error)
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A part on its way to the disk. One that does not get there, for an error or a panic, leaves no other part waiting.
struct Attempt<'a> {
    saver: &'a Saver,
    has_succeeded: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_succeeded {
            hold(&self.saver.writing).has_failed = true;
            self.saver.settled.notify_all();
        }
    }
}

/// One of the three checkpointers of the engine.
pub(crate) struct Part(pub Arc<Saver>, pub usize);

impl<R: Checkpoint> Checkpointer<R> for Part {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let mut attempt = Attempt {
            saver: &self.0,
            has_succeeded: false,
        };
        let bytes = record.checkpoint_into_bytes();
        let bytes = bytes.map_err(CheckpointerError::Record)?;
        self.0.write(epoch, self.1, &bytes)?;
        attempt.has_succeeded = true;
        Ok(())
    }

    fn restore(&self, _epoch: usize) -> Result<R, CheckpointerError> {
        let bytes = std::mem::take(&mut hold(&self.0.restored)[self.1]);
        let record = R::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes));
        record.map_err(CheckpointerError::Record)
    }

    /// Old sets go when a new one is whole, and not before.
    fn delete(&self, _epoch: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }
}

/// Saves a set after every epoch.
pub(crate) struct EveryEpoch(pub Arc<Saver>);

impl CheckpointingStrategy for EveryEpoch {
    fn checkpointing(
        &mut self,
        epoch: usize,
        store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        self.0.begin(epoch, self.0.scores.through(epoch, store));
        vec![CheckpointingAction::Save]
    }
}
