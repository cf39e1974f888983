//! How several values become one.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::targets::Weights;
use crate::ops::features::{Elements, Samples};

/// How several values become one: by their mean or by their sum. Each loss that has this parameter says
/// which values these are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reduction {
    /// Their mean. The default.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

impl Reduction {
    /// One value per sample, `[N]`, from those of its elements.
    pub(crate) fn per_sample(self, elements: Elements) -> Tensor<1> {
        match self {
            Self::Mean => elements.means(),
            Self::Sum => elements.sums(None),
        }
    }

    /// The weighted mean over samples of these values.
    pub(crate) fn mean(
        self,
        elements: Elements,
        samples: &Samples,
        weights: Option<&Weights>,
    ) -> Tensor<1> {
        match self {
            Self::Mean => elements.mean(weights),
            Self::Sum => samples.mean(elements.sums(weights)),
        }
    }
}

/// How the difference of two maps or matrices becomes one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceReduction {
    /// The mean of its squares.
    MeanSquare,
    /// Its length, not squared; that of a matrix is its Frobenius norm.
    Norm,
}
