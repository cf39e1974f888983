//! The best epoch's student beside the checkpoints, so that it outlasts the process.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{Written, ZEROS, checksum, read_regular, remove, seal, write_whole};

/// A student at the end of an epoch, in inference mode.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<S> {
    pub student: S,
    /// The average of the student, where that is the teacher.
    pub average: Option<S>,
}

/// An epoch, and the number by which it is the best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    pub epoch: usize,
    pub value: f64,
}

const INDEX: &str = "best.json";
/// More than the index ever has.
const INDEX_BYTES: u64 = 1 << 16;
/// The names of the files before the epoch.
const PARTS: [&str; 2] = ["best", "best-average"];

/// `best.json`: which of the files is the best, and by what.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Best {
    checksum: String,
    epoch: usize,
    /// As text that reads back exactly.
    value: String,
    by: String,
    /// The student, and its average where there is one.
    files: Vec<Written>,
}

/// The files `best.json`, `best-EPOCH.bpk` and, of a mean teacher, `best-average-EPOCH.bpk` in the folder of
/// the checkpoints.
pub(crate) struct BestFiles {
    pub folder: PathBuf,
    /// The set, the metric and the direction.
    pub by: String,
}

/// Whether a file is one of these.
pub(crate) fn is_best(name: &str) -> bool {
    let number = |part: &str| -> Option<usize> {
        let number = name.strip_prefix(part)?.strip_prefix('-')?;
        number.strip_suffix(".bpk")?.parse().ok()
    };
    name == INDEX || PARTS.into_iter().any(|part| number(part).is_some())
}

/// The student of the best epoch in a folder, `None` where none was kept.
pub(crate) fn best_student(folder: &Path) -> Result<Option<ModuleRecord>, String> {
    let Some(best) = read(folder)? else {
        return Ok(None);
    };
    let student = best.files.first().ok_or("best.json names no file")?;
    record(folder, student).map(Some)
}

fn read(folder: &Path) -> Result<Option<Best>, String> {
    let bytes = match read_regular(&folder.join(INDEX), INDEX_BYTES) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| format!("{INDEX}: {error}"))?,
    };
    if seal(&bytes).as_ref() != Some(&bytes) {
        return Err(format!("{INDEX} was changed: its checksum is another"));
    }
    let best = serde_json::from_slice(&bytes);
    best.map(Some).map_err(|error| format!("{INDEX}: {error}"))
}

fn record(folder: &Path, written: &Written) -> Result<ModuleRecord, String> {
    let failed = |reason: String| format!("{}: {reason}", written.file);
    let bytes = read_regular(&folder.join(&written.file), written.bytes);
    let bytes = bytes.map_err(|error| failed(error.to_string()))?;
    if checksum(&bytes) != written.checksum {
        return Err(failed("it was changed: its checksum is another".into()));
    }
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes));
    record.map_err(|error| failed(error.to_string()))
}

impl BestFiles {
    /// Writes the best, and then removes the one before.
    pub fn save<S: Module>(&self, score: Score, snapshot: &Snapshot<S>) -> Result<()> {
        let models = [Some(&snapshot.student), snapshot.average.as_ref()];
        let mut files = Vec::new();
        for (part, model) in PARTS.into_iter().zip(models) {
            let Some(model) = model else {
                continue;
            };
            let name = format!("{part}-{}.bpk", score.epoch);
            let failed = |error: String| Error::io(self.folder.join(&name), error);
            let bytes = model.clone().into_record().into_bytes();
            let bytes = bytes.map_err(|error| failed(error.to_string()))?;
            let written = write_whole(&self.folder, &name, [&bytes[..]]);
            files.push(written.map_err(|error| failed(error.to_string()))?);
        }
        let best = Best {
            checksum: ZEROS.into(),
            epoch: score.epoch,
            value: score.value.to_string(),
            by: self.by.clone(),
            files,
        };
        let text = serde_json::to_string_pretty(&best).expect("plain values have a text");
        let text = seal(text.as_bytes()).unwrap_or(text.into_bytes());
        let written = write_whole(&self.folder, INDEX, [&text[..]]);
        written.map_err(|error| Error::io(self.folder.join(INDEX), error))?;
        remove_all_but(Some(&best), &self.folder)
    }

    /// The best that was kept, `None` where there is none by the same number.
    ///
    /// # Errors
    ///
    /// Says what is damaged, or does not fit the models.
    pub fn load<S: Module>(
        &self,
        models: &Snapshot<S>,
    ) -> Result<Option<(Score, Snapshot<S>)>, String> {
        let Some(best) = read(&self.folder)?.filter(|best| best.by == self.by) else {
            return Ok(None);
        };
        let load = |part: usize, model: &S| {
            let written = best.files.get(part).ok_or("best.json misses a file")?;
            let loaded = model
                .clone()
                .try_load_record(record(&self.folder, written)?);
            loaded.map_err(|error| format!("{}: {error}", written.file))
        };
        let snapshot = Snapshot {
            student: load(0, &models.student)?,
            average: match &models.average {
                Some(model) => Some(load(1, model)?),
                None => None,
            },
        };
        let value = best.value.parse().map_err(|_| "best.json has no number")?;
        let epoch = best.epoch;
        Ok(Some((Score { epoch, value }, snapshot)))
    }
}

/// Forgets what an earlier training left.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    remove_all_but(None, folder)
}

fn remove_all_but(best: Option<&Best>, folder: &Path) -> Result<()> {
    let failed = |error| Error::io(folder, error);
    let is_kept = |name: &str| {
        best.is_some_and(|best| name == INDEX || best.files.iter().any(|file| file.file == name))
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| is_best(name) && !is_kept(name))
        {
            remove(&entry.path());
        }
    }
    Ok(())
}
