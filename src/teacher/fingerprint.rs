//! Which teacher it is: a digest of its weights.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use xxhash_rust::xxh3::Xxh3Default;

/// A digest of a module's parameters: their shapes, types and numbers, in the order of its fields.
///
/// Two modules have the same one if they have the same weights, wherever they are. Names are not part of
/// it, nor is what is no parameter, such as a dropout rate. Only a teacher made of
/// [a closure](crate::teacher_fn), which has no parameters, is known by its name.
///
/// # Example
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_distill::knowledge::fingerprint;
///
/// let layer = |width| LinearConfig::new(width, 2).init(&Device::flex());
/// let (one, other) = (layer(3), layer(3));
/// assert_eq!(fingerprint(&one), fingerprint(&one.clone()));
/// assert_ne!(fingerprint(&one), fingerprint(&other));
/// ```
pub fn fingerprint<M: Module>(module: &M) -> String {
    let mut digest = Digest(Xxh3Default::new());
    module.visit(&mut digest);
    format!("{:032x}", digest.0.digest128())
}

/// The type, as a visitor sees it, of a module whose name stands for parameters that it does not have.
pub(crate) const NAMED: &str = "Named";

struct Digest(Xxh3Default);

impl Digest {
    fn add(&mut self, data: &TensorData) {
        self.0
            .update(format!("{:?}{:?}", data.shape(), data.dtype()).as_bytes());
        self.0.update(data.as_bytes());
    }
}

impl ModuleVisitor for Digest {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if container_type == NAMED {
            self.0.update(name.as_bytes());
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(&param.val().into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(&param.val().into_data());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(&param.val().into_data());
    }
}
