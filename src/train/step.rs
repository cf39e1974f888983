//! The one place that knows the engine's step traits: a teacher and a student as one model.

use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleDisplay};
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::tensor::Tensor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use crate::data::batch::{DistillBatch, Targets};
use crate::data::outputs::{Distillable, Outputs};
use crate::error::Error;
use crate::loss::LossContext;
use crate::loss::modules::Parts;
use crate::objective::Objective;
use crate::objective::Value;
use crate::teacher::frozen::Asked;
use crate::teacher::frozen::Frozen;
use crate::teacher::mean::Average;
use crate::train::loader::{Share, Step};

/// What the engine trains. Its parameters are the student's and those of the losses' parts, so a
/// checkpoint holds these and nothing of the teacher.
#[derive(Module, Debug)]
pub(crate) struct Composite<I, T: Module + ModuleDisplay, S: Module + ModuleDisplay> {
    pub teacher: Frozen<T>,
    /// The teacher instead of the other one, where the student teaches itself.
    pub average: Option<Average<T>>,
    pub student: S,
    /// One place per term.
    pub parts: Vec<Option<Parts>>,
    #[module(skip)]
    pub objective: Arc<Objective>,
    #[module(skip)]
    pub stats: Stats,
    /// The optimizer as it is after the last step, where somebody wants it.
    #[module(skip)]
    pub kept: Option<Kept>,
    #[module(skip)]
    pub _input: PhantomData<fn(I)>,
}

/// A place for the optimizer.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<ModuleOptimizer>>>);

impl Kept {
    pub fn take(&self) -> Option<ModuleOptimizer> {
        self.0
            .lock()
            .expect("nobody panics while holding it")
            .take()
    }

    fn put(&self, optimizer: &ModuleOptimizer) {
        let mut place = self.0.lock().expect("nobody panics while holding it");
        *place = Some(optimizer.clone());
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

/// Which numbers every step reports.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    /// Their names, in order: the total, each term, then what can be compared.
    pub names: Arc<Vec<String>>,
    /// Whether the student's answers can be compared with the teacher's, and with the truth.
    pub agreement: bool,
    pub accuracy: bool,
    /// The first thing that went wrong in a step.
    pub fault: Arc<Mutex<Option<Error>>>,
}

pub(crate) const LOSS: &str = "loss";
pub(crate) const AGREEMENT: &str = "agreement";
pub(crate) const ACCURACY: &str = "accuracy";

impl Stats {
    pub fn new(objective: &Objective, outputs: &LossContext<'_>) -> Self {
        let aligned = objective.align(outputs);
        let compared = aligned.context(outputs);
        let classes = compared.student.logits.dims()[1];
        let is_comparable = |other: &Outputs| other.logits.dims()[1] == classes && classes > 1;
        let agreement = compared.teacher.is_some_and(is_comparable);
        let accuracy = outputs.targets.classes().is_some();
        let mut names = vec![LOSS.to_string()];
        names.extend(objective.terms().iter().map(|t| t.name().to_string()));
        names.extend(agreement.then(|| AGREEMENT.to_string()));
        names.extend(accuracy.then(|| ACCURACY.to_string()));
        Self {
            names: Arc::new(names),
            agreement,
            accuracy,
            fault: Arc::default(),
        }
    }

    fn report(&self, error: Error) {
        let mut fault = self.fault.lock().expect("nobody panics while holding it");
        fault.get_or_insert(error);
    }

