//! Where a training begins: after the newest whole set, if that is one of the same training.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;

use crate::error::{Error, Result};
use crate::train::best::clear;
use crate::train::checkpoint::directory::{Found, Held, WholeSet};
use crate::train::checkpoint::identity::Identity;
use crate::train::checkpoint::manifest::Manifest;
use crate::train::checkpoint::saver::Saver;
use crate::train::checkpoint::settings::Difference;
use crate::train::config::FitConfig;
use crate::train::feed::Failure;
use crate::train::origin::BURN;
use crate::train::stopping::Scores;
use crate::train::watch::Watch;

/// Where a training begins.
pub(crate) struct Start {
    /// The epoch of the set that it goes on from.
    pub resumed_from: Option<usize>,
    /// The last epoch of this training, as far as it is known.
    pub epochs: usize,
    /// The scores of the epochs before.
    pub scores: Scores,
    /// What somebody should know.
    pub notes: Vec<String>,
}

impl Start {
    /// The beginning.
    pub fn afresh(config: &FitConfig, watch: Watch) -> Self {
        Self {
            resumed_from: None,
            epochs: config.epochs,
            scores: Scores::new(watch, Vec::new()),
            notes: Vec::new(),
        }
    }
}

/// The checkpoints of a training that is about to begin.
pub(crate) struct Checkpointing {
    pub held: Held,
    pub saver: Arc<Saver>,
}

impl Checkpointing {
    /// Takes what is found in a directory that this training holds, and says where to begin.
    pub fn open<M: Module>(
        held: Held,
        config: &FitConfig,
        model: &M,
        identity: Identity,
        failure: &Failure,
        mut start: Start,
    ) -> Result<(Self, Start)> {
        let mut saver = Saver {
            sets: held.sets.clone(),
            keep: held.keep,
            settings: identity.settings,
            rates: Mutex::new(identity.rates),
            scores: start.scores.clone(),
            student: identity.student,
            failure: failure.clone(),
            writing: Mutex::default(),
            settled: Condvar::new(),
            restored: Mutex::default(),
        };
        let found = match config.resume {
            true => held.sets.newest()?,
            false => {
                held.start_afresh()?;
                Found::default()
            }
        };
        start.notes.extend(found.passed_over);
        if let Some(WholeSet { manifest, parts }) = found.set {
            let refused = |reason: String| Error::Checkpoint {
                directory: held.directory().to_path_buf(),
                epoch: manifest.epoch,
                reason,
            };
            let [record, ..] = &parts;
            let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(record.clone()));
            let fits = record.and_then(|record| model.clone().try_load_record(record));
            fits.map_err(|error| refused(error.to_string()))?;
            let scores = continued(&manifest, &saver, config, held.directory(), &mut start)?;
            held.go_on_from(manifest.epoch)?;
            start.scores = start.scores.with(scores);
            saver.scores = start.scores.clone();
            saver.restored = Mutex::new(parts);
        }
        held.clean()?;
        if start.resumed_from.is_none() || !config.keeps_best() {
            clear(&held.sets.folder)?;
        }
        let saver = Arc::new(saver);
        Ok((Self { held, saver }, start))
    }
}

/// The scores of the epochs before, if a set is one that this training would have come to.
fn continued(
    manifest: &Manifest,
    saver: &Saver,
    config: &FitConfig,
    directory: &Path,
    start: &mut Start,
) -> Result<Vec<Option<f64>>> {
    let epoch = manifest.epoch;
    let mut scores = manifest.scores();
    let ended = config
        .patience
        .and_then(|patience| saver.scores.ended_after(&scores, patience));
    let given = saver.settings_at(epoch);
    let difference =
        (manifest.settings.difference(&given)).or_else(|| ends_before(epoch, config, ended));
    match difference {
        // Nothing is left to do.
        None if ended.is_some() => start.epochs = epoch,
        None => {}
        Some(difference) if config.changed_settings => {
            start.notes.push(format!(
                "training goes on from epoch {epoch} with other settings: {} was {}, now it is {}",
                difference.what, difference.recorded, difference.given
            ));
            // Scores of another training say nothing about this one's.
            scores = vec![None; epoch];
            start.epochs = config.epochs.max(epoch);
        }
        Some(difference) => {
            return Err(Error::CheckpointMismatch {
                directory: directory.to_path_buf(),
                epoch,
                what: difference.what,
                recorded: difference.recorded,
                given: difference.given,
            });
        }
    }
    let own = (env!("CARGO_PKG_VERSION"), BURN);
    let versions = (&*manifest.crate_version, &*manifest.burn_version);
    if versions != own {
        start.notes.push(format!(
            "the checkpoint of epoch {epoch} is of burn-distill {} with burn {}, this is {} with {}",
            versions.0, versions.1, own.0, own.1
        ));
    }
    start.resumed_from = Some(epoch);
    Ok(scores)
}

/// What is different where the training asked for ends before the checkpoint.
fn ends_before(epoch: usize, config: &FitConfig, ended: Option<usize>) -> Option<Difference> {
    let given = match ended {
        _ if config.epochs < epoch => format!("epoch {}, its last one", config.epochs),
        Some(ended) if ended < epoch => format!("epoch {ended}, where it stops early"),
        _ => return None,
    };
    Some(Difference {
        what: "a training that comes to".into(),
        recorded: format!("epoch {epoch}"),
        given,
    })
}
