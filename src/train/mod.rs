//! One training on Burn's engine, with or without a teacher: the only room that knows `burn-train`.

pub(crate) mod advice;
pub(crate) mod best;
pub(crate) mod checkpoint;
pub(crate) mod clip;
pub(crate) mod composite;
pub(crate) mod config;
pub(crate) mod feed;
pub(crate) mod groups;
pub(crate) mod finite;
pub(crate) mod history;
pub(crate) mod keeper;
pub(crate) mod loader;
pub(crate) mod metrics;
pub(crate) mod named;
pub(crate) mod prepare;
pub(crate) mod run;
pub(crate) mod explain;
pub(crate) mod schedules;
pub(crate) mod origin;
pub(crate) mod parameters;
pub(crate) mod preflight;
pub(crate) mod step;
pub(crate) mod stopping;
pub(crate) mod summary;
pub(crate) mod watch;
pub(crate) mod widths;
pub(crate) mod window;
pub(crate) mod workers;

use std::sync::Arc;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;

use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::objective::Objective;
use crate::teacher::Teacher;
use crate::train::composite::Rewrite;
use crate::train::config::{Execution, FitConfig};
use crate::train::summary::TrainingSummary;
use crate::train::watch::Watch;

/// Everything about a training but the student.
pub(crate) struct Training<'a, I, J, S> {
    pub device: &'a Device,
    pub objective: Arc<Objective>,
    pub config: &'a FitConfig,
    pub train: &'a DistillData<I, J>,
    pub valid: Option<&'a DistillData<I, J>>,
    pub source: TeacherSource<J>,
    pub rollout: Option<Arc<Rewrite<I, J, S>>>,
}

/// Where a training has its teacher's outputs from.
pub(crate) enum TeacherSource<J> {
    /// No term needs a teacher.
    None,
    /// A teacher, on whatever device.
    Teacher(Arc<dyn Teacher<J>>),
    /// The moving average of the student, with this decay.
    Average(f64),
}

impl<J> Clone for TeacherSource<J> {
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Teacher(teacher) => Self::Teacher(teacher.clone()),
            Self::Average(decay) => Self::Average(*decay),
        }
    }
}

/// What a training leaves.
pub(crate) struct Outcome<S> {
    pub student: S,
    /// The average of the student, where that was the teacher.
    pub average: Option<S>,
    pub summary: TrainingSummary,
    pub optimizer: Option<ModuleOptimizer>,
}

impl<I, J, S> Training<'_, I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    fn devices(&self) -> Vec<Device> {
        match &self.config.execution {
            Execution::Single => vec![self.device.clone()],
            Execution::Multi(devices, _) | Execution::Ddp(devices, _) => devices.clone(),
        }
    }

    fn is_cached(&self) -> bool {
        self.config.teacher_cache.is_some() && matches!(self.source, TeacherSource::Teacher(_))
    }

    fn watch(&self) -> Option<Watch> {
        Watch::of(self.config, self.valid.is_some())
    }
}
