//! One training on Burn's engine, with or without a teacher.

pub(crate) mod checkpoint;
pub(crate) mod config;
pub(crate) mod history;
pub(crate) mod loader;
pub(crate) mod origin;
pub(crate) mod preflight;
pub(crate) mod step;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, GradientCheckpointingStrategy, Int, Tensor};
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::{
    ExecutionStrategy, Learner, MetricEarlyStoppingStrategy, StoppingCondition, SupervisedTraining,
};

use crate::data::dataset::DistillData;
use crate::data::outputs::Distillable;
use crate::device::check_device;
use crate::device::quietly;
use crate::error::{Error, Result};
use crate::objective::Objective;
use crate::report::TrainingSummary;
use crate::schedule::Schedule;
use crate::teacher::frozen::Frozen;
use crate::teacher::mean::Average;
use crate::train::checkpoint::{FOLDER, newest_complete};
use crate::train::config::FitConfig;
use crate::train::config::{Execution, OptimizerState};
use crate::train::history::{Recorder, StepMetric};
use crate::train::loader::{Loader, mix};
use crate::train::origin::{BURN, command, hardware};
use crate::train::preflight::Preflight;
use crate::train::preflight::{Check, Ready};
use crate::train::step::{Composite, Kept};

/// Everything about a training but its models.
pub(crate) struct Training<'a, I> {
    pub device: &'a Device,
    pub objective: Arc<Objective>,
    pub config: &'a FitConfig,
    pub train: &'a DistillData<I>,
    pub valid: Option<&'a DistillData<I>>,
    /// The decay of the average of the student that teaches in the teacher's place.
    pub average: Option<f64>,
}

/// What a training leaves.
pub(crate) struct Run<T, S> {
    pub student: S,
    /// The average of the student, where that was the teacher.
    pub average: Option<T>,
    pub summary: TrainingSummary,
    pub optimizer: Option<OptimizerState>,
}

impl<I: Module + 'static> Training<'_, I> {
    /// Checks everything that can be known before the first epoch.
    pub fn preflight<T, S>(&self, teacher: &Frozen<T>, student: &S) -> Result<Preflight>
    where
        T: Distillable<I>,
        S: Distillable<I>,
    {
        self.ready(teacher, student).map(|ready| ready.preflight)
    }

    /// Makes sure of a model's device and of its weights. Layers draw their first weights when they
    /// are first used: done now, the caller's seed decides them, and copies of the model start alike.
    pub fn prepare<M: Module>(&self, model: &M) -> Result<()> {
        self.config.check()?;
        if let Some(decay) = self.average.filter(|decay| !(0.0..=1.0).contains(decay)) {
            let expected = "a number from 0 to 1";
            return Err(Error::invalid("mean_teacher.decay", decay, expected));
        }
        let mut devices = self.devices().into_iter().chain(model.devices());
        devices.try_for_each(|device| check_device(&device))?;
        model.visit(&mut Initialize);
        Ok(())
    }

    fn devices(&self) -> Vec<Device> {
        match &self.config.execution {
            Execution::Single => vec![self.device.clone()],
            Execution::Multi(devices, _) | Execution::Ddp(devices, _) => devices.clone(),
        }
    }

    fn ready<T, S>(&self, teacher: &Frozen<T>, student: &S) -> Result<Ready>
    where
        T: Distillable<I>,
        S: Distillable<I>,
    {
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
        Check {
            teacher: &teacher.clone().fork(&device),
            student: &Frozen::new(student.clone()).fork(&device),
            objective: &self.objective,
            device: &device,
            batch_size: self.config.batch_size,
        }
        .run(self.train, self.valid)
    }

