//! The engine's checkpointers, which write the three files of a set, and make it whole once all are there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

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
use crate::train::stopping::Losses;

/// Everything about the sets of a training.
pub(crate) struct Saver {
    pub sets: Sets,
    pub keep: usize,
    /// Without the learning rates, which come with the epochs.
    pub settings: Settings,
    pub rates: Mutex<Rates>,
    pub losses: Losses,
    /// The parameter tensors of the student.
    pub student: usize,
    pub failure: Failure,
    /// The sets that are being written, by epoch: the engine does not wait for one before the next.
    pub begun: Mutex<BTreeMap<usize, Begun>>,
    /// The parts of the set that training goes on from, until the engine takes them.
    pub restored: Mutex<[Vec<u8>; 3]>,
}

/// A set of which some parts are written.
pub(crate) struct Begun {
    settings: Settings,
    losses: Vec<Option<f64>>,
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

    fn begin(&self, epoch: usize, losses: Vec<Option<f64>>) {
        let set = Begun {
            settings: self.settings_at(epoch),
            losses,
            parts: [const { None }; 3],
        };
        hold(&self.begun).insert(epoch, set);
    }

    /// Writes a part; the last one makes the set whole.
    fn write(&self, epoch: usize, part: usize, bytes: &[u8]) -> Result<(), CheckpointerError> {
        let name = part_name(part, epoch);
        let written = write_whole(&self.sets.folder, &name, [bytes]);
        let written = written.map_err(|error| self.failed(self.sets.folder.join(&name), error))?;
        let mut begun = hold(&self.begun);
        let Some(set) = begun.get_mut(&epoch) else {
            let reason = format!("{name} was written out of turn");
            return Err(CheckpointerError::Unknown(reason));
        };
        set.parts[part] = Some(written);
        let parts: Vec<Written> = set.parts.iter().flatten().cloned().collect();
        if parts.len() == PARTS.len() {
            let settings = std::mem::take(&mut set.settings);
            let manifest = Manifest::new(epoch, settings, &set.losses, self.student, parts);
            begun.remove(&epoch);
            let added = self.sets.add(&manifest, self.keep);
            added.map_err(|error| self.failed(self.sets.folder.clone(), error))?;
        }
        Ok(())
    }

    /// Keeps what happened, for the training to end with an error that names the file.
    fn failed(&self, path: PathBuf, error: std::io::Error) -> CheckpointerError {
        self.failure.report(Error::io(path, &error));
        CheckpointerError::IOError(error)
    }
}

fn hold<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One of the three checkpointers of the engine.
pub(crate) struct Part(pub Arc<Saver>, pub usize);

impl<R: Checkpoint> Checkpointer<R> for Part {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let bytes = record.checkpoint_into_bytes();
        let bytes = bytes.map_err(CheckpointerError::Record)?;
        self.0.write(epoch, self.1, &bytes)
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
        self.0.begin(epoch, self.0.losses.through(epoch, store));
        vec![CheckpointingAction::Save]
    }
}
