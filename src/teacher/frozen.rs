use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

use crate::{Distillable, Outputs};

/// A module that teaches and never learns.
///
/// It is in inference mode for good: dropout is off, batch normalisation uses its running
/// statistics and leaves them alone. As part of another module it shows no parameters, so no
/// optimizer touches it, no record or checkpoint holds it and no parameter count includes it. It
/// follows when training moves to another device, always outside autodiff, so that no graph is
/// recorded for it.
///
/// # Example
///
/// ```
/// use burn::module::Module;
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_distill::Frozen;
///
/// let teacher = LinearConfig::new(10, 2).init(&Device::flex());
/// assert_eq!(teacher.num_params(), 22);
/// assert_eq!(Frozen::new(teacher).num_params(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Frozen<T> {
    teacher: T,
}

impl<T: Module> Frozen<T> {
    /// Freezes a module. The module given is not changed: its copy shares the weights, which
    /// nothing writes to.
    pub fn new(teacher: T) -> Self {
        Self {
            teacher: teacher.valid(),
        }
    }

    /// The module, in inference mode.
    pub fn inner(&self) -> &T {
        &self.teacher
    }

    /// Hands the module back, in inference mode.
    pub fn into_inner(self) -> T {
        self.teacher
    }

    /// What the teacher says about an input: constants, whatever the input's device.
    pub fn outputs<I: Module>(&self, input: &I) -> Outputs
    where
        T: Distillable<I>,
    {
        self.teacher.outputs(input.valid()).without_autodiff()
    }
}

impl<T: Module> Module for Frozen<T> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.teacher.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self {
            teacher: self.teacher.fork(&device.clone().inner()),
        }
    }

    fn to_device(self, device: &Device) -> Self {
        Self {
            teacher: self.teacher.to_device(&device.clone().inner()),
        }
    }

    fn train(self) -> Self {
        self
    }

    fn valid(&self) -> Self {
        self.clone()
    }

    fn materialize(self) -> Self {
        Self {
            teacher: self.teacher.materialize(),
        }
    }

    fn visit<V: ModuleVisitor>(&self, _visitor: &mut V) {}

    fn map<M: ModuleMapper>(self, _mapper: &mut M) -> Self {
        self
    }
}

impl<T: Module + ModuleDisplay> ModuleDisplayDefault for Frozen<T> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_single(&self.teacher).optional()
    }
}

impl<T: Module + ModuleDisplay> ModuleDisplay for Frozen<T> {}
