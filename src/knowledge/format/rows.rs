//! What comes back for a batch of samples: plain vectors, to be made tensors of.

use crate::knowledge::format::header::{Header, LogitsFormat};

/// The knowledge of some samples, one behind the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    /// The rows of logits of each sample.
    pub(crate) per_sample: Vec<usize>,
    /// The seed of each sample's view.
    pub(crate) seeds: Vec<u64>,
    /// The logits of all rows.
    pub(crate) logits: BatchLogits,
    /// The features, in the order of the header.
    pub(crate) features: Vec<BatchFeature>,
}

/// The logits of a batch, row after row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BatchLogits {
    /// All logits, `[rows, classes]`.
    Dense {
        /// The number of classes.
        classes: usize,
        /// The logits.
        values: Vec<f32>,
    },
    /// The log-probabilities of some classes, `[rows, width]`, in no promised order.
    ///
    /// Drawn rows have as many classes as came up. All are as wide as the widest of the batch: places
    /// without a class have the log-probability −∞ and repeat the row's first class.
    Sparse {
        /// The classes per row.
        width: usize,
        /// The classes.
        indices: Vec<i32>,
        /// Their log-probabilities at the temperature recorded.
        log_probs: Vec<f32>,
    },
}

/// A feature of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchFeature {
    /// Its name.
    pub(crate) name: String,
    /// Its shape in one sample, without the axis that varies.
    pub(crate) shape: Vec<usize>,
    /// The size of the axis that varies, for each sample; `None` where none does.
    pub(crate) lengths: Option<Vec<usize>>,
    /// Its numbers, `[samples, shape]`, or `[sum of lengths, shape]`.
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Nothing yet, in the form of a store.
    pub(crate) fn new(header: &Header) -> Self {
        let logits = match header.logits {
            LogitsFormat::Dense { .. } => BatchLogits::Dense {
                classes: header.classes,
                values: Vec::new(),
            },
            LogitsFormat::TopK { .. } | LogitsFormat::Sampled { .. } => BatchLogits::Sparse {
                width: 0,
                indices: Vec::new(),
                log_probs: Vec::new(),
            },
        };
        let features = header.features.iter().map(|feature| BatchFeature {
            name: feature.name.clone(),
            shape: feature.shape.clone(),
            lengths: feature.varies.then(Vec::new),
            values: Vec::new(),
        });
        Self {
            per_sample: Vec::new(),
            seeds: Vec::new(),
            logits,
            features: features.collect(),
        }
    }

    /// Makes all sparse rows as wide as the widest.
    pub(crate) fn pad(&mut self, widths: &[usize]) {
        let BatchLogits::Sparse {
            width,
            indices,
            log_probs,
            ..
        } = &mut self.logits
        else {
            return;
        };
        let widest = widths.iter().max().copied().unwrap_or(0);
        *width = widest;
        let packed = indices.len();
        if packed == widest * widths.len() {
            return;
        }
        indices.resize(widest * widths.len(), 0);
        log_probs.resize(widest * widths.len(), f32::NEG_INFINITY);
        // From the last row to the first, so that none is written over before it has moved.
        let mut from = packed;
        for (row, own) in widths.iter().enumerate().rev() {
            from -= own;
            let to = row * widest;
            indices.copy_within(from..from + own, to);
            log_probs.copy_within(from..from + own, to);
            let first = indices[to];
            indices[to + own..to + widest].fill(first);
            log_probs[to + own..to + widest].fill(f32::NEG_INFINITY);
        }
    }
}
