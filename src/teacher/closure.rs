use std::sync::Arc;

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::{Device, Tensor, TensorData};

use crate::data::outputs::{Distillable, Outputs, Recalled};
use crate::error::{Error, Result};
use crate::teacher::fingerprint::NAMED;

/// A teacher made of a closure; see [`teacher_fn`].
pub struct TeacherFn<F> {
    name: Arc<str>,
    answer: Arc<F>,
}

/// Turns a closure into a teacher: a lookup table, a program in another language, a web service, a
/// model of another framework, whatever answers a batch of inputs.
///
/// The closure gets the input of a batch, as the student does, and returns an [`Answer`]: logits as a
/// `Tensor<2>` or as one `Vec<f32>` or `[f32; C]` per row, or [`Outputs`] with features, or a `Result` of any of
/// these. Who has probabilities returns their logarithms; the logarithm of zero may be −∞. Tensors may be on any
/// device. Numbers of a tensor are had by `input.into_data()`.
///
/// A teacher that is slow, or costs money, is better [recorded](fn@crate::knowledge::record), which asks it once
/// about each sample. Recorded knowledge belongs to a teacher of this name, as the closure itself cannot be
/// compared: name one that answers otherwise otherwise.
///
/// In a report it has neither size nor speed.
///
/// # Errors
///
/// Where the closure returns an error, whatever asked it returns [`Error::Teacher`], also in the middle of a
/// training.
///
/// # Example
///
/// A teacher that knows which side of a line a point is on, and a student that learns it:
///
/// ```
/// use burn::backend::Flex;
/// use burn::data::dataset::InMemDataset;
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::AdamConfig;
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::loss::SoftTargetConfig;
/// use burn_distill::{
///     DistillBatch, DistillData, Distillable, Distiller, FitConfig, Outputs, ProgressMode, teacher_fn,
/// };
///
/// let teacher = teacher_fn("x + y > 1", |points: Tensor<2>| {
///     let numbers: Vec<f32> = points.into_data().iter().collect();
///     let logits = |point: &[f32]| [0.0, 8.0 * (point[0] + point[1] - 1.0)];
///     numbers.chunks(2).map(logits).collect::<Vec<_>>()
/// });
///
/// #[derive(Module, Debug)]
/// struct Line {
///     layer: Linear,
/// }
///
/// impl Distillable<Tensor<2>> for Line {
///     fn outputs(&self, points: Tensor<2>) -> Outputs {
///         Outputs::new(self.layer.forward(points))
///     }
/// }
///
/// let points: Vec<[f32; 2]> = (0..256).map(|i| [i % 16, i / 16].map(|x| (x as f32 + 0.25) / 16.0)).collect();
/// let data = DistillData::from_fn(InMemDataset::new(points), |points: Vec<[f32; 2]>, device| {
///     let data = TensorData::new(points.concat(), [points.len(), 2]);
///     DistillBatch::new(Tensor::<2>::from_data(data, device))
/// });
/// let config = FitConfig::new(100)
///     .with_optimizer(AdamConfig::new().init(), 0.1)
///     .with_progress(ProgressMode::Silent);
/// let student = Line { layer: LinearConfig::new(2, 2).init(&Device::flex()) };
/// let distilled = Distiller::<Flex, _, _>::new(Default::default(), teacher, student)
///     .with(SoftTargetConfig::new(1.0), 1.0)
///     .fit(&config, data, None)?;
/// assert!(distilled.report.distilled.agreement.unwrap() > 0.9);
/// # Ok::<(), burn_distill::Error>(())
/// ```
pub fn teacher_fn<I, A, F>(name: impl Into<String>, answer: F) -> TeacherFn<F>
where
    F: Fn(I) -> A + Send + Sync + 'static,
    A: Answer,
{
    TeacherFn {
        name: name.into().into(),
        answer: Arc::new(answer),
    }
}

/// What a closure may return that is a [teacher](teacher_fn).
pub trait Answer {
    /// The outputs, plain numbers as a tensor on this device.
    ///
    /// # Errors
    ///
    /// What kept the teacher from answering.
    fn into_outputs(self, device: &Device) -> std::result::Result<Outputs, Refusal>;
}

/// Why a teacher made of a closure did not answer.
type Refusal = Box<dyn std::error::Error + Send + Sync>;

impl Answer for Outputs {
    fn into_outputs(self, _device: &Device) -> std::result::Result<Outputs, Refusal> {
        Ok(self)
    }
}

/// Logits, `[rows, classes]`.
impl Answer for Tensor<2> {
    fn into_outputs(self, _device: &Device) -> std::result::Result<Outputs, Refusal> {
        Ok(Outputs::new(self))
    }
}

/// Logits, those of one row after those of another.
impl<R: AsRef<[f32]>> Answer for Vec<R> {
    fn into_outputs(self, device: &Device) -> std::result::Result<Outputs, Refusal> {
        let classes = self.first().map_or(0, |row| row.as_ref().len());
        if let Some(row) = self.iter().position(|row| row.as_ref().len() != classes) {
            let found = self[row].as_ref().len();
            return Err(format!("row {row} has {found} logits, row 0 has {classes}").into());
        }
        let rows = self.len();
        let logits: Vec<f32> = self.iter().flat_map(R::as_ref).copied().collect();
        let logits = TensorData::new(logits, [rows, classes]);
        Ok(Outputs::new(Tensor::<2>::from_data(logits, device)))
    }
}

impl<A: Answer, E: Into<Refusal>> Answer for std::result::Result<A, E> {
    fn into_outputs(self, device: &Device) -> std::result::Result<Outputs, Refusal> {
        self.map_err(Into::into)?.into_outputs(device)
    }
}

impl<I, A, F> Distillable<I> for TeacherFn<F>
where
    I: Module + 'static,
    F: Fn(I) -> A + Send + Sync + 'static,
    A: Answer,
{
    /// # Panics
    ///
    /// Panics where the closure returns an error. A training, a measurement and a recording ask with
    /// [`teach`](Distillable::teach), which does not.
    fn outputs(&self, input: I) -> Outputs {
        let outputs = self.teach(&input, None);
        outputs.unwrap_or_else(|error| panic!("{error}"))
    }

    fn teach(&self, input: &I, _recalled: Option<&Recalled>) -> Result<Outputs> {
        let input = input.valid();
        let device = input.devices().into_iter().next().unwrap_or_default();
        match (self.answer)(input).into_outputs(&device) {
            Ok(outputs) => Ok(outputs.without_autodiff().moved_to(&device)),
            Err(refusal) => Err(Error::Teacher {
                name: self.name.to_string(),
                reason: refusal.to_string(),
            }),
        }
    }
}

impl<F> Clone for TeacherFn<F> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            answer: self.answer.clone(),
        }
    }
}

impl<F> std::fmt::Debug for TeacherFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TeacherFn")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A module without parameters, which is on no device and the same in every mode.
impl<F: Send + Sync> Module for TeacherFn<F> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        devices
    }

    fn fork(self, _device: &Device) -> Self {
        self
    }

    fn to_device(self, _device: &Device) -> Self {
        self
    }

    fn train(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn materialize(self) -> Self {
        self
    }

    /// Shows its name, which stands for what cannot be compared.
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.enter_module(&self.name, NAMED);
        visitor.exit_module(&self.name, NAMED);
    }

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        self
    }
}

impl<F> ModuleDisplayDefault for TeacherFn<F> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add("name", &*self.name).optional()
    }
}

impl<F> ModuleDisplay for TeacherFn<F> {}
