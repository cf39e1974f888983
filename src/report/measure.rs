//! Running a model over data and a clock.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::data::batch::{DistillBatch, Targets};
use crate::data::dataset::DistillData;
use crate::data::outputs::{Distillable, Outputs};
use crate::error::{Error, Result};
use crate::metric::calibration::Bins;
use crate::metric::fidelity::{agreeing, correct};
use crate::objective::classes::ClassPolicy;
use crate::ops::vectors::mean_rows;
use crate::ops::{cross_entropy, divergence};
use crate::report::ModelReport;
use crate::report::comparison::Comparison;
use crate::report::comparison::{Comparer, Place};
use crate::teacher::frozen::Frozen;

/// How often a forward pass is timed, after one that is not.
const TIMED_RUNS: usize = 11;

/// Measures a model on data: in inference mode, on the device given, against its teacher where
/// there is one that has as many classes.
///
/// # Errors
///
/// [`Error::EmptyDataset`] if there is nothing to measure, [`Error::Dataset`] if it cannot be read,
/// [`Error::NonFinite`] if the device gives up.
///
/// # Example
///
/// `measure(&student, Some(&Frozen::new(teacher)), &data, 128, &device)?.agreement` is the share of
/// the teacher's answers that the student gives.
pub fn measure<I, M, T>(
    model: &M,
    teacher: Option<&Frozen<T>>,
    data: &DistillData<I>,
    batch_size: usize,
    device: &Device,
) -> Result<ModelReport>
where
    I: Module + 'static,
    M: Distillable<I>,
    T: Distillable<I>,
{
    let beside = teacher.map(|teacher| (teacher, ClassPolicy::default()));
    measure_beside(model, beside, data, batch_size, device).map(|measured| measured.report)
}

/// A model in numbers, and answer by answer where it was compared with a teacher.
pub(crate) struct Measured {
    pub report: ModelReport,
    pub comparison: Option<Comparison>,
}

/// [`measure`] against a teacher that may have another number of classes.
pub(crate) fn measure_beside<I, M, T>(
    model: &M,
    beside: Option<(&Frozen<T>, ClassPolicy)>,
    data: &DistillData<I>,
    batch_size: usize,
    device: &Device,
) -> Result<Measured>
where
    I: Module + 'static,
    M: Distillable<I>,
    T: Distillable<I>,
{
    if data.is_empty() {
        return Err(Error::EmptyDataset { what: "measured" });
    }
    let device = device.clone().inner();
    let model = Frozen::new(model.clone()).fork(&device);
    let teacher = beside.map(|(teacher, _)| teacher.clone().fork(&device));
    let policy = beside.map_or_else(ClassPolicy::default, |(_, policy)| policy);

    let mut sums = Sums::default();
    let indices: Vec<usize> = (0..data.len()).collect();
    for chunk in indices.chunks(batch_size.max(1)) {
        let batch = read(data, chunk, &device)?;
        let outputs = model.teach(&batch)?;
        let taught = teacher.as_ref().map(|t| t.teach(&batch)).transpose()?;
        let samples = chunk[0]..chunk[0] + chunk.len();
        sums.add(&outputs, taught.as_ref(), policy, (&batch, samples))?;
    }

    let one = read(data, &indices[..1], &device)?;
    let many = &indices[..batch_size.clamp(1, data.len())];
    let batch = read(data, many, &device)?;
    let module = model.inner();
    let record = module.clone().into_record();
    let bytes = record.into_bytes().map(|bytes| bytes.len());
    let comparison = std::mem::take(&mut sums.comparer).finish(data, &device)?;
    let report = ModelReport {
        samples: data.len(),
        parameters: Module::num_params(module),
        bytes: bytes.expect("a record in memory needs no file"),
        latency_ms: seconds(&model, &one, &device)? * 1e3,
        samples_per_second: many.len() as f64 / seconds(&model, &batch, &device)?,
        ..sums.into_report()
    };
    Ok(Measured { report, comparison })
}

pub(crate) fn read<I>(
    data: &DistillData<I>,
    indices: &[usize],
    device: &Device,
) -> Result<DistillBatch<I>> {
    let batch = data.batch(indices.to_vec(), device);
    batch.map_err(|error| Error::Dataset {
        what: "measured",
        message: error.to_string(),
    })
}

