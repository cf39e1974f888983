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

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn::train::{ExecutionStrategy, Learner, SupervisedTraining};

use crate::attempt::{attempt, panicked};
use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::device::{check_device, quietly};
use crate::error::{Error, Result, Side};
use crate::objective::Objective;
use crate::schedule::Schedule;
use crate::teacher::Teacher;
use crate::teacher::cache::{Cached, TeacherCache};
use crate::teacher::frozen::Frozen;
use crate::teacher::full_batch::ask;
use crate::teacher::mean::Average;
use crate::teacher::own::OwnTeacher;
use crate::train::best::{BestFiles, Snapshot};
use crate::train::checkpoint::directory::{Held, Sets};
use crate::train::checkpoint::identity::{Course, Identity};
use crate::train::checkpoint::resume::{Checkpointing, Start};
use crate::train::checkpoint::saver::{EveryEpoch, Part};
use crate::train::composite::{Composite, MODULES, OptimizerSlot, Rewrite, Rollout, Run};
use crate::train::config::{Execution, FitConfig};
use crate::train::feed::{Failure, Feed, TRAINING, VALIDATION};
use crate::train::finite::{check_input, check_outputs};
use crate::train::history::{Recorder, StepMetric};
use crate::train::keeper::{BeforeCheckpoint, EndOfEpoch, Keeper};
use crate::train::loader::{Loader, Plan, mix};
use crate::train::named::Names;
use crate::train::origin::{BURN, hardware};
use crate::train::parameters::{ForceInit, Recompute};
use crate::train::preflight::{Preflight, PreflightCheck, Prepared};
use crate::train::stopping::Patience;
use crate::train::summary::TrainingSummary;
use crate::train::watch::Watch;

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
        if self.config.plan().kept(self.train.len()) == 0 && !self.train.is_empty() {
            return Err(Error::InvalidParameter {
                name: "drop_last".into(),
                value: format!("on with {} training samples", self.train.len()),
                expected: "at least as many samples as a batch has",
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
        .and_then(|mut prepared| {
            if let Some(watch) = self.watch() {
                watch.check(&prepared.metrics)?;
            }
            prepared.preflight.notes = self.check_names(student.inner(), &prepared)?;
            Ok(prepared)
        })
    }

    /// Checks what goes by the names of parameters, and gives what deserves a look.
    fn check_names(&self, student: &S, prepared: &Prepared) -> Result<Vec<String>> {
        let config = self.config;
        let mut names = Names::default();
        names.add(None, student);
        names.check_shared()?;
        let last_batch = config.plan().last_batch(self.train.len());
        let notes = names.notes(last_batch);
        names.add(Some(MODULES), &prepared.modules);
        names.check_trained()?;
        if config.is_baseline {
            // The groups are those of the distillation, and what its losses train is not here.
            return Ok(notes);
        }
        for it in &config.rate_groups {
            names.check_group("lr_group", &it.group)?;
        }
        for it in &config.optimizer_groups {
            names.check_group("optimizer_group", &it.group)?;
        }
        Ok(notes)
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
        let watched = self.watch();
        let keeper = self.keeper(&failure);
        let slot = config.keep_optimizer.then(OptimizerSlot::default);
        let composite = Composite {
            student: student.fork(&main),
            modules: modules.fork(&main),
            average: average.map(|average| average.on(&plain)),
            run: Arc::new(Run {
                objective: self.objective.clone(),
                metrics: prepared.metrics.clone(),
                widths: prepared.widths,
                window: (!matches!(config.execution, Execution::Ddp(..)))
                    .then_some(prepared.window),
                failure: failure.clone(),
                rollout,
                optimizer: slot.clone(),
                keeper: keeper.clone(),
                clipping: config.global_clipping,
            }),
        };

        let strategy = self.strategy()?;
        let watch = Watch::or_loss(config, self.valid.is_some());
        let mut start = Start::afresh(config, watch);
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
        let models = Snapshot {
            student: composite.student.valid(),
            average: composite.average.as_ref().map(|it| it.model.valid()),
        };
        let mut notes = prepared.preflight.notes.clone();
        notes.append(&mut start.notes);
        notes.extend(keeper.start(epochs_done, &start.scores, &models)?);
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
        training = training.early_stopping(EndOfEpoch {
            keeper: keeper.clone(),
            patience: config.patience.map(|epochs| Patience {
                scores: start.scores.clone(),
                epochs,
            }),
        });
        if let Some(Checkpointing { saver, .. }) = &checkpointing {
            let part = |part| Part(saver.clone(), part);
            training = training
                .with_custom_checkpointers(part(0), part(1), part(2))
                .with_checkpointing_strategy(BeforeCheckpoint {
                    keeper: keeper.clone(),
                    strategy: EveryEpoch(saver.clone()),
                });
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
        let explained = |error| self.explained(error, teacher.as_ref(), &plain);
        let seconds = began.elapsed().as_secs_f64();
        if let Some(checkpointing) = checkpointing {
            // Nothing after training loses the student.
            if let Err(error) = checkpointing.held.clean() {
                log::warn!("{error}");
            }
        }
        // The handle belongs to the caller, who may well train again.
        config.interrupter.reset();
        let result = result.map_err(|panic| panicked(panic.as_ref()));
        let result = result.and_then(|result| match result.error.clone() {
            Some(error) => Err(Error::Training(error)),
            None => Ok(result),
        });
        // The first error has the reason of the others.
        let result = match failure.take() {
            Some(error) => Err(explained(error)),
            None => result,
        };
        let kept = keeper.take();
        let result = result.map_err(|error| {
            let Some((epoch, kept)) = &kept else {
                return error;
            };
            // A device that is gone keeps what it has.
            let fork = AssertUnwindSafe(|| kept.student.clone().fork(&plain));
            match catch_unwind(fork) {
                Ok(student) => error.with_student(*epoch, student),
                Err(_) => error,
            }
        })?;
        if resumed_from.is_some() {
            // The engine restores the optimizer's state on the default device, which reads the files when it gets
            // to it. Without a step that is now, and not when they are gone: its later work would fail with it.
            let student = || result.model.student.clone().fork(&plain);
            check_device(&Device::default())
                .map_err(|error| error.with_student(config.epochs, student()))?;
        }

        let best = kept.filter(|_| watched.is_some());
        let mut history = recorder.history();
        let epochs_run = history.train.values().map(Vec::len).max().unwrap_or(0);
        history.schedules = self.schedules(epochs_done..epochs_done + epochs_run);
        let interrupted = result.interrupted.map(|interruption| {
            let reason = interruption.reason;
            reason.unwrap_or_else(|| "training was asked to stop".into())
        });
        let summary = TrainingSummary {
            best_epoch: best.as_ref().map(|(epoch, _)| *epoch),
            best_by: best.as_ref().and(watched.as_ref()).map(Watch::name),
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
            notes,
            history,
            version: env!("CARGO_PKG_VERSION").into(),
            burn_version: BURN.into(),
            hardware: hardware(),
        };
        let model = result.model;
        let snapshot = match best {
            Some((_, best)) => best,
            None => Snapshot {
                student: model.student,
                average: model.average.map(|average| average.model),
            },
        };
        Ok(Outcome {
            student: snapshot.student.fork(&plain),
            average: snapshot.average.map(|average| average.to_device(&plain)),
            summary,
            optimizer: slot.and_then(|slot| slot.take()),
        })
    }

    /// What made a term not finite, where it can be found: an input, or what the teacher says of a sample.
    /// It is looked for only now, so that no step waits for it.
    fn explained(
        &self,
        error: Error,
        teacher: Option<&Arc<dyn Teacher<J>>>,
        device: &Device,
    ) -> Error {
        let (what, samples, error) = match error {
            Error::Batch {
                what,
                samples,
                error,
            } if matches!(*error, Error::NonFinite { .. }) => (what, samples, *error),
            other => return other,
        };
        let data = match (what, self.valid) {
            (VALIDATION, Some(valid)) => valid,
            _ => self.train,
        };
        let looked = attempt(what, &samples, || {
            let batch = data.read(what, samples.clone(), device, true)?;
            let checked = match teacher {
                Some(teacher) => {
                    let full = teacher.info().wants_full_batches;
                    let size = self.config.batch_size;
                    let outputs = ask(teacher.as_ref(), data, &batch, size, device, full)?;
                    check_outputs(what, Side::Teacher, &outputs, &batch)
                }
                None => Ok(()),
            };
            check_input(what, &batch)?;
            checked
        });
        match (looked, &error) {
            (Err(Error::NonFinite { what, value }), Error::NonFinite { what: term, .. }) => {
                Error::NonFinite {
                    what,
                    value: format!("{value}, seen by {term}"),
                }
            }
            _ => error,
        }
    }

    fn loaders(
        &self,
        feed: impl Fn(&DistillData<I, J>, &'static str) -> Feed<I, J>,
        plan: Plan,
        epochs_done: usize,
    ) -> (Loader<I, J>, Loader<I, J>) {
        let training = feed(self.train, TRAINING);
        let train = Loader::training(training, plan.clone(), self.config.seed, epochs_done);
        let valid = match self.valid {
            Some(valid) => Loader::validation(feed(valid, VALIDATION), plan, epochs_done),
            None => Loader::empty(feed(self.train, VALIDATION), plan),
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

    fn watch(&self) -> Option<Watch> {
        Watch::of(self.config, self.valid.is_some())
    }

    fn keeper(&self, failure: &Failure) -> Keeper<S> {
        let watch = self.watch();
        let checkpoints = self.config.checkpoints.as_ref();
        let files = checkpoints
            .zip(watch.as_ref())
            .map(|(checkpoints, watch)| BestFiles {
                folder: Sets::of(&checkpoints.directory).folder,
                by: watch.name(),
            });
        Keeper::new(watch, files, failure.clone())
    }
}
