//! One training on Burn's engine, with or without a teacher: the only room that knows `burn-train`.

pub(crate) mod checkpoint;
pub(crate) mod composite;
pub(crate) mod config;
pub(crate) mod feed;
pub(crate) mod history;
pub(crate) mod loader;
pub(crate) mod metrics;
pub(crate) mod origin;
pub(crate) mod parameters;
pub(crate) mod preflight;
pub(crate) mod step;
pub(crate) mod stopping;
pub(crate) mod summary;
pub(crate) mod workers;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn::train::metric::store::Split;
use burn::train::{ExecutionStrategy, Learner, SupervisedTraining};

use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::device::{check_device, quietly};
use crate::error::{Error, Result};
use crate::objective::Objective;
use crate::schedule::Schedule;
use crate::teacher::Teacher;
use crate::teacher::cache::{Cached, TeacherCache};
use crate::teacher::frozen::Frozen;
use crate::teacher::mean::Average;
use crate::teacher::own::OwnTeacher;
use crate::train::checkpoint::directory::Held;
use crate::train::checkpoint::identity::{Course, Identity};
use crate::train::checkpoint::resume::{Checkpointing, Start};
use crate::train::checkpoint::saver::{EveryEpoch, Part};
use crate::train::composite::{Composite, OptimizerSlot, Rewrite, Rollout, Run};
use crate::train::config::{Execution, FitConfig};
use crate::train::feed::{Failure, Feed};
use crate::train::history::{Recorder, StepMetric};
use crate::train::loader::{Loader, Plan, mix};
use crate::train::origin::{BURN, hardware};
use crate::train::parameters::{ForceInit, Recompute};
use crate::train::preflight::{Preflight, PreflightCheck, Prepared};
use crate::train::stopping::EarlyStopping;
use crate::train::summary::TrainingSummary;

