//! The way in: a teacher, a student, an objective, and `fit`.

use std::marker::PhantomData;
use std::sync::Arc;

use burn::backend::Backend;
use burn::module::{Module, ModuleDisplay};
use burn::tensor::Device;

use crate::data::dataset::DistillData;
use crate::data::outputs::{Distillable, Outputs};
use crate::device::attended;
use crate::device::check_device;
use crate::error::{Error, Result};
use crate::loss::logits::hard_label::HardLabelConfig;
use crate::metric::distance::parameter_distance;
use crate::objective::classes::ClassPolicy;
use crate::objective::{IntoLoss, Objective, ObjectiveConfig};
use crate::report::Report;
use crate::report::measure::{Measured, measure_beside};
use crate::report::{ModelReport, TrainingSummary, measure};
use crate::schedule::Schedule;
use crate::teacher::frozen::Frozen;
use crate::train::Training;
use crate::train::config::{FitConfig, OptimizerState};
use crate::train::preflight::Preflight;

/// Trains a small module, the student, to imitate a large one, the teacher.
///
/// `B` is the backend that the distillation is pinned to, such as `Flex`, `NdArray` or `Wgpu`; with
/// `Dispatch` the device decides at run time. Both models move to the device given, the teacher
/// frozen. Without that type parameter, `Device::default()` would go to whichever backend any
/// dependency happens to turn on.
///
/// # Example
///
/// ```
/// use burn::backend::Flex;
/// use burn::data::dataset::InMemDataset;
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::loss::SoftTargetConfig;
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
/// let distilled = Distiller::<Flex, _, _>::new(Default::default(), net(32), net(4))
///     .with(SoftTargetConfig::new(2.0), 1.0)
///     .fit(&FitConfig::new(2).with_progress(ProgressMode::Silent), data, None)?;
/// assert!(distilled.report.distilled.agreement.is_some());
/// # Ok::<(), burn_distill::Error>(())
/// ```
#[derive(Debug)]
pub struct Distiller<B: Backend, T, S> {
    device: Device,
    teacher: T,
    student: S,
    /// The first thing that was wrong with it, until something is done with it.
    objective: Result<Objective>,
    average: Option<f64>,
    /// A device of its own for the teacher.
    teacher_on: Option<Device>,
    _backend: PhantomData<B>,
}

