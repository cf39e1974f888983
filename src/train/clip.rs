//! One bound on the gradients of all parameters together.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, MultiGradientsParams};
use burn::tensor::{DType, Device, Tensor};

/// Scales the gradients of a model by one factor, so that their norm over all parameters is at most
/// `bound`.
pub(crate) fn clip<M: Module>(model: &M, grads: GradientsParams, bound: f64) -> GradientsParams {
    let clipped = clip_all(model, vec![grads], bound);
    clipped.into_iter().next().unwrap_or_default()
}

/// The same for gradients that several devices have a part of each: they are summed first.
pub(crate) fn clip_multi<M: Module>(
    model: &M,
    grads: MultiGradientsParams,
    bound: f64,
) -> MultiGradientsParams {
    let devices: Vec<Device> = grads.grads.iter().map(|(_, on)| on.clone()).collect();
    let mut sums = Sums {
        parts: grads,
        sums: devices.iter().map(|_| GradientsParams::new()).collect(),
        devices: &devices,
    };
    model.visit(&mut sums);
    let clipped = clip_all(model, sums.sums, bound);
    MultiGradientsParams {
        grads: clipped.into_iter().zip(devices).collect(),
    }
}

/// Each gradient is in one of `grads`.
fn clip_all<M: Module>(model: &M, grads: Vec<GradientsParams>, bound: f64) -> Vec<GradientsParams> {
    let mut norm = Norm {
        grads: &grads,
        squares: None,
    };
    model.visit(&mut norm);
    let Some(squares) = norm.squares else {
        return grads;
    };
    let norm = squares.sqrt().clamp_min(f32::MIN_POSITIVE);
    let mut scale = Scale {
        factor: (norm.recip() * bound).clamp_max(1.0),
        grads,
    };
    model.visit(&mut scale);
    scale.grads
}

struct Norm<'a> {
    grads: &'a [GradientsParams],
    /// The sum of squares so far, `[1]`, in `f32`.
    squares: Option<Tensor<1>>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut grads = self.grads.iter();
        let Some(grad) = grads.find_map(|grads| grads.get::<D>(param.id)) else {
            return;
        };
        let squares = grad.cast(DType::F32).square().sum();
        self.squares = Some(match self.squares.take() {
            Some(sum) => sum.clone() + squares.to_device(&sum.device()),
            None => squares,
        });
    }
}

struct Scale {
    grads: Vec<GradientsParams>,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        for grads in &mut self.grads {
            if let Some(grad) = grads.remove::<D>(param.id) {
                let factor = self.factor.clone().to_device(&grad.device());
                let factor = factor.cast(grad.dtype()).unsqueeze();
                grads.register(param.id, grad * factor);
            }
        }
    }
}

struct Sums<'a> {
    parts: MultiGradientsParams,
    sums: Vec<GradientsParams>,
    devices: &'a [Device],
}

impl ModuleVisitor for Sums<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some((grad, device)) = self.parts.remove::<D>(param.id) {
            // Where the optimizer looks for it first, so that its state stays.
            let at = self.devices.iter().position(|other| *other == device);
            self.sums[at.unwrap_or_default()].register(param.id, grad);
        }
    }
}