    /// Trains the student and hands it back in inference mode.
    pub fn run<T, S>(&self, teacher: Frozen<T>, student: S) -> Result<Run<T, S>>
    where
        T: Distillable<I>,
        S: Distillable<I>,
    {
        let ready = self.ready(&teacher, &student)?;
        let config = self.config;
        config.progress.announce(&ready.preflight);
        let mut main = self.devices()[0].clone().autodiff();
        // Whatever device the student was made on, its tensors take part in one kind of graph.
        let mut student = student.valid().train();
        let mut parts = ready.parts.train();
        if config.gradient_checkpointing {
            main = main.gradient_checkpointing();
            student = student.map(&mut Recompute);
            parts = parts.map(&mut Recompute);
        }
        let average = self
            .average
            .map(|decay| Average::new(teacher.inner(), decay));
        let composite = Composite {
            teacher: teacher.fork(&main),
            average: average.map(|average| average.fork(&main.clone().inner())),
            student: student.fork(&main),
            parts: parts.fork(&main),
            objective: self.objective.clone(),
            stats: ready.stats.clone(),
            kept: config.keep_optimizer.then(Kept::default),
            _input: PhantomData::<fn(I)>,
        };

        let strategy = self.strategy()?;
        let directory = self.checkpoint_directory()?;
        let resumed_from = match (&directory, config.resume) {
            (Some(directory), true) => {
                // Whichever device trains, the engine brings the optimizer's state back on this one.
                check_device(&Device::default())?;
                newest_complete(directory, &composite)?
            }
            _ => None,
        };
        let epochs_done = resumed_from.unwrap_or(0);
        let plan = config.plan();
        let steps = plan.epochs * plan.steps_per_epoch(self.train.len());
        let train = Loader::training(self.train.clone(), plan.clone(), config.seed, epochs_done);
        let valid = match self.valid {
            Some(valid) => Loader::validation(valid.clone(), plan, epochs_done),
            None => Loader::nothing(self.train.clone(), plan),
        };

        let recorder = Recorder::default();
        let mut training = SupervisedTraining::new(
            directory.as_deref().unwrap_or(std::path::Path::new("")),
            Arc::new(train),
            Arc::new(valid),
        )
        .num_epochs(config.epochs)
        .with_interrupter(config.interrupter.clone())
        .with_application_logger(None)
        .with_metric_logger(recorder.clone())
        .with_training_strategy(strategy.into());
        for (index, name) in ready.stats.names.iter().enumerate() {
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
            training = training.early_stopping(self.early_stopping(patience));
        }
        if let Some(checkpoints) = &config.checkpoints {
            training = training
                .with_default_checkpointers()
                .with_checkpointing_strategy(KeepLastNCheckpoints::new(checkpoints.keep));
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

        let kept = composite.kept.clone();
        let start = Instant::now();
        let learner = Learner::new(composite, config.optimizer(), config.scheduler(steps));
        // Whatever a panic leaves half done is dropped with it.
        let result = catch_unwind(AssertUnwindSafe(|| training.launch(learner)));
        let fault = || {
            ready
                .stats
                .fault
                .lock()
                .expect("the engine has stopped")
                .take()
        };
        let result = result.or_else(|panic| match fault() {
            Some(error) => Err(error),
            None => resume_unwind(panic),
        })?;
        let seconds = start.elapsed().as_secs_f64();
        if resumed_from.is_some() {
            // The engine restores the optimizer's state on the default device, which reads the files when it gets
            // to it. Without a step that is now, and not when they are gone: its later work would fail with it.
            check_device(&Device::default())?;
        }

        if let Some(error) = result.error {
            // The handle belongs to the caller, who may well train again.
            config.interrupter.reset();
            return Err(fault().unwrap_or(Error::Training(error)));
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
            device: format!("{:?}", main.clone().inner()),
            seconds,
            resumed_from,
            interrupted,
            history,
            version: env!("CARGO_PKG_VERSION").into(),
            burn_version: BURN.into(),
            hardware: hardware(),
            command: command(),
        };
        let device = main.inner();
        Ok(Run {
            student: result.model.student.fork(&device),
            average: result
                .model
                .average
                .map(|average| average.model.fork(&device)),
            summary,
            optimizer: kept.and_then(|kept| kept.take()).map(OptimizerState::new),
        })
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

    fn early_stopping(&self, patience: usize) -> MetricEarlyStoppingStrategy {
        let split = match self.valid {
            Some(_) => Split::Valid,
            None => Split::Train,
        };
        MetricEarlyStoppingStrategy::new(
            &StepMetric::new(crate::train::step::LOSS, 0),
            Aggregate::Mean,
            Direction::Lowest,
            split,
            StoppingCondition::NoImprovementSince { n_epochs: patience },
        )
    }

    /// The directory of the checkpoints, made and proven writable before anything is trained.
    fn checkpoint_directory(&self) -> Result<Option<PathBuf>> {
        let Some(checkpoints) = &self.config.checkpoints else {
            return Ok(None);
        };
        let folder = checkpoints.directory.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
        let probe = folder.join(".writable");
        std::fs::write(&probe, []).map_err(|error| Error::io(&folder, error))?;
        std::fs::remove_file(&probe).map_err(|error| Error::io(&probe, error))?;
        Ok(Some(checkpoints.directory.clone()))
    }
}

/// Touches every parameter, which initialises it.
struct Initialize;

impl ModuleVisitor for Initialize {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        param.val();
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        param.val();
    }
}

/// Marks parameters for gradient checkpointing, which a tensor and not only its device decides.
struct Recompute;

impl ModuleMapper for Recompute {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let strategy = GradientCheckpointingStrategy::Balanced;
        param.map(|tensor| tensor.with_gradient_checkpointing_strategy(strategy))
    }
}
