//! Batches for the engine, in an order that depends on nothing but the seed and the epoch.
//!
//! Burn's own loader draws every epoch's order from one running generator, so that an order depends
//! on how often the loader was asked before. Here a training that resumes at epoch 7 sees what an
//! undisturbed one sees in its epoch 7, two trainings with one seed see the same batches whatever
//! they minimise, and several devices see together what one would see.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::data::batch::{DistillBatch, Targets};
use crate::data::dataset::DistillData;

/// One batch on its way into the engine, with its place in the training.
#[derive(Debug, Clone)]
pub(crate) struct Step<I> {
    pub batch: DistillBatch<I>,
    /// What the batch's mean counts for in the mean over all batches of one optimizer step.
    pub share: Share,
    /// Share of the training done, from 0 to 1.
    pub progress: f64,
    /// From 1.
    pub epoch: usize,
    /// The batch within the epoch, from 1.
    pub number: usize,
    /// Samples in the whole data.
    pub samples: usize,
}

/// A factor between 0 and 1.
#[derive(Debug, Clone)]
pub(crate) enum Share {
    /// Known from the number of samples.
    Known(f64),
    /// `[1]`, counted on the device, where masks decide; never read back.
    Counted(Box<Tensor<1>>),
}

/// How a training goes through its data.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Samples per batch and device.
    pub batch_size: usize,
    /// Batches per optimizer step and device.
    pub accumulation: usize,
    /// How many devices share the data.
    pub devices: usize,
    /// What gradients are multiplied by when the devices' are brought together: 1 where they are
    /// summed, one over their number where they are averaged.
    pub reduction: f64,
    pub epochs: usize,
    /// Threads that prepare batches ahead; 0 prepares each when it is asked for.
    pub workers: usize,
}

impl Plan {
    /// Optimizer steps in one epoch over this many samples.
    pub fn steps_per_epoch(&self, samples: usize) -> usize {
        samples.div_ceil(self.batch_size * self.devices * self.accumulation)
    }
}

pub(crate) struct Loader<I> {
    data: DistillData<I>,
    device: Device,
    plan: Plan,
    /// `None` keeps the order of the data, as validation does.
    seed: Option<u64>,
    /// Samples to go through; all of the data's, or none.
    samples: usize,
    /// Which of the plan's devices this loader serves; all of them before the engine cuts it up.
    part: Option<usize>,
    /// Epochs begun, which is the number of the current one.
    epoch: AtomicUsize,
}

impl<I: Module + 'static> Loader<I> {
    /// Shuffled batches, starting after `epochs_done`.
    pub fn training(data: DistillData<I>, plan: Plan, seed: u64, epochs_done: usize) -> Self {
        Self {
            samples: data.len(),
            data,
            device: Device::default(),
            plan,
            seed: Some(seed),
            part: None,
            epoch: AtomicUsize::new(epochs_done),
        }
    }

    /// Batches in the order of the data, each a step of its own.
    pub fn validation(data: DistillData<I>, plan: Plan, epochs_done: usize) -> Self {
        let plan = Plan {
            accumulation: 1,
            devices: 1,
            ..plan
        };
        Self {
            seed: None,
            ..Self::training(data, plan, 0, epochs_done)
        }
    }

    /// No batches at all: the engine wants validation data where there is none.
    pub fn nothing(data: DistillData<I>, plan: Plan) -> Self {
        Self {
            samples: 0,
            ..Self::validation(data, plan, 0)
        }
    }

    fn with(&self, device: Device, part: Option<usize>) -> Self {
        Self {
            data: self.data.clone(),
            samples: self.samples,
            device,
            plan: self.plan.clone(),
            seed: self.seed,
            part,
            epoch: AtomicUsize::new(self.epoch.load(Ordering::Relaxed)),
        }
    }

    /// The samples of each of this part's batches: the epoch's order is cut into batches, which
    /// the parts take in turn.
    fn chunks(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        if let Some(seed) = self.seed {
            order.shuffle(&mut StdRng::seed_from_u64(mix(seed, epoch as u64)));
        }
        let chunks = order.chunks(self.plan.batch_size);
        match self.part {
            Some(part) => {
                let mine = chunks.skip(part).step_by(self.plan.devices);
                mine.map(<[usize]>::to_vec).collect()
            }
            None => chunks.map(<[usize]>::to_vec).collect(),
        }
    }
}

