//! A convolution with batch norm whose statistics are weighted.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::module::batch_norm;
use burn::tensor::{Device, Tensor};

use crate::data::targets::{Weights, from_bool};
use crate::ops::vectors::or_one;

/// A convolution without bias that keeps height and width, then batch norm.
#[derive(Module, Debug)]
pub(crate) struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// A square kernel of odd size, from so many channels to so many.
    pub fn new(channels: [usize; 2], kernel: usize, device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new(channels, [kernel, kernel])
                .with_padding(PaddingConfig2d::Same)
                .with_bias(false)
                .init(device),
            norm: BatchNormConfig::new(channels[1]).init(device),
        }
    }

    /// `[N, C_in, H, W]` to `[N, C_out, H, W]`. Samples and positions enter the statistics by their
    /// weight; where it is zero, the input is to be finite.
    pub fn forward(&self, x: Tensor<4>, weights: Option<&Weights>) -> Tensor<4> {
        let x = self.conv.forward(x);
        match weights {
            Some(weights) if x.is_autodiff() && self.norm.training.is_enabled() => {
                self.normalise(x, weights)
            }
            _ => self.norm.forward(x),
        }
    }

    /// What batch norm does in training, with weighted means.
    fn normalise(&self, x: Tensor<4>, weights: &Weights) -> Tensor<4> {
        let norm = &self.norm;
        let [samples, channels, height, width] = x.dims();
        let weights = weights.by_position(samples, [height, width]);
        let weights: Tensor<4> = weights.cast(x.dtype()).unsqueeze_dim(1);
        let total: Tensor<1> = weights.clone().sum();
        let mean_of = |x: Tensor<4>| {
            let sum: Tensor<1> = (x * weights.clone()).sum_dims_squeeze(&[0, 2, 3]);
            sum / or_one(total.clone())
        };

        let mean = mean_of(x.clone());
        let centred = x.clone() - mean.clone().reshape([1, channels, 1, 1]);
        let variance = mean_of(centred.clone() * centred);

        // Where all weights are zero there is nothing to learn.
        let is_any = from_bool(total.clone().greater_elem(0.0)).cast(x.dtype());
        let pace = is_any * norm.momentum;
        let running = [(&norm.running_mean, &mean), (&norm.running_var, &variance)];
        for (state, seen) in running {
            let old = state.value_sync().to_device(&x.device());
            let step = (seen.clone() - old.clone()) * pace.clone();
            state.update((old + step).detach());
        }
        let (gamma, beta) = (norm.gamma.val(), norm.beta.val());
        batch_norm(x, gamma, beta, mean, variance, norm.epsilon)
    }

    /// The number of channels in and out.
    pub fn channels(&self) -> [usize; 2] {
        let [to, from, _, _] = self.conv.weight.val().dims();
        [from, to]
    }
}

#[cfg(test)]
#[path = "../tests/conv_norm.rs"]
mod tests;
