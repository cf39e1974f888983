//! From the check to the report: a distillation, its baseline, and what is measured of them.

use std::any::Any;
use std::sync::Arc;

use burn::backend::Backend;
use burn::module::Module;

use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::device::attended;
use crate::distiller::Distiller;
use crate::distiller::distilled::Distilled;
use crate::error::{Error, Result};
use crate::metric::distance::parameter_distance;
use crate::objective::Objective;
use crate::objective::classes::ClassPolicy;
use crate::report::batches::attempted;
use crate::report::measure::measure_pair;
use crate::report::report::{Parts, Report};
use crate::supervised::{Trained, baseline_objective, supervised, train_model};
use crate::teacher::Teacher;
use crate::teacher::own::OwnTeacher;
use crate::train::composite::Rewrite;
use crate::train::config::FitConfig;
use crate::train::{Outcome, TeacherSource, Training};

impl<B: Backend, T, S> Distiller<B, T, S> {
    pub(super) fn run<I, J>(
        self,
        config: &FitConfig,
        train: DistillData<I, J>,
        valid: Option<DistillData<I, J>>,
    ) -> Result<Distilled<T, S>>
    where
        I: Module + 'static,
        J: Module + 'static,
        T: Teacher<J>,
        S: Distillable<I>,
    {
        self.objective.validate()?;
        let (train, valid) = match self.directory(config) {
            Some(directory) => {
                // What cannot be trained shows in a batch, before the teacher is run over all of the data.
                let record =
                    |count| self.recorded(directory, config, &train, valid.as_ref(), count);
                let (first, valid) = record(config.batch_size)?;
                let source = self.source(config, &first, valid.as_ref())?;
                let training = self.training(config, &first, valid.as_ref(), source)?;
                training.prepare(&self.student)?;
                training.preflight(&self.student)?;
                record(usize::MAX)?
            }
            None => (train, valid),
        };
        let source = self.source(config, &train, valid.as_ref())?;
        let training = self.training(config, &train, valid.as_ref(), source.clone())?;
        training.prepare(&self.student)?;
        // Whatever the baseline lacks shows before anything is trained.
        let baseline = match config.baseline {
            true => {
                let objective =
                    baseline_objective(&self.objective, &self.student, &train, &self.device)?;
                let config = as_baseline(config);
                let alone = supervised(
                    &self.device,
                    objective.clone(),
                    &config,
                    &train,
                    valid.as_ref(),
                );
                alone.preflight(&self.student)?;
                Some((objective, self.student.clone()))
            }
            false => None,
        };
        let Outcome {
            student,
            average,
            summary,
            optimizer,
        } = training.run(self.student.clone())?;

        let teacher: Option<Arc<dyn Teacher<J>>> = match (&source, &average) {
            (TeacherSource::Teacher(teacher), _) => Some(teacher.clone()),
            (TeacherSource::Average(_), Some(average)) => {
                Some(Arc::new(OwnTeacher::<I, S>::new(average.clone())))
            }
            _ => None,
        };
        let against = Against {
            teacher: teacher.map(|teacher| teacher.on(&self.device)),
            policy: self.objective.class_policy(),
        };
        let mut parts = self.measured(&student, &against, config, &train, valid.as_ref());
        parts.training = summary;
        if let Some((objective, untrained)) = baseline {
            let trained = match parts.training.stopped() {
                // Epochs that were not run have no baseline either.
                Some(stopped) => Err(format!("the distillation was {stopped}")),
                None => {
                    let data = (&train, valid.as_ref());
                    self.trained_baseline(untrained, objective, config, data, &against)
                        .map_err(|error| error.reason().to_string())
                }
            };
            let whole = trained.and_then(|trained| match trained.training.stopped() {
                Some(stopped) => Err(format!("it was {stopped}")),
                None => Ok(trained),
            });
            let note = |note| format!("the baseline: {note}");
            match whole {
                Ok(trained) => {
                    let notes = trained.training.notes.into_iter().map(note);
                    parts.unmeasured.extend(notes);
                    parts.baseline = Some(trained.report).filter(|it| it.samples > 0);
                }
                Err(reason) => parts.unmeasured.push(note(reason)),
            }
        }
        let teacher = match average.map(|average| Box::new(average) as Box<dyn Any>) {
            Some(average) => match average.downcast::<T>() {
                Ok(average) => *average,
                Err(_) => self.teacher,
            },
            None => self.teacher,
        };
        Ok(Distilled {
            student,
            teacher,
            report: Report::new(parts),
            optimizer,
        })
    }

