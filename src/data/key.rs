//! The name of a sample, whatever its index in a dataset, and of all samples together.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

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

/// Which samples there are, whatever their order: the sum of a hash of each id.
///
/// A sample that occurs twice counts twice. Views do not count: recording more views of the same
/// data leaves its fingerprint as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct DataFingerprint(u128);

impl DataFingerprint {
    /// One more sample.
    pub(crate) fn add(&mut self, id: SampleId) {
        self.0 = self.0.wrapping_add(xxh3_128(&id.0.to_le_bytes()));
    }
}

impl fmt::Display for DataFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<DataFingerprint> for String {
    fn from(value: DataFingerprint) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for DataFingerprint {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
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
