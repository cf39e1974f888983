//! The numbers that every step reports.

use std::sync::Arc;

use burn::tensor::{Bool, DType, Int, Tensor};
use burn::train::ItemLazy;

use crate::data::head::{Head, Logits};
use crate::data::targets::{TargetKind, from_bool};
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::objective::Objective;
use crate::objective::value::ObjectiveValue;
use crate::ops::vectors::mean_rows;
use crate::train::feed::Failure;
use crate::train::window::rows;

pub(crate) const LOSS: &str = "loss";
pub(crate) const AGREEMENT: &str = "agreement";
pub(crate) const ACCURACY: &str = "accuracy";

/// Which numbers every step reports: the total, each term, and what can be said of the first head.
#[derive(Debug, Clone)]
pub(crate) struct StepMetrics {
    /// Their names, in order.
    pub names: Arc<Vec<String>>,
    /// Whether the student's predictions can be compared with the teacher's, and with labels.
    agreement: bool,
    accuracy: bool,
}

/// The first head's logits, where classes can be read off them without computing a projection.
fn classes(context: &LossContext<'_>) -> Option<Tensor<2>> {
    match context.student_head()? {
        Head::Categorical(Logits::Dense(logits)) if logits.dims()[1] > 1 => Some(logits.clone()),
        _ => None,
    }
}

/// The most likely class of each row of a teacher, `[rows]`.
fn predictions(logits: &Logits) -> Option<Tensor<1, Int>> {
    match logits {
        Logits::Dense(logits) => Some(logits.clone().argmax(1).squeeze_dim(1)),
        Logits::TopK(top_k) => {
            let best = top_k.log_probs.clone().argmax(1);
            Some(top_k.indices.clone().gather(1, best).squeeze_dim(1))
        }
        Logits::Projected(_) => None,
    }
}

impl StepMetrics {
    pub fn new(objective: &Objective, context: &LossContext<'_>) -> Self {
        let aligned = objective.align(context);
        let compared = aligned.context(context);
        let own = classes(&compared);
        let teacher = compared.teacher_head().and_then(Head::logits);
        let agreement = own.as_ref().zip(teacher).is_some_and(|(own, teacher)| {
            own.dims() == teacher.shape() && !matches!(teacher, Logits::Projected(_))
        });
        let accuracy = own.is_some() && context.labels().is_some();
        let mut names = vec![LOSS.to_string()];
        names.extend(objective.terms().iter().map(|term| term.name()));
        names.extend(agreement.then(|| AGREEMENT.to_string()));
        names.extend(accuracy.then(|| ACCURACY.to_string()));
        Self {
            names: Arc::new(names),
            agreement,
            accuracy,
        }
    }

    /// All numbers of a step and, last, the sum of the rows' weights, as one small tensor, so that
    /// reading them back is one transfer.
    ///
    /// # Errors
    ///
    /// What the first batch had to read them off, and this one has not.
    pub fn collect(&self, value: ObjectiveValue, context: &LossContext<'_>) -> Result<Tensor<1>> {
        let mut numbers = vec![value.total];
        numbers.extend(value.terms);
        let weights = context.row_weights();
        let fraction = |right: Tensor<1, Bool>, weights: Option<&Tensor<1>>| {
            mean_rows(from_bool(right), weights)
        };
        let predicted = |context: &LossContext<'_>| {
            let logits = classes(context).map(Tensor::without_autodiff);
            logits.map(|logits| logits.argmax(1).squeeze_dim::<1>(1))
        };
        if self.agreement {
            let compared = value.aligned.context(context);
            let teacher = compared.teacher_head().and_then(Head::logits);
            let both = predicted(&compared).zip(teacher.and_then(predictions));
            let shape = |head: Option<&Head>| head.map(|head| head.shape().to_vec());
            let (ours, theirs) = both.ok_or_else(|| Error::ShapeMismatch {
                what: "agreement: heads".into(),
                student: shape(compared.student_head()).unwrap_or_default(),
                teacher: shape(compared.teacher_head()).unwrap_or_default(),
            })?;
            let theirs = theirs.cast(ours.dtype());
            numbers.push(fraction(ours.equal(theirs), weights));
        }
        if self.accuracy {
            let both = predicted(context).zip(context.labels());
            let (ours, labels) = both.ok_or_else(|| Error::MissingTargets {
                term: ACCURACY.into(),
                expected: TargetKind::Class.to_string(),
                found: (context.target())
                    .map_or("no targets".into(), |target| target.kind().to_string()),
            })?;
            let labels = labels.clone().without_autodiff();
            let is_labelled = from_bool(labels.clone().greater_equal_elem(0));
            let weights = match weights {
                Some(weights) => weights.clone() * is_labelled,
                None => is_labelled,
            };
            let labels = labels.cast(ours.dtype());
            numbers.push(fraction(ours.equal(labels), Some(&weights)));
        }
        let device = numbers[0].device().inner();
        numbers.push(match weights {
            Some(weights) => weights.clone().sum(),
            None => Tensor::full([1], rows(context) as f64, (&device, DType::F32)),
        });
        let plain = numbers
            .into_iter()
            .map(|n| n.without_autodiff().cast(DType::F32));
        Ok(Tensor::cat(plain.collect(), 0))
    }
}

/// The numbers of one step.
#[derive(Debug)]
pub(crate) struct StepOutput {
    pub names: Arc<Vec<String>>,
    pub numbers: Numbers,
    pub epoch: usize,
    pub step: usize,
    /// The set that the batch is of, and its samples there.
    pub what: &'static str,
    pub samples: Vec<usize>,
    pub failure: Failure,
}

#[derive(Debug, Clone)]
pub(crate) enum Numbers {
    OnDevice(Box<Tensor<1>>),
    Read(Arc<Vec<f64>>),
}

impl StepOutput {
    /// The numbers, once read, the sum of the rows' weights last.
    pub fn numbers(&self) -> Arc<Vec<f64>> {
        match &self.numbers {
            Numbers::Read(numbers) => numbers.clone(),
            Numbers::OnDevice(_) => unreachable!("the engine reads items before their metrics"),
        }
    }
}

impl ItemLazy for StepOutput {
    /// Reads the numbers back. The engine calls this on its metric thread, so that the training
    /// thread never waits for a device.
    fn sync(self) -> std::result::Result<Self, burn::backend::ExecutionError> {
        let Numbers::OnDevice(tensor) = self.numbers else {
            return Ok(self);
        };
        let data = tensor
            .try_into_data()
            .map_err(|error| burn::backend::ExecutionError::with_context(error.to_string()))?;
        let numbers: Vec<f64> = data.iter::<f64>().collect();
        let mut terms = self.names.iter().zip(&numbers).skip(1);
        if let Some((name, value)) = terms.find(|(_, value)| !value.is_finite()) {
            let (epoch, step, set) = (self.epoch, self.step, self.what);
            let error = Error::NonFinite {
                what: format!("term {name:?} at epoch {epoch}, step {step} of {set}"),
                value: value.to_string(),
            };
            let context = error.to_string();
            self.failure.report(error.in_batch(set, &self.samples));
            return Err(burn::backend::ExecutionError::with_context(context));
        }
        Ok(Self {
            numbers: Numbers::Read(Arc::new(numbers)),
            ..self
        })
    }
}
