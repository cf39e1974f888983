//! Features: what a model computes on the way to its predictions.

use burn::tensor::{DType, Device, Tensor};

use crate::data::precision::single;

/// An intermediate output of a model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Feature {
    /// `[N, D]`: one vector per sample.
    Rank2(Tensor<2>),
    /// `[N, T, D]`: one vector per token.
    Rank3(Tensor<3>),
    /// `[N, C, H, W]`: feature maps of a convolution.
    Rank4(Tensor<4>),
}

impl Feature {
    /// The shape.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Feature::Rank2(t) => t.dims().to_vec(),
            Feature::Rank3(t) => t.dims().to_vec(),
            Feature::Rank4(t) => t.dims().to_vec(),
        }
    }

    /// The width: the axis that a projector changes, `D` of `[N, D]` and `[N, T, D]`, `C` of
    /// `[N, C, H, W]`.
    pub fn width(&self) -> usize {
        match self {
            Feature::Rank2(t) => t.dims()[1],
            Feature::Rank3(t) => t.dims()[2],
            Feature::Rank4(t) => t.dims()[1],
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            Feature::Rank2(t) => t.dtype(),
            Feature::Rank3(t) => t.dtype(),
            Feature::Rank4(t) => t.dtype(),
        }
    }

    pub(crate) fn in_single(self) -> Self {
        match self {
            Feature::Rank2(t) => Feature::Rank2(single(t)),
            Feature::Rank3(t) => Feature::Rank3(single(t)),
            Feature::Rank4(t) => Feature::Rank4(single(t)),
        }
    }

    /// The first samples.
    pub(crate) fn first(self, samples: usize) -> Self {
        match self {
            Feature::Rank2(t) => Feature::Rank2(t.narrow(0, 0, samples)),
            Feature::Rank3(t) => Feature::Rank3(t.narrow(0, 0, samples)),
            Feature::Rank4(t) => Feature::Rank4(t.narrow(0, 0, samples)),
        }
    }

    pub(crate) fn without_autodiff(self) -> Self {
        match self {
            Feature::Rank2(t) => Feature::Rank2(t.without_autodiff()),
            Feature::Rank3(t) => Feature::Rank3(t.without_autodiff()),
            Feature::Rank4(t) => Feature::Rank4(t.without_autodiff()),
        }
    }

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        match self {
            Feature::Rank2(t) => Feature::Rank2(t.to_device(device)),
            Feature::Rank3(t) => Feature::Rank3(t.to_device(device)),
            Feature::Rank4(t) => Feature::Rank4(t.to_device(device)),
        }
    }
}

impl From<Tensor<2>> for Feature {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Rank2(tensor)
    }
}

impl From<Tensor<3>> for Feature {
    fn from(tensor: Tensor<3>) -> Self {
        Self::Rank3(tensor)
    }
}

impl From<Tensor<4>> for Feature {
    fn from(tensor: Tensor<4>) -> Self {
        Self::Rank4(tensor)
    }
}
