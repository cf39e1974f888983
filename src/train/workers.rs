//! Threads that prepare batches ahead, for the whole of a training.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use burn::module::Module;
use burn::tensor::Device;

use crate::error::Result;
use crate::train::feed::{Feed, Prepared};

/// Threads with a queue of work each.
///
/// They stay for the whole training: on GPUs each thread has a stream and memory pools of its own, which
/// new threads in every epoch would make anew. They end, and are joined, when this is dropped.
pub(crate) struct Workers<I, J> {
    threads: Vec<Worker<I, J>>,
}

/// A thread, and the way to it; both are taken when it ends.
struct Worker<I, J> {
    jobs: Option<Sender<Job<I, J>>>,
    thread: Option<JoinHandle<()>>,
}

/// The batches of one epoch that one worker prepares.
struct Job<I, J> {
    chunks: Vec<Vec<usize>>,
    /// Without room: one batch waits in the worker's hand, and no more.
    prepared: SyncSender<Result<Prepared<I, J>>>,
}

impl<I: Module + 'static, J: Module + 'static> Workers<I, J> {
    pub fn start(count: usize, feed: &Feed<I, J>, device: &Device) -> Self {
        let start = |_| {
            let (jobs, queue) = channel::<Job<I, J>>();
            let (feed, device) = (feed.clone(), device.clone());
            let thread = std::thread::spawn(move || work(&queue, &feed, &device));
            Worker {
                jobs: Some(jobs),
                thread: Some(thread),
            }
        };
        Self {
            threads: (0..count).map(start).collect(),
        }
    }

    /// Starts on the batches of an epoch. Batch `i` comes from receiver `i % receivers`, so that the order
    /// is always the same.
    pub fn epoch(&self, chunks: &[Vec<usize>]) -> Vec<Receiver<Result<Prepared<I, J>>>> {
        let count = self.threads.len();
        let mut receivers = Vec::with_capacity(count);
        for (at, worker) in self.threads.iter().enumerate() {
            let (prepared, receiver) = sync_channel(0);
            let job = Job {
                chunks: chunks.iter().skip(at).step_by(count).cloned().collect(),
                prepared,
            };
            // A thread that is gone shows when its batch is wanted.
            let _ = worker.jobs.as_ref().map(|jobs| jobs.send(job));
            receivers.push(receiver);
        }
        receivers
    }
}

fn work<I: Module + 'static, J: Module + 'static>(
    queue: &Receiver<Job<I, J>>,
    feed: &Feed<I, J>,
    device: &Device,
) {
    for job in queue {
        for chunk in job.chunks {
            let outcome = feed.prepare(chunk, device);
            let is_over = outcome.is_err();
            // The other end is gone when an epoch ends early.
            if job.prepared.send(outcome).is_err() || is_over {
                break;
            }
        }
    }
}

impl<I, J> Drop for Workers<I, J> {
    fn drop(&mut self) {
        for worker in &mut self.threads {
            drop(worker.jobs.take());
        }
        for worker in &mut self.threads {
            // Its panics have been reported.
            let _ = worker.thread.take().map(JoinHandle::join);
        }
    }
}
