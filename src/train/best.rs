//! The best epoch's student beside the checkpoints, so that it outlasts the process.

use std::fs;
use std::path::PathBuf;

use burn::module::Module;
use burn::store::ModuleRecord;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A student at the end of an epoch, in inference mode.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<S> {
    pub student: S,
    /// The average of the student, where that is the teacher.
    pub average: Option<S>,
}

/// An epoch, and the number by which it is the best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    pub epoch: usize,
    pub value: f64,
}

/// `best.json`: which of the files is the best, and by what.
#[derive(Debug, Serialize, Deserialize)]
struct Best {
    #[serde(flatten)]
    score: Score,
    by: String,
}

/// The files `best.json`, `best-EPOCH.bpk` and, of a mean teacher, `best-average-EPOCH.bpk` in the folder of
/// the checkpoints.
pub(crate) struct BestFiles {
    pub folder: PathBuf,
    /// The set, the metric and the direction.
    pub by: String,
}

impl BestFiles {
    fn index(&self) -> PathBuf {
        self.folder.join("best.json")
    }

    fn files(&self, epoch: usize) -> [PathBuf; 2] {
        ["best", "best-average"].map(|name| self.folder.join(format!("{name}-{epoch}.bpk")))
    }

    /// Writes the best, and then deletes the one before.
    pub fn save<S: Module>(&self, score: Score, snapshot: &Snapshot<S>) -> Result<()> {
        let before = self.read();
        let models = [Some(&snapshot.student), snapshot.average.as_ref()];
        for (path, model) in self.files(score.epoch).iter().zip(models) {
            if let Some(model) = model {
                let saved = model.clone().into_record().save(path);
                saved.map_err(|error| Error::io(path, error))?;
            }
        }
        let path = self.index();
        let by = self.by.clone();
        let json = serde_json::to_vec(&Best { score, by });
        let json = json.map_err(|error| Error::io(&path, error))?;
        // In one stroke: an index that is half written would lose both.
        let half = path.with_extension("json.part");
        fs::write(&half, json).map_err(|error| Error::io(&half, error))?;
        fs::rename(&half, &path).map_err(|error| Error::io(&path, error))?;
        match before {
            Some(before) if before.score.epoch != score.epoch => self.delete(before.score.epoch),
            _ => Ok(()),
        }
    }

    /// The best of the epochs up to one, if it is there, is by the same metric, and fits the models.
    pub fn load<S: Module>(
        &self,
        until: usize,
        models: &Snapshot<S>,
    ) -> Option<(Score, Snapshot<S>)> {
        let best = self.read()?;
        if best.by != self.by || best.score.epoch > until {
            log::warn!(
                "passing over the best student of epoch {}",
                best.score.epoch
            );
            return None;
        }
        let [student, average] = self.files(best.score.epoch);
        let load = |path: PathBuf, model: &S| {
            let record = ModuleRecord::load(&path).map_err(|error| error.to_string());
            let model = record.and_then(|record| {
                let loaded = model.clone().try_load_record(record);
                loaded.map_err(|error| error.to_string())
            });
            let passed_over = |error| log::warn!("passing over {}: {error}", path.display());
            model.map_err(passed_over).ok()
        };
        let snapshot = Snapshot {
            student: load(student, &models.student)?,
            average: match &models.average {
                Some(model) => Some(load(average, model)?),
                None => None,
            },
        };
        Some((best.score, snapshot))
    }

    /// Forgets what an earlier training left.
    pub fn clear(&self) -> Result<()> {
        let Some(before) = self.read() else {
            return Ok(());
        };
        let index = self.index();
        fs::remove_file(&index).map_err(|error| Error::io(&index, error))?;
        self.delete(before.score.epoch)
    }

    fn read(&self) -> Option<Best> {
        let json = fs::read(self.index()).ok()?;
        serde_json::from_slice(&json).ok()
    }

    fn delete(&self, epoch: usize) -> Result<()> {
        let files = self.files(epoch).into_iter();
        let mut files = files.filter(|path| path.exists());
        files.try_for_each(|path| fs::remove_file(&path).map_err(|error| Error::io(path, error)))
    }
}