/// The teacher that the loaders ask, or the one that is asked inside the step.
type Asked<I, J, S> = (Option<Arc<dyn Teacher<J>>>, Option<Rollout<I, J, S>>);

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
    /// Checks everything that can be known before the first epoch.
    pub fn preflight(&self, student: &S) -> Result<Preflight> {
        self.prepared(student).map(|prepared| prepared.preflight)
    }

    /// Checks the settings, the devices and the student's. Layers draw their first weights when they
    /// are first used: done now, the caller's seed decides them, and copies of the model start alike.
    pub fn prepare<M: Module>(&self, model: &M) -> Result<()> {
        self.config.check()?;
        if let TeacherSource::Average(decay) = self.source
            && !(0.0..=1.0).contains(&decay)
        {
            let expected = "a number from 0 to 1";
            return Err(Error::invalid("mean_teacher.decay", decay, expected));
        }
        let mut devices = self.devices().into_iter().chain(model.devices());
        devices.try_for_each(|device| check_device(&device))?;
        model.visit(&mut ForceInit);
        Ok(())
    }

    fn devices(&self) -> Vec<Device> {
        match &self.config.execution {
            Execution::Single => vec![self.device.clone()],
            Execution::Multi(devices, _) | Execution::Ddp(devices, _) => devices.clone(),
        }
    }

    fn is_cached(&self) -> bool {
        self.config.teacher_cache.is_some() && matches!(self.source, TeacherSource::Teacher(_))
    }

    fn prepared(&self, student: &S) -> Result<Prepared> {
        let devices = self.devices();
        if devices.len() > 1 && self.train.len() < devices.len() {
            return Err(Error::InvalidParameter {
                name: "devices".into(),
                value: devices.len().to_string(),
                expected: "at most as many as there are training samples",
            });
        }
        // The projectors of a training depend on its seed alone.
        let device = devices[0].clone().inner();
        device.seed(mix(self.config.seed, u64::MAX));
        let student = Frozen::new(student, &device);
        let average = |decay| Average::new(student.inner(), decay).model;
        let teacher: Option<Arc<dyn Teacher<J>>> = match &self.source {
            TeacherSource::None => None,
            TeacherSource::Teacher(teacher) => Some(teacher.on(&device)),
            TeacherSource::Average(decay) => {
                Some(Arc::new(OwnTeacher::<I, S>::new(average(*decay))))
            }
        };
        let rewrite = |batch: DistillBatch<I, J>| match &self.rollout {
            Some(rollout) => rollout(student.inner(), batch, 0.0),
            None => batch,
        };
        PreflightCheck {
            teacher: teacher.as_ref(),
            student: &student,
            objective: &self.objective,
            device: &device,
            batch_size: self.config.batch_size,
            is_cached: self.is_cached() && self.rollout.is_none(),
        }
        .run(self.train, self.valid, rewrite)
    }

    /// The teacher that the loaders ask, and its rollout where it is asked inside the step.
    fn asked(&self, main: &Device) -> Asked<I, J, S> {
        let teacher = match &self.source {
            TeacherSource::Teacher(teacher) => Some(teacher.on(main)),
            _ => None,
        };
        if let Some(rewrite) = &self.rollout {
            let rollout = Rollout {
                rewrite: rewrite.clone(),
                teacher,
                on: Default::default(),
            };
            return (None, Some(rollout));
        }
        let teacher = match (teacher, &self.config.teacher_cache) {
            (Some(teacher), Some(TeacherCache::Memory(limit))) => {
                Some(Arc::new(Cached::new(teacher, main, *limit)) as Arc<dyn Teacher<J>>)
            }
            (teacher, _) => teacher,
        };
        (teacher, None)
    }

    /// Trains the student and hands it back in inference mode.
    pub fn run(&self, student: S) -> Result<Outcome<S>> {
        let prepared = self.prepared(&student)?;
        let config = self.config;
        config.progress.announce(&prepared.preflight);
        let mut main = self.devices()[0].clone().autodiff();
        // Whatever device the student was made on, its tensors take part in one kind of graph.
        let mut student = student.valid().train();
        let mut modules = prepared.modules.train();
        if config.gradient_checkpointing {
            main = main.gradient_checkpointing();
            student = student.map(&mut Recompute);
            modules = modules.map(&mut Recompute);
        }
        let average = match self.source {
            TeacherSource::Average(decay) => Some(Average::new(&student, decay)),
            _ => None,
        };
        let plain = main.clone().inner();
        let (teacher, rollout) = self.asked(&plain);
        let failure = Failure::default();
        let slot = config.keep_optimizer.then(OptimizerSlot::default);
        let composite = Composite {
            student: student.fork(&main),
            modules: modules.fork(&main),
            average: average.map(|average| average.on(&plain)),
            run: Arc::new(Run {
                objective: self.objective.clone(),
                metrics: prepared.metrics.clone(),
                failure: failure.clone(),
                rollout,
                optimizer: slot.clone(),
            }),
        };

        let strategy = self.strategy()?;
        let mut start = Start::afresh(config, self.split());
        let mut checkpointing = None;
        if let Some(checkpoints) = &config.checkpoints {
            if config.resume {
                // Whichever device trains, the engine brings the optimizer's state back on this one.
                check_device(&Device::default())?;
            }
            let held = Held::new(&checkpoints.directory, checkpoints.keep)?;
            let course = Course {
                objective: &self.objective,
                train: self.train,
                valid: self.valid,
                student: &composite.student,
                teacher: match &self.source {
                    TeacherSource::None => Some("none".into()),
                    TeacherSource::Teacher(teacher) => teacher.info().digest(),
                    TeacherSource::Average(decay) => Some(format!("the average by {decay}")),
                },
                has_rollout: self.rollout.is_some(),
                device: &plain,
            };
            let identity = Identity::of(config, &course, &composite)?;
            let (opened, begin) =
                Checkpointing::open(held, config, &composite, identity, &failure, start)?;
            (checkpointing, start) = (Some(opened), begin);
        }
        (start.notes.iter()).for_each(|note| config.progress.announce(note));
        let resumed_from = start.resumed_from;
        let epochs_done = resumed_from.unwrap_or(0);
        let info = teacher
            .as_ref()
            .map(|teacher| teacher.info())
            .unwrap_or_default();
        let mut plan = config.plan();
        if info.is_remote {
            // The answer is on its way while the student learns.
            plan.workers = plan.workers.max(1);
        }
        let steps = plan.epochs * plan.steps_per_epoch(self.train.len());
        let feed = |data: &DistillData<I, J>, what| Feed {
            data: data.clone(),
            what,
            teacher: teacher.clone(),
            wants_full_batches: info.wants_full_batches,
            needs_names: teacher.is_some(),
            batch_size: config.batch_size,
            classes: prepared.classes.clone(),
            failure: failure.clone(),
        };
        let (train, valid) = self.loaders(feed, plan, epochs_done);

        let recorder = Recorder::default();
        let mut training = SupervisedTraining::new(
            // Burn's own checkpoints and logs would be there.
            Path::new(""),
            Arc::new(train),
            Arc::new(valid),
        )
        .num_epochs(start.epochs)
        .with_interrupter(config.interrupter.clone())
        .with_application_logger(None)
        .with_metric_logger(recorder.clone())
        .with_training_strategy(strategy.into());
        for (index, name) in prepared.metrics.names.iter().enumerate() {
            training = training.metric_train_numeric(StepMetric::new(name, index));
            if self.valid.is_some() {
                training = training.metric_valid_numeric(StepMetric::new(name, index));
            }
        }
        if config.accumulation > 1 {
            training = training.grads_accumulation(config.accumulation);
        }
        if config.gradient_checkpointing {
            training = training.gradient_checkpointing();
        }
        if let Some(patience) = config.patience {
            training = training.early_stopping(EarlyStopping {
                losses: start.losses.clone(),
                patience,
            });
        }
        if let Some(Checkpointing { saver, .. }) = &checkpointing {
            let part = |part| Part(saver.clone(), part);
            training = training
                .with_custom_checkpointers(part(0), part(1), part(2))
                .with_checkpointing_strategy(EveryEpoch(saver.clone()));
        }
        if let Some(epoch) = resumed_from {
            training = training.checkpoint(epoch);
        }
        if let Some(label) = &config.label {
            training = training.label(label);
        }
        if let Some(renderer) = config.progress.renderer() {
            training = training.renderer(renderer);
        }

        let began = Instant::now();
        let learner = Learner::new(composite, config.optimizer(), config.scheduler(steps));
        // Whatever a panic leaves half done is dropped with it.
        let result = catch_unwind(AssertUnwindSafe(|| training.launch(learner)));
        let result = result.or_else(|panic| match failure.take() {
            Some(error) => Err(error),
            None => resume_unwind(panic),
        })?;
        let seconds = began.elapsed().as_secs_f64();
        if let Some(checkpointing) = checkpointing {
            // Nothing after training loses the student.
            if let Err(error) = checkpointing.held.clean() {
                log::warn!("{error}");
            }
        }
        if let Some(error) = result.error {
            // The handle belongs to the caller, who may well train again.
            config.interrupter.reset();
            return Err(failure.take().unwrap_or(Error::Training(error)));
        }
        let mut history = recorder.history();
        let epochs_run = history.train.values().map(Vec::len).max().unwrap_or(0);
        history.schedules = self.schedules(epochs_done..epochs_done + epochs_run);
        let interrupted = result.interrupted.map(|interruption| {
            let reason = interruption.reason;
            reason.unwrap_or_else(|| "training was asked to stop".into())
        });
        let summary = TrainingSummary {
            objective: self.objective.to_string(),
            epochs: config.epochs,
            last_epoch: epochs_done + epochs_run,
            samples: self.train.len(),
            batch_size: config.batch_size,
            learning_rate: config.learning_rate,
            seed: config.seed,
            device: format!("{plain:?}"),
            seconds,
            resumed_from,
            interrupted,
            history,
            version: env!("CARGO_PKG_VERSION").into(),
            burn_version: BURN.into(),
            hardware: hardware(),
            notes: start.notes,
        };
        let Composite {
            student, average, ..
        } = result.model;
        Ok(Outcome {
            student: student.fork(&plain),
            average: average.map(|average| average.on(&plain).model),
            summary,
            optimizer: slot.and_then(|slot| slot.take()),
        })
    }

    fn loaders(
        &self,
        feed: impl Fn(&DistillData<I, J>, &'static str) -> Feed<I, J>,
        plan: Plan,
        epochs_done: usize,
    ) -> (Loader<I, J>, Loader<I, J>) {
        let training = feed(self.train, "training");
        let train = Loader::training(training, plan.clone(), self.config.seed, epochs_done);
        let valid = match self.valid {
            Some(valid) => Loader::validation(feed(valid, "validation"), plan, epochs_done),
            None => Loader::empty(feed(self.train, "validation"), plan),
        };
        (train, valid)
    }

    /// What follows a schedule, at the first step of each of these epochs, counted from 0.
    fn schedules(&self, epochs: Range<usize>) -> BTreeMap<String, Vec<f64>> {
        let plan = self.config.plan();
        let per_epoch = plan.steps_per_epoch(self.train.len());
        let mut scheduler = self.config.scheduler(plan.epochs * per_epoch);
        let rates = (0..epochs.end * per_epoch).map(|_| scheduler.step().base());
        let rates = rates.step_by(per_epoch.max(1)).skip(epochs.start).collect();
        let mut schedules = BTreeMap::from([("learning_rate".to_string(), rates)]);
        let over = |schedule: &Schedule| -> Vec<f64> {
            let progress = |epoch| epoch as f64 / plan.epochs as f64;
            epochs
                .clone()
                .map(|epoch| schedule.at(progress(epoch)))
                .collect()
        };
        for term in self.objective.terms() {
            schedules.insert(format!("{} weight", term.name()), over(term.weight()));
            if let Some(temperature) = term.loss().temperature() {
                schedules.insert(format!("{} temperature", term.name()), over(temperature));
            }
        }
        schedules
    }

    fn strategy(&self) -> Result<ExecutionStrategy> {
        Ok(match &self.config.execution {
            Execution::Single => ExecutionStrategy::single(self.device.clone()),
            Execution::Multi(devices, optim) => ExecutionStrategy::multi(devices.clone(), *optim),
            // Which backends can do it, Burn says only by trying.
            Execution::Ddp(devices, config) => {
                quietly(|| ExecutionStrategy::ddp(devices.clone(), config.clone())).map_err(
                    |reason| Error::DeviceUnavailable {
                        device: format!("{:?}", devices[0]),
                        reason,
                    },
                )?
            }
        })
    }

    /// The set whose loss early stopping looks at.
    fn split(&self) -> Split {
        match self.valid {
            Some(_) => Split::Valid,
            None => Split::Train,
        }
    }
}