/// A seed of its own for every epoch.
pub(crate) fn mix(seed: u64, epoch: u64) -> u64 {
    // The odd constant of splitmix64 sends neighbouring epochs far apart.
    seed ^ epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl<I: Module + 'static> DataLoader<Step<I>> for Loader<I> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Step<I>> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(seed) = self.seed {
            // Dropout starts every epoch from a state that a resumed training can restore.
            self.device.seed(mix(!seed, epoch as u64));
        }
        let chunks = self.chunks(epoch);
        Box::new(Epoch {
            loader: self,
            epoch,
            sizes: chunks.iter().map(Vec::len).collect(),
            batches: Batches::start(self, chunks),
            taken: 0,
            items: 0,
            ready: VecDeque::new(),
        })
    }

    fn num_items(&self) -> usize {
        self.chunks(0).iter().map(Vec::len).sum()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<Step<I>>> {
        Arc::new(self.with(device.clone(), self.part))
    }

    /// The engine cuts the data into equal runs, one per device. Their place tells which part is
    /// asked for; the samples are dealt out anew every epoch.
    fn slice(&self, start: usize, _end: usize) -> Arc<dyn DataLoader<Step<I>>> {
        let run = (self.samples / self.plan.devices).max(1);
        let part = (start / run).min(self.plan.devices - 1);
        Arc::new(self.with(self.device.clone(), Some(part)))
    }
}

/// The batches of one epoch, prepared here or by threads ahead.
enum Batches<I> {
    Here(std::vec::IntoIter<Vec<usize>>),
    /// Batch `i` comes from receiver `i % receivers`, so that the order is always the same.
    Ahead(Vec<Receiver<Result<DistillBatch<I>, DatasetError>>>),
}

impl<I: Module + 'static> Batches<I> {
    fn start(loader: &Loader<I>, chunks: Vec<Vec<usize>>) -> Self {
        let workers = loader.plan.workers.min(chunks.len());
        if workers == 0 {
            return Self::Here(chunks.into_iter());
        }
        let receivers = (0..workers).map(|worker| {
            let (sender, receiver) = sync_channel(2);
            let (data, device) = (loader.data.clone(), loader.device.clone());
            let mine: Vec<_> = chunks
                .iter()
                .skip(worker)
                .step_by(workers)
                .cloned()
                .collect();
            std::thread::spawn(move || {
                for chunk in mine {
                    // The other end is gone when an epoch ends early.
                    if sender.send(data.batch(chunk, &device)).is_err() {
                        return;
                    }
                }
            });
            receiver
        });
        Self::Ahead(receivers.collect())
    }

    fn take(
        &mut self,
        number: usize,
        loader: &Loader<I>,
    ) -> Option<Result<DistillBatch<I>, DatasetError>> {
        match self {
            Self::Here(chunks) => Some(loader.data.batch(chunks.next()?, &loader.device)),
            Self::Ahead(receivers) => {
                let receiver = &receivers[number % receivers.len()];
                Some(receiver.recv().unwrap_or_else(|_| {
                    Err(DatasetError::new(std::io::Error::other(
                        "a thread that prepares batches stopped early",
                    )))
                }))
            }
        }
    }
}

/// One pass over this part of the data.
struct Epoch<'a, I> {
    loader: &'a Loader<I>,
    epoch: usize,
    /// Samples in each batch of this part.
    sizes: Vec<usize>,
    batches: Batches<I>,
    /// Batches taken from the source.
    taken: usize,
    /// Samples handed to the engine.
    items: usize,
    /// What is left of the current optimizer step's batches.
    ready: VecDeque<Step<I>>,
}

