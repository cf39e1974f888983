//! A teacher of whom some classes are known.

use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

/// What a teacher gives the `k` classes it finds most likely, and nothing about the others.
///
/// This is what fits on a disk where the vocabulary has a hundred thousand words.
///
/// # Example
///
/// ```
/// use burn::tensor::activation::log_softmax;
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::TopK;
///
/// let logits = Tensor::<2>::from_floats([[0.0, 3.0, 1.0, 2.0]], &Device::flex());
/// let (log_probs, indices) = log_softmax(logits / 2.0, 1).topk_with_indices(2, 1);
/// let top = TopK::new(indices, log_probs).at_temperature(2.0);
/// let classes: Vec<i64> = top.indices.into_data().iter().collect();
/// assert_eq!(classes, [1, 3]);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopK {
    /// The classes, `[N, k]`, all different within a row, save where there is no probability.
    pub indices: Tensor<2, Int>,
    /// The logarithms of their probabilities among all classes, `[N, k]`. A class at −∞ does not count
    /// as known: so a row of fewer classes than the others is filled up, with any of them.
    pub log_probs: Tensor<2>,
    /// The temperature at which the probabilities were taken.
    pub temperature: f64,
}

impl TopK {
    /// Log-probabilities of some classes, taken at temperature 1.
    pub fn new(indices: Tensor<2, Int>, log_probs: Tensor<2>) -> Self {
        Self {
            indices,
            log_probs,
            temperature: 1.0,
        }
    }

    /// The same at the temperature at which the probabilities were taken.
    #[must_use]
    pub fn at_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        Self {
            indices: self.indices.to_device(device),
            log_probs: self.log_probs.to_device(device),
            ..self
        }
    }

    /// The rows with these numbers.
    pub(crate) fn select(self, rows: &Tensor<1, Int>) -> Self {
        Self {
            indices: self.indices.select(0, rows.clone()),
            log_probs: self.log_probs.select(0, rows.clone()),
            ..self
        }
    }
}

/// What is assumed of the classes that a [`TopK`] leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissingMass {
    /// Together they are one more class, on both sides. The default: a student that agrees with the
    /// teacher has nothing to gain. DistillKit's `symmetric_uniform`.
    #[default]
    Bucket,
    /// The teacher gives them nothing, its probabilities are brought to the sum 1. A student is
    /// taught to be surer than the teacher is. DistillKit's `zero`.
    Renormalize,
}
