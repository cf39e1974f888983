//! What a training is, for its checkpoints.

use burn::module::Module;
use burn::tensor::Device;

use crate::data::dataset::DistillData;
use crate::error::Result;
use crate::objective::Objective;
use crate::train::checkpoint::optimizer::moves;
use crate::train::checkpoint::settings::{Rates, Settings, add_data, add_objective};
use crate::train::checkpoint::student::tensors;
use crate::train::config::FitConfig;
use crate::train::groups::RateGroup;
use crate::train::watch::Watch;

/// What a training is.
pub(crate) struct Identity {
    pub settings: Settings,
    pub rates: Rates,
    /// The parameter tensors of the student.
    pub student: usize,
}

/// Everything that the course of a training depends on, beside its settings.
pub(crate) struct Course<'a, I, J, S> {
    pub objective: &'a Objective,
    pub train: &'a DistillData<I, J>,
    pub valid: Option<&'a DistillData<I, J>>,
    pub student: &'a S,
    /// What is known of the teacher.
    pub teacher: Option<String>,
    pub has_rollout: bool,
    pub device: &'a Device,
}

impl Identity {
    /// That of a training of this model: the student, and what is trained beside it.
    pub fn of<I, J, S, M>(
        config: &FitConfig,
        course: &Course<'_, I, J, S>,
        model: &M,
    ) -> Result<Self>
    where
        I: Module + 'static,
        S: Module,
        M: Module,
    {
        let plan = config.plan();
        let per_epoch = plan.steps_per_epoch(course.train.len());
        let scheduler = config.scheduler(plan.epochs * per_epoch);
        let mut settings = Settings::default();
        add_objective(&mut settings, course.objective, config.epochs);
        if course.has_rollout {
            settings.text("epochs, which a rollout may follow,", config.epochs);
        }
        let teacher = course.teacher.as_deref();
        settings.text("teacher", teacher.unwrap_or("of no known name"));
        settings.text("seed", config.seed);
        settings.text("batch size", config.batch_size);
        settings.text("accumulation", config.accumulation);
        settings.text("drop_last", config.drop_last);
        if let Some(norm) = config.global_clipping {
            settings.text("global clipping", norm);
        }
        for RateGroup { group, factor } in &config.rate_groups {
            settings.text(format!("rate of {group:?}"), factor);
        }
        settings.text("devices", config.execution.devices());
        settings.text("gradients times", config.execution.reduction());
        let (size, device) = (config.batch_size, course.device);
        let train = Some(course.train);
        add_data(&mut settings, "training", train, size, device)?;
        add_data(&mut settings, "validation", course.valid, size, device)?;
        // After the data, which say more.
        let watch = Watch::or_loss(config, course.valid.is_some());
        settings.text("the watched number", watch.identity());
        settings.numbers(moves(&config.optimizer(), model));
        Ok(Self {
            settings,
            rates: Rates::new(scheduler, per_epoch),
            student: tensors(course.student),
        })
    }
}
