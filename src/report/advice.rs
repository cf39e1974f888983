//! A word of advice where the numbers of a report ask for it.

use crate::report::model::ModelReport;
use crate::report::report::Report;

/// How many standard errors of a difference between two accuracies are more than chance: one in twenty.
const CHANCE: f64 = 2.0;
/// By which fraction an error must differ to make a difference.
const DIFFERENCE: f64 = 0.01;

impl Report {
    /// What the numbers advise, few words each; empty where they advise nothing.
    ///
    /// It says when the student is below the baseline by more than chance, and why that may be, and what the
    /// [course of the training](crate::TrainingSummary::advice) advises.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = self.training.advice();
        advice.extend(self.below_baseline());
        advice
    }

    fn below_baseline(&self) -> Option<String> {
        let baseline = self.baseline.as_ref()?;
        let numbers = below(&self.distilled, baseline)?;
        let teacher = self.teacher.as_ref().and_then(ModelReport::score);
        let is_better = |teacher: f64| baseline.score().is_none_or(|score| teacher > score);
        let why = if teacher.is_some_and(|teacher| !is_better(teacher)) {
            "the teacher is no better than the baseline, there is nothing to learn from it"
        } else if self.training.falling().is_some() {
            "soft targets need more steps than labels"
        } else {
            "tune the learning rate for this objective, or add the labels as a term"
        };
        Some(format!(
            "the student is below the baseline, {numbers}: {why}"
        ))
    }
}

/// Both numbers, where the first model is worse than the second by more than chance.
fn below(ours: &ModelReport, theirs: &ModelReport) -> Option<String> {
    if let (Some(our), Some(their)) = (ours.accuracy, theirs.accuracy) {
        let rows = ours.main().rows.max(ours.samples).max(1) as f64;
        let variance = |p: f64| p * (1.0 - p) / rows;
        let error = (variance(our) + variance(their)).sqrt();
        let is_below = their - our > CHANCE * error;
        let [our, their] = [our, their].map(|accuracy| 100.0 * accuracy);
        return is_below
            .then(|| format!("right in {our:.2} % against {their:.2} % of {rows} rows"));
    }
    let (our, their) = (ours.mean_squared_error?, theirs.mean_squared_error?);
    let is_below = our > their * (1.0 + DIFFERENCE);
    is_below.then(|| format!("with a squared error of {our:.4} against {their:.4}"))
}

#[cfg(test)]
#[path = "tests/advice.rs"]
mod tests;
