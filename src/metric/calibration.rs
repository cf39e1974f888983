//! Whether a model is as sure as it is right.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorReadError};
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry, format_float,
};
use serde::{Deserialize, Serialize};

use crate::data::head::Logits;
use crate::data::targets::Weights;
use crate::metric::fidelity::FidelityInput;
use crate::metric::json::number;
use crate::metric::rows::{Truth, chunk, chunks, confidence, floats, ints, top_class};

/// The number of bins of Guo et al.
const BINS: usize = 15;

/// The predictions of which a model is about as sure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReliabilityBin {
    /// How sure it is on average, from 0 to 1.
    #[serde(deserialize_with = "number")]
    pub confidence: f64,
    /// The fraction of them that is right, from 0 to 1.
    #[serde(deserialize_with = "number")]
    pub accuracy: f64,
    /// How many there are.
    pub samples: usize,
}

/// Confidence and accuracy in bins of equal width over the confidence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bins {
    bins: [Bin; BINS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    rows: usize,
    weight: f64,
    /// The weighted sum of the confidence.
    confidence: f64,
    /// The weight of the right predictions.
    right: f64,
}

impl Bins {
    /// Counts one prediction of a weight above 0.
    pub fn add(&mut self, confidence: f64, is_right: bool, weight: f64) {
        // A bin includes its upper bound: (i/15, (i+1)/15].
        let at = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let bin = &mut self.bins[at];
        bin.rows += 1;
        bin.weight += weight;
        bin.confidence += weight * confidence;
        bin.right += weight * f64::from(is_right);
    }

    /// Counts the labelled rows of a batch.
    fn add_batch(&mut self, logits: &Logits, truth: &Truth) -> Result<(), TensorReadError> {
        for rows in chunks(logits.shape()) {
            let logits = chunk(logits, rows.clone());
            let [confidences] = floats([confidence(&logits)])?;
            let [classes] = ints([top_class(&logits)])?;
            for ((row, confidence), class) in rows.zip(confidences).zip(classes) {
                if let Some(label) = truth.label(row) {
                    self.add(confidence, class as usize == label, truth.weight(row));
                }
            }
        }
        Ok(())
    }

    /// Each bin that is not empty, the least sure first.
    pub fn filled(&self) -> Vec<ReliabilityBin> {
        let filled = self.bins.iter().filter(|bin| bin.rows > 0);
        filled
            .map(|bin| ReliabilityBin {
                confidence: bin.confidence / bin.weight,
                accuracy: bin.right / bin.weight,
                samples: bin.rows,
            })
            .collect()
    }

    /// `Σ_b w(b)/Σw · |accuracy(b) − confidence(b)|`; `None` where nothing was counted.
    pub fn error(&self) -> Option<f64> {
        let weight: f64 = self.bins.iter().map(|bin| bin.weight).sum();
        let gaps = self
            .bins
            .iter()
            .map(|bin| (bin.right - bin.confidence).abs());
        (weight > 0.0).then(|| gaps.sum::<f64>() / weight)
    }
}

/// The expected calibration error, from 0 to 1: the gap between how sure a model is and how often it
/// is right, over 15 bins of confidence. `None` where no row has weight and label.
///
/// A row whose label is below 0 is left out.
///
/// # Shapes
///
/// - logits: `[N, C]` or a projected head, labels: `[N]`, weights: `[N]`
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::metric::expected_calibration_error;
///
/// let device = Device::flex();
/// // Always 3/4 sure, right half of the time.
/// let logits = Tensor::<2>::from_floats([[3f32.ln(), 0.0], [3f32.ln(), 0.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0, 1], &device);
/// let error = expected_calibration_error(logits, labels, None).unwrap();
/// assert!((error - 0.25).abs() < 1e-6);
/// ```
///
/// # References
///
/// Guo et al.: On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599, eq. 3.
pub fn expected_calibration_error(
    logits: impl Into<Logits>,
    labels: Tensor<1, Int>,
    weights: Option<&Weights>,
) -> Option<f64> {
    let mut bins = Bins::default();
    let truth = Truth::read(Some(&labels), weights).expect("the device can be read");
    bins.add_batch(&logits.into(), &truth)
        .expect("the device can be read");
    bins.error()
}

/// The student's [expected calibration error](expected_calibration_error) as a metric of Burn's
/// training engine, over all rows of an epoch.
#[derive(Debug, Clone)]
pub struct CalibrationErrorMetric {
    name: MetricName,
    bins: Bins,
}

impl Default for CalibrationErrorMetric {
    fn default() -> Self {
        Self::new()
    }
}

impl CalibrationErrorMetric {
    /// A metric without any rows so far.
    pub fn new() -> Self {
        Self {
            name: Arc::new("calibration error".into()),
            bins: Bins::default(),
        }
    }
}

impl Metric for CalibrationErrorMetric {
    type Input = FidelityInput;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        MetricAttributes::Numeric(NumericAttributes {
            unit: None,
            higher_is_better: false,
        })
    }

    fn update(
        &mut self,
        input: &FidelityInput,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.bins.add_batch(&input.student, &input.truth()?)?;
        self.compute()
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(match self.bins.error() {
            Some(error) => SerializedEntry::new(
                format!("epoch {}", format_float(error, 4)),
                NumericEntry::Value(error).serialize(),
            ),
            None => SerializedEntry::not_available(None),
        })
    }

    fn clear(&mut self) {
        self.bins = Bins::default();
    }
}

impl Numeric for CalibrationErrorMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.bins.error().map(NumericEntry::Value)
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.value()
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.bins.error().unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
#[path = "tests/calibration.rs"]
mod tests;