impl<B, T, S> Distiller<B, T, S>
where
    B: Backend,
    B::Device: Into<Device>,
{
    /// A distillation on a device of the backend `B`, as yet without an objective.
    ///
    /// Nothing is moved or checked yet.
    pub fn new(device: B::Device, teacher: T, student: S) -> Self {
        Self {
            device: device.into(),
            teacher,
            student,
            objective: Ok(Objective::new()),
            average: None,
            teacher_on: None,
            _backend: PhantomData,
        }
    }

    /// Adds a loss with a weight, a number or a [`Schedule`]. A value out of range is reported by
    /// [`preflight`](Self::preflight) and [`fit`](Self::fit).
    #[must_use]
    pub fn with(mut self, loss: impl IntoLoss, weight: impl Into<Schedule>) -> Self {
        self.objective = self.objective.and_then(|sum| sum.with(loss, weight));
        self
    }

    /// Sets what happens where teacher and student have different numbers of classes. It is a part
    /// of the objective, so a whole objective that is set afterwards brings its own.
    #[must_use]
    pub fn with_class_policy(mut self, policy: ClassPolicy) -> Self {
        self.objective = self.objective.map(|sum| sum.with_class_policy(policy));
        self
    }

    /// Sets the whole objective.
    #[must_use]
    pub fn with_objective(mut self, objective: Objective) -> Self {
        self.objective = Ok(objective);
        self
    }

    /// Sets the whole objective from a config. A value out of range is reported by
    /// [`preflight`](Self::preflight) and [`fit`](Self::fit).
    #[must_use]
    pub fn with_config(mut self, config: &ObjectiveConfig) -> Self {
        self.objective = config.init();
        self
    }

    /// Keeps the teacher on a device of its own, such as a second GPU, or one that another process
    /// serves to several trainings ([how](https://github.com/burn-distill/burn-distill/blob/main/docs/remote.md)).
    ///
    /// In training, each batch's input goes there and the teacher's logits and features come back,
    /// also to every device of a training on several. While the teacher works, the student's forward
    /// pass runs; then its loss waits for the answer. Between two backends Burn carries tensors
    /// through the memory of this process. A device that is the student's costs nothing.
    ///
    /// The report measures the teacher on this device, and [`Distilled::teacher`] stays on it. Its
    /// features all come back, so give only those that a term compares.
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
    /// use burn::backend::Flex;
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::Device;
    /// use burn_distill::Distiller;
    ///
    /// let device = Device::flex();
    /// let (teacher, student) = (LinearConfig::new(8, 3), LinearConfig::new(8, 3));
    /// let (teacher, student): (Linear, Linear) = (teacher.init(&device), student.init(&device));
    /// // With a second GPU: `Device::cuda(1)`.
    /// let distiller = Distiller::<Flex, _, _>::new(Default::default(), teacher, student)
    ///     .teacher_on(Device::flex());
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
    /// a missing feature, shapes that differ, targets that are missing or out of range, outputs
    /// that are not finite.
    pub fn preflight<I>(
        &self,
        config: &FitConfig,
        train: &DistillData<I>,
        valid: Option<&DistillData<I>>,
    ) -> Result<Preflight>
    where
        I: Module + 'static,
        T: Distillable<I>,
        S: Distillable<I>,
    {
        let objective = Arc::new(self.objective.clone()?);
        let training = Training {
            device: &self.device,
            objective,
            config,
            train,
            valid,
            average: self.average,
        };
        attended(self.teacher_on.as_ref(), || {
            training.prepare(&self.teacher)?;
            training.prepare(&self.student)?;
            training.preflight(
                &seat(self.teacher.clone(), self.teacher_on.as_ref(), self.average)?,
                &self.student,
            )
        })
    }

    /// Trains the student on Burn's engine and measures what came of it. Before the first epoch it shows
    /// what [`preflight`](Self::preflight) finds, unless the progress is silent.
    ///
    /// Progress and the report's numbers are taken on the validation data; without any, the report
    /// measures the training data and says so.
    ///
    /// # Errors
    ///
    /// What [`preflight`](Self::preflight) finds, and what goes wrong during training:
    /// [`Error::NonFinite`](crate::Error::NonFinite) when a term stops being a number,
    /// [`Error::Training`](crate::Error::Training) when data, device or checkpoint fail.
    pub fn fit<I>(
        self,
        config: &FitConfig,
        train: DistillData<I>,
        valid: impl Into<Option<DistillData<I>>>,
    ) -> Result<Distilled<T, S>>
    where
        I: Module + 'static,
        T: Distillable<I>,
        S: Distillable<I>,
    {
        let valid = valid.into();
        let teacher_on = self.teacher_on.clone();
        attended(teacher_on.as_ref(), || self.run(config, train, valid))
    }

    fn run<I>(
        self,
        config: &FitConfig,
        train: DistillData<I>,
        valid: Option<DistillData<I>>,
    ) -> Result<Distilled<T, S>>
    where
        I: Module + 'static,
        T: Distillable<I>,
        S: Distillable<I>,
    {
        let training = Training {
            device: &self.device,
            objective: Arc::new(self.objective.clone()?),
            config,
            train: &train,
            valid: valid.as_ref(),
            average: self.average,
        };
        training.prepare(&self.teacher)?;
        training.prepare(&self.student)?;
        let teacher = seat(self.teacher, self.teacher_on.as_ref(), self.average)?;
        let untrained = config.baseline.then(|| self.student.clone());
        let run = training.run(teacher.clone(), self.student)?;

        let (measured_on, data) = match &valid {
            Some(valid) => ("validation", valid),
            None => ("training", &train),
        };
        let student = run.student;
        let teacher = run.average.map_or(teacher, Frozen::new).fork(&self.device);
        let needs_teacher = training.objective.needs_teacher();
        let teacher_report = needs_teacher.then(|| {
            let alone = None::<&Frozen<T>>;
            let device = self.teacher_on.as_ref().unwrap_or(&self.device);
            measure(teacher.inner(), alone, data, config.batch_size, device)
        });
        let policy = training.objective.class_policy();
        let beside = needs_teacher.then_some((&teacher, policy));
        let distilled = measure_beside(&student, beside, data, config.batch_size, &self.device)?;
        let distance = needs_teacher.then(|| parameter_distance(teacher.inner(), &student));
        let Measured {
            report: distilled,
            comparison,
        } = distilled;
        let mut report = Report::new(
            teacher_report.transpose()?,
            distilled,
            distance,
            measured_on,
            run.summary,
        );
        report.comparison = comparison;
        let elsewhere = self.teacher_on.filter(|device| *device != self.device);
        report.teacher_device = elsewhere.map(|device| format!("{device:?}"));
        if let Some(untrained) = untrained {
            let valid = valid.as_ref();
            let alone = train_on_labels_of(&self.device, untrained, config, &train, valid, beside)?;
            report = report.with_labels_alone(alone.report);
        }
        Ok(Distilled {
            student,
            teacher: teacher.into_inner(),
            report,
            optimizer: run.optimizer,
        })
    }

    /// Trains a copy of the student on labels alone, with the recipe, seed and batches that
    /// [`fit`](Self::fit) would use, and measures it against the teacher: what distillation has to
    /// beat. To give the baseline a recipe of its own, tuned as carefully as the distillation's, is
    /// what this call is for; with one recipe for both,
    /// [`FitConfig::with_baseline`] does it along the way.
    ///
    /// # Errors
    ///
    /// As for [`fit`](Self::fit); the batches must carry class targets.
    pub fn labels_alone<I>(
        &self,
        config: &FitConfig,
        train: &DistillData<I>,
        valid: Option<&DistillData<I>>,
    ) -> Result<Trained<S>>
    where
        I: Module + 'static,
        T: Distillable<I>,
        S: Distillable<I>,
    {
        attended(self.teacher_on.as_ref(), || {
            let teacher = seat(self.teacher.clone(), self.teacher_on.as_ref(), self.average)?;
            let student = self.student.clone();
            let policy = self.objective.as_ref().map(Objective::class_policy);
            let beside = Some((&teacher, policy.unwrap_or_default()));
            train_on_labels_of(&self.device, student, config, train, valid, beside)
        })
    }
}

