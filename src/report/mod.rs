//! What came out: teacher, student on labels alone and distilled student, side by side.

pub(crate) mod comparison;
pub(crate) mod html;
pub(crate) mod measure;
pub(crate) mod picture;
pub(crate) mod table;

pub use crate::metric::calibration::ReliabilityBin;
pub use crate::report::comparison::{Answer, Comparison, Disagreement};
pub use crate::report::measure::measure;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::metric::distance::ParameterDistance;
use crate::metric::fidelity::gap_recovered;
use crate::train::history::History;

/// An honest account of a distillation: what was gained, what was lost, what it cost.
///
/// Prints as a table, is a [page to look at](Self::save_html), and JSON through serde. Every number is measured on one set of data, by
/// [`measured_on`](Self::measured_on); a number that makes no sense for a model, such as a teacher's
/// agreement with itself, is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The teacher.
    pub teacher: Option<ModelReport>,
    /// The same student, trained on labels alone with the same recipe and seed.
    pub labels_alone: Option<ModelReport>,
    /// The device that the teacher was on and was measured on, where that was not the student's;
    /// see [`Distiller::teacher_on`](crate::Distiller::teacher_on).
    pub teacher_device: Option<String>,
    /// The student that learned from the teacher.
    pub distilled: ModelReport,
    /// The share of the accuracy gap that distillation closed; see [`gap_recovered`].
    pub gap_recovered: Option<f64>,
    /// Teacher's parameters per student's parameter.
    pub compression: Option<f64>,
    /// Teacher's latency over student's.
    pub speed_up: Option<f64>,
    /// The distance between the weights of teacher and student, where shapes match.
    pub parameter_distance: Option<ParameterDistance>,
    /// Where student and teacher agree and where they do not.
    #[serde(default)]
    pub comparison: Option<Comparison>,
    /// Which data was measured: `validation`, or `training` where there was no other.
    pub measured_on: String,
    /// How the student was trained.
    pub training: TrainingSummary,
}

/// What was measured of one model.
///
/// | field | unit | meaning |
/// |---|---|---|
/// | `samples` | | samples measured |
/// | `accuracy` | 0 to 1 | share of right answers; needs class targets |
/// | `cross_entropy` | nats | mean negative log-likelihood of the true class; needs class targets |
/// | `calibration_error` | 0 to 1 | see [`expected_calibration_error`](crate::metric::expected_calibration_error) |
/// | `reliability` | | accuracy by confidence; needs class targets |
/// | `mean_squared_error` | squared target units | error of the outputs; needs real-valued targets |
/// | `agreement` | 0 to 1 | share of answers that are the teacher's |
/// | `kl_teacher_student` | nats | `KL(teacher ‖ student)` |
/// | `kl_student_teacher` | nats | `KL(student ‖ teacher)` |
/// | `parameters` | | scalars in the model |
/// | `bytes` | bytes | size of its saved file |
/// | `latency_ms` | milliseconds | one sample through the model, median |
/// | `samples_per_second` | 1/s | in batches of the training's size, median |
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)] // The table above says it once.
pub struct ModelReport {
    pub samples: usize,
    pub accuracy: Option<f64>,
    pub cross_entropy: Option<f64>,
    pub calibration_error: Option<f64>,
    #[serde(default)]
    pub reliability: Vec<ReliabilityBin>,
    pub mean_squared_error: Option<f64>,
    pub agreement: Option<f64>,
    pub kl_teacher_student: Option<f64>,
    pub kl_student_teacher: Option<f64>,
    pub parameters: usize,
    pub bytes: usize,
    pub latency_ms: f64,
    pub samples_per_second: f64,
}

impl ModelReport {
    /// Whether a model was measured, and not the record of one, which has no size and no speed.
    fn is_here(&self) -> bool {
        self.parameters > 0
    }
}

/// How a model was trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingSummary {
    /// The objective, as a formula.
    pub objective: String,
    /// Epochs asked for.
    pub epochs: usize,
    /// The last epoch that was begun.
    pub last_epoch: usize,
    /// Training samples.
    pub samples: usize,
    /// Samples per step and device.
    pub batch_size: usize,
    /// The base learning rate.
    pub learning_rate: f64,
    /// The seed.
    pub seed: u64,
    /// The device.
    pub device: String,
    /// Wall-clock time of the training itself.
    pub seconds: f64,
    /// The epoch of the checkpoint that training went on from.
    pub resumed_from: Option<usize>,
    /// Why training stopped early, if it was asked to.
    pub interrupted: Option<String>,
    /// Means per epoch.
    pub history: History,
    /// The version of this crate.
    pub version: String,
    /// The version of Burn that it was built for.
    #[serde(default)]
    pub burn_version: String,
    /// The processor, how many threads it runs at once, and the system.
    #[serde(default)]
    pub hardware: String,
    /// The command line of the program.
    #[serde(default)]
    pub command: String,
}

impl Report {
    pub(crate) fn new(
        teacher: Option<ModelReport>,
        distilled: ModelReport,
        parameter_distance: Option<ParameterDistance>,
        measured_on: &str,
        training: TrainingSummary,
    ) -> Self {
        let ratio = |f: fn(&ModelReport) -> f64| {
            let teacher = teacher.as_ref().filter(|teacher| teacher.is_here())?;
            let ratio = f(teacher) / f(&distilled);
            ratio.is_finite().then_some(ratio)
        };
        Self {
            compression: ratio(|m| m.parameters as f64),
            speed_up: ratio(|m| m.latency_ms),
            teacher,
            labels_alone: None,
            teacher_device: None,
            distilled,
            gap_recovered: None,
            parameter_distance,
            comparison: None,
            measured_on: measured_on.to_string(),
            training,
        }
    }

    /// Sets the student that was trained on labels alone beside the distilled one.
    #[must_use]
    pub fn with_labels_alone(mut self, labels_alone: ModelReport) -> Self {
        let accuracies = || {
            let teacher = self.teacher.as_ref()?.accuracy?;
            Some((teacher, labels_alone.accuracy?, self.distilled.accuracy?))
        };
        self.gap_recovered =
            accuracies().and_then(|(teacher, alone, ours)| gap_recovered(teacher, alone, ours));
        self.labels_alone = Some(labels_alone);
        self
    }

    /// Writes the report to a JSON file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_json(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let json = serde_json::to_string_pretty(self).map_err(|error| Error::io(path, error))?;
        std::fs::write(path, json).map_err(|error| Error::io(path, error))
    }
}
