//! Predictions and probabilities of student and teacher, compared.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorReadError};
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry, format_float,
};

use crate::data::head::Logits;
use crate::data::targets::Weights;
use crate::metric::mean::Mean;
use crate::metric::rows::{Truth, chunk, chunks, compare, floats, ints, top_class};
use crate::ops::formula::Formula;

/// The fraction of rows whose largest logit is the label's, from 0 to 1; 0 where no row has weight and
/// label.
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
/// use burn_distill::metric::accuracy;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0, 0, -1], &device);
/// assert_eq!(accuracy(logits, labels, None), 0.5);
/// ```
pub fn accuracy(
    logits: impl Into<Logits>,
    labels: Tensor<1, Int>,
    weights: Option<&Weights>,
) -> f64 {
    let logits = logits.into();
    let input = FidelityInput::new(logits.clone(), logits).with_labels(labels);
    mean(Fidelity::StudentAccuracy, input, weights)
}

/// The fraction of rows for which student and teacher predict the same class, from 0 to 1; top-1
/// agreement.
///
/// # Shapes
///
/// - student, teacher: `[N, C]` or projected heads, weights: `[N]`
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::Weights;
/// use burn_distill::metric::agreement;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[5.0, 0.0], [0.0, 5.0]], &device);
/// let weights = Weights::from(Tensor::<1>::from_floats([3.0, 1.0], &device));
/// assert_eq!(agreement(student, teacher, Some(&weights)), 0.75);
/// ```
///
/// # References
///
/// Stanton et al.: Does Knowledge Distillation Really Work?, 2021, arXiv:2106.05945.
pub fn agreement(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    weights: Option<&Weights>,
) -> f64 {
    mean(
        Fidelity::Agreement,
        FidelityInput::new(student, teacher),
        weights,
    )
}

/// The weighted mean of the divergence `KL(p ‖ q)` over rows, in nats, `p` and `q` the probabilities of
/// two sets of logits.
///
/// The first argument is the reference: `kl_divergence(teacher, student, None)` asks how badly the
/// student predicts what the teacher predicts, the other order how much probability the student puts
/// where the teacher has little. A class that only `q` masks with −∞ makes it large rather than
/// infinite: there its probability counts as 1.2e-38.
///
/// # Shapes
///
/// - p, q: logits, `[N, C]`, or projected heads; weights: `[N]`
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::metric::kl_divergence;
///
/// let device = Device::flex();
/// let p = Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device);
/// let q = Tensor::<2>::from_floats([[0.0, 0.0]], &device);
/// // 3/4·ln(3/2) + 1/4·ln(1/2)
/// assert!((kl_divergence(p, q, None) - 0.13081).abs() < 1e-5);
/// ```
pub fn kl_divergence(p: impl Into<Logits>, q: impl Into<Logits>, weights: Option<&Weights>) -> f64 {
    mean(
        Fidelity::KlTeacherStudent,
        FidelityInput::new(q, p),
        weights,
    )
}

fn mean(kind: Fidelity, input: FidelityInput, weights: Option<&Weights>) -> f64 {
    let input = FidelityInput {
        weights: weights.cloned(),
        ..input
    };
    let mean = kind.mean(&input).expect("the device can be read");
    mean.get().unwrap_or(0.0)
}

/// The fraction of the gap between the supervised baseline and the teacher that distillation closed:
/// `(distilled − baseline) / (teacher − baseline)`.
///
/// Above 1 the student has overtaken its teacher, below 0 distillation hurt. `None` where the teacher is
/// no better than the baseline, since then there is no gap. The numbers are such that higher is better;
/// of an error take the negative.
///
/// # Example
///
/// ```
/// use burn_distill::metric::gap_recovered;
///
/// assert_eq!(gap_recovered(0.75, 0.25, 0.5), Some(0.5));
/// assert_eq!(gap_recovered(0.25, 0.25, 0.5), None);
/// ```
pub fn gap_recovered(teacher: f64, baseline: f64, distilled: f64) -> Option<f64> {
    let gap = teacher - baseline;
    (gap > 0.0).then(|| (distilled - baseline) / gap)
}

/// The input of the metrics of this module: adapt your step's output to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FidelityInput {
    /// The student's logits, `[N, C]`.
    pub student: Logits,
    /// The teacher's logits, `[N, C]`.
    pub teacher: Logits,
    /// The true classes, `[N]`, below 0 where a row has none; without them accuracy and calibration are
    /// not measured.
    pub labels: Option<Tensor<1, Int>>,
    /// The weights of the rows, `[N]`; `None` where all are 1.
    pub weights: Option<Weights>,
}

impl FidelityInput {
    /// Logits of both sides, without labels, all weights 1.
    pub fn new(student: impl Into<Logits>, teacher: impl Into<Logits>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            labels: None,
            weights: None,
        }
    }

    /// Sets the true classes.
    #[must_use]
    pub fn with_labels(mut self, labels: Tensor<1, Int>) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Sets the weights of the rows; a mask is weights of 0 and 1.
    #[must_use]
    pub fn with_weights(mut self, weights: impl Into<Weights>) -> Self {
        self.weights = Some(weights.into());
        self
    }

    pub(crate) fn truth(&self) -> Result<Truth, TensorReadError> {
        Truth::read(self.labels.as_ref(), self.weights.as_ref())
    }
}

