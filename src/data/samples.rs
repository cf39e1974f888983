//! Samples by name instead of by index, and their augmented views.

use std::marker::PhantomData;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::Device;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use crate::data::batch::DistillBatch;
use crate::data::dataset::{DistillData, Source};
use crate::data::key::{Key, Name, SampleId, content_id};

/// A dataset on its way to [`DistillData`]: how its samples are named, and in how many views they are
/// seen.
///
/// An index says little: shuffling, subsets and new files move it. A name that is a hash of the content,
/// or an id of your own, is the same in every subset and order; recorded knowledge goes by it.
///
/// # Example
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::{DistillBatch, DistillData};
///
/// let data = DistillData::builder(InMemDataset::new(vec![[1f32, 2.0], [3.0, 4.0]]))
///     .by_content()
///     .with_views(3, 7, |point: [f32; 2], seed| [point[0] + seed as f32 * 1e-20, point[1]])
///     .batched(|points: Vec<[f32; 2]>, device: &Device| {
///         let data = TensorData::new(points.concat(), [points.len(), 2]);
///         DistillBatch::new(Tensor::<2>::from_data(data, device))
///     });
/// assert_eq!((data.len(), data.views()), (6, 3));
/// ```
pub struct DataBuilder<Item> {
    items: Arc<dyn Dataset<Item>>,
    /// `None` names a sample by its index.
    id: Option<Arc<IdOf<Item>>>,
    views: Vec<Views<Item>>,
}

type IdOf<Item> = dyn Fn(&Item) -> SampleId + Send + Sync;
type Augment<Item> = dyn Fn(Item, u64) -> Item + Send + Sync;

/// Several views of each sample.
struct Views<Item> {
    count: u32,
    seed: u64,
    augment: Arc<Augment<Item>>,
}

impl<Item> Clone for Views<Item> {
    fn clone(&self) -> Self {
        Self {
            augment: self.augment.clone(),
            ..*self
        }
    }
}

impl<Item> std::fmt::Debug for DataBuilder<Item> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataBuilder")
            .field("len", &self.len())
            .field("views", &self.views())
            .finish_non_exhaustive()
    }
}

impl<Item: Send + Sync + 'static> DataBuilder<Item> {
    pub(crate) fn new<D: Dataset<Item> + 'static>(dataset: D) -> Self {
        Self {
            items: Arc::new(dataset),
            id: None,
            views: Vec::new(),
        }
    }

    /// Names samples by a hash of their content, as `serde` sees it.
    #[must_use]
    pub fn by_content(self) -> Self
    where
        Item: Serialize,
    {
        self.with_ids(content_id)
    }

    /// Names samples by ids of your own, which two different samples must not share.
    #[must_use]
    pub fn with_ids<F>(mut self, id: F) -> Self
    where
        F: Fn(&Item) -> SampleId + Send + Sync + 'static,
    {
        self.id = Some(Arc::new(id));
        self
    }

    /// Sees each sample in `count` augmented views: view `v` is `augment(item, s)` with a seed `s` that
    /// follows from `seed`, the sample's name and `v`.
    ///
    /// Whatever `augment` draws has to come from its seed, so that the view that the teacher saw is made
    /// again for the student. An epoch goes over all views.
    #[must_use]
    pub fn with_views<F>(mut self, count: u32, seed: u64, augment: F) -> Self
    where
        F: Fn(Item, u64) -> Item + Send + Sync + 'static,
    {
        self.views.push(Views {
            count: count.max(1),
            seed,
            augment: Arc::new(augment),
        });
        self
    }

    /// The data, with a closure that makes a batch of its items.
    pub fn batched<I, J, F>(self, batch: F) -> DistillData<I, J>
    where
        F: Fn(Vec<Item>, &Device) -> DistillBatch<I, J> + Send + Sync + 'static,
    {
        self.batched_by(BatchFn(batch))
    }

    /// The data, with the batcher for its items.
    pub fn batched_by<I, J, B>(self, batcher: B) -> DistillData<I, J>
    where
        B: Batcher<Item, DistillBatch<I, J>> + 'static,
    {
        DistillData::of(Batched {
            samples: self,
            batcher,
            _item: PhantomData,
        })
    }

    fn is_named(&self) -> bool {
        self.id.is_some()
    }

    /// Items with their names; without `with_names`, only those of views are right.
    fn get(
        &self,
        indices: Vec<usize>,
        with_names: bool,
    ) -> Result<Vec<(Item, Name)>, DatasetError> {
        let views = self.views() as usize;
        let sources: Vec<usize> = indices.iter().map(|index| index / views).collect();
        let items = self.items.get_many(sources)?;
        let named = items.into_iter().zip(indices).map(|(item, index)| {
            let id = match &self.id {
                // The seed of a view follows from the name.
                Some(id) if with_names || views > 1 => id(&item),
                _ => SampleId((index / views) as u128),
            };
            self.viewed(item, Key::new(id), index % views)
        });
        Ok(named.collect())
    }

    /// One view of an item.
    fn viewed(&self, item: Item, mut key: Key, view: usize) -> (Item, Name) {
        let (mut item, mut seed, mut rest) = (item, 0, view);
        let mut inner = self.views() as usize;
        for views in &self.views {
            inner /= views.count as usize;
            let own = (rest / inner) as u32;
            rest %= inner;
            key = key.with_view(key.view * views.count + own);
            let mut hash = Xxh3Default::new();
            hash.update(&views.seed.to_le_bytes());
            hash.update(&key.id.0.to_le_bytes());
            hash.update(&key.view.to_le_bytes());
            seed = hash.digest();
            item = (views.augment)(item, seed);
        }
        (item, Name { key, seed })
    }
}

