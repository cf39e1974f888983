//! Running a model over data and a clock.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;

use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::data::outputs::Outputs;
use crate::error::{Error, Result, Side};
use crate::objective::classes::ClassPolicy;
use crate::report::batches::{attempted, read, unreadable};
use crate::report::comparison::Comparison;
use crate::report::heads::{Batch, Measurement};
use crate::report::model::ModelReport;
use crate::teacher::frozen::Frozen;
use crate::teacher::full_batch::ask;
use crate::teacher::{Teacher, TeacherBatch};

/// How often a forward pass is timed, after one that is not.
const TIMED_RUNS: usize = 11;

/// Measures a model on data: in inference mode, on the device given, and against its teacher where there
/// is one.
///
/// What the teacher cannot be compared in, such as heads of another kind or width, is absent from the
/// report.
///
/// # Errors
///
/// [`Error::EmptyDataset`] if there is nothing to measure, [`Error::Dataset`] if it cannot be read,
/// [`Error::Measuring`] if the device fails, a label is out of range or the code of a model or a batcher panics, [`Error::RowMismatch`] or
/// [`Error::TargetWidth`] if targets do not fit their head, and what the teacher fails with.
///
/// # Example
///
/// ```
/// use burn::data::dataset::InMemDataset;
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::report::measure;
/// use burn_distill::{DistillBatch, DistillData, Distillable, Outputs};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     head: Linear,
/// }
///
/// impl Distillable<Tensor<2>> for Net {
///     fn outputs(&self, input: Tensor<2>) -> Outputs {
///         Outputs::new(self.head.forward(input))
///     }
/// }
///
/// let device = Device::flex();
/// let student = Net { head: LinearConfig::new(2, 3).init(&device) };
/// let teacher = student.clone();
/// let data: DistillData<Tensor<2>> =
///     DistillData::from_fn(InMemDataset::new(vec![1, 2]), |items: Vec<i32>, device: &Device| {
///         DistillBatch::new(Tensor::ones([items.len(), 2], device))
///     });
/// let report = measure(&student, Some(&teacher), &data, 2, &device)?;
/// assert_eq!((report.agreement, report.parameters), (Some(1.0), Some(9)));
/// # Ok::<(), burn_distill::Error>(())
/// ```
pub fn measure<I, J, M>(
    model: &M,
    teacher: Option<&dyn Teacher<J>>,
    data: &DistillData<I, J>,
    batch_size: usize,
    device: &Device,
) -> Result<ModelReport>
where
    I: Module + 'static,
    J: 'static,
    M: Distillable<I>,
{
    let device = device.clone().inner();
    let teacher = teacher.map(|teacher| teacher.on(&device));
    let policy = ClassPolicy::default();
    let pair = measure_pair(
        model,
        teacher.as_ref(),
        false,
        policy,
        data,
        batch_size,
        &device,
    )?;
    match pair.failure {
        Some(error) => Err(error),
        None => Ok(pair.student),
    }
}

/// A student and its teacher in numbers.
#[derive(Debug)]
pub(crate) struct Pair {
    pub student: ModelReport,
    /// The teacher, where its own numbers were asked for.
    pub teacher: Option<ModelReport>,
    /// Both, prediction by prediction.
    pub comparison: Option<Comparison>,
    /// What could not be measured, and why.
    pub unmeasured: Vec<String>,
    /// What the teacher failed with; the student's own numbers are there all the same.
    pub failure: Option<Error>,
}

/// Measures a student beside its teacher, which is on the device already; with `own`, the teacher too. Each
/// of them sees each sample once. A panic is an error.
pub(crate) fn measure_pair<S, I, J>(
    student: &S,
    teacher: Option<&Arc<dyn Teacher<J>>>,
    own: bool,
    policy: ClassPolicy,
    data: &DistillData<I, J>,
    batch_size: usize,
    device: &Device,
) -> Result<Pair>
where
    S: Distillable<I>,
    I: Module + 'static,
    J: 'static,
{
    attempted("the student", || {
        pass(student, teacher, own, policy, data, batch_size, device)
    })
}