/// Which comparison a [`FidelityMetric`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fidelity {
    /// How often student and teacher predict the same class; see [`agreement`].
    Agreement,
    /// How often the student is right; see [`accuracy`].
    StudentAccuracy,
    /// How often the teacher is right; see [`accuracy`].
    TeacherAccuracy,
    /// `KL(teacher ‖ student)` in nats; see [`kl_divergence`].
    KlTeacherStudent,
    /// `KL(student ‖ teacher)` in nats; see [`kl_divergence`].
    KlStudentTeacher,
}

impl Fidelity {
    fn name(self) -> &'static str {
        match self {
            Self::Agreement => "agreement",
            Self::StudentAccuracy => "student accuracy",
            Self::TeacherAccuracy => "teacher accuracy",
            Self::KlTeacherStudent => "KL(teacher‖student)",
            Self::KlStudentTeacher => "KL(student‖teacher)",
        }
    }

    /// The mean over the valid rows.
    fn mean(self, input: &FidelityInput) -> Result<Mean, TensorReadError> {
        let truth = input.truth()?;
        let [rows, classes] = input.student.shape();
        let width = classes.max(input.teacher.shape()[1]);
        let mut mean = Mean::default();
        for rows in chunks([rows, width]) {
            let of = |logits: &Logits| chunk(logits, rows.clone());
            let is_right = |logits: &Logits| -> Result<Vec<Option<f64>>, TensorReadError> {
                let [classes] = ints([top_class(&of(logits))])?;
                let labelled = rows.clone().zip(classes).map(|(row, class)| {
                    let label = truth.label(row)?;
                    Some(f64::from(class as usize == label))
                });
                Ok(labelled.collect())
            };
            let compared = |formula| -> Result<Vec<Option<f64>>, TensorReadError> {
                let rows = compare(formula, &of(&input.student), &of(&input.teacher));
                let [values] = floats([rows])?;
                Ok(values.into_iter().map(Some).collect())
            };
            let temperature = 1.0;
            let values = match self {
                Self::Agreement => {
                    let [ours] = ints([top_class(&of(&input.student))])?;
                    let [theirs] = ints([top_class(&of(&input.teacher))])?;
                    let pairs = ours.into_iter().zip(theirs);
                    pairs.map(|(a, b)| Some(f64::from(a == b))).collect()
                }
                Self::StudentAccuracy => is_right(&input.student)?,
                Self::TeacherAccuracy => is_right(&input.teacher)?,
                Self::KlTeacherStudent => compared(Formula::Divergence { temperature })?,
                Self::KlStudentTeacher => compared(Formula::Reverse { temperature })?,
            };
            for (row, value) in rows.zip(values) {
                if let Some(value) = value {
                    mean.add(value, truth.weight(row));
                }
            }
        }
        Ok(mean)
    }
}

/// One comparison of student and teacher as a metric of Burn's training engine: the weighted mean over
/// the rows of an epoch.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn::data::dataloader::Progress;
/// use burn::train::metric::{Metric, MetricMetadata, Numeric};
/// use burn_distill::metric::{Fidelity, FidelityInput, FidelityMetric};
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[5.0, 0.0], [0.0, 5.0]], &device);
/// let mut metric = FidelityMetric::new(Fidelity::Agreement);
/// let metadata = MetricMetadata {
///     progress: Progress::new(2, 2, None),
///     iteration: None,
///     lr: None,
/// };
/// metric.update(&FidelityInput::new(student, teacher), &metadata).unwrap();
/// assert_eq!(metric.final_value().current(), 0.5);
/// ```
#[derive(Debug, Clone)]
pub struct FidelityMetric {
    kind: Fidelity,
    name: MetricName,
    /// Over the epoch.
    epoch: Mean,
    /// Over the last batch.
    batch: Mean,
}

impl FidelityMetric {
    /// A metric that makes one comparison.
    pub fn new(kind: Fidelity) -> Self {
        Self {
            kind,
            name: Arc::new(kind.name().to_string()),
            epoch: Mean::default(),
            batch: Mean::default(),
        }
    }

    fn entry(&self, value: fn(f64) -> NumericEntry) -> SerializedEntry {
        let show = |mean: &Mean| mean.get().map_or("-".into(), |mean| format_float(mean, 4));
        match self.epoch.get() {
            Some(epoch) => {
                let shown = format!("epoch {} - batch {}", show(&self.epoch), show(&self.batch));
                SerializedEntry::new(shown, value(epoch).serialize())
            }
            None => SerializedEntry::not_available(None),
        }
    }
}

impl Metric for FidelityMetric {
    type Input = FidelityInput;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        let divergence = [Fidelity::KlTeacherStudent, Fidelity::KlStudentTeacher];
        MetricAttributes::Numeric(NumericAttributes {
            unit: None,
            higher_is_better: !divergence.contains(&self.kind),
        })
    }

    fn update(
        &mut self,
        input: &FidelityInput,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.batch = self.kind.mean(input)?;
        self.epoch.join(self.batch);
        Ok(self.entry(NumericEntry::Value))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry(NumericEntry::Final))
    }

    fn clear(&mut self) {
        self.epoch = Mean::default();
        self.batch = Mean::default();
    }
}

impl Numeric for FidelityMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.batch.get().map(NumericEntry::Value)
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.epoch.get().map(NumericEntry::Value)
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.epoch.get().unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
#[path = "tests/fidelity.rs"]
mod tests;