    /// All numbers of a step and, last, the number of rows that count, as one small tensor, so that
    /// reading them back is one transfer.
    fn collect(&self, value: Value, context: &LossContext<'_>) -> Tensor<1> {
        let student = context.student.logits.clone().without_autodiff();
        let device = student.device();
        let rows = student.dims()[0];
        let predicted = student.argmax(1);
        let mask = context.mask;
        let share =
            |right: Tensor<2, burn::tensor::Bool>| context.mean(right.squeeze_dim::<1>(1).float());

        let mut numbers = vec![value.total];
        numbers.extend(value.terms);
        if self.agreement {
            let (answered, taught) = match value.aligned.changed() {
                None => (predicted.clone(), &context.teacher().logits),
                Some((student, teacher)) => {
                    let student = student.logits.clone().without_autodiff();
                    (student.argmax(1), &teacher.logits)
                }
            };
            numbers.push(share(answered.equal(taught.clone().argmax(1))));
        }
        if self.accuracy {
            let labels = context.targets.classes().expect("the same in every batch");
            numbers.push(share(predicted.equal(labels.clone().unsqueeze_dim(1))));
        }
        numbers.push(match mask {
            Some(mask) => mask.clone().int().sum().float(),
            None => Tensor::full([1], rows as f64, &device),
        });
        let dtype = burn::tensor::DType::F32;
        let plain = numbers
            .into_iter()
            .map(|n| n.without_autodiff().cast(dtype));
        Tensor::cat(plain.collect(), 0)
    }
}

impl<I, T, S> Composite<I, T, S>
where
    I: Module + 'static,
    T: Distillable<I>,
    S: Distillable<I>,
{
    fn ask(&self, batch: &DistillBatch<I>) -> Asked {
        let (input, recalled) = (&batch.input, batch.recalled.as_ref());
        let asked = match &self.average {
            Some(average) => Asked::of(&average.model, input, recalled),
            None => self.teacher.ask(input, recalled),
        };
        // A step has no way to return an error. Who started the training finds it among the stats.
        asked.unwrap_or_else(|error| {
            let message = error.to_string();
            self.stats.report(error);
            resume_unwind(Box::new(message))
        })
    }

    /// One optimizer step, and what follows from it.
    fn stepped(
        mut self,
        optim: &mut ModuleOptimizer,
        step: impl FnOnce(Self, &mut ModuleOptimizer) -> Self,
    ) -> Self {
        // A second holder would keep the optimizer from updating its state in place.
        let kept = self.kept.clone();
        kept.iter().for_each(|kept| drop(kept.take()));
        self = step(self, optim);
        kept.iter().for_each(|kept| kept.put(optim));
        self.average = self.average.map(|average| average.follow(&self.student));
        self
    }

    fn run(&self, step: Step<I>) -> (Tensor<1>, StepOutput) {
        let needs_teacher = self.objective.needs_teacher();
        let asked = needs_teacher.then(|| self.ask(&step.batch));
        let student = self.student.outputs(step.batch.input);
        let teacher = asked.map(Asked::answer);
        let targets: Targets = step.batch.targets.without_autodiff();
        let indices = step.batch.indices;
        let mask = step.batch.mask.map(|mask| mask.without_autodiff());
        let context = LossContext {
            student: &student,
            teacher: teacher.as_ref(),
            targets: &targets,
            mask: mask.as_ref(),
            progress: step.progress,
            parts: None,
            indices: &indices,
            samples: step.samples,
        };
        let value = self.objective.forward(&context, &self.parts);
        let total = match step.share {
            Share::Known(1.0) => value.total.clone(),
            Share::Known(share) => value.total.clone() * share,
            Share::Counted(share) => value.total.clone() * *share,
        };
        let output = StepOutput {
            stats: self.stats.clone(),
            numbers: Numbers::OnDevice(Box::new(self.stats.collect(value, &context))),
            epoch: step.epoch,
            step: step.number,
        };
        (total, output)
    }
}

impl<I, T, S> TrainStep for Composite<I, T, S>
where
    I: Module + 'static,
    T: Distillable<I>,
    S: Distillable<I>,
{
    type Input = Step<I>;
    type Output = StepOutput;

    fn step(&self, step: Step<I>) -> TrainOutput<StepOutput> {
        let (total, output) = self.run(step);
        TrainOutput::new(self, total.backward(), output)
    }

    fn optimize(
        self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: GradientsParams,
    ) -> Self {
        self.stepped(optim, |model, optim| optim.step(lr, model, grads))
    }

    fn optimize_multi(
        self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: MultiGradientsParams,
    ) -> Self {
        self.stepped(optim, |model, optim| optim.step_multi(lr, model, grads))
    }
}

impl<I, T, S> InferenceStep for Composite<I, T, S>
where
    I: Module + 'static,
    T: Distillable<I>,
    S: Distillable<I>,
{
    type Input = Step<I>;
    type Output = StepOutput;

    fn step(&self, step: Step<I>) -> StepOutput {
        self.run(step).1
    }
}

/// The numbers of one step.
#[derive(Debug)]
pub(crate) struct StepOutput {
    stats: Stats,
    numbers: Numbers,
    epoch: usize,
    step: usize,
}

#[derive(Debug, Clone)]
enum Numbers {
    OnDevice(Box<Tensor<1>>),
    Read(Arc<Vec<f64>>),
}

impl StepOutput {
    /// The numbers, once read, the number of rows last.
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
    fn sync(self) -> Result<Self, burn::backend::ExecutionError> {
        let Numbers::OnDevice(tensor) = self.numbers else {
            return Ok(self);
        };
        let data = tensor
            .try_into_data()
            .map_err(|error| burn::backend::ExecutionError::with_context(error.to_string()))?;
        let numbers: Vec<f64> = data.iter::<f64>().collect();
        let names = self.stats.names.iter();
        if let Some((name, value)) = names.zip(&numbers).skip(1).find(|(_, v)| !v.is_finite()) {
            let what = format!("term {name:?} at epoch {}, step {}", self.epoch, self.step);
            let error = Error::NonFinite {
                what,
                value: value.to_string(),
            };
            let context = error.to_string();
            self.stats.report(error);
            return Err(burn::backend::ExecutionError::with_context(context));
        }
        Ok(Self {
            numbers: Numbers::Read(Arc::new(numbers)),
            ..self
        })
    }
}
