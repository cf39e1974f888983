//! What a model predicts: a head, and the three forms of its logits.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::output_layer::OutputLayer;
use crate::data::precision::single;
use crate::data::rows::rows;
use crate::data::top_k::TopK;

/// A prediction of a model, one line per row.
///
/// A *row* is what one line stands for: a sample, a token, a pixel, an anchor. The kind of a head
/// decides which losses fit it and which numbers are reported of it.
// A model has a few heads at most: there is nothing that a box would make smaller.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Head {
    /// One of `C` classes per row.
    Categorical(Logits),
    /// `L` independent yes-or-no logits per row, `[rows, L]`; `L = 1` is a binary classifier.
    Binary(Tensor<2>),
    /// `V` real values per row, `[rows, V]`: a regression, boxes, an embedding.
    Continuous(Tensor<2>),
}

/// The logits of a [categorical head](Head::Categorical): dense, yet to be computed, or the `k` largest.
#[allow(clippy::large_enum_variant)] // As of a head.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Logits {
    /// `[rows, classes]`.
    Dense(Tensor<2>),
    /// Hidden states and the layer that makes logits of them, never materialised as a whole.
    Projected(OutputLayer),
    /// The `k` classes that are known of a recorded or remote teacher.
    TopK(TopK),
}

/// The kind of a [`Head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeadKind {
    /// One of several classes per row.
    Categorical,
    /// Independent yes-or-no answers per row.
    Binary,
    /// Real values per row.
    Continuous,
}

impl std::fmt::Display for HeadKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Categorical => "categorical",
            Self::Binary => "binary",
            Self::Continuous => "continuous",
        })
    }
}

impl Head {
    /// The kind of the head.
    pub fn kind(&self) -> HeadKind {
        match self {
            Self::Categorical(_) => HeadKind::Categorical,
            Self::Binary(_) => HeadKind::Binary,
            Self::Continuous(_) => HeadKind::Continuous,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.shape()[0]
    }

    /// The number of classes, labels or values per row.
    pub fn width(&self) -> usize {
        self.shape()[1]
    }

    /// `[rows, width]`, whether or not the numbers are in memory.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Categorical(logits) => logits.shape(),
            Self::Binary(x) | Self::Continuous(x) => x.dims(),
        }
    }

    /// The numbers as a tensor, `[rows, width]`. A projection is computed, and of top-k logits the
    /// classes left out share the tail probability evenly.
    pub fn tensor(&self) -> Tensor<2> {
        match self {
            Self::Categorical(logits) => logits.dense(),
            Self::Binary(x) | Self::Continuous(x) => x.clone(),
        }
    }

    /// The logits of a categorical head.
    pub fn logits(&self) -> Option<&Logits> {
        match self {
            Self::Categorical(logits) => Some(logits),
            _ => None,
        }
    }

    pub(crate) fn is_half(&self) -> bool {
        let is_half = |x: &Tensor<2>| matches!(x.dtype(), DType::F16 | DType::BF16);
        match self {
            Self::Categorical(Logits::Dense(x)) | Self::Binary(x) | Self::Continuous(x) => {
                is_half(x)
            }
            // A projection computes in single precision by itself; top-k logits are in it.
            Self::Categorical(_) => false,
        }
    }

    /// The head with each of its tensors changed, where it holds the numbers themselves.
    pub(crate) fn map(self, change: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        match self {
            Self::Categorical(Logits::Dense(x)) => Self::Categorical(Logits::Dense(change(x))),
            Self::Binary(x) => Self::Binary(change(x)),
            Self::Continuous(x) => Self::Continuous(change(x)),
            other => other,
        }
    }

    pub(crate) fn in_single(self) -> Self {
        self.map(single)
    }

    pub(crate) fn without_autodiff(self) -> Self {
        match self {
            Self::Categorical(Logits::Projected(layer)) => {
                Self::Categorical(Logits::Projected(layer.without_autodiff()))
            }
            other => other.map(Tensor::without_autodiff),
        }
    }

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        match self {
            Self::Categorical(Logits::Projected(layer)) => {
                Self::Categorical(Logits::Projected(layer.moved_to(device)))
            }
            Self::Categorical(Logits::TopK(top_k)) => {
                Self::Categorical(Logits::TopK(top_k.moved_to(device)))
            }
            other => other.map(|x| x.to_device(device)),
        }
    }

    /// A run of rows.
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Categorical(logits) => Self::Categorical(logits.slice(rows)),
            other => other.clone().map(|x| x.slice(rows)),
        }
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Categorical(logits) => logits.device(),
            Self::Binary(x) | Self::Continuous(x) => x.device(),
        }
    }
}

impl Logits {
    /// `[rows, classes]`, whether or not the numbers are in memory.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(x) => x.dims(),
            Self::Projected(layer) => layer.shape(),
            Self::TopK(top_k) => [top_k.indices.dims()[0], top_k.classes],
        }
    }

    /// All of them, `[rows, classes]`. A projection is computed; of top-k logits, the classes left out
    /// share the tail probability evenly.
    pub fn dense(&self) -> Tensor<2> {
        match self {
            Self::Dense(x) => x.clone(),
            Self::Projected(layer) => layer.logits(),
            Self::TopK(top_k) => top_k.dense(),
        }
    }

    /// The rows with these numbers.
    pub(crate) fn select(self, rows: &Tensor<1, Int>) -> Self {
        match self {
            Self::Dense(x) => Self::Dense(x.select(0, rows.clone())),
            Self::Projected(layer) => Self::Projected(layer.select(rows)),
            Self::TopK(top_k) => Self::TopK(top_k.select(rows)),
        }
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Dense(x) => x.device(),
            Self::Projected(layer) => layer.hidden().device(),
            Self::TopK(top_k) => top_k.log_probs.device(),
        }
    }

    /// A run of rows.
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Dense(x) => Self::Dense(x.clone().slice(rows)),
            Self::Projected(layer) => Self::Projected(layer.slice(rows)),
            Self::TopK(top_k) => Self::TopK(top_k.slice(rows)),
        }
    }
}

impl<const D: usize> From<Tensor<D>> for Logits {
    /// Logits of rank 2 or more, the classes on the last axis; the leading axes are flattened to rows.
    ///
    /// # Panics
    ///
    /// Panics if the tensor has rank 1.
    fn from(logits: Tensor<D>) -> Self {
        assert!(D >= 2, "logits have a row and a class axis, got rank {D}");
        Self::Dense(rows(logits))
    }
}

impl From<OutputLayer> for Logits {
    fn from(layer: OutputLayer) -> Self {
        Self::Projected(layer)
    }
}

impl From<TopK> for Logits {
    fn from(top_k: TopK) -> Self {
        Self::TopK(top_k)
    }
}

impl<const D: usize> From<Tensor<D>> for Head {
    /// A categorical head; see [`Logits`] for the axes.
    fn from(logits: Tensor<D>) -> Self {
        Self::Categorical(logits.into())
    }
}

impl From<Logits> for Head {
    fn from(logits: Logits) -> Self {
        Self::Categorical(logits)
    }
}

impl From<OutputLayer> for Head {
    fn from(layer: OutputLayer) -> Self {
        Self::Categorical(layer.into())
    }
}

impl From<TopK> for Head {
    fn from(top_k: TopK) -> Self {
        Self::Categorical(top_k.into())
    }
}
