//! Recording: one shard in memory, the ones before it on disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::data::key::Key;
use crate::error::{Error, Result};
use crate::files::{Written, lock, remove_unfinished, write_whole};
use crate::knowledge::format::form::Form;
use crate::knowledge::format::header::Header;
use crate::knowledge::format::input::InputSummary;
use crate::knowledge::format::manifest::{Manifest, NAME, Probe, ShardEntry};
use crate::knowledge::format::ranks::Ranks;
use crate::knowledge::format::sample::SampleRecord;
use crate::knowledge::format::tensors::serialize;
use crate::knowledge::store::columns::Columns;
use crate::knowledge::store::{read_manifest, read_ranks};

const LOCK: &str = ".lock";
const RANKS: &str = "ranks.safetensors";

/// Records samples into a directory, each once, and goes on where an interrupted writer ended.
///
/// A shard is there whole or not at all, and counts once the manifest names it: a writer that is
/// killed loses the samples since the last shard and nothing else. The manifest is written again with
/// each shard. One writer at a time holds a directory; readers of finished shards are not disturbed.
///
/// A key that comes twice is recorded twice, and the first is what is read: samples of a dataset that
/// are the same need no care. Two different samples under one id are a mistake that this cannot see.
#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    form: Form,
    shard_bytes: usize,
    manifest: Manifest,
    ranks: Option<Ranks>,
    columns: Columns,
    /// The shards that were there when the writer was made, and its own.
    shards: Vec<Written>,
    /// Holds the lock, which the system lets go of with the process if need be.
    _lock: File,
}

impl Writer {
    /// Begins to record into a directory, or goes on with what an interrupted writer left there. A shard is
    /// closed once it holds `shard_bytes`.
    ///
    /// # Errors
    ///
    /// Returns an error if the header is not valid or differs from the one recorded, if another
    /// writer is at work there, or if the directory cannot be written or holds something else.
    pub(crate) fn create_or_resume(
        directory: &Path,
        header: &Header,
        shard_bytes: usize,
    ) -> Result<Self> {
        let form = Form::new(header.clone())?;
        let lock = hold(directory)?;
        let path = directory.join(NAME);
        let exists = path.try_exists().map_err(|error| Error::io(&path, error))?;
        let (manifest, ranks) = match exists {
            true => {
                let manifest = read_manifest(directory)?;
                check_same(directory, &manifest, header)?;
                let ranks = read_ranks(directory, &manifest)?;
                (manifest, ranks)
            }
            false => {
                let manifest = Manifest::new(header.clone());
                write_manifest(directory, &manifest)?;
                (manifest, None)
            }
        };
        let shards = manifest.shards.iter().map(|shard| shard.file.clone());
        let shards = shards.filter(|shard| missing(directory, shard).is_none());
        Ok(Self {
            shards: shards.collect(),
            form,
            shard_bytes,
            manifest,
            ranks,
            columns: Columns::default(),
            directory: directory.to_path_buf(),
            _lock: lock,
        })
    }

    /// Sets what a later recording compares the first sample's input with.
    pub(crate) fn probe(&mut self, key: Key, input: Option<InputSummary>) {
        self.manifest.probe = input.map(|input| Probe {
            id: key.id.to_string(),
            view: key.view,
            input,
        });
    }

    /// Records a sample. It is on disk once its shard is full, or after [`flush`](Self::flush) or
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// Returns an error if the sample does not have the form of the header, and if a shard cannot be
    /// written. In each case the sample is not recorded, and the writer can be used on.
    pub(crate) fn write(&mut self, sample: &SampleRecord) -> Result<()> {
        let refused = |reason: String| Error::InvalidSample {
            sample: sample.key.to_string(),
            reason,
        };
        if sample.key.view >= self.form.header.views {
            let views = self.form.header.views;
            return Err(refused(format!("the store keeps {views} views, from 0")));
        }
        if self.columns.bytes() >= self.shard_bytes {
            self.flush()?;
        }
        self.columns
            .push(sample, &self.form, self.ranks.as_ref())
            .map_err(refused)
    }

