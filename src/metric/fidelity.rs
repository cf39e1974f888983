//! Answers and probabilities of student and teacher, compared.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorReadError};
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

use crate::ops::divergence;
use crate::ops::vectors::mean_rows;

/// One per row where the largest logit is the label's, else zero.
pub(crate) fn correct(logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
    let predicted: Tensor<1, Int> = logits.clone().argmax(1).squeeze_dim(1);
    predicted.equal(labels.clone()).float()
}

/// One per row where both have their largest logit in one place, else zero.
pub(crate) fn agreeing(student: &Tensor<2>, teacher: &Tensor<2>) -> Tensor<1> {
    let answers: Tensor<1, Int> = teacher.clone().argmax(1).squeeze_dim(1);
    correct(student, &answers)
}

/// The share of rows whose largest logit is the label's, from 0 to 1.
///
/// # Shapes
///
/// - logits: `[N, C]`, labels: `[N]`, mask: `[N]`
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::metric::accuracy;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
/// let labels = Tensor::<1, Int>::from_ints([0, 0], &device);
/// assert_eq!(accuracy(logits, labels, None), 0.5);
/// ```
pub fn accuracy(logits: Tensor<2>, labels: Tensor<1, Int>, mask: Option<Tensor<1, Bool>>) -> f64 {
    mean_rows(correct(&logits, &labels), mask.as_ref()).into_scalar()
}

/// The share of rows for which student and teacher give the same answer, from 0 to 1; top-1
/// agreement.
///
/// # Shapes
///
/// - student, teacher: `[N, C]`, mask: `[N]`
///
/// # References
///
/// Stanton et al.: Does Knowledge Distillation Really Work?, 2021, arXiv:2106.05945.
pub fn agreement(student: Tensor<2>, teacher: Tensor<2>, mask: Option<Tensor<1, Bool>>) -> f64 {
    mean_rows(agreeing(&student, &teacher), mask.as_ref()).into_scalar()
}

/// The mean divergence `KL(p ‖ q)` over rows, in nats, `p` and `q` the probabilities of two sets of
/// logits.
///
/// The first argument is the reference: `kl_divergence(teacher, student, None)` asks how badly the
/// student predicts what the teacher says, the other order how much probability the student puts
/// where the teacher has little. A class that only `q` rules out with −∞ makes it large rather than
/// infinite: there its probability counts as 1.2e-38.
///
/// # Shapes
///
/// - p, q: logits, `[N, C]`, mask: `[N]`
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
pub fn kl_divergence(p: Tensor<2>, q: Tensor<2>, mask: Option<Tensor<1, Bool>>) -> f64 {
    mean_rows(divergence(&q, &p, 1.0).value, mask.as_ref()).into_scalar()
}

/// The share of the gap between a student trained on labels alone and its teacher that distillation
/// closed: `(distilled − labels alone) / (teacher − labels alone)`.
///
/// Above 1 the student has overtaken its teacher, below 0 distillation hurt. `None` where the
/// teacher is no better than the student without it, since then there is no gap.
///
/// # Example
///
/// ```
/// use burn_distill::metric::gap_recovered;
///
/// assert_eq!(gap_recovered(0.75, 0.25, 0.5), Some(0.5));
/// assert_eq!(gap_recovered(0.25, 0.25, 0.5), None);
/// ```
pub fn gap_recovered(teacher: f64, labels_alone: f64, distilled: f64) -> Option<f64> {
    let gap = teacher - labels_alone;
    (gap > 0.0).then(|| (distilled - labels_alone) / gap)
}

/// What the metrics of this module look at: adapt your step's output to it.
#[derive(Debug, Clone)]
pub struct FidelityInput {
    /// The student's logits, `[N, C]`.
    pub student: Tensor<2>,
    /// The teacher's logits, `[N, C]`.
    pub teacher: Tensor<2>,
    /// The true classes, `[N]`; without them accuracy and calibration are not counted.
    pub labels: Option<Tensor<1, Int>>,
    /// The rows that count, `[N]`.
    pub mask: Option<Tensor<1, Bool>>,
}

impl FidelityInput {
    /// Logits of both sides, without labels and without a mask.
    pub fn new(student: Tensor<2>, teacher: Tensor<2>) -> Self {
        Self {
            student,
            teacher,
            labels: None,
            mask: None,
        }
    }

    /// Sets the true classes.
    #[must_use]
    pub fn with_labels(mut self, labels: Tensor<1, Int>) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Sets the rows that count.
    #[must_use]
    pub fn with_mask(mut self, mask: Tensor<1, Bool>) -> Self {
        self.mask = Some(mask);
        self
    }

    pub(crate) fn rows(&self) -> Result<usize, TensorReadError> {
        match &self.mask {
            Some(mask) => {
                let count: i64 = mask.clone().int().sum().try_into_scalar()?;
                Ok(count as usize)
            }
            None => Ok(self.student.dims()[0]),
        }
    }
}

/// Which comparison a [`FidelityMetric`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fidelity {
    /// How often student and teacher give the same answer; see [`agreement`].
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

    fn rows(self, input: &FidelityInput) -> Option<Tensor<1>> {
        let FidelityInput {
            student, teacher, ..
        } = input;
        Some(match self {
            Self::Agreement => agreeing(student, teacher),
            Self::StudentAccuracy => correct(student, input.labels.as_ref()?),
            Self::TeacherAccuracy => correct(teacher, input.labels.as_ref()?),
            Self::KlTeacherStudent => divergence(student, teacher, 1.0).value,
            Self::KlStudentTeacher => divergence(teacher, student, 1.0).value,
        })
    }
}

/// One comparison of student and teacher as a metric of Burn's training engine: the mean over the
/// rows of an epoch.
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
#[derive(Clone)]
pub struct FidelityMetric {
    kind: Fidelity,
    name: MetricName,
    state: NumericMetricState,
}

impl FidelityMetric {
    /// A metric that makes one comparison.
    pub fn new(kind: Fidelity) -> Self {
        Self {
            kind,
            name: Arc::new(kind.name().to_string()),
            state: NumericMetricState::new(),
        }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name.clone()).precision(4)
    }
}

impl std::fmt::Debug for FidelityMetric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FidelityMetric")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
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
        if let Some(rows) = self.kind.rows(input) {
            let mean = mean_rows(rows, input.mask.as_ref()).try_into_scalar()?;
            self.state.update(mean, input.rows()?);
        }
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for FidelityMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}
