//! What a distillation hands back.

use burn::optim::ModuleOptimizer;

use crate::error::Error;
use crate::report::report::Report;

/// What [`Distiller::fit`](crate::Distiller::fit) hands back.
#[derive(Clone)]
#[non_exhaustive]
pub struct Distilled<T, S> {
    /// The distilled model: an ordinary module in inference mode, with no trace of teacher or
    /// projectors.
    pub student: S,
    /// The teacher, as it was given; a [mean teacher](crate::Distiller::mean_teacher) as it became.
    pub teacher: T,
    /// What was gained and lost.
    pub report: Report,
    /// The optimizer with its state, if [`FitConfig::with_kept_optimizer`](crate::FitConfig::with_kept_optimizer) asked for it: hand it to the
    /// next training's [`FitConfig::with_optimizer`](crate::FitConfig::with_optimizer) to go on with it.
    pub optimizer: Option<ModuleOptimizer>,
}

impl Error {
    /// The same with the student of the training before, where this one leaves none.
    pub(crate) fn after<T, S>(self, before: Option<&Distilled<T, S>>) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        match before {
            Some(before) => {
                let epoch = before.report.training.last_epoch;
                self.with_student(epoch, before.student.clone())
            }
            None => self,
        }
    }
}

impl<T, S: std::fmt::Debug> std::fmt::Debug for Distilled<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distilled")
            .field("student", &self.student)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