    /// Trains a copy of the student on targets alone, with the recipe, seed and batches that
    /// [`fit`](Self::fit) would use, and measures it against the teacher: the supervised baseline that
    /// distillation has to beat. To give the baseline a recipe of its own, tuned as carefully as the
    /// distillation's, is what this call is for; with one recipe for both,
    /// [`FitConfig::with_baseline`] does it along the way.
    ///
    /// It minimises hard labels on every head that has class targets; without any, the terms of the
    /// objective that need no teacher.
    ///
    /// # Errors
    ///
    /// As for [`fit`](Self::fit); there must be something to learn from.
    pub fn baseline<I, J>(
        &self,
        config: &FitConfig,
        train: &DistillData<I, J>,
        valid: Option<&DistillData<I, J>>,
    ) -> Result<Trained<S>>
    where
        I: Module + 'static,
        J: Module + 'static,
        T: Teacher<J>,
        S: Distillable<I>,
    {
        attended(self.teacher_on.as_ref(), || {
            let objective =
                baseline_objective(&self.objective, &self.student, train, &self.device)?;
            let teacher = match self.source(config, train, valid)? {
                TeacherSource::Teacher(teacher) => Some(teacher.on(&self.device)),
                _ => None,
            };
            let against = Against {
                teacher,
                policy: self.objective.class_policy(),
            };
            let student = self.student.clone();
            self.trained_baseline(student, objective, config, (train, valid), &against)
        })
    }

    fn trained_baseline<I, J>(
        &self,
        student: S,
        objective: Objective,
        config: &FitConfig,
        (train, valid): (&DistillData<I, J>, Option<&DistillData<I, J>>),
        against: &Against<J>,
    ) -> Result<Trained<S>>
    where
        I: Module + 'static,
        J: Module + 'static,
        S: Distillable<I>,
    {
        let mut config = as_baseline(config);
        if let Some(checkpoints) = &mut config.checkpoints {
            // Beside a distillation: neither may resume from the other.
            checkpoints.directory = checkpoints.directory.join("baseline");
        }
        config.label = Some("baseline".into());
        let (model, training) =
            train_model(&self.device, student, objective, &config, train, valid)?;
        let data = valid.unwrap_or(train);
        let teacher = against.teacher.as_ref();
        let (size, device) = (config.batch_size, &self.device);
        let pair = measure_pair(&model, teacher, false, against.policy, data, size, device);
        Ok(Trained::new(model, pair, training))
    }

    /// What can be measured of a student and its teacher; the rest is named with its reason.
    fn measured<I, J>(
        &self,
        student: &S,
        against: &Against<J>,
        config: &FitConfig,
        train: &DistillData<I, J>,
        valid: Option<&DistillData<I, J>>,
    ) -> Parts
    where
        I: Module + 'static,
        J: Module + 'static,
        S: Distillable<I>,
    {
        let (measured_on, data) = match valid {
            Some(valid) => ("validation", valid),
            None => ("training", train),
        };
        let (teacher, policy) = (against.teacher.as_ref(), against.policy);
        let (size, device) = (config.batch_size, &self.device);
        let module = teacher.and_then(|teacher| teacher.info().module);
        let elsewhere = self.teacher_on.as_ref().filter(|on| *on != device);
        let mut parts = Parts {
            teacher_device: elsewhere.map(|device| format!("{device:?}")),
            measured_on,
            ..Parts::default()
        };
        let distance = module.map(|module| {
            attempted("the parameter distance", || {
                Ok(parameter_distance(&module, student))
            })
        });
        match distance.transpose() {
            Ok(distance) => parts.parameter_distance = distance,
            Err(error) => parts.unmeasured.push(error.to_string()),
        }
        match measure_pair(student, teacher, true, policy, data, size, device) {
            Ok(pair) => {
                parts.distilled = pair.student;
                parts.teacher = pair.teacher;
                parts.comparison = pair.comparison;
                parts.unmeasured.extend(pair.unmeasured);
            }
            Err(error) => parts
                .unmeasured
                .push(format!("teacher and student: {error}")),
        }
        parts
    }

    /// Everything about the training but the student.
    pub(super) fn training<'a, I, J>(
        &'a self,
        config: &'a FitConfig,
        train: &'a DistillData<I, J>,
        valid: Option<&'a DistillData<I, J>>,
        source: TeacherSource<J>,
    ) -> Result<Training<'a, I, J, S>>
    where
        I: Module + 'static,
        J: Module + 'static,
        S: Distillable<I>,
    {
        let rollout = self.rollout.as_ref().map(|rollout| {
            let rewrite = rollout.downcast_ref::<Arc<Rewrite<I, J, S>>>();
            rewrite.cloned().ok_or_else(|| {
                Error::invalid(
                    "rollout",
                    "of batches of another type",
                    "a closure on the batches of the training data",
                )
            })
        });
        Ok(Training {
            device: &self.device,
            objective: Arc::new(self.objective.clone()),
            config,
            train,
            valid,
            source,
            rollout: rollout.transpose()?,
        })
    }
}

/// The settings of a distillation for its baseline.
fn as_baseline(config: &FitConfig) -> FitConfig {
    FitConfig {
        is_baseline: true,
        ..config.clone()
    }
}

/// The teacher that a student is measured against.
struct Against<J> {
    teacher: Option<Arc<dyn Teacher<J>>>,
    policy: ClassPolicy,
}
