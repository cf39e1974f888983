//! One training on Burn's engine, from its first batch to the student it hands back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use burn::train::{ExecutionStrategy, Learner, SupervisedTraining};

use crate::attempt::panicked;
use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::device::{check_device, quietly};
use crate::error::{Error, Result};
use crate::teacher::Teacher;
use crate::teacher::cache::{Cached, TeacherCache};
use crate::teacher::mean::Average;
use crate::train::best::{BestFiles, Snapshot};
use crate::train::checkpoint::directory::{Held, Sets};
use crate::train::checkpoint::identity::{Course, Identity};
use crate::train::checkpoint::resume::{Checkpointing, Start};
use crate::train::checkpoint::saver::{EveryEpoch, Part};
use crate::train::composite::{Composite, OptimizerSlot, Rollout, Run};
use crate::train::config::Execution;
use crate::train::feed::{Failure, Feed, TRAINING, VALIDATION};
use crate::train::history::{Recorder, StepMetric};
use crate::train::keeper::{BeforeCheckpoint, EndOfEpoch, Keeper};
use crate::train::loader::{Loader, Plan};
use crate::train::origin::{BURN, hardware};
use crate::train::parameters::Recompute;
use crate::train::stopping::Patience;
use crate::train::summary::TrainingSummary;
use crate::train::watch::Watch;
use crate::train::{Outcome, TeacherSource, Training};

/// The teacher that the loaders ask, or the one that is asked inside the step.
type Asked<I, J, S> = (Option<Arc<dyn Teacher<J>>>, Option<Rollout<I, J, S>>);

impl<I, J, S> Training<'_, I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
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
        notes.extend(keeper.start(epochs_done, &start.scores, &models));
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

    fn keeper(&self, failure: &Failure) -> Keeper<S> {
        let watch = self.watch();
        let checkpoints = self.config.checkpoints.as_ref();
        let files = checkpoints
            .zip(watch.as_ref())
            .map(|(checkpoints, watch)| BestFiles {
                folder: Sets::of(&checkpoints.directory).folder,
                by: watch.identity(),
            });
        Keeper::new(watch, files, failure.clone())
    }
}
