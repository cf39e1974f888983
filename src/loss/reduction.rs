//! How several values become one.

use serde::{Deserialize, Serialize};

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