/// The median time of a forward pass.
fn seconds<I: Module, M: Distillable<I>>(
    model: &Frozen<M>,
    batch: &DistillBatch<I>,
    device: &Device,
) -> Result<f64> {
    let mut times = Vec::with_capacity(TIMED_RUNS);
    for run in 0..=TIMED_RUNS {
        let start = Instant::now();
        let outputs = model.teach(batch)?;
        device.sync().map_err(|error| unreadable(&error))?;
        let elapsed = start.elapsed().as_secs_f64();
        drop(outputs);
        if run > 0 {
            times.push(elapsed);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[TIMED_RUNS / 2])
}

pub(crate) fn unreadable(error: &dyn std::fmt::Display) -> Error {
    Error::NonFinite {
        what: "a measurement".into(),
        value: error.to_string(),
    }
}

/// Sums over rows, and in `numbers` of each kind how many rows it was summed over.
#[derive(Default)]
struct Sums {
    correct: Mean,
    cross_entropy: Mean,
    squared_error: Mean,
    agreeing: Mean,
    kl_teacher_student: Mean,
    kl_student_teacher: Mean,
    bins: Bins,
    comparer: Comparer,
}

#[derive(Default)]
struct Mean {
    sum: f64,
    rows: f64,
}

impl Mean {
    fn get(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.sum / self.rows)
    }
}

impl Sums {
    fn add<I>(
        &mut self,
        outputs: &Outputs,
        teacher: Option<&Outputs>,
        policy: ClassPolicy,
        (batch, samples): (&DistillBatch<I>, std::ops::Range<usize>),
    ) -> Result<()> {
        let single = outputs.in_single();
        let outputs = single.as_ref().unwrap_or(outputs);
        let logits = &outputs.logits;
        let mask = batch.mask.as_ref();
        let rows = match mask {
            Some(mask) => mask.clone().int().sum().float(),
            None => Tensor::full([1], logits.dims()[0] as f64, &logits.device()),
        };
        let mut values: Vec<(&mut Mean, Tensor<1>)> = Vec::new();
        match &batch.targets {
            Targets::Classes(labels) => {
                values.push((&mut self.correct, correct(logits, labels)));
                let nll = cross_entropy(logits, labels, 0.0, mask).value;
                values.push((&mut self.cross_entropy, nll));
            }
            Targets::Values(targets) => {
                let error = logits.clone() - targets.clone();
                let square = (error.clone() * error).mean_dim(1).squeeze_dim(1);
                values.push((&mut self.squared_error, square));
            }
            Targets::None => {}
        }
        let aligned = policy.align(outputs, teacher);
        let own = teacher.map(|teacher| (outputs, teacher));
        if let Some((student, teacher)) = aligned.changed().or(own)
            && teacher.logits.dims() == student.logits.dims()
            && student.logits.dims()[1] > 1
        {
            let (ours, theirs) = (&student.logits, &teacher.logits);
            values.push((&mut self.agreeing, agreeing(ours, theirs)));
            let forward = divergence(ours, theirs, 1.0).value;
            let place = Place {
                divergence: &forward,
                labels: batch.targets.classes(),
                mask,
                samples,
            };
            self.comparer.add(ours, theirs, &place)?;
            values.push((&mut self.kl_teacher_student, forward));
            let backward = divergence(theirs, ours, 1.0).value;
            values.push((&mut self.kl_student_teacher, backward));
        }

        let (means, tensors): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let tensors = tensors
            .into_iter()
            .map(|t| mean_rows(t, mask).cast(rows.dtype()));
        let numbers = Tensor::cat(std::iter::once(rows.clone()).chain(tensors).collect(), 0);
        let numbers = numbers.try_into_data().map_err(|e| unreadable(&e))?;
        let numbers: Vec<f64> = numbers.iter::<f64>().collect();
        for (mean, value) in means.into_iter().zip(&numbers[1..]) {
            mean.sum += value * numbers[0];
            mean.rows += numbers[0];
        }
        if let Targets::Classes(labels) = &batch.targets {
            let added = self.bins.add(logits, labels, mask);
            added.map_err(|error| unreadable(&error))?;
        }
        Ok(())
    }

    fn into_report(self) -> ModelReport {
        ModelReport {
            accuracy: self.correct.get(),
            cross_entropy: self.cross_entropy.get(),
            calibration_error: self.bins.error(),
            reliability: self.bins.filled(),
            mean_squared_error: self.squared_error.get(),
            agreement: self.agreeing.get(),
            kl_teacher_student: self.kl_teacher_student.get(),
            kl_student_teacher: self.kl_student_teacher.get(),
            ..ModelReport::default()
        }
    }
}
