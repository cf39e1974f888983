//! The networks that turn features into factors.

use burn::module::Module;
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};

use crate::data::targets::Weights;
use crate::error::{Error, Result, check_positive};
use crate::loss::modules::conv_norm::ConvNorm;
use crate::ops::vectors::mean_square;

/// The slope of the activations below zero.
const SLOPE: f64 = 0.1;
const KERNEL: usize = 3;

fn stack(widths: [usize; 4], device: &Device) -> Vec<ConvNorm> {
    let layer = |ends: &[usize]| ConvNorm::new([ends[0], ends[1]], KERNEL, device);
    widths.windows(2).map(layer).collect()
}

fn run(layers: &[ConvNorm], x: Tensor<4>, weights: Option<&Weights>) -> Tensor<4> {
    layers
        .iter()
        .fold(x, |x, layer| leaky_relu(layer.forward(x, weights), SLOPE))
}

/// Turns feature maps of the student into factors: three 3×3 convolutions, each with batch norm and
/// leaky ReLU of slope 0.1.
#[derive(Module, Debug)]
pub(crate) struct Translator {
    layers: Vec<ConvNorm>,
}

impl Translator {
    pub fn new(from: usize, to: usize, device: &Device) -> Self {
        Self {
            layers: stack([from, from, to, to], device),
        }
    }

    /// `[N, C_s, H, W]` to `[N, C_t, H, W]`, with the statistics of the batch by weight.
    pub fn forward(&self, x: Tensor<4>, weights: Option<&Weights>) -> Tensor<4> {
        run(&self.layers, x, weights)
    }

    /// The width of the student's feature and that of the factors.
    #[cfg(test)]
    pub fn widths(&self) -> [usize; 2] {
        let ([from, _], [_, to]) = (self.layers[0].channels(), self.layers[2].channels());
        [from, to]
    }
}

/// Turns feature maps of the teacher into factors, and back: an autoencoder of three and three 3×3
/// convolutions, each with batch norm and leaky ReLU of slope 0.1.
///
/// Train it on the teacher's feature maps alone, without labels and before distilling, in any loop:
/// [`reconstruction`] is what to minimise. Then hand it to
/// [`FactorTransfer::with_paraphraser`](crate::loss::FactorTransfer::with_paraphraser). The way back uses
/// ordinary convolutions where the paper has transposed ones, which at stride 1 compute the same
/// set of functions.
///
/// # Example
///
/// ```
/// use burn::optim::{AdamConfig, GradientsParams};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_distill::Objective;
/// use burn_distill::loss::{FactorTransfer, Paraphraser, reconstruction};
///
/// # fn main() -> burn_distill::Result<()> {
/// let device = Device::flex().autodiff();
/// device.seed(1);
/// let mut paraphraser = Paraphraser::new(4, 0.5, &device)?;
/// let mut optimizer = AdamConfig::new().init();
/// // Stands for the teacher's feature maps, batch by batch.
/// let maps = Tensor::<4>::random([8, 4, 6, 6], Distribution::Normal(0.0, 1.0), &device);
///
/// let mut errors = Vec::new();
/// for _ in 0..20 {
///     let error = reconstruction(paraphraser.reconstruct(maps.clone()), maps.clone());
///     let gradients = GradientsParams::from_grads(error.backward(), &paraphraser);
///     paraphraser = optimizer.step(1e-2, paraphraser, gradients);
///     errors.push(error.into_scalar::<f32>());
/// }
/// assert!(errors[19] < errors[0]);
///
/// let loss = FactorTransfer::new("block2", "block4").with_paraphraser(&paraphraser);
/// Objective::new().with(loss, 1.0).validate()?;
/// # Ok(())
/// # }
/// ```
#[derive(Module, Debug)]
pub struct Paraphraser {
    encoder: Vec<ConvNorm>,
    decoder: Vec<ConvNorm>,
}

impl Paraphraser {
    /// A paraphraser for maps of `width` channels, with factors of `rate · width` channels, rounded
    /// to at least one. RepDistiller and torchdistill use 0.5.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if the width is 0, or the rate is not a number greater than 0.
    pub fn new(width: usize, rate: f64, device: &Device) -> Result<Self> {
        if width == 0 {
            return Err(Error::invalid("paraphraser.width", width, "at least 1"));
        }
        check_positive("paraphraser.rate", rate)?;
        let factors = ((width as f64 * rate).round() as usize).max(1);
        Ok(Self {
            encoder: stack([width, width, factors, factors], device),
            decoder: stack([factors, factors, width, width], device),
        })
    }

    /// The factors of maps, `[N, C, H, W]` to `[N, rate·C, H, W]`.
    ///
    /// # Panics
    ///
    /// Panics if the maps have another width than the paraphraser.
    pub fn factor(&self, maps: Tensor<4>) -> Tensor<4> {
        run(&self.encoder, maps, None)
    }

    /// What comes back from the factors of maps, in the shape of the maps.
    ///
    /// # Panics
    ///
    /// Panics if the maps have another width than the paraphraser.
    pub fn reconstruct(&self, maps: Tensor<4>) -> Tensor<4> {
        run(&self.decoder, self.factor(maps), None)
    }

    /// The width of the maps that it is for.
    pub fn width(&self) -> usize {
        self.encoder[0].channels()[0]
    }

    /// The width of the factors.
    pub fn factor_width(&self) -> usize {
        self.encoder[2].channels()[1]
    }

    /// Itself as a constant, sharing nothing that changes.
    pub(crate) fn frozen(&self) -> Self {
        self.valid()
    }

    /// [`factor`](Self::factor) on the device of the maps.
    pub(crate) fn factor_on_device(&self, maps: Tensor<4>) -> Tensor<4> {
        let device = maps.device();
        match self.devices().contains(&device) {
            true => self.factor(maps),
            // A copy whose statistics are its own: moving would move those of every clone.
            false => self.valid().fork(&device).factor(maps),
        }
    }
}

/// The error of a [`Paraphraser`], the mean squared difference between feature maps and what comes
/// back from their factors.
///
/// ```text
/// L(f̂, f) = (1/N) Σ_n (1/D) ‖ f̂ − f ‖²
///
/// f   feature maps of the teacher      f̂   what comes back      D   elements of one sample's maps
/// ```
///
/// The paper writes the sum of the squares, which differs by the constant `D`.
///
/// # Shapes
///
/// - reconstructed, maps: `[N, C, H, W]`
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂f̂ = 2 (f̂ − f) / (N·D)`; none towards the maps.
///
/// # Panics
///
/// Panics if the shapes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::reconstruction;
///
/// let device = Device::flex();
/// let maps = Tensor::<4>::full([1, 2, 3, 3], 2.0, &device);
/// let loss = reconstruction(maps.clone() * 1.5, maps);
/// assert_eq!(loss.into_scalar::<f32>(), 1.0);
/// ```
///
/// # References
///
/// Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer, 2018,
/// arXiv:1802.04977.
#[must_use]
pub fn reconstruction(reconstructed: Tensor<4>, maps: Tensor<4>) -> Tensor<1> {
    assert_eq!(
        reconstructed.dims(),
        maps.dims(),
        "maps and their reconstruction have one shape"
    );
    mean_square(reconstructed - maps.without_autodiff()).mean()
}
