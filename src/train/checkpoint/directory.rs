//! The sets of a directory: finding the newest whole one, adding one, and what goes with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{
    checksum, lock, read_regular, remove, remove_unfinished, sync_directory, write_whole,
};
use crate::train::best::is_best;
use crate::train::checkpoint::manifest::{Manifest, epoch_of, manifest_name, part_name};

/// Where sets are below the directory of a training.
pub(crate) const FOLDER: &str = "checkpoint";
/// More than any manifest has.
const MANIFEST_BYTES: u64 = 1 << 28;

/// A whole set, read.
pub(crate) struct WholeSet {
    pub manifest: Manifest,
    pub parts: [Vec<u8>; 3],
}

/// What is found in a directory.
#[derive(Default)]
pub(crate) struct Found {
    pub set: Option<WholeSet>,
    /// Newer sets that are not whole, each with what is wrong.
    pub passed_over: Vec<String>,
}

/// The sets of a training, for whoever reads them.
#[derive(Debug, Clone)]
pub(crate) struct Sets {
    directory: PathBuf,
    pub folder: PathBuf,
}

/// The same for the one training that writes them.
#[derive(Debug)]
pub(crate) struct Held {
    pub sets: Sets,
    /// How many sets are kept.
    pub keep: usize,
    /// Holds the lock, which the system lets go of with the process if need be.
    _lock: File,
}

impl Sets {
    pub fn of(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            folder: directory.join(FOLDER),
        }
    }

    fn before(&self) -> PathBuf {
        self.directory.join(format!("{FOLDER}.before"))
    }

    /// The epochs of which there are files, and whether the manifest is among them.
    fn epochs(&self) -> Result<BTreeMap<usize, bool>> {
        epochs(&self.folder).map_err(|error| Error::io(&self.folder, error))
    }

    /// Reads the newest set that is whole.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] if there are sets and none of them is whole.
    pub fn newest(&self) -> Result<Found> {
        let epochs = self.epochs()?;
        let mut passed_over = Vec::new();
        for epoch in epochs.keys().rev() {
            match self.read(*epoch) {
                Ok(set) => {
                    return Ok(Found {
                        set: Some(set),
                        passed_over,
                    });
                }
                Err(reason) => passed_over.push(format!(
                    "the checkpoint of epoch {epoch} was passed over: {reason}"
                )),
            }
        }
        // A training that was killed while it wrote its first set has nothing to go on from.
        let is_unfinished = |(epoch, is_named): (&usize, &bool)| *epoch == 1 && !is_named;
        match epochs.last_key_value() {
            None => Ok(Found::default()),
            Some(_) if epochs.iter().all(is_unfinished) => Ok(Found {
                set: None,
                passed_over,
            }),
            Some((newest, _)) => Err(Error::Checkpoint {
                directory: self.directory.clone(),
                epoch: *newest,
                reason: format!("no set of files is whole: {}", passed_over.join("; ")),
            }),
        }
    }

    /// Reads the set of an epoch, or says why it is not whole.
    fn read(&self, epoch: usize) -> std::result::Result<WholeSet, String> {
        let file = |name: &str, most: u64| {
            let bytes = read_regular(&self.folder.join(name), most);
            bytes.map_err(|error| format!("{name}: {error}"))
        };
        let name = manifest_name(epoch);
        let manifest = Manifest::parse(&file(&name, MANIFEST_BYTES)?, epoch);
        let manifest = manifest.map_err(|reason| format!("{name} {reason}"))?;
        let part = |part: usize| {
            let written = &manifest.files[part];
            let bytes = file(&written.file, written.bytes)?;
            let found = checksum(&bytes);
            match found == written.checksum {
                true => Ok(bytes),
                false => Err(format!(
                    "{} has {} bytes with checksum {found}, {} with {} were written",
                    written.file,
                    bytes.len(),
                    written.bytes,
                    written.checksum
                )),
            }
        };
        let parts = [part(0)?, part(1)?, part(2)?];
        Ok(WholeSet { manifest, parts })
    }

    /// Makes a set whole by its manifest. What is older than the last `keep` goes after that, and so does
    /// what an earlier training left.
    pub fn add(&self, manifest: &Manifest, keep: usize) -> std::io::Result<()> {
        let bytes = manifest.to_bytes();
        write_whole(&self.folder, manifest_name(manifest.epoch), [&bytes[..]])?;
        self.prune(keep)
    }

    /// Removes what is older than the last `keep` sets, of which the newest is whole, and what an earlier
    /// training left.
    pub fn prune(&self, keep: usize) -> std::io::Result<()> {
        let epochs = epochs(&self.folder)?;
        let named = epochs.iter().filter(|(_, is_named)| **is_named);
        let oldest = named
            .map(|(epoch, _)| *epoch)
            .rev()
            .nth(keep.max(1) - 1)
            .unwrap_or(0);
        // Parts of the next set may be there already.
        for epoch in epochs.into_keys().filter(|epoch| *epoch < oldest) {
            remove_set(&self.folder, epoch);
        }
        if let Err(error) = self.discard_before() {
            log::warn!("{}: {error}", self.before().display());
        }
        Ok(())
    }

    fn discard_before(&self) -> std::io::Result<()> {
        let before = self.before();
        if !before.exists() {
            return Ok(());
        }
        for epoch in epochs(&before)?.into_keys() {
            remove_set(&before, epoch);
        }
        for entry in std::fs::read_dir(&before)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_best) {
                remove(&entry.path());
            }
        }
        std::fs::remove_dir(before)
    }
}

