//! One step of the engine: the only place that knows its step traits.

use std::panic::resume_unwind;

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleDisplay};
use burn::optim::{GradientsParams, ModuleOptimizer, MultiGradientsParams};
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use crate::attempt::attempt;
use crate::data::batch::DistillBatch;
use crate::data::distillable::Distillable;
use crate::data::outputs::Outputs;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::teacher::TeacherBatch;
use crate::teacher::own::outputs_of;
use crate::train::clip::{clip, clip_multi};
use crate::train::composite::Composite;
use crate::train::loader::Step;
use crate::train::metrics::{Numbers, StepOutput};
use crate::train::window::{Weight, divide};

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

    /// What the gradients of the batches of an optimizer step are divided by.
    fn window_sum(&self) -> Option<Weight> {
        let device = self.devices().into_iter().next().unwrap_or_default();
        self.run.window.as_ref()?.take(&device.inner())
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
        let samples = step.batch.indices.clone();
        let outcome = attempt(step.what, &samples, || self.run_step(step));
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
        let objective = &self.run.objective;
        let aligned = objective.align(&context);
        let in_batch = |error: Error| error.in_batch(step.what, &batch.indices);
        let fits = objective.check_shapes(&context, &aligned);
        fits.and_then(|()| self.run.widths.check(&context))
            .map_err(in_batch)?;
        let value = objective.value_of(&context, aligned, &self.modules);
        let weight = match &self.run.window {
            // A batch that is an optimizer step of its own.
            _ if step.fraction == 1.0 => Weight::Known(1.0),
            Some(window) => window.add(step.fraction, &context),
            None => Weight::Known(step.fraction),
        };
        let total = match weight {
            Weight::Known(1.0) => value.total.clone(),
            Weight::Known(weight) => value.total.clone() * weight,
            Weight::Summed(weight) => value.total.clone() * *weight,
        };
        let numbers = self.run.metrics.collect(value, &context);
        let output = StepOutput {
            names: self.run.metrics.names.clone(),
            numbers: Numbers::OnDevice(Box::new(numbers.map_err(in_batch)?)),
            epoch: step.epoch,
            step: step.number,
            what: step.what,
            samples: batch.indices.clone(),
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
        let mut grads = grads;
        if let Some(sum) = self.window_sum() {
            divide(&self, &mut grads, &sum);
        }
        if let Some(bound) = self.run.clipping {
            grads = clip(&self, grads, bound);
        }
        self.stepped(optim, |model, optim| optim.step(lr, model, grads))
    }

    fn optimize_multi(
        self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: MultiGradientsParams,
    ) -> Self {
        let mut grads = grads;
        if let Some(sum) = self.window_sum() {
            for (grads, _) in &mut grads.grads {
                divide(&self, grads, &sum);
            }
        }
        if let Some(bound) = self.run.clipping {
            grads = clip_multi(&self, grads, bound);
        }
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
