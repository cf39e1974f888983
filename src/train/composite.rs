//! What the engine trains: the student, and what losses train. No teacher is in it.

use std::sync::{Arc, Mutex};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;

use crate::data::batch::DistillBatch;
use crate::objective::{Objective, ObjectiveModules};
use crate::teacher::Teacher;
use crate::teacher::mean::Average;
use crate::train::feed::Failure;
use crate::train::keeper::Keeper;
use crate::train::metrics::StepMetrics;
use crate::train::widths::Widths;
use crate::train::window::Window;

/// The student and the auxiliary modules of the losses.
///
/// The student's parameters have the paths that they have in the student itself, so that parameter groups
/// speak of these. What is trained beside it stands under names that no field can have.
#[derive(Debug)]
pub(crate) struct Composite<I, J, S> {
    pub student: S,
    pub modules: ObjectiveModules,
    /// The moving average of the student, where that is the teacher. It changes with every step, so it is
    /// part of a checkpoint.
    pub average: Option<Average<S>>,
    pub run: Arc<Run<I, J, S>>,
}

/// The path of what losses train.
pub(crate) const MODULES: &str = "loss-modules";
/// The path of the average.
const AVERAGE: &str = "mean-teacher";

/// Everything of a training that every step shares and no step changes.
pub(crate) struct Run<I, J, S> {
    pub objective: Arc<Objective>,
    pub metrics: StepMetrics,
    pub widths: Widths,
    /// `None` where the replicas of a model step by themselves, each with the mean of the gradients: there
    /// a batch weighs by its samples.
    pub window: Option<Window>,
    pub failure: Failure,
    /// Rewrites a batch with the student as it is, and then asks the teacher.
    pub rollout: Option<Rollout<I, J, S>>,
    /// The optimizer as it is after the last step, where it is wanted.
    pub optimizer: Option<OptimizerSlot>,
    pub keeper: Keeper<S>,
    /// A bound on the norm of all gradients together.
    pub clipping: Option<f64>,
}

impl<I, J, S> std::fmt::Debug for Run<I, J, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

/// A closure that rewrites a batch with the student as it is, at a progress from 0 to 1.
pub(crate) type Rewrite<I, J, S> =
    dyn Fn(&S, DistillBatch<I, J>, f64) -> DistillBatch<I, J> + Send + Sync;

/// A teacher on some devices.
type OnDevices<J> = Vec<(Device, Arc<dyn Teacher<J>>)>;

/// A batch that the student writes, and the teacher that is asked about it.
pub(crate) struct Rollout<I, J, S> {
    pub rewrite: Arc<Rewrite<I, J, S>>,
    /// `None` where no term needs a teacher.
    pub teacher: Option<Arc<dyn Teacher<J>>>,
    /// The teacher on each device that has asked for it.
    pub on: Mutex<OnDevices<J>>,
}

impl<I, J: 'static, S> Rollout<I, J, S> {
    pub fn teacher_on(&self, device: &Device) -> Option<Arc<dyn Teacher<J>>> {
        let teacher = self.teacher.as_ref()?;
        let mut on = self
            .on
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, found)) = on.iter().find(|(other, _)| other == device) {
            return Some(found.clone());
        }
        let found = teacher.on(device);
        on.push((device.clone(), found.clone()));
        Some(found)
    }
}

/// A slot for the optimizer.
#[derive(Clone, Default)]
pub(crate) struct OptimizerSlot(Arc<Mutex<Option<ModuleOptimizer>>>);

impl OptimizerSlot {
    pub fn take(&self) -> Option<ModuleOptimizer> {
        let mut slot = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        slot.take()
    }

    pub fn put(&self, optimizer: &ModuleOptimizer) {
        let mut slot = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *slot = Some(optimizer.clone());
    }
}

impl<I, J, S: Clone + Module> Clone for Composite<I, J, S> {
    fn clone(&self) -> Self {
        Self {
            student: self.student.clone(),
            modules: self.modules.clone(),
            average: self.average.clone(),
            run: self.run.clone(),
        }
    }
}

impl<I, J, S: Module> Composite<I, J, S> {
    fn each(
        self,
        student: impl FnOnce(S) -> S,
        modules: impl FnOnce(ObjectiveModules) -> ObjectiveModules,
        average: impl FnOnce(Average<S>) -> Average<S>,
    ) -> Self {
        Self {
            student: student(self.student),
            modules: modules(self.modules),
            average: self.average.map(average),
            run: self.run,
        }
    }
}

impl<I, J, S> Module for Composite<I, J, S>
where
    I: std::fmt::Debug,
    J: std::fmt::Debug,
    S: Module,
{
    fn collect_devices(&self, devices: Devices) -> Devices {
        let devices = self.student.collect_devices(devices);
        let devices = self.modules.collect_devices(devices);
        match &self.average {
            Some(average) => average.model.collect_devices(devices),
            None => devices,
        }
    }

    fn fork(self, device: &Device) -> Self {
        self.each(
            |s| s.fork(device),
            |m| m.fork(device),
            |a| a.on(&device.clone().inner()),
        )
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(
            |s| s.to_device(device),
            |m| m.to_device(device),
            |a| a.on(&device.clone().inner()),
        )
    }

    fn train(self) -> Self {
        self.each(Module::train, Module::train, |a| a)
    }

    fn valid(&self) -> Self {
        self.clone().each(|s| s.valid(), |m| m.valid(), |a| a)
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize, Module::materialize, |a| a)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.student.visit(visitor);
        visitor.enter_module(MODULES, "Struct:ObjectiveModules");
        self.modules.visit(visitor);
        visitor.exit_module(MODULES, "Struct:ObjectiveModules");
        if let Some(average) = &self.average {
            visitor.enter_module(AVERAGE, "Struct:Average");
            average.model.visit(visitor);
            visitor.exit_module(AVERAGE, "Struct:Average");
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let student = self.student.map(mapper);
        mapper.enter_module(MODULES, "Struct:ObjectiveModules");
        let modules = self.modules.map(mapper);
        mapper.exit_module(MODULES, "Struct:ObjectiveModules");
        let average = self.average.map(|average| {
            mapper.enter_module(AVERAGE, "Struct:Average");
            let average = average.map(mapper);
            mapper.exit_module(AVERAGE, "Struct:Average");
            average
        });
        Self {
            student,
            modules,
            average,
            run: self.run,
        }
    }
}

impl<I, J, S: Module + ModuleDisplay> ModuleDisplayDefault for Composite<I, J, S> {
    fn content(&self, content: Content) -> Option<Content> {
        content
            .add("student", &self.student)
            .add("modules", &self.modules)
            .optional()
    }
}

impl<I, J, S: Module + ModuleDisplay> ModuleDisplay for Composite<I, J, S> {}

impl<I, J, S: Module + ModuleDisplay> std::fmt::Display for Composite<I, J, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format(Default::default()))
    }
}
