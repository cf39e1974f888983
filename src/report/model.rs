//! The measurements of one model, and of each of its heads.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::data::head::HeadKind;
use crate::metric::calibration::ReliabilityBin;

/// The measurements of one model.
///
/// The numbers of predictions are those of the first head; [`heads`](Self::heads) has those of all heads,
/// and [`HeadReport`] their meaning.
///
/// | field | unit | meaning |
/// |---|---|---|
/// | `samples` | | samples measured |
/// | `main_head` | | the name of the first head |
/// | `heads` | | all heads by name |
/// | `parameters` | | scalars in the model |
/// | `bytes` | bytes | size of its saved file |
/// | `latency_ms` | milliseconds | one sample through the model, median |
/// | `samples_per_second` | 1/s | in batches of the training's size, median |
///
/// A teacher that is not a model, such as a closure or a recording, has neither size nor speed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
#[allow(missing_docs)] // The tables say it once.
pub struct ModelReport {
    pub samples: usize,
    pub accuracy: Option<f64>,
    pub cross_entropy: Option<f64>,
    pub perplexity: Option<f64>,
    pub calibration_error: Option<f64>,
    pub reliability: Vec<ReliabilityBin>,
    pub mean_squared_error: Option<f64>,
    pub agreement: Option<f64>,
    pub kl_teacher_student: Option<f64>,
    pub kl_student_teacher: Option<f64>,
    pub main_head: Option<String>,
    pub heads: BTreeMap<String, HeadReport>,
    #[serde(deserialize_with = "not_zero")]
    pub parameters: Option<usize>,
    #[serde(deserialize_with = "not_zero")]
    pub bytes: Option<usize>,
    #[serde(deserialize_with = "not_zero")]
    pub latency_ms: Option<f64>,
    #[serde(deserialize_with = "not_zero")]
    pub samples_per_second: Option<f64>,
}

/// The measurements of one head. Its kind decides which there are.
///
/// | field | unit | kind | meaning |
/// |---|---|---|---|
/// | `rows` | | all | valid rows measured |
/// | `accuracy` | 0 to 1 | categorical, binary | fraction of right classes, or of right labels |
/// | `exact_match` | 0 to 1 | binary | fraction of rows of which every label is right |
/// | `cross_entropy` | nats | categorical, binary | mean negative log-likelihood of the true class; per label where binary |
/// | `perplexity` | | categorical | `exp(cross_entropy)` |
/// | `calibration_error` | 0 to 1 | categorical | see [`expected_calibration_error`](crate::metric::expected_calibration_error) |
/// | `reliability` | | categorical | accuracy by confidence |
/// | `mean_squared_error` | squared target units | continuous | error against the targets, per value |
/// | `agreement` | 0 to 1 | categorical, binary | fraction of predictions that are the teacher's; per label where binary |
/// | `kl_teacher_student` | nats | categorical, binary | `KL(teacher ‖ student)`; per label where binary |
/// | `kl_student_teacher` | nats | categorical, binary | `KL(student ‖ teacher)`; per label where binary |
/// | `error_to_teacher` | squared target units | continuous | mean squared error against the teacher, per value |
///
/// Means are over rows, `Σ w·v / Σ w`. Those against targets need targets of the head's kind; a row whose
/// label is below 0 is left out of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)] // The table above says it once.
pub struct HeadReport {
    pub kind: HeadKind,
    pub rows: usize,
    pub accuracy: Option<f64>,
    pub exact_match: Option<f64>,
    pub cross_entropy: Option<f64>,
    pub perplexity: Option<f64>,
    pub calibration_error: Option<f64>,
    pub reliability: Vec<ReliabilityBin>,
    pub mean_squared_error: Option<f64>,
    pub agreement: Option<f64>,
    pub kl_teacher_student: Option<f64>,
    pub kl_student_teacher: Option<f64>,
    pub error_to_teacher: Option<f64>,
}

impl HeadReport {
    pub(crate) fn new(kind: HeadKind) -> Self {
        Self {
            kind,
            rows: 0,
            accuracy: None,
            exact_match: None,
            cross_entropy: None,
            perplexity: None,
            calibration_error: None,
            reliability: Vec::new(),
            mean_squared_error: None,
            agreement: None,
            kl_teacher_student: None,
            kl_student_teacher: None,
            error_to_teacher: None,
        }
    }
}

impl ModelReport {
    /// A model with the numbers of its first head.
    pub(crate) fn of_head(head: HeadReport) -> Self {
        Self {
            accuracy: head.accuracy,
            cross_entropy: head.cross_entropy,
            perplexity: head.perplexity,
            calibration_error: head.calibration_error,
            reliability: head.reliability,
            mean_squared_error: head.mean_squared_error,
            agreement: head.agreement,
            kl_teacher_student: head.kl_teacher_student,
            kl_student_teacher: head.kl_student_teacher,
            ..Self::default()
        }
    }

    /// The first head; put together from the model's own numbers where an older version wrote them.
    pub(crate) fn main(&self) -> HeadReport {
        let named = || self.heads.get(self.main_head.as_ref()?).cloned();
        named().unwrap_or_else(|| HeadReport {
            accuracy: self.accuracy,
            cross_entropy: self.cross_entropy,
            perplexity: self.perplexity,
            calibration_error: self.calibration_error,
            reliability: self.reliability.clone(),
            mean_squared_error: self.mean_squared_error,
            agreement: self.agreement,
            kl_teacher_student: self.kl_teacher_student,
            kl_student_teacher: self.kl_student_teacher,
            ..HeadReport::new(match self.mean_squared_error {
                Some(_) => HeadKind::Continuous,
                None => HeadKind::Categorical,
            })
        })
    }

    /// The heads after the first, with their names.
    pub(crate) fn other_heads(&self) -> impl Iterator<Item = (&String, &HeadReport)> {
        let main = self.main_head.as_ref();
        self.heads
            .iter()
            .filter(move |(name, _)| Some(*name) != main)
    }

    /// How good the model is at its first head: higher is better.
    pub(crate) fn score(&self) -> Option<f64> {
        let error = || self.mean_squared_error.map(|error| -error);
        self.accuracy.or_else(error)
    }
}

/// Older versions wrote 0 for what is absent.
fn not_zero<'de, D, N>(deserializer: D) -> std::result::Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + Default + PartialEq,
{
    let number = Option::<N>::deserialize(deserializer)?;
    Ok(number.filter(|number| *number != N::default()))
}
