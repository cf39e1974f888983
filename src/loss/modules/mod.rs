//! What losses train: everything that is optimised and checkpointed with a student and never part of
//! the student that is handed back.

pub(crate) mod conv_norm;
pub(crate) mod fusion;
pub(crate) mod contrast;
pub(crate) mod projector;
pub(crate) mod translator;

use std::any::type_name;

use burn::module::{
    Content, Devices, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor,
};
use burn::tensor::Device;

use crate::data::erased::{ErasedModule, map, visit};

/// The auxiliary modules of one loss, of whatever type: a projector, a memory, a head of your own.
///
/// A loss makes them once, before training, in [`Loss::modules`](crate::loss::Loss::modules), and gets
/// them back with every step as [`LossContext::modules`](crate::loss::LossContext::modules). They are
/// optimised and checkpointed with the student.
///
/// # Example
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_distill::loss::LossModules;
///
/// let modules = LossModules::new(LinearConfig::new(4, 2).init(&Device::flex()));
/// assert_eq!(modules.num_params(), 10);
/// let linear: &Linear = modules.get();
/// assert_eq!(linear.weight.dims(), [4, 2]);
/// ```
#[derive(Debug)]
pub struct LossModules(Box<dyn ErasedModule>);

impl LossModules {
    /// Hides the type of a module.
    pub fn new<M: Module + ModuleDisplay + Sync + 'static>(module: M) -> Self {
        Self(Box::new(module))
    }

    /// The module.
    ///
    /// # Panics
    ///
    /// Panics if it is of another type.
    pub fn get<M: 'static>(&self) -> &M {
        let found = self.0.as_any().downcast_ref();
        found.unwrap_or_else(|| panic!("expected a {}, found {self:?}", type_name::<M>()))
    }

    /// The module, if it is of this type.
    pub fn try_get<M: 'static>(&self) -> Option<&M> {
        self.0.as_any().downcast_ref()
    }
}

impl Clone for LossModules {
    fn clone(&self) -> Self {
        Self(self.0.cloned())
    }
}

impl Module for LossModules {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.0.on_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Self(self.0.forked(device))
    }

    fn to_device(self, device: &Device) -> Self {
        Self(self.0.moved(device))
    }

    fn train(self) -> Self {
        Self(self.0.training())
    }

    fn valid(&self) -> Self {
        Self(self.0.validating())
    }

    fn materialize(self) -> Self {
        Self(self.0.materialized())
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visit(self.0.as_ref(), visitor);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self(map(self.0, mapper))
    }
}

impl ModuleDisplayDefault for LossModules {
    fn content(&self, content: Content) -> Option<Content> {
        self.0.content(content)
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for LossModules {
    fn format(&self, settings: DisplaySettings) -> String {
        self.0.format(settings)
    }
}
