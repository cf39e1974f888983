//! Which optimizer it is: it does not say, so it is asked for a few steps.

use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Tensor, TensorData};

use crate::device::quietly;
use crate::knowledge::format::input::InputSummary;

/// The learning rate of the steps.
const RATE: f64 = 0.1;
/// Clipping shows where gradients are large, an ε and weight decay where they are small.
const SCALES: [f64; 3] = [1e-4, 1.0, 1e3];
/// The gradients of one step after the other, as a fraction of the scale: momentum shows where they differ.
const STEPS: [f64; 3] = [1.0, -0.5, 0.25];

/// How far an optimizer moves parameters of the same names and numbers of axes as a module's, for each of
/// some scales of gradients. One that does not work on small tensors is not known.
pub(crate) fn moves<M: Module>(
    optimizer: &ModuleOptimizer,
    module: &M,
) -> Vec<(String, InputSummary)> {
    let of_scale = |scale: f64| {
        let moved = quietly(|| moved(optimizer.clone(), module.clone(), scale)).ok()?;
        let summary = InputSummary::new(&[moved.len()], moved.into_iter());
        Some((format!("the optimizer at gradients of {scale}"), summary))
    };
    SCALES.into_iter().filter_map(of_scale).collect()
}

fn moved<M: Module>(mut optimizer: ModuleOptimizer, module: M, scale: f64) -> Vec<f64> {
    let mut shrink = Shrink::default();
    let mut small = module.map(&mut shrink);
    let Shrink(trained) = shrink;
    for step in STEPS {
        let mut gradients = Gradients(&trained, GradientsParams::new(), step * scale);
        small.visit(&mut gradients);
        small = optimizer.step(RATE, small, gradients.1);
    }
    let mut moved = Moved(&trained, Vec::new());
    small.visit(&mut moved);
    moved.1
}

/// The value of every parameter before the first step.
const START: f32 = 1.0;

/// Puts two values per axis in the place of every parameter that is trained, and keeps its name. The others
/// stay as they are: clones of a module share running statistics.
#[derive(Default)]
struct Shrink(HashSet<ParamId>);

impl ModuleMapper for Shrink {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        self.0.insert(param.id);
        param.map(|tensor| {
            let start = TensorData::new(vec![START; 1 << D], [2; D]);
            Tensor::from_data(start, &tensor.device())
        })
    }
}

/// Gradients for what is trained, which are not the same in every element.
struct Gradients<'a>(&'a HashSet<ParamId>, GradientsParams, f64);

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.0.contains(&param.id) {
            let values = (0..1 << D).map(|at| (self.2 * (1.0 + f64::from(at) / 8.0)) as f32);
            let values = TensorData::new(values.collect::<Vec<f32>>(), [2; D]);
            let device = param.val().device().inner();
            let gradient = Tensor::<D>::from_data(values, &device);
            self.1.register(param.id, gradient);
        }
    }
}

/// How far each value is from where it was.
struct Moved<'a>(&'a HashSet<ParamId>, Vec<f64>);

impl ModuleVisitor for Moved<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.0.contains(&param.id) {
            let values = param.val().into_data();
            let moved = values.iter::<f64>().map(|value| value - f64::from(START));
            self.1.extend(moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::grad_clipping::GradientClippingConfig;
    use burn::module::ParamGroup;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{AdamConfig, AdamWConfig, SgdConfig};
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn every_setting_of_an_optimizer_shows() {
        let device = Device::flex().autodiff();
        let linear: Linear = LinearConfig::new(30, 20).init(&device);
        let of = |optimizer: ModuleOptimizer| moves(&optimizer, &linear);
        let adam = || AdamConfig::new().with_epsilon(1e-8);
        let sgd = SgdConfig::new;
        let clip = |clipping: GradientClippingConfig| sgd().with_gradient_clipping(Some(clipping));
        let all = [
            of(adam().init()),
            of(adam().with_epsilon(1e-7).init()),
            of(adam().with_beta_1(0.8).init()),
            of(adam().with_beta_2(0.99).init()),
            of(AdamWConfig::new()
                .with_epsilon(1e-8)
                .with_weight_decay(1e-3)
                .init()),
            of(AdamWConfig::new()
                .with_epsilon(1e-8)
                .with_weight_decay(1e-4)
                .init()),
            of(sgd().init()),
            of(clip(GradientClippingConfig::Norm(1.0)).init()),
            of(clip(GradientClippingConfig::Value(1.0)).init()),
            of(sgd()
                .init()
                .with_group(ParamGroup::from_path("bias"), adam().build(), None)),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.len(), SCALES.len());
            for (other_at, other) in all.iter().enumerate() {
                let is_like = one.iter().zip(other).all(|(a, b)| a.1.is_like(&b.1));
                assert_eq!(is_like, at == other_at, "{at} and {other_at}");
            }
        }
    }
}
