//! Batches for the engine, in an order that depends on nothing but the seed and the epoch.
//!
//! Burn's own loader draws every epoch's order from one running generator, so that an order depends
//! on how often the loader was asked before. Here a training that resumes at epoch 7 sees what an
//! undisturbed one sees in its epoch 7, two trainings with one seed see the same batches whatever
//! they minimise, and several devices see together what one would see.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::module::Module;
use burn::tensor::Device;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::data::batch::DistillBatch;
use crate::data::outputs::Outputs;
use crate::error::{Error, Result};
use crate::train::feed::{Feed, Prepared};
use crate::train::workers::Workers;

/// One batch on its way into the engine, with its position in the training.
#[derive(Debug, Clone)]
pub(crate) struct Step<I, J> {
    pub batch: DistillBatch<I, J>,
    /// The teacher's outputs, where it was asked for them beforehand.
    pub teacher: Option<Outputs>,
    /// The fraction of the samples of its optimizer step that the batch has.
    pub fraction: f64,
    /// The fraction of the training done, from 0 to 1.
    pub progress: f64,
    /// From 1.
    pub epoch: usize,
    /// The batch within the epoch, from 1.
    pub number: usize,
    /// Samples in the whole data.
    pub samples: usize,
    /// Which set it is of.
    pub what: &'static str,
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
    /// Whether a last batch that is smaller than the others is left out.
    pub drop_last: bool,
    pub epochs: usize,
    /// Threads that prepare batches ahead; 0 prepares each when it is asked for.
    pub workers: usize,
}

impl Plan {
    /// How many of this many samples are in the batches of an epoch.
    pub fn kept(&self, samples: usize) -> usize {
        match self.drop_last {
            true => samples - samples % self.batch_size,
            false => samples,
        }
    }

    /// Samples in the last batch of an epoch over this many.
    pub fn last_batch(&self, samples: usize) -> usize {
        match self.kept(samples) % self.batch_size {
            0 => self.batch_size,
            rest => rest,
        }
    }

    /// Optimizer steps in one epoch over this many samples.
    pub fn steps_per_epoch(&self, samples: usize) -> usize {
        self.kept(samples)
            .div_ceil(self.batch_size * self.devices * self.accumulation)
    }
}

pub(crate) struct Loader<I, J> {
    feed: Feed<I, J>,
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
    workers: OnceLock<Workers<I, J>>,
}

impl<I: Module + 'static, J: Module + 'static> Loader<I, J> {
    /// Shuffled batches, starting after `epochs_done`.
    pub fn training(feed: Feed<I, J>, plan: Plan, seed: u64, epochs_done: usize) -> Self {
        Self {
            samples: feed.data.len(),
            feed,
            device: Device::default(),
            plan,
            seed: Some(seed),
            part: None,
            epoch: AtomicUsize::new(epochs_done),
            workers: OnceLock::new(),
        }
    }

    /// Batches in the order of the data, each a step of its own.
    pub fn validation(feed: Feed<I, J>, plan: Plan, epochs_done: usize) -> Self {
        let plan = Plan {
            accumulation: 1,
            devices: 1,
            drop_last: false,
            ..plan
        };
        Self {
            seed: None,
            ..Self::training(feed, plan, 0, epochs_done)
        }
    }

    /// No batches at all: the engine wants validation data where there is none.
    pub fn empty(feed: Feed<I, J>, plan: Plan) -> Self {
        Self {
            samples: 0,
            ..Self::validation(feed, plan, 0)
        }
    }

    fn with(&self, feed: Feed<I, J>, device: Device, part: Option<usize>) -> Self {
        Self {
            feed,
            samples: self.samples,
            device,
            plan: self.plan.clone(),
            seed: self.seed,
            part,
            epoch: AtomicUsize::new(self.epoch.load(Ordering::Relaxed)),
            workers: OnceLock::new(),
        }
    }

    /// How many samples an epoch goes through.
    fn kept(&self) -> usize {
        self.plan.kept(self.samples)
    }

