//! Finding where to go on: the newest checkpoint of which nothing is missing.

use std::collections::BTreeSet;
use std::path::Path;

use burn::lr_scheduler::LrSchedulerRecord;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;

use crate::error::{Error, Result};

/// Where the engine puts checkpoints below the directory it is given.
pub(crate) const FOLDER: &str = "checkpoint";

/// The newest epoch whose three files can all be read, if there is one.
///
/// Each file is written whole or not at all, but the three are not written together: a training
/// killed in between leaves a set that lacks one, and a full disk may leave worse. Such sets are
/// passed over. What can be read but does not fit the model is an error, since going on from an
/// older one would hide a mistake.
pub(crate) fn newest_complete<M: Module>(directory: &Path, model: &M) -> Result<Option<usize>> {
    let folder = directory.join(FOLDER);
    if !folder.exists() {
        return Ok(None);
    }
    let entries = std::fs::read_dir(&folder).map_err(|error| Error::io(&folder, error))?;
    let epochs: BTreeSet<usize> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_prefix("model-")?
                .strip_suffix(".bpk")?
                .parse()
                .ok()
        })
        .collect();

    for epoch in epochs.into_iter().rev() {
        let path = |name: &str| folder.join(format!("{name}-{epoch}.bpk"));
        let record = match ModuleRecord::load(path("model")) {
            Ok(record) => record,
            Err(error) => {
                log::warn!("passing over the checkpoint of epoch {epoch}: {error}");
                continue;
            }
        };
        let optimizer = OptimizerRecord::load(path("optim")).map(drop);
        let scheduler = LrSchedulerRecord::load(path("scheduler")).map(drop);
        if let Err(error) = optimizer.and(scheduler) {
            log::warn!("passing over the checkpoint of epoch {epoch}: {error}");
            continue;
        }
        return match model.clone().try_load_record(record) {
            Ok(_) => Ok(Some(epoch)),
            Err(error) => Err(Error::Checkpoint {
                directory: directory.to_path_buf(),
                epoch,
                reason: error.to_string(),
            }),
        };
    }
    Ok(None)
}