impl<I: Module + 'static> Epoch<'_, I> {
    /// Takes all batches of the next optimizer step at once, since each has to know its share.
    fn fill(&mut self) -> Result<(), DatasetError> {
        let plan = &self.loader.plan;
        let first = self.taken;
        let end = (first + plan.accumulation).min(self.sizes.len());
        if first == end {
            return Ok(());
        }
        let mut batches = Vec::with_capacity(end - first);
        while self.taken < end
            && let Some(batch) = self.batches.take(self.taken, self.loader)
        {
            self.taken += 1;
            batches.push(batch?);
        }

        let per_epoch = plan.steps_per_epoch(self.loader.samples);
        let steps_done = (self.epoch - 1) * per_epoch + first / plan.accumulation;
        let progress = match self.loader.seed {
            Some(_) => steps_done as f64 / (plan.epochs * per_epoch) as f64,
            // Validation happens when its epoch's training is done.
            None => self.epoch as f64 / plan.epochs as f64,
        };
        let shares = self.shares(&batches, first);
        for (i, (batch, share)) in batches.into_iter().zip(shares).enumerate() {
            self.ready.push_back(Step {
                batch,
                share,
                progress,
                epoch: self.epoch,
                number: first + i + 1,
                samples: self.loader.samples,
            });
        }
        Ok(())
    }

    /// What each batch counts for in the mean over all rows of one optimizer step.
    fn shares(&self, batches: &[DistillBatch<I>], first: usize) -> Vec<Share> {
        let plan = &self.loader.plan;
        let sizes = &self.sizes[first..first + batches.len()];
        if plan.devices > 1 {
            // What the other devices mask is not known here: every sample counts for the same.
            let window = plan.batch_size * plan.devices * plan.accumulation;
            let start = first / plan.accumulation * window;
            let total = window.min(self.loader.samples - start) as f64;
            return sizes
                .iter()
                .map(|n| Share::Known(*n as f64 / total / plan.reduction))
                .collect();
        }
        if batches.len() == 1 {
            return vec![Share::Known(1.0)];
        }
        if batches.iter().any(|batch| batch.mask.is_some()) {
            let counts: Vec<_> = batches.iter().zip(sizes).map(counted_rows).collect();
            let total = Tensor::cat(counts.clone(), 0).sum().clamp_min(1.0);
            let share = |count| Share::Counted(Box::new(count / total.clone()));
            return counts.into_iter().map(share).collect();
        }
        let rows: Vec<_> = batches.iter().zip(sizes).map(rows).collect();
        let total: usize = rows.iter().sum();
        rows.iter()
            .map(|n| Share::Known(*n as f64 / total as f64))
            .collect()
    }
}

/// The rows of a batch without a mask: those of its targets, or its samples where it has none.
fn rows<I>((batch, samples): (&DistillBatch<I>, &usize)) -> usize {
    match &batch.targets {
        Targets::Classes(t) => t.dims()[0],
        Targets::Values(t) => t.dims()[0],
        Targets::None => *samples,
    }
}

/// The rows of a batch that count, `[1]`, outside autodiff.
fn counted_rows<I: Module>((batch, samples): (&DistillBatch<I>, &usize)) -> Tensor<1> {
    match &batch.mask {
        Some(mask) => mask.clone().without_autodiff().int().sum().float(),
        None => {
            let device = batch
                .targets
                .device()
                .or_else(|| batch.input.devices().pop());
            let device = device.unwrap_or_default().inner();
            Tensor::full([1], rows((batch, samples)) as f64, &device)
        }
    }
}

impl<I: Module + 'static> Iterator for Epoch<'_, I> {
    type Item = Result<Step<I>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && let Err(error) = self.fill()
        {
            return Some(Err(error));
        }
        let step = self.ready.pop_front()?;
        self.items += self.sizes[step.number - 1];
        Some(Ok(step))
    }
}

impl<I: Module + 'static> DataLoaderIterator<Step<I>> for Epoch<'_, I> {
    fn progress(&self) -> Progress {
        let total = self.sizes.iter().sum();
        Progress::new(self.items, total, Some("samples".into()))
    }
}

#[cfg(test)]
#[path = "tests/loader.rs"]
mod tests;
