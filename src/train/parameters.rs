//! What is done to all parameters of a model before it trains.

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, GradientCheckpointingStrategy, Int, Tensor};

/// Touches every parameter, which initialises it.
pub(crate) struct ForceInit;

impl ModuleVisitor for ForceInit {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        param.val();
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        param.val();
    }
}

/// Marks parameters for gradient checkpointing, which a tensor and not only its device decides.
pub(crate) struct Recompute;

impl ModuleMapper for Recompute {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let strategy = GradientCheckpointingStrategy::Balanced;
        param.map(|tensor| tensor.with_gradient_checkpointing_strategy(strategy))
    }
}
