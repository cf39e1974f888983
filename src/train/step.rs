//! One step of the engine: the only place that knows its step traits.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleDisplay};
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use crate::data::batch::DistillBatch;
use crate::data::distillable::Distillable;
use crate::data::outputs::Outputs;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::teacher::TeacherBatch;
use crate::teacher::own::outputs_of;
use crate::train::clip::{clip, clip_multi};
use crate::train::composite::Composite;
use crate::train::loader::{Step, StepWeight};
use crate::train::metrics::{Numbers, StepOutput};
use crate::train::workers::panicked;

impl<I, J, S> Composite<I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I> + ModuleDisplay,
{
    /// One optimizer step, and what follows from it.
    fn stepped(
        mut self,
        optim: &mut ModuleOptimizer,
        step: impl FnOnce(Self, &mut ModuleOptimizer) -> Self,
    ) -> Self {
        // A second holder would keep the optimizer from updating its state in place.
        let slot = self.run.optimizer.clone();
        slot.iter().for_each(|slot| drop(slot.take()));
        self = step(self, optim);
        slot.iter().for_each(|slot| slot.put(optim));
        self.average = self.average.map(|average| average.follow(&self.student));
        self.run.keeper.step(&self.student, self.average.as_ref());
        self
    }

    /// The teacher's outputs, where it is asked inside the step: a mean teacher, which is made of the
    /// student, or one that is asked about what the student writes.
    fn asked_inside(&self, batch: &DistillBatch<I, J>) -> Result<Option<Outputs>> {
        if let Some(average) = &self.average {
            let input = &batch.teacher_input;
            return outputs_of::<I, J, S>(&average.model, input).map(Some);
        }
        let Some(rollout) = &self.run.rollout else {
            return Ok(None);
        };
        let device = batch.teacher_input.devices().into_iter().next();
        let teacher = rollout.teacher_on(&device.unwrap_or_default().inner());
        let outputs = teacher.map(|teacher| teacher.ask(&TeacherBatch::of(batch, 0)));
        outputs.transpose()
    }

    /// A step has no way to return an error. Whoever started the training finds it as its failure.
    fn run_or_unwind(&self, step: Step<I, J>) -> (Tensor<1>, StepOutput) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_step(step)));
        let outcome = outcome.unwrap_or_else(|panic| Err(panicked("training", panic.as_ref())));
        outcome.unwrap_or_else(|error| {
            let message = error.to_string();
            self.run.failure.report(error);
            resume_unwind(Box::new(message))
        })
    }

    fn run_step(&self, step: Step<I, J>) -> Result<(Tensor<1>, StepOutput), Error> {
        let batch = match &self.run.rollout {
            Some(rollout) => {
                let student = self.student.valid();
                (rollout.rewrite)(&student, step.batch, step.progress)
            }
            None => step.batch,
        };
        let teacher = match step.teacher {
            Some(outputs) => Some(outputs),
            None => self.asked_inside(&batch)?,
        };
        let student = self.student.outputs(batch.input);
        let targets = batch.targets.without_autodiff();
        let context = LossContext {
            teacher: teacher.as_ref(),
            ..LossContext::without_teacher(&student)
        };
        let context = context
            .with_targets(&targets)
            .with_indices(&batch.indices, step.samples)
            .at(step.progress);
        let value = self.run.objective.forward(&context, &self.modules);
        let total = match step.weight {
            StepWeight::Known(1.0) => value.total.clone(),
            StepWeight::Known(weight) => value.total.clone() * weight,
            StepWeight::Summed(weight) => value.total.clone() * *weight,
        };
        let output = StepOutput {
            names: self.run.metrics.names.clone(),
            numbers: Numbers::OnDevice(Box::new(self.run.metrics.collect(value, &context))),
            epoch: step.epoch,
            step: step.number,
            failure: self.run.failure.clone(),
        };
        Ok((total, output))
    }
}

impl<I, J, S> TrainStep for Composite<I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    type Input = Step<I, J>;
    type Output = StepOutput;

    fn step(&self, step: Step<I, J>) -> TrainOutput<StepOutput> {
        let (total, output) = self.run_or_unwind(step);
        TrainOutput::new(self, total.backward(), output)
    }

    fn optimize(
        self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: GradientsParams,
    ) -> Self {
        let grads = match self.run.clipping {
            Some(bound) => clip(&self, grads, bound),
            None => grads,
        };
        self.stepped(optim, |model, optim| optim.step(lr, model, grads))
    }

    fn optimize_multi(
        self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: MultiGradientsParams,
    ) -> Self {
        let grads = match self.run.clipping {
            Some(bound) => clip_multi(&self, grads, bound),
            None => grads,
        };
        self.stepped(optim, |model, optim| optim.step_multi(lr, model, grads))
    }
}

impl<I, J, S> InferenceStep for Composite<I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    type Input = Step<I, J>;
    type Output = StepOutput;

    fn step(&self, step: Step<I, J>) -> StepOutput {
        self.run_or_unwind(step).1
    }
}