    /// Closes the shard, if it holds a sample, and puts it on disk.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file that cannot be written. Nothing is lost: once there is
    /// room, the next call writes the same shard.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.columns.samples == 0 {
            return Ok(());
        }
        if self.manifest.shards.is_empty() {
            self.find_ranks()?;
        }
        let name = format!("shard-{:05}.safetensors", self.manifest.shards.len());
        let file = serialize(&self.columns.tensors(&self.form));
        let file = write(&self.directory, &name, file.parts())?;
        self.shards.push(file.clone());
        let mut manifest = self.manifest.clone();
        manifest.shards.push(ShardEntry {
            file,
            samples: self.columns.samples as u64,
            rows: self.columns.rows as u64,
            keys: self.columns.keys(),
        });
        // A finished store that grows is unfinished until it is finished again.
        manifest.complete = false;
        write_manifest(&self.directory, &manifest)?;
        self.manifest = manifest;
        self.columns.clear();
        Ok(())
    }

    /// Numbers classes by how often they occur in the first shard, if that pays.
    fn find_ranks(&mut self) -> Result<()> {
        if self.form.packed.is_none() || self.manifest.ranks.is_some() {
            return Ok(());
        }
        let own = |reason: String| Error::KnowledgeFile {
            path: self.directory.clone(),
            reason: format!("its rows in memory cannot be read: {reason}"),
            remedy: "report this with the header".into(),
        };
        let ranks = Ranks::by_count(&self.columns.class_counts(&self.form).map_err(own)?);
        let list = ranks.to_bytes();
        let packed = self.columns.renumber(&self.form, &ranks).map_err(own)?;
        if packed.bytes() + list.len() < self.columns.logit_bytes() {
            let written = write(&self.directory, RANKS, [list.as_slice()])?;
            self.manifest.ranks = Some(written);
            self.columns.adopt(packed);
            self.ranks = Some(ranks);
        }
        Ok(())
    }

    /// Writes what is left and marks the recording as finished. It may grow later all the same.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush), and if a file of the recording is gone meanwhile.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()?;
        let mut missing = self
            .shards
            .iter()
            .map(|file| missing(&self.directory, file));
        if let Some(error) = missing.find_map(|error| error) {
            return Err(error);
        }
        if self.manifest.complete {
            return Ok(());
        }
        self.manifest.complete = true;
        write_manifest(&self.directory, &self.manifest)
    }
}

/// Makes the directory, holds it for one writer, and removes what a killed one left aside.
fn hold(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK);
    let failed = |path: &Path, error: std::io::Error| Error::KnowledgeFile {
        path: path.to_path_buf(),
        reason: format!("cannot be written: {error}"),
        remedy: "name a directory that can be made and written".into(),
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let held = lock(&path).map_err(|error| failed(&path, error))?;
    let held = held.ok_or_else(|| Error::DirectoryLocked {
        directory: directory.to_path_buf(),
    })?;
    let is_ours = |name: &str| {
        [NAME, RANKS, "shard-"]
            .iter()
            .any(|own| name.starts_with(own))
    };
    remove_unfinished(directory, is_ours).map_err(|error| failed(directory, error))?;
    Ok(held)
}

/// What is wrong where a file that was written is not there as it was.
fn missing(directory: &Path, file: &Written) -> Option<Error> {
    let path = directory.join(&file.file);
    let reason = match std::fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() == file.bytes => return None,
        Ok(found) => format!("has {} bytes, {} were recorded", found.len(), file.bytes),
        Err(error) => format!("is gone: {error}"),
    };
    Some(Error::KnowledgeFile {
        path,
        reason,
        remedy: "record again: its samples are recorded once more".into(),
    })
}

fn write<'a>(
    directory: &Path,
    name: &str,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Written> {
    write_whole(directory, name, parts).map_err(|error| Error::KnowledgeFile {
        path: directory.join(name),
        reason: format!("cannot be written: {error}"),
        remedy:
            "make room or let it be written there, and record again: it goes on after the last \
                 whole shard"
                .into(),
    })
}

fn write_manifest(directory: &Path, manifest: &Manifest) -> Result<()> {
    write(directory, NAME, [manifest.to_bytes().as_slice()]).map(drop)
}

fn check_same(directory: &Path, manifest: &Manifest, header: &Header) -> Result<()> {
    match manifest.header.difference(header) {
        None => Ok(()),
        Some((what, recorded, given)) => Err(Error::KnowledgeMismatch {
            directory: directory.to_path_buf(),
            what: what.into(),
            recorded,
            given,
        }),
    }
}

#[cfg(test)]
#[path = "../tests/writer.rs"]
mod tests;
