//! Everything that can go wrong, as data.

use std::path::PathBuf;
use std::sync::Arc;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which of the two models something concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The model that teaches.
    Teacher,
    /// The model that learns.
    Student,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Teacher => "teacher",
            Side::Student => "student",
        })
    }
}

/// What went wrong, with both sides of every mismatch.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Student and teacher disagree about a shape.
    #[error("{what} differ: student has {student:?}, teacher has {teacher:?}")]
    ShapeMismatch {
        /// What was compared.
        what: String,
        /// The student's shape.
        student: Vec<usize>,
        /// The teacher's shape.
        teacher: Vec<usize>,
    },
    /// A batch and the outputs made from it disagree about the number of samples.
    #[error("{what} has {found} rows, the {side}'s logits have {expected}")]
    BatchMismatch {
        /// The part of the batch.
        what: &'static str,
        /// Whose logits.
        side: Side,
        /// The number of rows of the logits.
        expected: usize,
        /// The number of rows of the part.
        found: usize,
    },
    /// A loss names a feature that a model does not give.
    #[error("term {term:?} needs feature {name:?} of the {side}, which gives {available:?}")]
    MissingFeature {
        /// The term that asked.
        term: String,
        /// The feature it asked for.
        name: String,
        /// Whose feature.
        side: Side,
        /// What that model gives.
        available: Vec<String>,
    },
    /// A loss cannot read a feature of this rank.
    #[error("term {term:?} needs {expected}: feature {name:?} of the {side} has shape {shape:?}")]
    FeatureRank {
        /// The term that asked.
        term: String,
        /// The feature it looks at.
        name: String,
        /// Whose feature.
        side: Side,
        /// The ranks it can read.
        expected: &'static str,
        /// The shape found.
        shape: Vec<usize>,
    },
    /// A hyper-parameter is out of range.
    #[error("{name} is {value}, expected {expected}")]
    InvalidParameter {
        /// The full name, such as `soft_target.temperature`.
        name: String,
        /// The value given.
        value: String,
        /// The range allowed.
        expected: &'static str,
    },
    /// An objective has no term with a loss.
    #[error("the objective has no terms: add one with `with`, or read one from a config")]
    NoTerms,
    /// A term compares with the teacher where there is none.
    #[error("term {term:?} needs a teacher, and this training has none")]
    NeedsTeacher {
        /// The term that asked.
        term: String,
    },
    /// A term needs targets that the batches do not carry.
    #[error("term {term:?} needs {expected}, the batches carry {found}")]
    MissingTargets {
        /// The term that asked.
        term: String,
        /// The targets it needs.
        expected: &'static str,
        /// The targets there are.
        found: &'static str,
    },
    /// A class index that no logit stands for.
    #[error("label {label} is out of range: the student has {classes} classes (0 to {})", classes.saturating_sub(1))]
    LabelOutOfRange {
        /// The label.
        label: i64,
        /// The number of the student's logits.
        classes: usize,
    },
    /// There is nothing to train on, or nothing to validate with.
    #[error("the {what} set is empty")]
    EmptyDataset {
        /// Which set.
        what: &'static str,
    },
    /// A mask leaves no sample of the first batch.
    #[error("the mask of the first {what} batch leaves no sample")]
    EmptyMask {
        /// Which set.
        what: &'static str,
    },
    /// A value that should be a finite number is not.
    #[error("{what} is not finite: {value}")]
    NonFinite {
        /// What is not finite, with the epoch and the step where there is one.
        what: String,
        /// The value found.
        value: String,
    },
    /// A device cannot be opened.
    #[error("device {device} is not available: {reason}")]
    DeviceUnavailable {
        /// The device asked for.
        device: String,
        /// What its driver says.
        reason: String,
    },
    /// A config file cannot be understood.
    #[error("{origin}: {message}")]
    Config {
        /// The file, or the format where the text came from memory.
        origin: String,
        /// What is wrong, with the key and the place.
        message: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {message}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// A checkpoint does not fit the training that would resume from it.
    #[error("cannot resume from epoch {epoch} in {}: {reason}", directory.display())]
    Checkpoint {
        /// The directory of the checkpoints.
        directory: PathBuf,
        /// The epoch of the newest complete checkpoint.
        epoch: usize,
        /// Why it does not fit.
        reason: String,
    },
    /// A strict transfer found parameters that it could not copy.
    #[error("strict transfer left parameters behind:\n{0}")]
    Transfer(Box<crate::TransferSummary>),
    /// A dataset, a device or a worker failed while training ran.
    #[error("training stopped: {0}")]
    Training(Arc<burn::train::TrainingError>),
    /// A dataset failed outside training.
    #[error("the {what} set could not be read: {message}")]
    Dataset {
        /// Which set.
        what: &'static str,
        /// What the dataset says.
        message: String,
    },
}

impl Error {
    /// A hyper-parameter out of range, for a loss's own check.
    pub fn invalid(
        name: impl Into<String>,
        value: impl std::fmt::Display,
        expected: &'static str,
    ) -> Self {
        Self::InvalidParameter {
            name: name.into(),
            value: value.to_string(),
            expected,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, error: impl std::fmt::Display) -> Self {
        Self::Io {
            path: path.into(),
            message: error.to_string(),
        }
    }
}
