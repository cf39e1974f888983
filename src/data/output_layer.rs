//! The last layer of a language model, whose logits are too many to be in memory at once.

use std::ops::Range;

use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor};

use crate::data::precision::single;
use crate::data::rows::rows;

/// Hidden states and the layer that makes logits of them: `z = cap · tanh(s · (h·W + b) / cap)`, where
/// a scale `s` and a soft cap are optional.
///
/// With a vocabulary of 128,256 entries the logits of 4,096 tokens are 2.1 GB in single precision, and
/// distillation needs three of that size. A head that is given as its output layer trains and is
/// measured a chunk of rows at a time. Use it wherever the vocabulary is larger than the model is wide.
///
/// Products of half-precision models are accumulated, and their logits kept, in single precision.
///
/// # Shapes
///
/// - hidden states: `[rows, D]`, or of a higher rank such as `[batch, tokens, D]`
/// - weight: `[D, V]`; bias: `[V]`
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::{OutputLayer, Outputs};
///
/// let device = Device::flex();
/// let hidden = Tensor::<2>::from_floats([[1.0, 2.0]], &device);
/// let weight = Tensor::<2>::from_floats([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], &device);
/// let outputs = Outputs::new(OutputLayer::new(hidden, weight).with_scale(0.5));
/// outputs.logits().into_data().assert_eq(&[[0.5f32, 1.0, 1.5]].into(), true);
/// ```
#[derive(Debug, Clone)]
pub struct OutputLayer {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    scale: f64,
    soft_cap: Option<f64>,
}

impl OutputLayer {
    /// Hidden states, `[rows, D]` or of a higher rank, whose leading axes are flattened to rows, and a
    /// weight, `[D, V]`, as [`Linear`] has it. Where the layer shares the weight of an embedding,
    /// `[V, D]`, that is `embedding.weight.val().transpose()`.
    ///
    /// # Panics
    ///
    /// Panics if `hidden` has rank 1, or is not as wide as the weight is high.
    pub fn new<const R: usize>(hidden: Tensor<R>, weight: Tensor<2>) -> Self {
        assert!(
            R >= 2,
            "hidden states have a row and a feature axis, got rank {R}"
        );
        let hidden = rows(hidden);
        assert_eq!(
            hidden.dims()[1],
            weight.dims()[0],
            "hidden states are as wide as the weight is high"
        );
        Self {
            hidden,
            weight,
            bias: None,
            scale: 1.0,
            soft_cap: None,
        }
    }

    /// Hidden states with weight and bias of a [`Linear`].
    ///
    /// # Panics
    ///
    /// Panics if `hidden` has rank 1, or is not as wide as the layer's input.
    pub fn linear<const R: usize>(hidden: Tensor<R>, layer: &Linear) -> Self {
        let plain = Self::new(hidden, layer.weight.val());
        match &layer.bias {
            Some(bias) => plain.with_bias(bias.val()),
            None => plain,
        }
    }

    /// Adds a bias, `[V]`.
    ///
    /// # Panics
    ///
    /// Panics if the bias is not as long as the weight is wide.
    #[must_use]
    pub fn with_bias(mut self, bias: Tensor<1>) -> Self {
        assert_eq!(
            bias.dims()[0],
            self.weight.dims()[1],
            "the bias is as long as the weight is wide"
        );
        self.bias = Some(bias);
        self
    }

    /// Sets a factor of the logits, applied before the soft cap.
    #[must_use]
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets a soft cap: logits become `cap · tanh(z / cap)`, which stays within ±cap.
    ///
    /// # Panics
    ///
    /// Panics if the cap is not greater than 0.
    #[must_use]
    pub fn with_soft_cap(mut self, cap: f64) -> Self {
        assert!(cap > 0.0, "a soft cap is greater than 0, got {cap}");
        self.soft_cap = Some(cap);
        self
    }

    /// `[rows, V]`
    pub fn shape(&self) -> [usize; 2] {
        [self.hidden.dims()[0], self.weight.dims()[1]]
    }

    /// All logits, `[rows, V]`, in single precision at least.
    pub fn logits(&self) -> Tensor<2> {
        let z = single(self.hidden.clone()).matmul(single(self.weight.clone()));
        self.finished(z)
    }

    /// What follows the product: bias, scale, cap.
    pub(crate) fn finished(&self, z: Tensor<2>) -> Tensor<2> {
        let z = match &self.bias {
            Some(bias) => z + single(bias.clone()).unsqueeze(),
            None => z,
        };
        let z = match self.scale {
            1.0 => z,
            scale => z * scale,
        };
        match self.soft_cap {
            Some(cap) => (z / cap).tanh() * cap,
            None => z,
        }
    }

    /// The gradient at `h·W + b` from the gradient at the finished logits.
    pub(crate) fn through_finish(&self, gradient: Tensor<2>, logits: &Tensor<2>) -> Tensor<2> {
        let gradient = match self.soft_cap {
            // d/dz cap·tanh(z/cap) = 1 − tanh²
            Some(cap) => {
                let tanh = logits.clone() / cap;
                gradient * (tanh.clone() * tanh).neg().add_scalar(1.0)
            }
            None => gradient,
        };
        match self.scale {
            1.0 => gradient,
            scale => gradient * scale,
        }
    }

    /// Whether anything of it takes part in a graph.
    pub(crate) fn is_tracked(&self) -> bool {
        let bias = self.bias.as_ref().is_some_and(Tensor::is_tracked);
        self.hidden.is_tracked() || self.weight.is_tracked() || bias
    }

    pub(crate) fn hidden(&self) -> &Tensor<2> {
        &self.hidden
    }

    pub(crate) fn weight(&self) -> &Tensor<2> {
        &self.weight
    }

    pub(crate) fn bias(&self) -> Option<&Tensor<1>> {
        self.bias.as_ref()
    }

    /// The same layer at other hidden states.
    pub(crate) fn with_hidden(self, hidden: Tensor<2>) -> Self {
        Self { hidden, ..self }
    }

    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        Self {
            hidden: self.hidden.clone().slice(rows),
            ..self.clone()
        }
    }

    /// The layer of the rows with these numbers.
    pub(crate) fn select(self, rows: &Tensor<1, burn::tensor::Int>) -> Self {
        Self {
            hidden: self.hidden.select(0, rows.clone()),
            ..self
        }
    }

    /// Only the classes below a number.
    pub(crate) fn truncated(&self, classes: usize) -> Self {
        Self {
            weight: self.weight.clone().narrow(1, 0, classes),
            bias: self.bias.clone().map(|bias| bias.narrow(0, 0, classes)),
            ..self.clone()
        }
    }

    /// Weights in single precision, converted once for all chunks.
    pub(crate) fn in_single(self) -> Self {
        match self.weight.dtype() {
            DType::F16 | DType::BF16 => Self {
                weight: single(self.weight),
                bias: self.bias.map(single),
                ..self
            },
            _ => self,
        }
    }

    pub(crate) fn without_autodiff(self) -> Self {
        Self {
            hidden: self.hidden.without_autodiff(),
            weight: self.weight.without_autodiff(),
            bias: self.bias.map(Tensor::without_autodiff),
            ..self
        }
    }

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        Self {
            hidden: self.hidden.to_device(device),
            weight: self.weight.to_device(device),
            bias: self.bias.map(|bias| bias.to_device(device)),
            ..self
        }
    }
}
