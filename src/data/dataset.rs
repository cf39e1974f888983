//! A dataset together with the way its items become batches.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Tensor};

use crate::data::batch::DistillBatch;
use crate::data::outputs::Recalled;

/// What a training, a validation or a measurement goes through: any Burn [`Dataset`] and a
/// [`Batcher`] that turns its items into [`DistillBatch`]es on the device it is given.
///
/// Batch size, order and the threads that prepare batches belong to the
/// [training](crate::FitConfig), so that two trainings over the same data see the same batches.
/// Cloning shares the data.
///
/// # Example
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::{DistillBatch, DistillData};
///
/// let points = InMemDataset::new(vec![([0.0, 1.0], 1), ([1.0, 0.0], 0)]);
/// let data = DistillData::from_fn(points, |items: Vec<([f32; 2], i64)>, device: &Device| {
///     let (inputs, labels): (Vec<_>, Vec<_>) = items.into_iter().unzip();
///     let shape = [inputs.len(), 2];
///     let inputs = TensorData::new(inputs.concat(), shape);
///     let labels = TensorData::from(labels.as_slice());
///     DistillBatch::new(Tensor::<2>::from_data(inputs, device))
///         .with_classes(Tensor::<1, _>::from_data(labels, device))
/// });
/// assert_eq!(data.len(), 2);
/// ```
pub struct DistillData<I> {
    source: Arc<dyn Source<I>>,
    draw: Option<Arc<Draw<I>>>,
}

/// Images `[N, C, H, W]` of a batch of inputs.
type Draw<I> = dyn Fn(&I) -> Tensor<4> + Send + Sync;

impl<I> Clone for DistillData<I> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            draw: self.draw.clone(),
        }
    }
}

impl<I> std::fmt::Debug for DistillData<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DistillData")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<I> DistillData<I> {
    /// A dataset and the batcher for its items.
    pub fn new<D, Item, B>(dataset: D, batcher: B) -> Self
    where
        D: Dataset<Item> + 'static,
        B: Batcher<Item, DistillBatch<I>> + 'static,
        Item: 'static,
    {
        Self {
            source: Arc::new(Batched {
                dataset,
                batcher,
                _item: PhantomData,
            }),
            draw: None,
        }
    }

    /// Says how inputs look, for the samples that a [page](crate::Report::save_html) shows: as images
    /// `[N, C, H, W]` of one channel or three. Inputs that are such tensors need no word of it.
    ///
    /// # Example
    ///
    /// ```
    /// # use burn::{data::dataset::InMemDataset, tensor::{Device, Tensor}};
    /// # use burn_distill::{DistillBatch, DistillData};
    /// # let data = DistillData::from_fn(InMemDataset::new(vec![0]), |_: Vec<i32>, device: &Device| {
    /// #     DistillBatch::new(Tensor::<2>::zeros([1, 784], device))
    /// # });
    /// // Digits of 28 by 28 pixels that a perceptron sees flat.
    /// let data = data.with_pictures(|input| input.clone().reshape([-1, 1, 28, 28]));
    /// ```
    #[must_use]
    pub fn with_pictures<F>(mut self, draw: F) -> Self
    where
        F: Fn(&I) -> Tensor<4> + Send + Sync + 'static,
    {
        self.draw = Some(Arc::new(draw));
        self
    }

    /// Images of inputs, where it is known how they look.
    pub(crate) fn pictures(&self, input: &I) -> Option<Tensor<4>>
    where
        I: 'static,
    {
        match &self.draw {
            Some(draw) => Some(draw(input)),
            None => (input as &dyn Any).downcast_ref::<Tensor<4>>().cloned(),
        }
    }

    /// A dataset and a closure that makes a batch of its items.
    pub fn from_fn<D, Item, F>(dataset: D, batch: F) -> Self
    where
        D: Dataset<Item> + 'static,
        F: Fn(Vec<Item>, &Device) -> DistillBatch<I> + Send + Sync + 'static,
        Item: 'static,
    {
        Self::new(dataset, BatchFn(batch))
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One batch of the samples with these indices.
    ///
    /// # Errors
    ///
    /// What the dataset says when it cannot read them.
    pub fn batch(
        &self,
        indices: Vec<usize>,
        device: &Device,
    ) -> Result<DistillBatch<I>, DatasetError> {
        self.source.batch(indices, device)
    }
}

/// Hides the type of the items.
trait Source<I>: Send + Sync {
    fn len(&self) -> usize;
    fn batch(&self, indices: Vec<usize>, device: &Device) -> Result<DistillBatch<I>, DatasetError>;
}

struct Batched<D, B, Item> {
    dataset: D,
    batcher: B,
    _item: PhantomData<fn(Item)>,
}

impl<I, D, B, Item> Source<I> for Batched<D, B, Item>
where
    D: Dataset<Item>,
    B: Batcher<Item, DistillBatch<I>>,
{
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn batch(&self, indices: Vec<usize>, device: &Device) -> Result<DistillBatch<I>, DatasetError> {
        let items = self.dataset.get_many(indices.clone())?;
        let mut batch = self.batcher.batch(items, device);
        batch.indices = indices;
        // A batcher has no way to return it.
        if let Some(Recalled {
            outputs: Err(error),
            ..
        }) = &batch.recalled
        {
            return Err(DatasetError::new(error.clone()));
        }
        Ok(batch)
    }
}

/// A closure as a batcher; see [`batch_fn`].
#[derive(Debug, Clone)]
pub struct BatchFn<F>(F);

/// A batcher from a closure that makes a batch of items.
pub fn batch_fn<Item, I, F>(batch: F) -> BatchFn<F>
where
    F: Fn(Vec<Item>, &Device) -> DistillBatch<I> + Send + Sync,
{
    BatchFn(batch)
}

impl<I, Item, F> Batcher<Item, DistillBatch<I>> for BatchFn<F>
where
    F: Fn(Vec<Item>, &Device) -> DistillBatch<I> + Send + Sync,
{
    fn batch(&self, items: Vec<Item>, device: &Device) -> DistillBatch<I> {
        (self.0)(items, device)
    }
}