impl<Item> DataBuilder<Item> {
    fn len(&self) -> usize {
        self.items.len() * self.views() as usize
    }

    fn views(&self) -> u32 {
        self.views.iter().map(|views| views.count).product()
    }
}

impl DistillData<()> {
    /// Starts from a dataset whose samples shall have names of their own, or be seen in several views.
    pub fn builder<Item, D>(dataset: D) -> DataBuilder<Item>
    where
        D: Dataset<Item> + 'static,
        Item: Send + Sync + 'static,
    {
        DataBuilder::new(dataset)
    }
}

impl<I, J> DistillData<I, J> {
    /// A dataset and the batcher for its items.
    pub fn new<D, Item, B>(dataset: D, batcher: B) -> Self
    where
        D: Dataset<Item> + 'static,
        B: Batcher<Item, DistillBatch<I, J>> + 'static,
        Item: Send + Sync + 'static,
    {
        DataBuilder::new(dataset).batched_by(batcher)
    }

    /// A dataset and a closure that makes a batch of its items.
    pub fn from_fn<D, Item, F>(dataset: D, batch: F) -> Self
    where
        D: Dataset<Item> + 'static,
        F: Fn(Vec<Item>, &Device) -> DistillBatch<I, J> + Send + Sync + 'static,
        Item: Send + Sync + 'static,
    {
        DataBuilder::new(dataset).batched(batch)
    }
}

/// A closure as a batcher.
struct BatchFn<F>(F);

impl<I, J, Item, F> Batcher<Item, DistillBatch<I, J>> for BatchFn<F>
where
    F: Fn(Vec<Item>, &Device) -> DistillBatch<I, J> + Send + Sync,
{
    fn batch(&self, items: Vec<Item>, device: &Device) -> DistillBatch<I, J> {
        (self.0)(items, device)
    }
}

/// Named items and a batcher.
struct Batched<Item, B> {
    samples: DataBuilder<Item>,
    batcher: B,
    _item: PhantomData<fn(Item)>,
}

impl<I, J, Item, B> Source<I, J> for Batched<Item, B>
where
    Item: Send + Sync + 'static,
    B: Batcher<Item, DistillBatch<I, J>>,
{
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn views(&self) -> u32 {
        self.samples.views()
    }

    fn is_named(&self) -> bool {
        self.samples.is_named()
    }

    fn names(&self, indices: Vec<usize>) -> Result<Vec<Name>, DatasetError> {
        let samples = self.samples.get(indices, true)?;
        Ok(samples.into_iter().map(|(_, name)| name).collect())
    }

    fn batch(
        &self,
        indices: Vec<usize>,
        device: &Device,
        with_names: bool,
    ) -> Result<DistillBatch<I, J>, DatasetError> {
        let samples = self.samples.get(indices.clone(), with_names)?;
        let (items, names): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        let mut batch = self.batcher.batch(items, device);
        batch.indices = indices;
        if with_names {
            batch.names = names;
        }
        Ok(batch)
    }
}
