//! A top-k teacher: the most likely classes of each row, and nothing about the others.

use std::ops::Range;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::precision::single;
use crate::data::targets::from_bool;

/// The log-probabilities of the `k` classes that a teacher finds most likely.
///
/// This is what fits on a disk, or through a web service, where the vocabulary has a hundred thousand
/// words.
///
/// # Example
///
/// ```
/// use burn::tensor::activation::log_softmax;
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::TopK;
///
/// let logits = Tensor::<2>::from_floats([[0.0, 3.0, 1.0, 2.0]], &Device::flex());
/// let (log_probs, indices) = log_softmax(logits / 2.0, 1).topk_with_indices(2, 1);
/// let top = TopK::new(indices, log_probs, 4).at_temperature(2.0);
/// let classes: Vec<i64> = top.indices.into_data().iter().collect();
/// assert_eq!(classes, [1, 3]);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopK {
    /// The classes, `[rows, k]`, all different within a row, save where there is no probability.
    pub indices: Tensor<2, Int>,
    /// The logarithms of their probabilities among all classes, `[rows, k]`. A class at −∞ is not known:
    /// so a row of fewer classes than the others is filled up, with any of them.
    pub log_probs: Tensor<2>,
    /// The number of all classes.
    pub classes: usize,
    /// The temperature at which the probabilities were taken.
    pub temperature: f64,
}

impl TopK {
    /// Log-probabilities of some of `classes` classes, taken at temperature 1.
    pub fn new(indices: Tensor<2, Int>, log_probs: Tensor<2>, classes: usize) -> Self {
        Self {
            indices,
            log_probs,
            classes,
            temperature: 1.0,
        }
    }

    /// Sets the temperature at which the probabilities were taken.
    #[must_use]
    pub fn at_temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Logits of all classes, `[rows, classes]`, that agree with what is known: the classes left out
    /// share the tail probability evenly.
    pub(crate) fn dense(&self) -> Tensor<2> {
        let log_probs = single(self.log_probs.clone().without_autodiff());
        let [rows, _] = log_probs.dims();
        let is_gap = log_probs.clone().equal_elem(f32::NEG_INFINITY);
        // In `f32` by name: half precision as the default type cannot count this far.
        let top = from_bool(is_gap.clone().bool_not()).sum_dim(1);
        let others = (top.neg() + self.classes as f64).clamp_min(1.0);
        let top_probability = log_probs.clone().exp().sum_dim(1);
        let tail = top_probability.neg().add_scalar(1.0);
        let tail = tail.clamp_min(f32::MIN_POSITIVE).log();
        let even = (tail - others.log().cast(log_probs.dtype())) * self.temperature;
        let filled: Tensor<2> = even.clone().expand([rows, self.classes]);
        let even: Tensor<2> = even.expand(log_probs.shape());
        let above = (log_probs * self.temperature - even).mask_fill(is_gap, 0.0);
        filled.scatter(1, self.indices.clone(), above, IndexingUpdateOp::Add)
    }

    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        Self {
            indices: self.indices.clone().slice(rows.clone()),
            log_probs: self.log_probs.clone().slice(rows),
            ..self.clone()
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

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        Self {
            indices: self.indices.to_device(device),
            log_probs: self.log_probs.to_device(device),
            ..self
        }
    }
}

