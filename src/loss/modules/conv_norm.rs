//! A convolution with batch norm whose statistics leave out the samples that do not count.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::module::batch_norm;
use burn::tensor::{Bool, Device, Tensor};

use crate::ops::vectors::mask_rows;

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

    /// `[N, C_in, H, W]` to `[N, C_out, H, W]`. Samples that the mask leaves out do not enter the
    /// statistics; their input is to be finite.
    pub fn forward(&self, x: Tensor<4>, mask: Option<&Tensor<1, Bool>>) -> Tensor<4> {
        let x = self.conv.forward(x);
        match mask {
            Some(mask) if x.is_autodiff() && self.norm.training.is_enabled() => {
                self.normalise(x, mask)
            }
            _ => self.norm.forward(x),
        }
    }

    /// What batch norm does in training, over the samples that count.
    fn normalise(&self, x: Tensor<4>, mask: &Tensor<1, Bool>) -> Tensor<4> {
        let norm = &self.norm;
        let [_, channels, height, width] = x.dims();
        let ignored = mask.clone().bool_not();
        let samples = mask.clone().int().sum().float().cast(x.dtype());
        let count = (samples.clone() * (height * width) as f64).clamp_min(1.0);
        let mean_of = |x: Tensor<4>| {
            let sum: Tensor<1> = mask_rows(x, &ignored).sum_dims_squeeze(&[0, 2, 3]);
            sum / count.clone()
        };

        let mean = mean_of(x.clone());
        let centred = x.clone() - mean.clone().reshape([1, channels, 1, 1]);
        let variance = mean_of(centred.clone() * centred);

        // Where no sample counts there is nothing to learn.
        let pace = samples.clamp_max(1.0) * norm.momentum;
        let running = [(&norm.running_mean, &mean), (&norm.running_var, &variance)];
        for (state, seen) in running {
            let old = state.value_sync().to_device(&x.device());
            let step = (seen.clone() - old.clone()) * pace.clone();
            state.update((old + step).detach());
        }
        let (gamma, beta) = (norm.gamma.val(), norm.beta.val());
        batch_norm(x, gamma, beta, mean, variance, norm.epsilon)
    }

    /// How many channels come in and go out.
    pub fn channels(&self) -> [usize; 2] {
        let [to, from, _, _] = self.conv.weight.val().dims();
        [from, to]
    }

    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        let [from, to] = self.channels();
        let [kernel, _] = self.conv.kernel_size;
        format!("conv {kernel}x{kernel} {from} -> {to} + batch norm")
    }
}

#[cfg(test)]
#[path = "../tests/conv_norm.rs"]
mod tests;
