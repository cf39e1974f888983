//! What is recorded of each sample: the part of a store that never changes once the first sample is in.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most classes: indices are handed out as `i32`.
const MOST_CLASSES: usize = 1 << 31;
/// The most draws per row, which bounds the width of a row that is read back.
const MOST_DRAWS: usize = 4096;

/// What a store holds of each sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Which teacher gave this: a fingerprint of its weights, compared as it is.
    pub(crate) teacher: String,
    /// The names of the teacher's heads in their order; empty where there is one, `logits`. The first that
    /// is not among the features is the head whose logits are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) heads: Vec<String>,
    /// The number of logits per row.
    pub(crate) classes: usize,
    /// How the logits are kept.
    pub(crate) logits: LogitsFormat,
    /// The features kept, in the order in which samples give them.
    pub(crate) features: Vec<FeatureFormat>,
    /// The number of views of each sample, 1 where nothing is augmented.
    pub(crate) views: u32,
}

/// The numbers of dense logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogitsPrecision {
    /// Single precision: exact.
    F32,
    /// Half precision: a relative error of at most 2⁻¹¹ for magnitudes from 6.1e-5 to 65504, an
    /// absolute one of at most 2⁻²⁵ below. Larger numbers are refused.
    F16,
    /// The upper half of single precision: a relative error of at most 2⁻⁸ (2⁻⁹ rounded to nearest).
    Bf16,
}

/// The numbers of the log-probabilities of some classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValuePrecision {
    /// Single precision: exact, 4 bytes a class.
    F32,
    /// Half precision, 2 bytes a class: a relative error of the log-probability of at most 2⁻¹¹, so
    /// that probabilities with the rest add up to 1 within 0.5 %.
    F16,
    /// Multiples of this many nats above the least likely of the classes kept, from 0.001 to 5, in as
    /// few bits as their distribution needs.
    ///
    /// Any two log-probabilities of a row differ as they did, within one step. They are put where
    /// probabilities and rest add up to 1, so each is off by at most one step, by half a step where
    /// errors of both signs balance; the divergence lost is about step² / 24 times the mass kept.
    /// Log-probabilities below −87.3, of the least normal number of single precision, count as −87.3.
    Step(f64),
}

/// How logits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case", deny_unknown_fields)]
pub enum LogitsFormat {
    /// All of them, as they are.
    Dense {
        /// Their numbers.
        precision: LogitsPrecision,
    },
    /// The most likely classes of each row, their log-probabilities and the mass of all others.
    TopK {
        /// How many classes.
        k: usize,
        /// The temperature at which the probabilities are taken.
        temperature: f64,
        /// The numbers of the log-probabilities.
        precision: ValuePrecision,
    },
    /// Classes drawn from the distribution of each row, with replacement: an unbiased estimate, of
    /// which the distinct classes and their counts are kept (Anshumann et al., arXiv:2503.16870).
    Sampled {
        /// How many draws, at most 4096.
        draws: usize,
        /// The temperature at which the probabilities are taken.
        temperature: f64,
    },
}

/// The numbers of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeaturePrecision {
    /// Single precision: exact.
    F32,
    /// Half precision: a relative error of at most 2⁻¹¹ (absolute 2⁻²⁵ below 6.1e-5). Numbers beyond
    /// 65504 are refused.
    F16,
    /// One byte a number and a scale for each vector of the last axis: an error of at most 1/254 of
    /// the largest magnitude of the vector.
    Int8,
}

/// How one feature is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeatureFormat {
    /// Its name.
    pub(crate) name: String,
    /// Its shape in one sample, without the axis that varies where one does.
    pub(crate) shape: Vec<usize>,
    /// Whether a first axis, whose size differs from sample to sample, comes before `shape`: tokens.
    pub(crate) varies: bool,
    /// Its numbers.
    pub(crate) precision: FeaturePrecision,
}

impl FeatureFormat {
    /// The numbers of one sample, or of one entry of the axis that varies.
    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// The numbers that share a scale.
    pub(crate) fn vector(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

impl Header {
    /// Checks every range once, so that nothing below has to.
    pub(crate) fn check(&self) -> Result<()> {
        let range = |name: &str, value: &dyn std::fmt::Display, good: bool, expected| {
            if good {
                Ok(())
            } else {
                Err(Error::invalid(name, value, expected))
            }
        };
        let temperature = |value: f64| {
            let good = value.is_finite() && value > 0.0;
            range("knowledge.temperature", &value, good, "a positive number")
        };
        range(
            "knowledge.views",
            &self.views,
            self.views >= 1,
            "at least one",
        )?;
        let classes = self.classes;
        range(
            "knowledge.classes",
            &classes,
            (1..=MOST_CLASSES).contains(&classes),
            "from 1 to 2^31",
        )?;
        if !matches!(self.logits, LogitsFormat::Dense { .. }) {
            range(
                "knowledge.classes",
                &classes,
                classes >= 2,
                "at least two where some of them are kept",
            )?;
        }
        match self.logits {
            LogitsFormat::Dense { .. } => {}
            LogitsFormat::TopK {
                k,
                temperature: t,
                precision,
            } => {
                temperature(t)?;
                let good = (1..=classes).contains(&k);
                range("knowledge.k", &k, good, "from 1 to the number of classes")?;
                if let ValuePrecision::Step(step) = precision {
                    let good = (0.001..=5.0).contains(&step);
                    range("knowledge.step", &step, good, "from 0.001 to 5 nats")?;
                }
            }
            LogitsFormat::Sampled {
                draws,
                temperature: t,
            } => {
                temperature(t)?;
                let good = (1..=MOST_DRAWS).contains(&draws);
                range("knowledge.draws", &draws, good, "from 1 to 4096")?;
            }
        }
        for (at, feature) in self.features.iter().enumerate() {
            let name = format!("{:?}", feature.name);
            let first = self.features[..at].iter().all(|f| f.name != feature.name);
            range(
                "knowledge.features",
                &name,
                first,
                "different names of features",
            )?;
            let size = feature
                .shape
                .iter()
                .try_fold(1usize, |size, axis| size.checked_mul(*axis));
            let good = size.is_some_and(|size| (1..=MOST_CLASSES).contains(&size));
            let shape = format!("{name} with shape {:?}", feature.shape);
            range(
                "knowledge.features",
                &shape,
                good,
                "no empty axis, and at most 2^31 numbers",
            )?;
        }
        Ok(())
    }

    /// What differs first from another header, as `(what, recorded, given)`.
    ///
    /// Numbers in a file went through text, which may cost their last bit: `given` goes through it too.
    pub(crate) fn difference(&self, given: &Self) -> Option<(&'static str, String, String)> {
        let given: Self =
            serde_json::from_str(&text(given)).expect("a header reads what it writes");
        let pairs = [
            (
                "the teacher's fingerprint",
                text(&self.teacher),
                text(&given.teacher),
            ),
            (
                "the number of classes",
                text(&self.classes),
                text(&given.classes),
            ),
            ("logits as", text(&self.logits), text(&given.logits)),
            ("features", text(&self.features), text(&given.features)),
            ("heads", text(&self.heads), text(&given.heads)),
            // Data of fewer views, such as those for validation, may share a store.
            (
                "the number of views",
                text(&self.views),
                text(&self.views.max(given.views)),
            ),
        ];
        pairs
            .into_iter()
            .find(|(_, recorded, given)| recorded != given)
    }
}

/// A value as the manifest writes it.
fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain finite values have a text")
}

#[cfg(test)]
#[path = "../tests/header.rs"]
mod tests;
