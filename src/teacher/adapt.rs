//! A model whose type comes from another crate, adapted by a closure.

use std::ops::Deref;
use std::sync::Arc;

use burn::module::{
    Content, Devices, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor,
};
use burn::tensor::Device;

use crate::data::distillable::Distillable;
use crate::data::outputs::Outputs;

/// A model with a closure that says what its outputs are; see [`adapt`].
pub struct Adapted<M, F> {
    model: M,
    outputs: Arc<F>,
}

/// Adapts a module whose type comes from another crate, for which you cannot implement
/// [`Distillable`]: a closure runs it on an input and says what its [`Outputs`] are.
///
/// It is transparent: parameters have the paths of the model itself, so what is saved of one loads into
/// the other, and the model comes back by [`into_inner`](Adapted::into_inner).
///
/// # Example
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::{Distillable, Outputs, adapt};
///
/// let linear: Linear = LinearConfig::new(4, 3).init(&Device::flex()); // a type of Burn's
/// let model = adapt(linear, |linear: &Linear, x: Tensor<2>| Outputs::new(linear.forward(x)));
/// let outputs = model.outputs(Tensor::zeros([2, 4], &Device::flex()));
/// assert_eq!(outputs.logits().dims(), [2, 3]);
/// let linear: Linear = model.into_inner();
/// assert_eq!(linear.weight.dims(), [4, 3]);
/// ```
pub fn adapt<M, I, F>(model: M, outputs: F) -> Adapted<M, F>
where
    F: Fn(&M, I) -> Outputs + Send + Sync + 'static,
{
    Adapted {
        model,
        outputs: Arc::new(outputs),
    }
}

impl<M, F> Adapted<M, F> {
    /// The model itself.
    pub fn into_inner(self) -> M {
        self.model
    }

    fn with(&self, model: M) -> Self {
        Self {
            model,
            outputs: self.outputs.clone(),
        }
    }
}

impl<M, F> Deref for Adapted<M, F> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<I, M, F> Distillable<I> for Adapted<M, F>
where
    M: Module + ModuleDisplay + Sync + 'static,
    F: Fn(&M, I) -> Outputs + Send + Sync + 'static,
{
    fn outputs(&self, input: I) -> Outputs {
        (self.outputs)(&self.model, input)
    }
}

impl<M: Clone, F> Clone for Adapted<M, F> {
    fn clone(&self) -> Self {
        self.with(self.model.clone())
    }
}

impl<M: std::fmt::Debug, F> std::fmt::Debug for Adapted<M, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.model.fmt(f)
    }
}

impl<M: Module, F: Send + Sync> Module for Adapted<M, F> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.model.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        let Self { model, outputs } = self;
        Self {
            model: model.fork(device),
            outputs,
        }
    }

    fn to_device(self, device: &Device) -> Self {
        let Self { model, outputs } = self;
        Self {
            model: model.to_device(device),
            outputs,
        }
    }

    fn train(self) -> Self {
        let Self { model, outputs } = self;
        Self {
            model: model.train(),
            outputs,
        }
    }

    fn valid(&self) -> Self {
        self.with(self.model.valid())
    }

    fn materialize(self) -> Self {
        let Self { model, outputs } = self;
        Self {
            model: model.materialize(),
            outputs,
        }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.model.visit(visitor);
    }

    fn map<T: ModuleMapper>(self, mapper: &mut T) -> Self {
        let Self { model, outputs } = self;
        Self {
            model: model.map(mapper),
            outputs,
        }
    }
}

impl<M: Module + ModuleDisplay, F> ModuleDisplayDefault for Adapted<M, F> {
    fn content(&self, content: Content) -> Option<Content> {
        self.model.content(content)
    }

    fn num_params(&self) -> usize {
        Module::num_params(&self.model)
    }
}

impl<M: Module + ModuleDisplay, F> ModuleDisplay for Adapted<M, F> {
    fn format(&self, settings: DisplaySettings) -> String {
        self.model.format(settings)
    }
}