/// A teacher as a training uses it: never learning, and on its device if it has one of its own.
fn seat<T: Module>(teacher: T, on: Option<&Device>, average: Option<f64>) -> Result<Frozen<T>> {
    let Some(device) = on else {
        return Ok(Frozen::new(teacher));
    };
    if average.is_some() {
        return Err(Error::invalid(
            "teacher_on",
            format!("{device:?}"),
            "no device of its own for a mean teacher, which follows its student at every step",
        ));
    }
    check_device(device)?;
    Ok(Frozen::new(teacher).pinned_to(device))
}

/// Trains a module on labels alone, on the engine and with the settings of a distillation: the way
/// to a teacher, where none has been trained yet.
///
/// # Errors
///
/// As for [`Distiller::fit`]; the batches must carry class targets.
pub fn train_on_labels<B, I, M>(
    device: B::Device,
    model: M,
    config: &FitConfig,
    train: DistillData<I>,
    valid: impl Into<Option<DistillData<I>>>,
) -> Result<Trained<M>>
where
    B: Backend,
    B::Device: Into<Device>,
    I: Module + 'static,
    M: Distillable<I>,
{
    let valid = valid.into();
    let nobody = None::<(&Frozen<NoTeacher>, ClassPolicy)>;
    train_on_labels_of(
        &device.into(),
        model,
        config,
        &train,
        valid.as_ref(),
        nobody,
    )
}

