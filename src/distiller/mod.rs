//! The way in: a teacher, a student, an objective, and `fit`.

pub(crate) mod distilled;
mod run;
mod source;

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use burn::backend::{Backend, Dispatch};
use burn::module::{Module, ModuleDisplay};
use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::device::attended;
use crate::distiller::distilled::Distilled;
use crate::error::Result;
use crate::loss::term::IntoTerm;
use crate::objective::Objective;
use crate::objective::classes::ClassPolicy;
use crate::schedule::Schedule;
use crate::teacher::Teacher;
use crate::train::composite::Rewrite;
use crate::train::config::FitConfig;
use crate::train::preflight::Preflight;

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
