//! Samples by what they are instead of by their place, and their augmented views.

use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use crate::knowledge::format::key::{Key, SampleId};
use crate::knowledge::recall::WithKnowledge;
use crate::knowledge::store::Store;

/// An item of a dataset with what names it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sample<Item> {
    /// The item, augmented where it is one of several views.
    pub item: Item,
    /// Which sample, and which view of it.
    pub key: Key,
    /// What its augmentation started from; 0 where there is none.
    pub seed: u64,
}

/// A dataset whose items are known by what they are: what recorded knowledge is kept under.
///
/// A place in a dataset says little: shuffling, subsets and new files move it. Here the name of a sample
/// is a hash of its content, which is the same in every subset and order, or an id of your own. It is a
/// dataset itself, to [record](fn@super::record) and to [train on](Self::with_knowledge). Cloning shares the
/// data.
///
/// # Example
///
/// ```
/// use burn::data::dataset::{Dataset, InMemDataset};
/// use burn_distill::knowledge::Samples;
///
/// let all = Samples::new(InMemDataset::new(vec![[1u8, 2], [3, 4]]));
/// let one = Samples::new(InMemDataset::new(vec![[3u8, 4]]));
/// assert_eq!(all.get(1)?.key, one.get(0)?.key);
/// assert_ne!(all.get(0)?.key, one.get(0)?.key);
/// # Ok::<(), burn::data::dataset::DatasetError>(())
/// ```
pub struct Samples<Item> {
    source: Arc<dyn Dataset<Sample<Item>>>,
    views: u32,
}

impl<Item> Clone for Samples<Item> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            views: self.views,
        }
    }
}

impl<Item> std::fmt::Debug for Samples<Item> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Samples")
            .field("len", &self.source.len())
            .field("views", &self.views)
            .finish_non_exhaustive()
    }
}

impl<Item: Send + Sync + 'static> Samples<Item> {
    /// Samples named by a hash of their content, as `serde` sees it.
    pub fn new<D>(dataset: D) -> Self
    where
        D: Dataset<Item> + 'static,
        Item: Serialize,
    {
        Self::with_ids(dataset, content_id)
    }

    /// Samples named by ids of your own, which are not to be shared by two that differ.
    pub fn with_ids<D, F>(dataset: D, id: F) -> Self
    where
        D: Dataset<Item> + 'static,
        F: Fn(&Item) -> SampleId + Send + Sync + 'static,
    {
        Self {
            source: Arc::new(Named { dataset, id }),
            views: 1,
        }
    }

    /// So many augmented views of each sample, one behind the other: view `v` is `augment(item, s)`
    /// with a seed `s` that follows from `seed`, the sample and `v`.
    ///
    /// Whatever `augment` draws has to come from its seed, so that the view that the teacher saw is
    /// made again for the student. An epoch goes over all views. Recorded knowledge is of no use for
    /// augmentation that is never the same twice: let a live teacher see it then.
    #[must_use]
    pub fn with_views<F>(self, views: u32, seed: u64, augment: F) -> Self
    where
        F: Fn(Item, u64) -> Item + Send + Sync + 'static,
    {
        let views = views.max(1);
        Self {
            views: self.views * views,
            source: Arc::new(Views {
                samples: self.source,
                views,
                seed,
                augment,
            }),
        }
    }

    /// How many views each sample has.
    pub fn views(&self) -> u32 {
        self.views
    }

    /// The samples with what a store has of them.
    pub fn with_knowledge(&self, store: &Store) -> WithKnowledge<Item> {
        WithKnowledge::new(self.clone(), store.clone())
    }
}

impl<Item: Send + Sync> Dataset<Sample<Item>> for Samples<Item> {
    fn get(&self, index: usize) -> Result<Sample<Item>, DatasetError> {
        self.source.get(index)
    }

    fn get_many(&self, indexes: Vec<usize>) -> Result<Vec<Sample<Item>>, DatasetError> {
        self.source.get_many(indexes)
    }

    fn len(&self) -> usize {
        self.source.len()
    }
}

struct Named<D, F> {
    dataset: D,
    id: F,
}

impl<Item, D, F> Dataset<Sample<Item>> for Named<D, F>
where
    D: Dataset<Item>,
    F: Fn(&Item) -> SampleId + Send + Sync,
{
    fn get(&self, index: usize) -> Result<Sample<Item>, DatasetError> {
        Ok(self.name(self.dataset.get(index)?))
    }

    fn get_many(&self, indexes: Vec<usize>) -> Result<Vec<Sample<Item>>, DatasetError> {
        let items = self.dataset.get_many(indexes)?;
        Ok(items.into_iter().map(|item| self.name(item)).collect())
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }
}

impl<D, F> Named<D, F> {
    fn name<Item>(&self, item: Item) -> Sample<Item>
    where
        F: Fn(&Item) -> SampleId,
    {
        Sample {
            key: Key::new((self.id)(&item)),
            item,
            seed: 0,
        }
    }
}

struct Views<Item, F> {
    samples: Arc<dyn Dataset<Sample<Item>>>,
    views: u32,
    seed: u64,
    augment: F,
}

impl<Item, F> Dataset<Sample<Item>> for Views<Item, F>
where
    Item: Send + Sync,
    F: Fn(Item, u64) -> Item + Send + Sync,
{
    fn get(&self, index: usize) -> Result<Sample<Item>, DatasetError> {
        let views = self.views as usize;
        let sample = self.samples.get(index / views)?;
        let view = sample.key.view * self.views + (index % views) as u32;
        let key = sample.key.with_view(view);
        let mut hash = Xxh3Default::new();
        hash.update(&self.seed.to_le_bytes());
        hash.update(&key.id.0.to_le_bytes());
        hash.update(&view.to_le_bytes());
        let seed = hash.digest();
        Ok(Sample {
            item: (self.augment)(sample.item, seed),
            key,
            seed,
        })
    }

    fn len(&self) -> usize {
        self.samples.len() * self.views as usize
    }
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