fn train_on_labels_of<I, T, M>(
    device: &Device,
    model: M,
    config: &FitConfig,
    train: &DistillData<I>,
    valid: Option<&DistillData<I>>,
    beside: Option<(&Frozen<T>, ClassPolicy)>,
) -> Result<Trained<M>>
where
    I: Module + 'static,
    T: Distillable<I>,
    M: Distillable<I>,
{
    let mut config = config.clone();
    if let Some(checkpoints) = config.checkpoints.as_mut().filter(|_| beside.is_some()) {
        // Beside a distillation: neither may resume from the other.
        checkpoints.directory = checkpoints.directory.join("labels_alone");
    }
    if beside.is_some() {
        config.label = Some("labels alone".into());
    }
    let objective = Objective::new().with(HardLabelConfig::new(), 1.0)?;
    let (model, training) = train_alone(device, model, objective, &config, train, valid)?;
    let data = valid.unwrap_or(train);
    let measured = measure_beside(&model, beside, data, config.batch_size, device)?;
    Ok(Trained {
        model,
        report: measured.report,
        training,
    })
}

/// Trains a module towards an objective that asks no teacher.
pub(crate) fn train_alone<I, M>(
    device: &Device,
    model: M,
    objective: Objective,
    config: &FitConfig,
    train: &DistillData<I>,
    valid: Option<&DistillData<I>>,
) -> Result<(M, TrainingSummary)>
where
    I: Module + 'static,
    M: Distillable<I>,
{
    let training = Training {
        device,
        objective: Arc::new(objective),
        config,
        train,
        valid,
        average: None,
    };
    training.prepare(&model)?;
    let run = training.run(Frozen::new(NoTeacher), model)?;
    Ok((run.student, run.summary))
}

impl<B, S> Distiller<B, S, S>
where
    B: Backend,
    B::Device: Into<Device>,
    S: Clone,
{
    /// A distillation without a teacher of its own: the teacher is the moving average of the
    /// student's weights, `average ← decay · average + (1 − decay) · student` after every step.
    ///
    /// Its answers steady those of the student, also on samples without labels. It starts at the
    /// student's first weights, so give its term a [warm-up](Schedule::warm_up). The
    /// [teacher that comes back](Distilled::teacher) is the average, often the better of the two. It
    /// changes, and so, unlike any other teacher, it is part of a checkpoint.
    ///
    /// `decay` is from 0 to 1, in the paper 0.99 to 0.999.
    ///
    /// # References
    ///
    /// Tarvainen, Valpola: Mean teachers are better role models, 2017, arXiv:1703.01780.
    pub fn mean_teacher(device: B::Device, student: S, decay: f64) -> Self {
        let mut distiller = Self::new(device, student.clone(), student);
        distiller.average = Some(decay);
        distiller
    }
}

/// What [`Distiller::fit`] hands back.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Distilled<T, S> {
    /// The distilled model: an ordinary module in inference mode, with no trace of teacher or
    /// projectors.
    pub student: S,
    /// The teacher, as it was given, in inference mode, on the device where it taught.
    pub teacher: T,
    /// What was gained and lost.
    pub report: Report,
    /// The optimizer with its state, if [`FitConfig::with_kept_optimizer`] asked for it.
    pub optimizer: Option<OptimizerState>,
}

/// A model trained on labels alone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trained<M> {
    /// The model, in inference mode.
    pub model: M,
    /// What was measured of it.
    pub report: ModelReport,
    /// How it was trained.
    pub training: TrainingSummary,
}

/// Stands where a teacher would, in a training that has none.
#[derive(Module, Debug)]
struct NoTeacher;

impl<I> Distillable<I> for NoTeacher {
    fn outputs(&self, _input: I) -> Outputs {
        unreachable!("a training without a teacher has no term that asks one")
    }
}

impl<B: Backend, T: ModuleDisplay, S: ModuleDisplay> std::fmt::Display for Distiller<B, T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Distiller on {:?}", self.device)?;
        if let Some(device) = &self.teacher_on {
            writeln!(f, "teacher on {device:?}")?;
        }
        match &self.objective {
            Ok(objective) => writeln!(f, "objective: {objective}")?,
            Err(error) => writeln!(f, "objective: {error}")?,
        }
        write!(f, "student: {}", self.student.format(Default::default()))
    }
}
