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
