//! The way in: a teacher, a student, an objective, and `fit`.

mod source;

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::backend::{Backend, Dispatch};
use burn::module::{Module, ModuleDisplay};
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::device::attended;
use crate::error::{Error, Result};
use crate::loss::term::IntoTerm;
use crate::metric::distance::parameter_distance;
use crate::objective::Objective;
use crate::objective::classes::ClassPolicy;
use crate::report::batches::attempted;
use crate::report::measure::measure_pair;
use crate::report::report::{Parts, Report};
use crate::schedule::Schedule;
use crate::supervised::{Trained, baseline_objective, supervised, train_model};
use crate::teacher::Teacher;
use crate::teacher::own::OwnTeacher;
use crate::train::composite::Rewrite;
use crate::train::config::FitConfig;
use crate::train::preflight::Preflight;
use crate::train::{Outcome, TeacherSource, Training};

/// Trains a small module, the student, to imitate a large one, the teacher.
///
/// [`Distiller::on`] takes the [`Device`] that everything else takes. `Distiller<B, _, _>` pins a
/// distillation to the backend `B`, such as `Flex`, `NdArray` or `Wgpu`, at compile time, and
/// [`Distiller::new`] takes a device of that backend. Both models move to the device given, the teacher
/// frozen.
///
/// # Example
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::loss::SoftTarget;
/// use burn_distill::{
///     DistillBatch, DistillData, Distillable, Distiller, FitConfig, Outputs, ProgressMode,
/// };
///
/// #[derive(Module, Debug)]
/// struct Net {
///     hidden: Linear,
///     head: Linear,
/// }
///
/// impl Distillable<Tensor<2>> for Net {
///     fn outputs(&self, x: Tensor<2>) -> Outputs {
///         Outputs::new(self.head.forward(self.hidden.forward(x).tanh()))
///     }
/// }
///
/// let device = Device::flex();
/// let net = |hidden| Net {
///     hidden: LinearConfig::new(4, hidden).init(&device),
///     head: LinearConfig::new(hidden, 3).init(&device),
/// };
/// let inputs: Vec<[f32; 4]> = (0..64).map(|i| [1, 3, 5, 7].map(|k| (i * k % 8) as f32)).collect();
/// let data = DistillData::from_fn(InMemDataset::new(inputs), |items: Vec<[f32; 4]>, device| {
///     let data = TensorData::new(items.concat(), [items.len(), 4]);
///     DistillBatch::new(Tensor::<2>::from_data(data, device))
/// });
///
/// let (teacher, student) = (net(32), net(4));
/// let distilled = Distiller::on(device.clone(), teacher, student)
///     .with(SoftTarget::new(2.0), 1.0)
///     .fit(&FitConfig::new(20).with_progress(ProgressMode::Silent), data, None)?;
/// let history = &distilled.report.training.history.train["loss"];
/// assert!(history[19] < history[0]);
/// # Ok::<(), burn_distill::Error>(())
/// ```
pub struct Distiller<B: Backend, T, S> {
    device: Device,
    teacher: T,
    student: S,
    objective: Objective,
    average: Option<f64>,
    /// A device of its own for the teacher.
    teacher_on: Option<Device>,
    /// An `Arc<Rewrite<I, J, S>>`.
    rollout: Option<Arc<dyn Any + Send + Sync>>,
    _backend: PhantomData<B>,
}

impl<T, S> Distiller<Dispatch, T, S> {
    /// A distillation on a device of whichever backend, as yet without an objective.
    ///
    /// Nothing is moved or checked yet.
    pub fn on(device: Device, teacher: T, student: S) -> Self {
        Self::at(device, teacher, student)
    }
}

impl<B, T, S> Distiller<B, T, S>
where
    B: Backend,
    B::Device: Into<Device>,
{
    /// A distillation pinned to a device of the backend `B`, as yet without an objective.
    ///
    /// Nothing is moved or checked yet.
    pub fn new(device: B::Device, teacher: T, student: S) -> Self {
        Self::at(device.into(), teacher, student)
    }
}

impl<B: Backend, T, S> Distiller<B, T, S> {
    pub(crate) fn at(device: Device, teacher: T, student: S) -> Self {
        Self {
            device,
            teacher,
            student,
            objective: Objective::new(),
            average: None,
            teacher_on: None,
            rollout: None,
            _backend: PhantomData,
        }
    }