/// Removes the files of a set, the manifest first.
fn remove_set(folder: &Path, epoch: usize) {
    remove(&folder.join(manifest_name(epoch)));
    (0..3).for_each(|part| remove(&folder.join(part_name(part, epoch))));
}

fn epochs(folder: &Path) -> std::io::Result<BTreeMap<usize, bool>> {
    let mut epochs = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(epochs),
        entries => entries?,
    };
    for entry in entries {
        if let Some((epoch, is_manifest)) = entry?.file_name().to_str().and_then(epoch_of) {
            *epochs.entry(epoch).or_default() |= is_manifest;
        }
    }
    Ok(epochs)
}

impl Held {
    /// Makes the directory, proves that it can be written, holds it for one training, and removes what a
    /// killed one left aside.
    ///
    /// # Errors
    ///
    /// [`Error::DirectoryLocked`] while another training is at work there, and [`Error::Io`].
    pub fn new(directory: &Path, keep: usize) -> Result<Self> {
        let sets = Sets::of(directory);
        let folder = &sets.folder;
        let failed = |error| Error::io(folder, error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let path = directory.join(format!("{FOLDER}.lock"));
        let held = lock(&path).map_err(|error| Error::io(&path, error))?;
        let held = held.ok_or_else(|| Error::DirectoryLocked {
            directory: directory.to_path_buf(),
        })?;
        remove_unfinished(folder, |name| {
            // What comes before the random digits.
            name.rsplit_once('.')
                .is_some_and(|(name, _)| epoch_of(name).is_some() || is_best(name) || name == PROBE)
        })
        .map_err(failed)?;
        write_whole(folder, PROBE, []).map_err(failed)?;
        remove(&folder.join(PROBE));
        Ok(Self {
            sets,
            keep,
            _lock: held,
        })
    }

    pub fn directory(&self) -> &Path {
        &self.sets.directory
    }

    /// Sets aside what an earlier training left, in one step. A new training has nothing to go on from until
    /// its own first set, and the old ones are there until then.
    pub fn start_afresh(&self) -> Result<()> {
        let Sets { folder, .. } = &self.sets;
        if self.sets.epochs()?.values().any(|is_named| *is_named) {
            let before = self.sets.before();
            let moved = (self.sets.discard_before())
                .and_then(|()| std::fs::rename(folder, &before))
                .and_then(|()| std::fs::create_dir(folder))
                .and_then(|()| sync_directory(&self.sets.directory));
            moved.map_err(|error| Error::io(before, error))?;
        }
        self.clean()
    }

    /// Keeps a set to go on from, and those before it that are to be kept. Later ones are damaged; older ones
    /// are left of a training that was killed before it removed them.
    pub fn go_on_from(&self, epoch: usize) -> Result<()> {
        let later = self.sets.epochs()?.into_keys().filter(|e| *e > epoch);
        later.for_each(|epoch| remove_set(&self.sets.folder, epoch));
        let pruned = self.sets.prune(self.keep);
        pruned.map_err(|error| Error::io(&self.sets.folder, error))
    }

    /// Removes files that belong to no whole set: those of a training that was killed, or of a full disk.
    pub fn clean(&self) -> Result<()> {
        for (epoch, is_named) in self.sets.epochs()? {
            if !is_named {
                remove_set(&self.sets.folder, epoch);
            }
        }
        Ok(())
    }
}

/// An empty file that shows whether files can be made.
const PROBE: &str = ".writable";
