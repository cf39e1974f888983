//! The report of a distillation: teacher, supervised baseline and distilled student, side by side.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::save;
use crate::metric::distance::ParameterDistance;
use crate::metric::fidelity::gap_recovered;
use crate::report::comparison::Comparison;
use crate::report::model::ModelReport;
use crate::train::summary::TrainingSummary;

/// An honest account of a distillation: what was gained, what was lost, what it cost.
///
/// Prints as a table, is an [HTML report](Self::save_html), and JSON through serde. Every number is
/// measured on the same data, named by [`measured_on`](Self::measured_on). A number that makes no sense
/// for a model, such as a teacher's agreement with itself or the accuracy of a regression, is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The teacher.
    pub teacher: Option<ModelReport>,
    /// The supervised baseline: the same student, trained on labels only with the same recipe and seed.
    #[serde(default, alias = "labels_alone")]
    pub baseline: Option<ModelReport>,
    /// The device that the teacher was on and was measured on, where that was not the student's;
    /// see [`Distiller::teacher_on`](crate::Distiller::teacher_on).
    #[serde(default)]
    pub teacher_device: Option<String>,
    /// The student that learned from the teacher.
    pub distilled: ModelReport,
    /// The fraction of the gap between baseline and teacher that distillation closed, in accuracy or in
    /// mean squared error, as the first head has it; see [`gap_recovered`].
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
    /// What could not be measured, and why.
    #[serde(default)]
    pub unmeasured: Vec<String>,
    /// Which data was measured: `validation`, or `training` where there was no other.
    pub measured_on: String,
    /// How the student was trained.
    pub training: TrainingSummary,
}

/// All that a report is made of.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub teacher: Option<ModelReport>,
    pub baseline: Option<ModelReport>,
    pub distilled: ModelReport,
    pub comparison: Option<Comparison>,
    pub parameter_distance: Option<ParameterDistance>,
    pub unmeasured: Vec<String>,
    pub teacher_device: Option<String>,
    pub measured_on: &'static str,
    pub training: TrainingSummary,
}

impl Report {
    pub(crate) fn new(parts: Parts) -> Self {
        let (teacher, ours) = (parts.teacher.as_ref(), &parts.distilled);
        let ratio = |of: fn(&ModelReport) -> Option<f64>| {
            let ratio = of(teacher?)? / of(ours)?;
            ratio.is_finite().then_some(ratio)
        };
        let report = Self {
            compression: ratio(|model| model.parameters.map(|count| count as f64)),
            speed_up: ratio(|model| model.latency_ms),
            teacher: parts.teacher,
            baseline: None,
            teacher_device: parts.teacher_device,
            distilled: parts.distilled,
            gap_recovered: None,
            parameter_distance: parts.parameter_distance,
            comparison: parts.comparison,
            unmeasured: parts.unmeasured,
            measured_on: parts.measured_on.to_string(),
            training: parts.training,
        };
        match parts.baseline {
            Some(baseline) => report.with_baseline(baseline),
            None => report,
        }
    }

    /// Sets the supervised baseline beside the distilled student.
    #[must_use]
    pub fn with_baseline(mut self, baseline: ModelReport) -> Self {
        self.gap_recovered = self.gap_above(&baseline);
        self.baseline = Some(baseline);
        self
    }

    fn gap_above(&self, baseline: &ModelReport) -> Option<f64> {
        let teacher = self.teacher.as_ref()?.score()?;
        gap_recovered(teacher, baseline.score()?, self.distilled.score()?)
    }

    /// Writes the report to a JSON file, which is there whole or not at all. A number that is not finite is
    /// `null` in it, and comes back as NaN, or as absent.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_json(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let json = serde_json::to_string_pretty(self).map_err(|error| Error::io(path, error))?;
        save(path, json.as_bytes()).map_err(|error| Error::io(path, error))
    }
}

#[cfg(test)]
#[path = "tests/report.rs"]
mod tests;
