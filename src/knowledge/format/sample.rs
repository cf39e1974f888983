//! One sample on its way into a store.

use crate::data::key::Key;

/// What the teacher gave one view of one sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleRecord<'a> {
    /// The sample, and which of its views, below the header's number of them.
    pub(crate) key: Key,
    /// What makes this view of the sample again: the seed of its augmentation.
    pub(crate) seed: u64,
    /// The rows of logits: 1 for a classifier, the tokens of a sequence.
    pub(crate) rows: usize,
    /// The logits, or what is to be kept of them.
    pub(crate) logits: LogitsRecord<'a>,
    /// The features in the order of the header, each `shape`, or `[length, shape]` where one axis varies.
    pub(crate) features: &'a [&'a [f32]],
}

/// The logits of one sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LogitsRecord<'a> {
    /// All of them, `[rows, classes]`, which a store keeps or draws from. −∞ is allowed for a masked
    /// class, as long as a row has a finite logit.
    Full(&'a [f32]),
    /// The most likely classes of each row, for a store that keeps as many.
    TopK {
        /// The classes, `[rows, k]`, in any order, different within a row.
        indices: &'a [i32],
        /// Their log-probabilities among all classes, `[rows, k]`, at the store's temperature.
        log_probs: &'a [f32],
        /// The logarithm of the mass of all other classes, `[rows]`; −∞ where there is none.
        log_rest: &'a [f32],
    },
}
