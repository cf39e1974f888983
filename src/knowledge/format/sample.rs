//! One sample on its way into a store.

use crate::data::key::{Key, SampleId};

/// What the teacher gave one view of one sample.
#[derive(Debug, Clone, Copy)]
pub struct SampleRecord<'a> {
    /// The sample.
    pub id: SampleId,
    /// Which of its views, below the header's number of them.
    pub view: u32,
    /// What makes this view of the sample again: the seed of its augmentation.
    pub seed: u64,
    /// The rows of logits: 1 for a classifier, the tokens of a sequence.
    pub rows: usize,
    /// The logits, or what is to be kept of them.
    pub logits: LogitsRecord<'a>,
    /// The features in the order of the header, each `shape`, or `[length, shape]` where one axis varies.
    pub features: &'a [&'a [f32]],
}

/// The logits of one sample.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum LogitsRecord<'a> {
    /// All of them, `[rows, classes]`, of which the store keeps what its header says. −∞ is allowed for
    /// a class that is ruled out, as long as a row has a finite logit.
    Full(&'a [f32]),
    /// The most likely classes of each row, for a store that keeps as many: what a device can find
    /// without handing out all logits.
    TopK {
        /// The classes, `[rows, k]`, in any order, different within a row.
        indices: &'a [i32],
        /// Their log-probabilities among all classes, `[rows, k]`, at the store's temperature.
        log_probs: &'a [f32],
        /// The logarithm of the mass of all other classes, `[rows]`; −∞ where there is none.
        log_rest: &'a [f32],
    },
}

impl SampleRecord<'_> {
    /// The sample and its view.
    pub fn key(&self) -> Key {
        Key {
            id: self.id,
            view: self.view,
        }
    }
}
