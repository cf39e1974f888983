//! The factor of a loss at a temperature.

use serde::{Deserialize, Serialize};

/// What a loss between softened probabilities is multiplied by.
///
/// Dividing the logits by τ makes a divergence and its gradient smaller, by about τ² once τ is
/// high. Whether a loss takes that back is a convention on which implementations differ, and a
/// frequent reason why a weight does not carry over from one of them to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TemperatureScale {
    /// τ², as in soft targets: the gradient has nearly one size at all temperatures, and a weight
    /// tuned at one holds at another. The default.
    #[default]
    Squared,
    /// Nothing: the bare formula, what trl, distillm and TextBrewer compute.
    None,
}

impl TemperatureScale {
    /// The factor at a temperature.
    pub(crate) fn factor(self, temperature: f64) -> f64 {
        match self {
            Self::Squared => temperature * temperature,
            Self::None => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_each() {
        let read = |name: &str| serde_json::from_value::<TemperatureScale>(name.into());
        assert_eq!(read("squared").unwrap(), TemperatureScale::Squared);
        assert_eq!(read("none").unwrap(), TemperatureScale::None);
        let error = read("cubed").unwrap_err().to_string();
        assert!(error.contains("unknown variant `cubed`"), "{error}");
    }
}