fn pass<S, I, J>(
    student: &S,
    teacher: Option<&Arc<dyn Teacher<J>>>,
    own: bool,
    policy: ClassPolicy,
    data: &DistillData<I, J>,
    batch_size: usize,
    device: &Device,
) -> Result<Pair>
where
    S: Distillable<I>,
    I: Module + 'static,
    J: 'static,
{
    if data.is_empty() {
        return Err(Error::EmptyDataset { what: "measured" });
    }
    let device = &device.clone().inner();
    let student = Frozen::new(student, device);
    let mut teacher = teacher.map(|teacher| teacher.as_ref());
    let full = teacher.is_some_and(|teacher| teacher.info().wants_full_batches);
    let mut failure = None;
    let mut sums = Measurement::default();
    let indices: Vec<usize> = (0..data.len()).collect();
    for chunk in indices.chunks(batch_size.max(1)) {
        let batch = read(data, chunk, device)?;
        let taught = teacher.map(|teacher| {
            attempted("the teacher", || {
                ask(teacher, data, &batch, batch_size, device, full)
            })
        });
        let taught = match taught.transpose() {
            Ok(taught) => taught.map(Outputs::without_autodiff),
            Err(error) => {
                sums.note(format!("comparison with the teacher: {error}"));
                (failure, teacher) = (Some(error), None);
                sums.without_teacher();
                None
            }
        };
        let facts = Batch {
            targets: &batch.targets,
            samples: chunk[0]..chunk[0] + chunk.len(),
            policy,
            own,
        };
        sums.add(&student.outputs(&batch.input), taught.as_ref(), &facts)?;
    }

    let mut unmeasured = std::mem::take(&mut sums.unmeasured);
    let mut report = ModelReport {
        samples: data.len(),
        ..sums.student.report()
    };
    let many = &indices[..batch_size.clamp(1, data.len())];
    let (one, many) = (
        read(data, &indices[..1], device)?,
        read(data, many, device)?,
    );
    report.measure_size(student.inner());
    let run = |input: &I| Ok(student.outputs(input));
    report.measure_speed(&one.input, &many.input, many.indices.len(), run, device)?;
    unmeasured.extend(sums.student.unknown(Side::Student));

    let mut teacher_report = None;
    if let Some(teacher) = teacher.filter(|_| own) {
        let mut report = ModelReport {
            samples: data.len(),
            ..sums.teacher.report()
        };
        match teacher.info().module {
            Some(module) => {
                report.measure_size(&module);
                // Without names, so that nothing is read from a cache.
                let run = |input: &J| teacher.ask(&TeacherBatch::new(input));
                let (one, many, count) =
                    (&one.teacher_input, &many.teacher_input, many.indices.len());
                let measured = attempted("the teacher", || {
                    report.measure_speed(one, many, count, run, device)
                });
                if let Err(error) = measured {
                    unmeasured.push(format!("speed of the teacher: {error}"));
                }
            }
            None => unmeasured.push("size and speed of the teacher: it is not a model".into()),
        }
        unmeasured.extend(sums.teacher.unknown(Side::Teacher));
        teacher_report = Some(report);
    }
    Ok(Pair {
        student: report,
        teacher: teacher_report,
        comparison: sums.comparer.finish(data, device)?,
        unmeasured,
        failure,
    })
}

impl ModelReport {
    fn measure_size<M: Module>(&mut self, module: &M) {
        self.parameters = Some(Module::num_params(module));
        let bytes = module.clone().into_record().into_bytes();
        self.bytes = bytes.ok().map(|bytes| bytes.len());
    }

    fn measure_speed<X>(
        &mut self,
        one: &X,
        many: &X,
        count: usize,
        run: impl Fn(&X) -> Result<Outputs>,
        device: &Device,
    ) -> Result<()> {
        self.latency_ms = Some(seconds(one, &run, device)? * 1e3);
        self.samples_per_second = Some(count as f64 / seconds(many, &run, device)?);
        Ok(())
    }
}

/// The median time of a forward pass.
fn seconds<X>(input: &X, run: impl Fn(&X) -> Result<Outputs>, device: &Device) -> Result<f64> {
    let mut times = Vec::with_capacity(TIMED_RUNS);
    for at in 0..=TIMED_RUNS {
        let start = Instant::now();
        let outputs = run(input)?;
        // The outputs may be on another device than the input.
        let on = outputs.first_head().map(|(_, head)| head.device());
        let synced = on.as_ref().unwrap_or(device).sync();
        synced.map_err(|error| unreadable("the time of a forward pass")(&error))?;
        let elapsed = start.elapsed().as_secs_f64();
        drop(outputs);
        if at > 0 {
            times.push(elapsed);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[TIMED_RUNS / 2])
}

#[cfg(all(test, feature = "flex"))]
#[path = "tests/measure.rs"]
mod tests;
