//! Reading: files as memory, and an index from each sample to its place.

pub(crate) mod columns;
pub(crate) mod feature_column;
pub(crate) mod shard;
pub(crate) mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use memmap2::Mmap;

use crate::data::key::{Key, SampleId};
use crate::error::{Error, Result};
use crate::files::{Written, checksum, read_regular};
use crate::knowledge::format::form::Form;
use crate::knowledge::format::header::Header;
use crate::knowledge::format::input::InputSummary;
use crate::knowledge::format::manifest::{Manifest, NAME, ShardEntry};
use crate::knowledge::format::map::map;
use crate::knowledge::format::ranks::Ranks;
use crate::knowledge::format::rows::Rows;
use crate::knowledge::store::shard::{Layout, Scratch};

/// Recorded knowledge, open for reading. Clones share it, and threads may read at the same time.
///
/// What is open are maps of files, and an index of about 50 bytes a sample in memory; pages of the files
/// come and go as the system sees fit. Each shard's checksum is computed once, when its first sample is
/// read. A shard that is missing or damaged leaves the others readable: what is wrong is among the
/// [problems](Self::problems), and in the error of whoever asks for one of its samples.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    manifest: Manifest,
    form: Form,
    ranks: Option<Ranks>,
    shards: Vec<Result<Shard>>,
    index: HashMap<Slot, Place>,
    duplicates: u64,
}

/// A key in less space: halves of the id, and the view.
type Slot = (u64, u64, u32);
/// A shard, and a sample in it.
type Place = (u32, u32);

fn slot(key: Key) -> Slot {
    (key.id.0 as u64, (key.id.0 >> 64) as u64, key.view)
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Mmap,
    layout: Layout,
    checksum: String,
    /// What the checksum says, once it was asked for.
    damage: OnceLock<Option<Error>>,
}

impl Shard {
    fn verify(&self) -> Result<()> {
        let damage = self.damage.get_or_init(|| {
            let found = checksum(&self.map);
            let reason = format!("has checksum {found}, {} was recorded", self.checksum);
            (found != self.checksum).then(|| damaged(&self.path, reason))
        });
        damage.clone().map_or(Ok(()), Err)
    }
}

impl Store {
    /// Opens knowledge that is recorded to the end.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file if there is no manifest, if it is of another program or a
    /// newer version, or damaged; and [`Error::KnowledgeUnfinished`] if recording was interrupted.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let store = Self::open_partial(directory)?;
        match store.inner.manifest.complete {
            true => Ok(store),
            false => Err(Error::KnowledgeUnfinished {
                directory: store.inner.directory.clone(),
                recorded: store.len(),
            }),
        }
    }

    /// Opens knowledge as far as it is recorded.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), but that it may be unfinished.
    pub fn open_partial(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref().to_path_buf();
        let manifest = read_manifest(&directory)?;
        let path = directory.join(NAME);
        let form = Form::new(manifest.header.clone())
            .map_err(|error| damaged(&path, format!("has a header that cannot be: {error}")))?;
        let ranks = read_ranks(&directory, &manifest)?;
        let mut index = HashMap::new();
        let mut duplicates = 0;
        let mut shards = Vec::with_capacity(manifest.shards.len());
        for entry in &manifest.shards {
            let shard = open_shard(&directory, entry, &form).map(|(map, layout)| Shard {
                path: directory.join(&entry.file.file),
                map,
                layout,
                checksum: entry.file.checksum.clone(),
                damage: OnceLock::new(),
            });
            if let Ok(shard) = &shard {
                index.reserve(shard.layout.samples);
                for (sample, (key, _)) in shard.layout.keys(&shard.map).enumerate() {
                    let place = (shards.len() as u32, sample as u32);
                    // Of samples that are the same, the first is read.
                    if *index.entry(slot(key)).or_insert(place) != place {
                        duplicates += 1;
                    }
                }
            }
            shards.push(shard);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                manifest,
                form,
                ranks,
                shards,
                index,
                duplicates,
            }),
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// What is kept of each sample.
    pub(crate) fn header(&self) -> &Header {
        &self.inner.form.header
    }

    /// Whether recording came to its end.
    pub fn is_complete(&self) -> bool {
        self.inner.manifest.complete
    }

    /// The number of samples recorded: views count one by one, and so do samples that are the same.
    pub fn len(&self) -> u64 {
        self.inner.manifest.samples()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of rows of logits.
    pub fn rows(&self) -> u64 {
        self.inner.manifest.shards.iter().map(|s| s.rows).sum()
    }

    /// The size of all files of samples, in bytes.
    pub fn bytes(&self) -> u64 {
        self.inner
            .manifest
            .shards
            .iter()
            .map(|s| s.file.bytes)
            .sum()
    }

    /// The number of samples whose key was there before, of which the first is read.
    pub fn duplicates(&self) -> u64 {
        self.inner.duplicates
    }

    /// What is wrong with the files that cannot be read at all. Damage within samples is found when they
    /// are read, or by [`verify`](Self::verify).
    pub fn problems(&self) -> Vec<Error> {
        let shards = self.inner.shards.iter();
        shards.filter_map(|s| s.as_ref().err().cloned()).collect()
    }

    /// The first sample that was recorded, and a digest of its input, where that is known.
    pub(crate) fn probe(&self) -> Option<(Key, &InputSummary)> {
        let probe = self.inner.manifest.probe.as_ref()?;
        let id = u128::from_str_radix(&probe.id, 16).ok()?;
        let key = Key::new(SampleId(id)).with_view(probe.view);
        Some((key, &probe.input))
    }

    /// Whether a sample can be looked up.
    pub(crate) fn contains(&self, key: Key) -> bool {
        self.inner.index.contains_key(&slot(key))
    }

    /// All keys with their seeds, in the order in which they were recorded, of the files that can be read.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, u64)> + '_ {
        let shards = self.inner.shards.iter().filter_map(|s| s.as_ref().ok());
        shards.flat_map(|shard| shard.layout.keys(&shard.map))
    }

    /// Computes the checksum of every file now.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the first file that is missing or damaged.
    pub fn verify(&self) -> Result<()> {
        for shard in &self.inner.shards {
            shard.as_ref().map_err(Clone::clone)?.verify()?;
        }
        Ok(())
    }

    /// What is recorded of some samples, at least one, in this order, each in its store; all stores have one
    /// form.
    ///
    /// # Errors
    ///
    /// Returns an error if a sample was not recorded, if its file is damaged, or if stores differ in form.
    pub(crate) fn read_across(samples: &[(&Self, Key)]) -> Result<Rows> {
        let (first, _) = samples[0];
        let mut rows = Rows::new(first.header());
        let mut scratch = Scratch::default();
        for (store, key) in samples {
            if let Some((what, recorded, given)) = first.header().difference(store.header()) {
                return Err(Error::KnowledgeMismatch {
                    directory: store.directory().into(),
                    what: format!("beside {}, {what}", first.directory().display()),
                    recorded: given,
                    given: recorded,
                });
            }
            store.append(*key, &mut scratch, &mut rows)?;
        }
        rows.pad(&scratch.widths);
        Ok(rows)
    }

    /// Appends what is recorded of one sample.
    fn append(&self, key: Key, scratch: &mut Scratch, rows: &mut Rows) -> Result<()> {
        let Inner { form, ranks, .. } = &*self.inner;
        let (shard, sample) = self.find(key)?;
        shard.verify()?;
        shard
            .layout
            .read(&shard.map, sample, form, ranks.as_ref(), scratch, rows)
            .map_err(|reason| damaged(&shard.path, reason))
    }

    fn find(&self, key: Key) -> Result<(&Shard, usize)> {
        let missing = || Error::NotRecorded {
            directory: self.inner.directory.clone(),
            sample: key.to_string(),
            recorded: self.len(),
            unreadable: self.problems().first().map(ToString::to_string),
        };
        let (shard, sample) = self.inner.index.get(&slot(key)).ok_or_else(missing)?;
        let shard = self.inner.shards[*shard as usize].as_ref();
        Ok((shard.map_err(Clone::clone)?, *sample as usize))
    }
}

fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::KnowledgeFile {
        path: path.to_path_buf(),
        reason: reason.into(),
        remedy: "bring it back from a copy, or record again into another directory".into(),
    }
}

/// More than any manifest has; a million shards take half of it.
const MANIFEST_BYTES: u64 = 1 << 29;

/// Reads the manifest of a directory.
pub(crate) fn read_manifest(directory: &Path) -> Result<Manifest> {
    let path = directory.join(NAME);
    let bytes = read_regular(&path, MANIFEST_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::KnowledgeFile {
            path: path.clone(),
            reason: "is missing".into(),
            remedy: "name a directory in which knowledge was recorded".into(),
        },
        _ => Error::io(&path, error),
    })?;
    Manifest::parse(&bytes).map_err(|unusable| Error::KnowledgeFile {
        path,
        reason: unusable.reason,
        remedy: unusable.remedy,
    })
}

/// Reads the numbering of classes, where there is one. Without it no row can be read.
pub(crate) fn read_ranks(directory: &Path, manifest: &Manifest) -> Result<Option<Ranks>> {
    let Some(Written {
        file,
        bytes,
        checksum: recorded,
    }) = &manifest.ranks
    else {
        return Ok(None);
    };
    let path = directory.join(file);
    let map = map(&path, *bytes)?;
    let found = checksum(&map);
    if found != *recorded {
        let reason = format!("has checksum {found}, {recorded} was recorded");
        return Err(damaged(&path, reason));
    }
    let ranks = Ranks::from_bytes(&map, manifest.header.classes);
    ranks.map(Some).map_err(|reason| damaged(&path, reason))
}

/// Maps a shard and finds its columns. Its keys are as recorded; of the rest, only the place is checked.
pub(crate) fn open_shard(
    directory: &Path,
    entry: &ShardEntry,
    form: &Form,
) -> Result<(Mmap, Layout)> {
    let path = directory.join(&entry.file.file);
    let map = map(&path, entry.file.bytes)?;
    let layout = Layout::parse(&map, form).map_err(|reason| damaged(&path, reason))?;
    let found = (layout.samples as u64, layout.rows as u64);
    let recorded = (entry.samples, entry.rows);
    if found != recorded {
        let reason = format!("has {found:?} samples and rows, {recorded:?} were recorded");
        return Err(damaged(&path, reason));
    }
    if layout.key_digest(&map) != entry.keys {
        return Err(damaged(
            &path,
            "has other ids, views or seeds than recorded",
        ));
    }
    Ok((map, layout))
}

#[cfg(test)]
#[path = "../tests/store.rs"]
mod tests;