    /// Adds a loss with a weight, a number or a [`Schedule`]. A value out of range is reported by
    /// [`preflight`](Self::preflight) and [`fit`](Self::fit).
    #[must_use]
    pub fn with(mut self, loss: impl IntoTerm, weight: impl Into<Schedule>) -> Self {
        self.objective = self.objective.with(loss, weight);
        self
    }

    /// Sets what happens where teacher and student have different numbers of classes. It is a part
    /// of the objective, so a whole objective that is set afterwards brings its own.
    #[must_use]
    pub fn with_class_policy(mut self, policy: ClassPolicy) -> Self {
        self.objective = self.objective.with_class_policy(policy);
        self
    }

    /// Sets the whole objective, from code or from a [config file](Objective::from_file).
    #[must_use]
    pub fn with_objective(mut self, objective: Objective) -> Self {
        self.objective = objective;
        self
    }

    /// Rewrites each batch with the student as it is, before the teacher sees it: on-policy distillation,
    /// where the student writes the input. The closure gets the student in inference mode, the batch, and
    /// the fraction of the training done. The teacher is asked inside the step then, and nothing is
    /// cached.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::{Device, Tensor};
    /// use burn_distill::{DistillBatch, Distiller, Outputs, adapt};
    ///
    /// let device = Device::flex();
    /// let net = |device: &Device| {
    ///     let linear: Linear = LinearConfig::new(3, 3).init(device);
    ///     adapt(linear, |linear: &Linear, x: Tensor<2>| Outputs::new(linear.forward(x)))
    /// };
    /// let distiller = Distiller::on(device.clone(), net(&device), net(&device))
    ///     .with_rollout(|student, mut batch: DistillBatch<Tensor<2>>, _progress| {
    ///         let written = student.forward(batch.input.clone());
    ///         batch.input = written.clone();
    ///         batch.with_teacher_input(written)
    ///     });
    /// assert!(distiller.to_string().contains("rollout"));
    /// ```
    #[must_use]
    pub fn with_rollout<I, J, F>(mut self, rollout: F) -> Self
    where
        F: Fn(&S, DistillBatch<I, J>, f64) -> DistillBatch<I, J> + Send + Sync + 'static,
        I: 'static,
        J: 'static,
        S: 'static,
    {
        let rewrite: Arc<Rewrite<I, J, S>> = Arc::new(rollout);
        self.rollout = Some(Arc::new(rewrite));
        self
    }

    /// Keeps the teacher on a device of its own, such as a second GPU, or one that another process
    /// serves to several trainings ([how](https://github.com/burn-distill/burn-distill/blob/main/docs/remote.md)).
    ///
    /// In training, each batch's input goes there and the teacher's outputs come back, also to every
    /// device of a training on several. A thread of its own asks for the next batch while the student
    /// learns from this one. Between two backends Burn carries tensors through the memory of this process.
    /// A device that is the student's costs nothing.
    ///
    /// The report measures the teacher on this device. Its features all come back, so give only those
    /// that a term compares.
    ///
    /// # Errors
    ///
    /// [`preflight`](Self::preflight) and [`fit`](Self::fit) report
    /// [`Error::DeviceUnavailable`](crate::Error::DeviceUnavailable) if the device is not there, or
    /// no longer there in the middle, and
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for a
    /// [mean teacher](Self::mean_teacher), which follows its student's weights at every step.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_distill::Distiller;
    ///
    /// let device = Device::flex();
    /// let (teacher, student) = (LinearConfig::new(8, 3), LinearConfig::new(8, 3));
    /// let (teacher, student): (Linear, Linear) = (teacher.init(&device), student.init(&device));
    /// // With a second GPU: `Device::cuda(1)`.
    /// let distiller = Distiller::on(device, teacher, student).teacher_on(Device::flex());
    /// assert!(distiller.to_string().contains("teacher on Device<Flex"));
    /// ```
    #[must_use]
    pub fn teacher_on(mut self, device: Device) -> Self {
        self.teacher_on = Some(device.inner());
        self
    }

    /// Runs one batch through both models and every term, trains nothing, and says what it found.
    ///
    /// [`fit`](Self::fit) does this first.
    ///
    /// # Errors
    ///
    /// The first thing that would not work: the objective's values, the device, an empty dataset,
    /// a missing head or feature, shapes that differ, targets that are missing or out of range, outputs
    /// that are not finite.
    pub fn preflight<I, J>(
        &self,
        config: &FitConfig,
        train: &DistillData<I, J>,
        valid: Option<&DistillData<I, J>>,
    ) -> Result<Preflight>
    where
        I: Module + 'static,
        J: Module + 'static,
        T: Teacher<J>,
        S: Distillable<I>,
    {
        attended(self.teacher_on.as_ref(), || {
            let source = self.source(config, train, valid)?;
            let training = self.training(config, train, valid, source)?;
            training.prepare(&self.student)?;
            training.preflight(&self.student)
        })
    }

