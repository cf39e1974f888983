//! The name of a sample, whatever its index in a dataset.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

/// What names a sample whatever its place in a dataset: a hash of its content, or an id of your own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SampleId(pub u128);

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One recorded view of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The sample.
    pub(crate) id: SampleId,
    /// Which of its views, from 0.
    pub(crate) view: u32,
}

impl Key {
    /// The first view of a sample, and the only one where nothing is augmented.
    pub(crate) fn new(id: SampleId) -> Self {
        Self { id, view: 0 }
    }

    /// Another view of the same sample.
    #[must_use]
    pub(crate) fn with_view(self, view: u32) -> Self {
        Self { view, ..self }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (view {})", self.id, self.view)
    }
}

/// The name of a sample as a batch carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    /// Which sample, and which view of it.
    pub key: Key,
    /// What its augmentation started from; 0 where there is none.
    pub seed: u64,
}

/// A hash of an item's content: its fields in order, without their names.
///
/// # Panics
///
/// Panics if the item's own `Serialize` fails, or if it holds a sequence of unknown length, neither of
/// which a derived one does.
pub fn content_id<Item: Serialize>(item: &Item) -> SampleId {
    let hash = Hash(Xxh3Default::new(), Vec::with_capacity(Hash::ROOM));
    let id = postcard::serialize_with_flavor(item, hash);
    id.unwrap_or_else(|error| panic!("a sample that cannot be serialized has no id: {error}"))
}

/// Hashes what is serialized, some at a time.
struct Hash(Xxh3Default, Vec<u8>);

impl Hash {
    const ROOM: usize = 4096;

    fn drain(&mut self) {
        self.0.update(&self.1);
        self.1.clear();
    }
}

impl postcard::ser_flavors::Flavor for Hash {
    type Output = SampleId;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.1.push(byte);
        if self.1.len() == Self::ROOM {
            self.drain();
        }
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.drain();
        self.0.update(bytes);
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<SampleId> {
        self.drain();
        Ok(SampleId(self.0.digest128()))
    }
}
