//! Whether a model is as sure as it is right.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Int, Tensor, TensorReadError};
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry, format_float,
};
use serde::{Deserialize, Serialize};

use crate::metric::fidelity::{FidelityInput, correct};

/// The number of bins of Guo et al.
const BINS: usize = 15;

/// The answers of which a model is about as sure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReliabilityBin {
    /// How sure it is on average, from 0 to 1.
    pub confidence: f64,
    /// How many of them are right, from 0 to 1.
    pub accuracy: f64,
    /// How many there are.
    pub samples: usize,
}

/// Confidence and accuracy in bins of equal width over the confidence.
#[derive(Debug, Clone)]
pub(crate) struct Bins {
    /// Rows, summed confidence and right answers of each bin.
    bins: [(usize, f64, f64); BINS],
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            bins: [(0, 0.0, 0.0); BINS],
        }
    }
}

impl Bins {
    /// Counts a batch.
    pub fn add(
        &mut self,
        logits: &Tensor<2>,
        labels: &Tensor<1, Int>,
        mask: Option<&Tensor<1, Bool>>,
    ) -> Result<(), TensorReadError> {
        let confidence = softmax(logits.clone(), 1).max_dim(1);
        let right = correct(logits, labels).unsqueeze_dim::<2>(1);
        let counts = match mask {
            Some(mask) => mask.clone().float().unsqueeze_dim(1),
            None => right.ones_like(),
        };
        let rows = Tensor::cat(vec![confidence, right, counts], 1).try_into_data()?;
        let rows: Vec<f64> = rows.iter::<f64>().collect();
        for row in rows.chunks_exact(3).filter(|row| row[2] > 0.0) {
            // A bin holds its upper bound: (i/15, (i+1)/15].
            let bin = ((row[0] * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            let (rows, confidence, right) = &mut self.bins[bin];
            *rows += 1;
            *confidence += row[0];
            *right += row[1];
        }
        Ok(())
    }

    /// What fell into each bin that is not empty, the least sure first.
    pub fn filled(&self) -> Vec<ReliabilityBin> {
        let filled = self.bins.iter().filter(|(rows, ..)| *rows > 0);
        filled
            .map(|(rows, confidence, right)| ReliabilityBin {
                confidence: confidence / *rows as f64,
                accuracy: right / *rows as f64,
                samples: *rows,
            })
            .collect()
    }

    /// `Σ_b |b|/N · |accuracy(b) − confidence(b)|`; `None` where nothing was counted.
    pub fn error(&self) -> Option<f64> {
        let rows: usize = self.bins.iter().map(|(rows, ..)| rows).sum();
        let gaps = self
            .bins
            .iter()
            .map(|(_, conf, right)| (right - conf).abs());
        (rows > 0).then(|| gaps.sum::<f64>() / rows as f64)
    }
}

/// The expected calibration error, from 0 to 1: the gap between how sure a model is and how often it
/// is right, over 15 bins of confidence. `None` where the mask leaves no row.
///
/// # Shapes
///
/// - logits: `[N, C]`, labels: `[N]`, mask: `[N]`
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
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    mask: Option<Tensor<1, Bool>>,
) -> Option<f64> {
    let mut bins = Bins::default();
    bins.add(&logits, &labels, mask.as_ref())
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
    /// A metric that has seen nothing.
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
        if let Some(labels) = &input.labels {
            self.bins.add(&input.student, labels, input.mask.as_ref())?;
        }
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