    /// Trains the student on Burn's engine and measures what came of it. Before the first epoch it shows
    /// what [`preflight`](Self::preflight) finds, unless the progress is silent.
    ///
    /// Progress and the report's numbers are taken on the validation data; without any, the report
    /// measures the training data and says so. What cannot be measured after the training is absent from
    /// the report, which says why: the student comes back all the same.
    ///
    /// # Errors
    ///
    /// What [`preflight`](Self::preflight) finds, and what goes wrong during training:
    /// [`Error::NonFinite`](crate::Error::NonFinite) when a term stops being a number,
    /// [`Error::Dataset`](crate::Error::Dataset), [`Error::Teacher`](crate::Error::Teacher) and
    /// [`Error::Training`](crate::Error::Training) when data, teacher, device or checkpoint fail. After
    /// the first whole epoch these come as [`Error::Stopped`](crate::Error::Stopped), with the student of
    /// the last in [`Error::student`](crate::Error::student). What a directory of checkpoints may be refused
    /// for is told at [`FitConfig::with_resume`].
    pub fn fit<I, J>(
        self,
        config: &FitConfig,
        train: DistillData<I, J>,
        valid: impl Into<Option<DistillData<I, J>>>,
    ) -> Result<Distilled<T, S>>
    where
        I: Module + 'static,
        J: Module + 'static,
        T: Teacher<J>,
        S: Distillable<I>,
    {
        let valid = valid.into();
        let teacher_on = self.teacher_on.clone();
        // A stop is of the training that runs: one that came too late for another is not of this one.
        config.interrupter.reset();
        attended(teacher_on.as_ref(), || self.run(config, train, valid))
    }

    fn run<I, J>(
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

    /// Everything about the training but the student.
    fn training<'a, I, J>(
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

impl<S: Clone> Distiller<Dispatch, S, S> {
    /// A distillation without a teacher of its own: the teacher is the moving average of the
    /// student's weights, `average ← decay · average + (1 − decay) · student` after every step.
    ///
    /// Its outputs steady those of the student, also on samples without labels. It starts at the
    /// student's first weights, so give its term a [warm-up](Schedule::warm_up). The
    /// [teacher that comes back](Distilled::teacher) is the average, often the better of the two. It
    /// changes, and so, unlike any other teacher, it is part of a checkpoint.
    ///
    /// `decay` is from 0 to 1, in the paper 0.99 to 0.999.
    ///
    /// # References
    ///
    /// Tarvainen, Valpola: Mean teachers are better role models, 2017, arXiv:1703.01780.
    pub fn mean_teacher(device: Device, student: S, decay: f64) -> Self {
        let mut distiller = Self::on(device, student.clone(), student);
        distiller.average = Some(decay);
        distiller
    }
}

/// What [`Distiller::fit`] hands back.
#[derive(Clone)]
#[non_exhaustive]
pub struct Distilled<T, S> {
    /// The distilled model: an ordinary module in inference mode, with no trace of teacher or
    /// projectors.
    pub student: S,
    /// The teacher, as it was given; a [mean teacher](Distiller::mean_teacher) as it became.
    pub teacher: T,
    /// What was gained and lost.
    pub report: Report,
    /// The optimizer with its state, if [`FitConfig::with_kept_optimizer`] asked for it: hand it to the
    /// next training's [`FitConfig::with_optimizer`] to go on with it.
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

impl<B: Backend, T, S: std::fmt::Debug> std::fmt::Debug for Distiller<B, T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distiller")
            .field("device", &self.device)
            .field("student", &self.student)
            .field("objective", &self.objective)
            .finish_non_exhaustive()
    }
}

impl<B: Backend, T, S: ModuleDisplay> std::fmt::Display for Distiller<B, T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Distiller on {:?}", self.device)?;
        if let Some(device) = &self.teacher_on {
            writeln!(f, "teacher on {device:?}")?;
        }
        if self.rollout.is_some() {
            writeln!(f, "with a rollout")?;
        }
        writeln!(f, "objective: {}", self.objective)?;
        write!(f, "student: {}", self.student.format(Default::default()))
    }
}
