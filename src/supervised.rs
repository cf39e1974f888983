//! Supervised training: a teacher, where none has been trained yet, and the baseline.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::data::targets::Target;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::logits::hard_label::HardLabel;
use crate::objective::Objective;
use crate::objective::classes::ClassPolicy;
use crate::report::measure::{Pair, measure_pair};
use crate::report::model::ModelReport;
use crate::teacher::Teacher;
use crate::teacher::frozen::Frozen;
use crate::train::config::FitConfig;
use crate::train::summary::TrainingSummary;
use crate::train::{Outcome, TeacherSource, Training};

/// A model that was trained without a teacher.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trained<M> {
    /// The model, in inference mode.
    pub model: M,
    /// What was measured of it; without any number where that failed, for the reason in the
    /// [notes](TrainingSummary::notes) of the training.
    pub report: ModelReport,
    /// How it was trained.
    pub training: TrainingSummary,
}

/// Trains a module without a teacher, on the engine and with the settings of a distillation: the way to a
/// teacher, where none has been trained yet.
///
/// The objective may have any terms that need no teacher: [`HardLabel`] for a classifier, several heads,
/// losses of your own.
///
/// # Errors
///
/// As for [`Distiller::fit`](crate::Distiller::fit), and [`Error::NeedsTeacher`] for a term that compares
/// with a teacher.
///
/// # Example
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Int, Tensor, TensorData};
/// use burn_distill::loss::HardLabel;
/// use burn_distill::{
///     DistillBatch, DistillData, FitConfig, Objective, Outputs, ProgressMode, adapt, train_supervised,
/// };
///
/// let device = Device::flex();
/// let points: Vec<([f32; 2], i64)> = (0..64).map(|i| ([i as f32 / 64.0, 1.0], i / 32)).collect();
/// let data = DistillData::from_fn(InMemDataset::new(points), |items: Vec<([f32; 2], i64)>, device| {
///     let (points, labels): (Vec<_>, Vec<_>) = items.into_iter().unzip();
///     let data = TensorData::new(points.concat(), [points.len(), 2]);
///     DistillBatch::new(Tensor::<2>::from_data(data, device))
///         .with_classes(Tensor::<1, Int>::from_data(labels.as_slice(), device))
/// });
/// let linear: Linear = LinearConfig::new(2, 2).init(&device);
/// let model = adapt(linear, |linear: &Linear, x: Tensor<2>| Outputs::new(linear.forward(x)));
/// let objective = Objective::new().with(HardLabel::new(), 1);
/// let config = FitConfig::new(5).with_progress(ProgressMode::Silent);
/// let trained = train_supervised(device, model, &objective, &config, data, None)?;
/// assert!(trained.report.accuracy.is_some());
/// # Ok::<(), burn_distill::Error>(())
/// ```
pub fn train_supervised<I, J, M>(
    device: Device,
    model: M,
    objective: &Objective,
    config: &FitConfig,
    train: DistillData<I, J>,
    valid: impl Into<Option<DistillData<I, J>>>,
) -> Result<Trained<M>>
where
    I: Module + 'static,
    J: Module + 'static,
    M: Distillable<I>,
{
    let valid = valid.into();
    let objective = objective.clone();
    let (model, training) = train_model(&device, model, objective, config, &train, valid.as_ref())?;
    let data = valid.as_ref().unwrap_or(&train);
    let (size, policy) = (config.batch_size, ClassPolicy::default());
    let teacher: Option<&Arc<dyn Teacher<J>>> = None;
    let pair = measure_pair(&model, teacher, false, policy, data, size, &device);
    Ok(Trained::new(model, pair, training))
}

impl<M> Trained<M> {
    /// A model that is trained, whatever became of measuring it.
    pub(crate) fn new(model: M, measured: Result<Pair>, mut training: TrainingSummary) -> Self {
        let report = match measured {
            Ok(pair) => {
                training.notes.extend(pair.unmeasured);
                pair.student
            }
            Err(error) => {
                training.notes.push(format!("not measured: {error}"));
                ModelReport::default()
            }
        };
        Self {
            model,
            report,
            training,
        }
    }
}

/// Trains a module towards an objective that needs no teacher.
pub(crate) fn train_model<I, J, M>(
    device: &Device,
    model: M,
    objective: Objective,
    config: &FitConfig,
    train: &DistillData<I, J>,
    valid: Option<&DistillData<I, J>>,
) -> Result<(M, TrainingSummary)>
where
    I: Module + 'static,
    J: Module + 'static,
    M: Distillable<I>,
{
    // A stop is of the training that runs, and none does yet.
    config.interrupter.reset();
    let training = supervised(device, objective, config, train, valid);
    training.prepare(&model)?;
    let Outcome {
        student, summary, ..
    } = training.run(model)?;
    Ok((student, summary))
}

/// A training that needs no teacher.
pub(crate) fn supervised<'a, I, J, M>(
    device: &'a Device,
    objective: Objective,
    config: &'a FitConfig,
    train: &'a DistillData<I, J>,
    valid: Option<&'a DistillData<I, J>>,
) -> Training<'a, I, J, M> {
    Training {
        device,
        objective: Arc::new(objective),
        config,
        train,
        valid,
        source: TeacherSource::None,
        rollout: None,
    }
}

/// What a baseline minimises: hard labels on every head that has class targets; without any, the terms
/// that need no teacher.
///
/// # Errors
///
/// [`Error::MissingTargets`] if there is neither.
pub(crate) fn baseline_objective<I, J, S>(
    objective: &Objective,
    student: &S,
    train: &DistillData<I, J>,
    device: &Device,
) -> Result<Objective>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    if train.is_empty() {
        return Err(Error::EmptyDataset { what: "training" });
    }
    let device = device.clone().inner();
    let batch = train.batch(vec![0], &device);
    let batch = batch.map_err(|error| Error::Dataset {
        what: "training",
        message: error.to_string(),
    })?;
    let outputs = Frozen::new(student, &device).outputs(&batch.input);
    let context = LossContext::without_teacher(&outputs).with_targets(&batch.targets);
    let mut on_labels = Objective::new();
    let mut found = "no targets".to_string();
    for (at, (name, _)) in outputs.heads().enumerate() {
        match context.clone().on(name).target() {
            Some(Target::Class(_)) if at == 0 => on_labels = on_labels.with(HardLabel::new(), 1),
            Some(Target::Class(_)) => on_labels = on_labels.with(HardLabel::new().on(name), 1),
            Some(other) => found = other.kind().to_string(),
            None => {}
        }
    }
    if !on_labels.terms().is_empty() {
        return Ok(on_labels);
    }
    let own = objective.terms().iter();
    let own = own.filter(|term| !term.loss().needs().teacher);
    let own = own.fold(Objective::new(), |sum, term| sum.with_term(term.clone()));
    match own.terms().is_empty() {
        true => Err(Error::MissingTargets {
            term: "baseline".into(),
            expected: "class targets, or a term of the objective that needs no teacher".into(),
            found,
        }),
        false => Ok(own),
    }
}