    /// The samples of each of this part's batches: the epoch's order is cut into batches, which
    /// the parts take in turn.
    fn chunks(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        if let Some(seed) = self.seed {
            order.shuffle(&mut StdRng::seed_from_u64(mix(seed, epoch as u64)));
        }
        order.truncate(self.kept());
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

impl<I: Module + 'static, J: Module + 'static> DataLoader<Step<I, J>> for Loader<I, J> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Step<I, J>> + 'a> {
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
        })
    }

    fn num_items(&self) -> usize {
        self.chunks(0).iter().map(Vec::len).sum()
    }

    /// The place where the teacher is brought to the device of the batches: a loader that is yet to be cut
    /// up does not know its device.
    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<Step<I, J>>> {
        Arc::new(self.with(self.feed.on(device), device.clone(), self.part))
    }

    /// The engine cuts the data into equal runs, one per device. Where a run starts tells which part is
    /// asked for; the samples are dealt out anew every epoch.
    fn slice(&self, start: usize, _end: usize) -> Arc<dyn DataLoader<Step<I, J>>> {
        let run = (self.kept() / self.plan.devices).max(1);
        let part = (start / run).min(self.plan.devices - 1);
        Arc::new(self.with(self.feed.clone(), self.device.clone(), Some(part)))
    }
}

/// The batches of one epoch, prepared here or by threads ahead.
enum Batches<I, J> {
    Here(std::vec::IntoIter<Vec<usize>>),
    /// Batch `i` comes from receiver `i % receivers`.
    Ahead(Vec<Receiver<Result<Prepared<I, J>>>>),
}

impl<I: Module + 'static, J: Module + 'static> Batches<I, J> {
    fn start(loader: &Loader<I, J>, chunks: Vec<Vec<usize>>) -> Self {
        if loader.plan.workers == 0 || chunks.is_empty() {
            return Self::Here(chunks.into_iter());
        }
        let start = || Workers::start(loader.plan.workers, &loader.feed, &loader.device);
        Self::Ahead(loader.workers.get_or_init(start).epoch(&chunks))
    }

    /// The next batch.
    fn take(&mut self, number: usize, loader: &Loader<I, J>) -> Option<Result<Prepared<I, J>>> {
        match self {
            Self::Here(chunks) => {
                let chunk = chunks.next()?;
                Some(loader.feed.prepare(chunk, &loader.device))
            }
            Self::Ahead(receivers) => {
                let receiver = &receivers[number % receivers.len()];
                Some(receiver.recv().unwrap_or_else(|_| {
                    Err(Error::Dataset {
                        what: loader.feed.what,
                        message: "the thread that prepares its batches stopped early".into(),
                    })
                }))
            }
        }
    }
}

/// One pass over this part of the data.
struct Epoch<'a, I, J> {
    loader: &'a Loader<I, J>,
    epoch: usize,
    /// Samples in each batch of this part.
    sizes: Vec<usize>,
    batches: Batches<I, J>,
    /// Batches taken from the source.
    taken: usize,
    /// Samples handed to the engine.
    items: usize,
}

impl<I: Module + 'static, J: Module + 'static> Epoch<'_, I, J> {
    fn step(&mut self) -> Result<Option<Step<I, J>>> {
        let at = self.taken;
        let (Some(size), Some(prepared)) = (self.sizes.get(at), self.batches.take(at, self.loader))
        else {
            return Ok(None);
        };
        let Prepared { batch, teacher } = prepared?;
        self.taken += 1;
        self.items += size;

        let Loader { plan, samples, .. } = self.loader;
        let per_epoch = plan.steps_per_epoch(*samples);
        let window = at / plan.accumulation;
        let steps_done = (self.epoch - 1) * per_epoch + window;
        let in_window = plan.batch_size * plan.devices * plan.accumulation;
        let in_window = in_window.min(self.loader.kept() - window * in_window);
        Ok(Some(Step {
            batch,
            teacher,
            fraction: *size as f64 / in_window as f64 / plan.reduction,
            progress: match self.loader.seed {
                Some(_) => steps_done as f64 / (plan.epochs * per_epoch) as f64,
                // Validation happens when its epoch's training is done.
                None => self.epoch as f64 / plan.epochs as f64,
            },
            epoch: self.epoch,
            number: at + 1,
            samples: *samples,
            what: self.loader.feed.what,
        }))
    }
}

impl<I: Module + 'static, J: Module + 'static> Iterator for Epoch<'_, I, J> {
    type Item = std::result::Result<Step<I, J>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose().map(|step| {
            step.map_err(|error| {
                self.loader.feed.failure.report(error.clone());
                DatasetError::new(error)
            })
        })
    }
}

impl<I: Module + 'static, J: Module + 'static> DataLoaderIterator<Step<I, J>> for Epoch<'_, I, J> {
    fn progress(&self) -> Progress {
        let total = self.sizes.iter().sum();
        Progress::new(self.items, total, Some("samples".into()))
    }
}

#[cfg(test)]
#[path = "tests/loader.rs"]
mod tests;
