//! A dataset, the way its items become batches, and the names of its samples.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Tensor};

use crate::data::batch::DistillBatch;
use crate::data::key::Name;
use crate::data::recorded::RecordedOutputs;
use crate::error::{Error, Result};

/// What a training, a validation or a measurement goes through: any Burn [`Dataset`](burn::data::dataset::Dataset), a
/// closure or a [`Batcher`](burn::data::dataloader::batcher::Batcher) that turns its items into [`DistillBatch`]es on the device it is given, and the names of
/// its samples.
///
/// Batch size, order and the threads that prepare batches belong to the
/// [training](crate::FitConfig), so that two trainings over the same data see the same batches.
/// Samples are named by their index, which is enough for one training; what is recorded goes by names
/// that survive another order, see [`builder`](Self::builder). Cloning shares the data.
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
pub struct DistillData<I, J = I> {
    source: Arc<dyn Source<I, J>>,
    images: Option<Arc<ToImages<I>>>,
    recorded: Option<Arc<dyn RecordedOutputs>>,
    /// Tells apart the indices of two datasets; 0 where names are more than an index.
    scope: u64,
}

/// Images `[N, C, H, W]` of a batch of inputs.
type ToImages<I> = dyn Fn(&I) -> Tensor<4> + Send + Sync;

impl<I, J> Clone for DistillData<I, J> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            images: self.images.clone(),
            recorded: self.recorded.clone(),
            scope: self.scope,
        }
    }
}

impl<I, J> std::fmt::Debug for DistillData<I, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DistillData")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<I, J> DistillData<I, J> {
    pub(crate) fn of(source: impl Source<I, J> + 'static) -> Self {
        static SCOPES: AtomicU64 = AtomicU64::new(1);
        let scope = match source.is_named() {
            true => 0,
            false => SCOPES.fetch_add(1, Ordering::Relaxed),
        };
        Self {
            source: Arc::new(source),
            images: None,
            recorded: None,
            scope,
        }
    }

    /// Says how inputs look, for the samples that an [HTML report](crate::Report::save_html) shows: as
    /// images `[N, C, H, W]` of one channel or three. Inputs that are such tensors need it not.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::{data::dataset::InMemDataset, tensor::{Device, Tensor}};
    /// use burn_distill::{DistillBatch, DistillData};
    ///
    /// // Digits of 28 by 28 pixels that a perceptron sees flat.
    /// let data = DistillData::from_fn(InMemDataset::new(vec![0]), |_: Vec<i32>, device: &Device| {
    ///     DistillBatch::new(Tensor::<2>::zeros([1, 784], device))
    /// })
    /// .with_images(|input| input.clone().reshape([-1, 1, 28, 28]));
    /// assert_eq!(data.len(), 1);
    /// ```
    #[must_use]
    pub fn with_images<F>(mut self, images: F) -> Self
    where
        F: Fn(&I) -> Tensor<4> + Send + Sync + 'static,
    {
        self.images = Some(Arc::new(images));
        self
    }

    /// Images of inputs, where it is known how they look.
    pub(crate) fn images(&self, input: &I) -> Option<Tensor<4>>
    where
        I: 'static,
    {
        match &self.images {
            Some(images) => Some(images(input)),
            None => (input as &dyn Any).downcast_ref::<Tensor<4>>().cloned(),
        }
    }

    /// The number of samples, each view counted.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many views each sample has.
    pub fn views(&self) -> u32 {
        self.source.views()
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
    ) -> Result<DistillBatch<I, J>, DatasetError> {
        self.source.batch(indices, device, self.is_recorded())
    }

    /// A batch of a set, with or without the names of its samples, which cost a hash of their content where
    /// that is the name. An error names the sample that cannot be read.
    pub(crate) fn read(
        &self,
        what: &'static str,
        indices: Vec<usize>,
        device: &Device,
        with_names: bool,
    ) -> Result<DistillBatch<I, J>> {
        let with_names = with_names || self.is_recorded();
        let batch = self.source.batch(indices.clone(), device, with_names);
        batch.map_err(|error| {
            let unreadable = |index: &usize| self.names(vec![*index]).err().zip(Some(*index));
            let message = match indices.iter().find_map(unreadable) {
                Some((error, index)) => format!("sample {index}: {error}"),
                None => error.to_string(),
            };
            Error::Dataset { what, message }
        })
    }

    /// The names of the samples with these indices.
    pub(crate) fn names(&self, indices: Vec<usize>) -> Result<Vec<Name>, DatasetError> {
        self.source.names(indices)
    }

    /// Whether samples have names that survive another order of the data.
    pub(crate) fn is_named(&self) -> bool {
        self.source.is_named()
    }

    /// What tells names of this data from those of other data; 0 where the names do so by themselves.
    pub(crate) fn scope(&self) -> u64 {
        self.scope
    }

    pub(crate) fn with_recorded(mut self, recorded: Arc<dyn RecordedOutputs>) -> Self {
        self.recorded = Some(recorded);
        self
    }

    /// The data alone, without recorded outputs.
    pub(crate) fn without_recorded(mut self) -> Self {
        self.recorded = None;
        self
    }

    /// The recorded outputs that belong to the data.
    pub(crate) fn recorded(&self) -> Option<&dyn RecordedOutputs> {
        self.recorded.as_deref()
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }
}

/// Hides the type of the items.
pub(crate) trait Source<I, J>: Send + Sync {
    fn len(&self) -> usize;
    fn views(&self) -> u32;
    fn is_named(&self) -> bool;
    fn names(&self, indices: Vec<usize>) -> Result<Vec<Name>, DatasetError>;
    fn batch(
        &self,
        indices: Vec<usize>,
        device: &Device,
        with_names: bool,
    ) -> Result<DistillBatch<I, J>, DatasetError>;
}