/// What is assumed of the classes that a [`TopK`] leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissingProbability {
    /// Together they are one more class, on both sides. The default: a student that agrees with the
    /// teacher has nothing to gain. DistillKit's `symmetric_uniform`.
    #[default]
    Bucket,
    /// The teacher gives them nothing, its probabilities are brought to the sum 1. A student is
    /// taught to be surer than the teacher is. DistillKit's `zero`.
    Renormalize,
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use burn::tensor::activation::{log_softmax, softmax};

    use super::*;

    const OUT: f32 = f32::NEG_INFINITY;

    fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    #[track_caller]
    fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= tolerance, "{f} is not {e}");
        }
    }

    fn top<const N: usize, const K: usize>(
        indices: [[i32; K]; N],
        probabilities: [[f32; K]; N],
        classes: usize,
    ) -> TopK {
        let device = Device::flex();
        let log_probs = Tensor::from_floats(probabilities, &device).log();
        TopK::new(Tensor::from_ints(indices, &device), log_probs, classes)
    }

    #[test]
    fn classes_left_out_share_the_tail_evenly() {
        let dense = top([[3, 1], [0, 4]], [[0.5, 0.2], [0.6, 0.4]], 5).dense();
        assert_eq!(dense.dims(), [2, 5]);
        let found = numbers(softmax(dense, 1));
        assert_close(&found[..5], &[0.1, 0.2, 0.1, 0.5, 0.1], 1e-6);
        // Nothing left for the others, who stay finite.
        assert_close(&found[5..], &[0.6, 0.0, 0.0, 0.0, 0.4], 1e-5);
    }

    #[test]
    fn all_classes_are_the_logits_themselves() {
        let logits = Tensor::<2>::from_floats([[0.0, 3.0, 1.0, -2.0]], &Device::flex());
        for temperature in [1.0, 4.0] {
            let log_p = log_softmax(logits.clone() / temperature, 1);
            let (log_probs, indices) = log_p.topk_with_indices(4, 1);
            let top = TopK::new(indices, log_probs, 4).at_temperature(temperature);
            let found = numbers(softmax(top.dense(), 1));
            assert_close(&found, &numbers(softmax(logits.clone(), 1)), 1e-4);
        }
    }

    #[test]
    fn at_its_own_temperature_the_probabilities_are_as_recorded() {
        let top = top([[2, 0]], [[0.6, 0.3]], 4).at_temperature(3.0);
        let found = numbers(softmax(top.dense() / 3.0, 1));
        assert_close(&found, &[0.3, 0.05, 0.6, 0.05], 1e-6);
    }

    #[test]
    fn a_gap_is_not_a_class_whatever_index_it_has() {
        let indices = Tensor::from_ints([[2, 2, 0]], &Device::flex());
        let log_probs = Tensor::from_floats([[0.7f32.ln(), OUT, OUT]], &Device::flex());
        let found = numbers(softmax(TopK::new(indices, log_probs, 4).dense(), 1));
        assert_close(&found, &[0.1, 0.1, 0.7, 0.1], 1e-6);
    }

    #[test]
    fn half_precision_is_computed_in_single() {
        for dtype in [DType::F16, DType::BF16] {
            let whole = top([[1, 0]], [[0.75, 0.25]], 70_000);
            let half = TopK {
                log_probs: whole.log_probs.clone().cast(dtype),
                ..whole.clone()
            };
            let dense = half.dense();
            assert_eq!(dense.dtype(), DType::F32);
            let found = numbers(dense);
            assert!(found.iter().all(|z| z.is_finite()));
            assert_close(&found[..2], &[0.25f32.ln(), 0.75f32.ln()], 0.01);
        }
    }

    #[test]
    fn slices_and_selections_keep_all_but_the_rows() {
        let top = top(
            [[3, 1], [0, 4], [2, 3]],
            [[0.5, 0.2], [0.6, 0.4], [0.9, 0.1]],
            5,
        );
        let top = top.at_temperature(2.0);
        let classes = |top: TopK| -> (Vec<i64>, usize, f64) {
            let indices = top.indices.into_data().iter::<i64>().collect();
            (indices, top.classes, top.temperature)
        };
        assert_eq!(classes(top.slice(1..3)), (vec![0, 4, 2, 3], 5, 2.0));
        let rows = Tensor::from_ints([2, 0], &Device::flex());
        assert_eq!(classes(top.select(&rows)), (vec![2, 3, 3, 1], 5, 2.0));
    }
}
