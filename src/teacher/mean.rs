//! A teacher that is the moving average of its student's weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::container::TensorContainer;
use burn::tensor::{Device, Tensor};

/// The moving average of a student's weights.
///
/// Unlike any other teacher it changes with every step, so it is part of a checkpoint; no optimizer moves
/// it, since no gradient reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Average<T> {
    pub model: T,
    decay: f64,
}

impl<T: Module> Average<T> {
    /// Starts at the weights of a copy of the student.
    pub fn new(copy: &T, decay: f64) -> Self {
        Self {
            model: copy.valid().map(&mut Renamed),
            decay,
        }
    }

    /// The same on a device.
    pub fn on(self, device: &Device) -> Self {
        Self {
            model: self.model.to_device(device),
            ..self
        }
    }

    /// The same with its parameters mapped.
    pub fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self {
            model: self.model.map(mapper),
            ..self
        }
    }

    /// Moves towards the student: `average ← decay · average + (1 − decay) · student`.
    pub fn follow<S: Module>(self, student: &S) -> Self {
        let mut weights = Weights::default();
        // Running statistics show their last update only in a snapshot.
        student.valid().visit(&mut weights);
        weights.next = 0;
        let mut blend = Blend {
            weights,
            decay: self.decay,
        };
        Self {
            model: self.model.map(&mut blend),
            decay: self.decay,
        }
    }
}

/// Gives every parameter an identity of its own: gradients and optimizer states are kept by
/// identity, and the student has the old ones.
struct Renamed;

impl ModuleMapper for Renamed {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        Param::initialized(ParamId::new(), param.val())
    }
}

/// The float parameters of a module, numbered in the order of a visit.
#[derive(Default)]
struct Weights {
    tensors: TensorContainer<usize>,
    next: usize,
}

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().without_autodiff();
        self.tensors.register(self.next, tensor);
        self.next += 1;
    }
}

struct Blend {
    weights: Weights,
    decay: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new = self.weights.tensors.remove::<Tensor<D>>(&self.weights.next);
        let new = new.expect("both are modules of one type");
        self.weights.next += 1;
        param.map(|average| {
            let new = new.to_device(&average.device());
            average * self.decay + new * (1.0 - self.decay)
        })
    }
}
