//! A teacher from a closure.

use std::fmt::Debug;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::data::outputs::Outputs;
use crate::error::{Error, Result};
use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};

/// Turns a closure into a teacher: a lookup table, a program in another language, a web service, a
/// model of another framework, whatever gives outputs for a batch of inputs.
///
/// The closure gets the teacher's input of a batch and returns [`TeacherOutputs`]: logits as a
/// `Tensor<2>` or as one `Vec<f32>` or `[f32; C]` per row, or [`Outputs`] with features, or a `Result` of any of
/// these. Probabilities are returned as their logarithms; the logarithm of zero may be −∞. Tensors may be on any
/// device. The numbers of a tensor are `input.into_data()`.
///
/// A teacher that is slow, or costs money, is better [recorded](fn@crate::knowledge::record) or
/// [cached](crate::FitConfig::with_teacher_cache): either runs it once on each sample. What is recorded belongs to
/// the name, as closures cannot be compared: give another name to a closure with other outputs.
///
/// In a report it has neither size nor speed.
///
/// # Errors
///
/// An error of the closure becomes [`Error::Teacher`], also in the middle of a training.
///
/// # Example
///
/// A teacher that knows which side of a line a point is on, and a student that learns it:
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::AdamConfig;
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_distill::loss::SoftTarget;
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
/// let distilled = Distiller::on(Device::flex(), teacher, student)
///     .with(SoftTarget::new(1.0), 1.0)
///     .fit(&config, data, None)?;
/// assert!(distilled.report.distilled.agreement.unwrap() > 0.9);
/// # Ok::<(), burn_distill::Error>(())
/// ```
pub fn teacher_fn<J, A, F>(name: impl Into<String>, closure: F) -> impl Teacher<J> + Clone + Debug
where
    J: Module + 'static,
    F: Fn(J) -> A + Send + Sync + 'static,
    A: TeacherOutputs,
{
    TeacherFn {
        name: name.into().into(),
        closure: Arc::new(closure),
        device: None,
    }
}

struct TeacherFn<F> {
    name: Arc<str>,
    closure: Arc<F>,
    /// Where outputs are wanted; where the input is by default.
    device: Option<Device>,
}

/// What a closure that is a [teacher](teacher_fn) may return.
pub trait TeacherOutputs {
    /// The outputs, plain numbers as a tensor on this device.
    ///
    /// # Errors
    ///
    /// What kept the closure from giving them.
    fn into_outputs(self, device: &Device) -> std::result::Result<Outputs, BoxError>;
}

/// Why a closure gave no outputs.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl TeacherOutputs for Outputs {
    fn into_outputs(self, _device: &Device) -> std::result::Result<Outputs, BoxError> {
        Ok(self)
    }
}

/// Logits, `[rows, classes]`.
impl TeacherOutputs for Tensor<2> {
    fn into_outputs(self, _device: &Device) -> std::result::Result<Outputs, BoxError> {
        Ok(Outputs::new(self))
    }
}

/// Logits, those of one row after those of another.
impl<R: AsRef<[f32]>> TeacherOutputs for Vec<R> {
    fn into_outputs(self, device: &Device) -> std::result::Result<Outputs, BoxError> {
        let classes = self.first().map_or(0, |row| row.as_ref().len());
        if let Some(row) = self.iter().position(|row| row.as_ref().len() != classes) {
            let found = self[row].as_ref().len();
            return Err(format!("row {row} has {found} logits, row 0 has {classes}").into());
        }
        let rows = self.len();
        let logits: Vec<f32> = self.iter().flat_map(R::as_ref).copied().collect();
        let logits = TensorData::new(logits, [rows, classes]);
        Ok(Outputs::new(Tensor::<2>::from_data(
            logits,
            (device, DType::F32),
        )))
    }
}

impl<A: TeacherOutputs, E: Into<BoxError>> TeacherOutputs for std::result::Result<A, E> {
    fn into_outputs(self, device: &Device) -> std::result::Result<Outputs, BoxError> {
        self.map_err(Into::into)?.into_outputs(device)
    }
}

impl<J, A, F> Teacher<J> for TeacherFn<F>
where
    J: Module + 'static,
    F: Fn(J) -> A + Send + Sync + 'static,
    A: TeacherOutputs,
{
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        let input = batch.input.valid();
        let device = self.device.clone();
        let device = device.or_else(|| input.devices().into_iter().next());
        let device = device.unwrap_or_default().inner();
        match (self.closure)(input).into_outputs(&device) {
            Ok(outputs) => Ok(outputs.without_autodiff().moved_to(&device)),
            Err(error) => Err(Error::Teacher {
                name: self.name.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        Arc::new(Self {
            device: Some(device.clone()),
            ..self.clone()
        })
    }

    fn info(&self) -> TeacherInfo {
        TeacherInfo::named(&*self.name)
    }
}

impl<F> Clone for TeacherFn<F> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            closure: self.closure.clone(),
            device: self.device.clone(),
        }
    }
}

impl<F> Debug for TeacherFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TeacherFn")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
