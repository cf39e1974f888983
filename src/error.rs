//! Everything that can go wrong, as data.

use std::any::Any;
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
    /// A batch and the outputs made from it disagree about the number of rows.
    #[error("{what} has {found} rows, head {head:?} of the {side} has {expected}{hint}")]
    RowMismatch {
        /// The part of the batch.
        what: String,
        /// Whose head.
        side: Side,
        /// The head.
        head: String,
        /// The number of rows of the head.
        expected: usize,
        /// The number of rows of the part.
        found: usize,
        /// What may be the reason, where one is known.
        hint: &'static str,
    },
    /// A term or a target names a head that a model does not give.
    #[error("{what}: the {side} has no head {head:?}, it gives {available:?}")]
    MissingHead {
        /// What asked for it: a term, or the targets of a batch.
        what: String,
        /// The head it asked for.
        head: String,
        /// Whose head.
        side: Side,
        /// What that model gives.
        available: Vec<String>,
    },
    /// A head is of a kind that a loss cannot compare.
    #[error("term {term:?} needs a {expected} head, {head:?} of the {side} is {found}")]
    HeadKind {
        /// The term that compares it.
        term: String,
        /// The head.
        head: String,
        /// Whose head.
        side: Side,
        /// The kinds that fit.
        expected: String,
        /// Its kind.
        found: String,
    },
    /// Targets are of a kind that does not fit their head.
    #[error("head {head:?} is {kind}, its targets are {found}")]
    TargetKind {
        /// The head.
        head: String,
        /// Its kind.
        kind: String,
        /// The kind of the targets.
        found: String,
    },
    /// Targets have another width than their head.
    #[error("head {head:?} has {expected} values per row, its targets have {found}")]
    TargetWidth {
        /// The head.
        head: String,
        /// Its width.
        expected: usize,
        /// The width of the targets.
        found: usize,
    },
    /// Weights cannot be brought to the samples of a feature.
    #[error(
        "term {term:?}: a mask of {rows} rows does not fit feature {feature:?} of {samples} samples"
    )]
    FeatureRows {
        /// The term.
        term: String,
        /// The feature.
        feature: String,
        /// Its samples.
        samples: usize,
        /// The rows of the mask.
        rows: usize,
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
    /// A feature has a shape that a loss cannot compare.
    #[error(
        "term {term:?}: feature {name:?} of the {side} has shape {shape:?}, expected {expected}"
    )]
    FeatureShape {
        /// The term that compares it.
        term: String,
        /// The feature.
        name: String,
        /// Whose feature.
        side: Side,
        /// Its shape.
        shape: Vec<usize>,
        /// The shapes allowed.
        expected: &'static str,
    },
    /// A loss keeps something per sample and is not told which samples a batch holds.
    #[error(
        "term {term:?} needs sample indices, which the batches do not carry; build them with `DistillData`"
    )]
    MissingIndices {
        /// The term that asked.
        term: String,
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
        expected: String,
        /// The targets there are.
        found: String,
    },
    /// A class index that no logit stands for.
    #[error("label {label} of row {row} is out of range: the student has {classes} classes (0 to {})", classes.saturating_sub(1))]
    LabelOutOfRange {
        /// The label.
        label: i64,
        /// The number of the student's classes.
        classes: usize,
        /// The row of the batch.
        row: usize,
    },
    /// A label that is too large, in whichever batch it comes.
    #[error(
        "label {label} of sample {sample} of the {what} set is out of range: the student has {classes} classes (0 to {})",
        classes.saturating_sub(1)
    )]
    SampleLabel {
        /// Which set.
        what: &'static str,
        /// The index of the sample.
        sample: usize,
        /// The label.
        label: i64,
        /// The number of the student's classes.
        classes: usize,
    },
    /// A batch does not hold what the first one promised, or the code that ran on it failed.
    #[error("{what} batch of {}: {error}", named(samples))]
    Batch {
        /// Which set.
        what: &'static str,
        /// The indices of its samples.
        samples: Vec<usize>,
        /// What is wrong with it.
        #[source]
        error: Box<Error>,
    },
    /// The code that makes batches, a closure, a model, or a device panicked.
    #[error("panicked: {message}")]
    Panic {
        /// The text of the panic.
        message: String,
    },
    /// There is nothing to train on, or nothing to validate with.
    #[error("the {what} set is empty")]
    EmptyDataset {
        /// Which set.
        what: &'static str,
    },
    /// The masks leave no sample at all.
    #[error("the masks of the {what} set leave no sample")]
    EmptyMask {
        /// Which set.
        what: &'static str,
    },
    /// A value that should be a finite number is not.
    #[error("not finite: {what} ({value})")]
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
    /// A checkpoint does not fit the model that it is loaded into, or no checkpoint is whole.
    #[error("cannot load the checkpoint of epoch {epoch} in {}: {reason}", directory.display())]
    Checkpoint {
        /// The directory of the checkpoints.
        directory: PathBuf,
        /// The epoch of the newest checkpoint, 0 if there is none.
        epoch: usize,
        /// Why it does not fit.
        reason: String,
    },
    /// A checkpoint belongs to a training with other settings than the one that would resume from it.
    #[error(
        "the checkpoint of epoch {epoch} in {} has {what} {recorded}, now it is {given}; train with the \
         settings of the checkpoint, name another directory, or go on all the same with \
         `FitConfig::with_changed_settings`",
        directory.display()
    )]
    CheckpointMismatch {
        /// The directory of the checkpoints.
        directory: PathBuf,
        /// The epoch of the newest whole checkpoint.
        epoch: usize,
        /// What differs.
        what: String,
        /// What the checkpoint was trained with.
        recorded: String,
        /// What is given now.
        given: String,
    },
    /// A strict transfer found parameters that it could not copy.
    #[error("strict transfer left parameters behind:\n{0}")]
    Transfer(String),
    /// A teacher made of a closure did not answer.
    #[error("teacher {name:?} did not answer: {reason}")]
    Teacher {
        /// Its name.
        name: String,
        /// What the closure says.
        reason: String,
    },
    /// A dataset, a device or a worker failed while training ran.
    #[error("training stopped: {0}")]
    Training(Arc<burn::train::TrainingError>),
    /// Training stopped in the middle, and a student is left: see [`Error::student`].
    #[error("{reason}; `Error::student` has the student of epoch {epoch}")]
    Stopped {
        /// What went wrong.
        #[source]
        reason: Box<Error>,
        /// The epoch that the student comes from: the last whole one, or the best where that is kept.
        epoch: usize,
        /// The student.
        student: Arc<dyn Any + Send + Sync>,
    },
    /// A dataset failed outside training.
    #[error("the {what} set could not be read: {message}")]
    Dataset {
        /// Which set.
        what: &'static str,
        /// What the dataset says.
        message: String,
    },
    /// Something could not be measured.
    #[error("cannot measure {what}: {message}")]
    Measuring {
        /// What.
        what: String,
        /// Why.
        message: String,
    },
    /// A file of recorded knowledge is missing, damaged, or none at all.
    #[error("{}: {reason}; {remedy}", path.display())]
    KnowledgeFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// What would be recorded differs from what a directory holds.
    #[error(
        "{} holds knowledge with {what} {recorded}, now it is {given}; \
         record into another directory, or delete this one",
        directory.display()
    )]
    KnowledgeMismatch {
        /// The directory.
        directory: PathBuf,
        /// What differs.
        what: String,
        /// What was recorded.
        recorded: String,
        /// What is given now.
        given: String,
    },
    /// Recording was interrupted and not taken up again.
    #[error(
        "the knowledge in {} is unfinished, with {recorded} samples so far; \
         record the rest, or open it as it is with `Store::open_partial`",
        directory.display()
    )]
    KnowledgeUnfinished {
        /// The directory.
        directory: PathBuf,
        /// The number of samples recorded.
        recorded: u64,
    },
    /// Two recordings or trainings want to write into one directory.
    #[error(
        "another process or thread is writing into {}; wait for it, or name another directory",
        directory.display()
    )]
    DirectoryLocked {
        /// The directory.
        directory: PathBuf,
    },
    /// A sample whose knowledge is asked for was not recorded.
    #[error(
        "sample {sample} is not among the {recorded} recorded in {}{}",
        directory.display(),
        unreadable.as_ref().map(|first| format!(", of which some cannot be read: {first}")).unwrap_or_default()
    )]
    NotRecorded {
        /// The directory.
        directory: PathBuf,
        /// The sample: its id and its view.
        sample: String,
        /// The number of samples recorded.
        recorded: u64,
        /// What is wrong with the first file that cannot be read, if there is one.
        unreadable: Option<String>,
    },
    /// A sample does not have the form of the knowledge it would be recorded with.
    #[error("sample {sample} cannot be recorded: {reason}")]
    InvalidSample {
        /// The sample: its id and its view.
        sample: String,
        /// Why.
        reason: String,
    },
    /// The teacher was recorded by the names of samples, and those of a batch have none.
    #[error(
        "the teacher was recorded by the names of samples, and the samples of this data have none: \
         make the data as for the recording, `DistillData::builder(dataset).by_content()`, or `.with_ids(..)`"
    )]
    NoKnowledge,
    /// The knowledge of a batch is another teacher's.
    #[error("the batches carry knowledge of teacher {found}, expected that of {expected}")]
    OtherTeacher {
        /// The fingerprint of the teacher that the training has.
        expected: String,
        /// The fingerprint of the teacher whose knowledge the batches carry.
        found: String,
    },
    /// The knowledge of a batch does not fit its rows.
    #[error("the knowledge of a batch does not fit it: {reason}")]
    KnowledgeRows {
        /// Both sides.
        reason: String,
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

    /// The student that a training left when it stopped in the middle, in inference mode: that of the last
    /// whole epoch, or of the best epoch where that is kept. `S` is the type of the student; of
    /// [`mutual_learning`](crate::recipe::mutual_learning), a `Vec` of it.
    ///
    /// # Example
    ///
    /// ```
    /// # use burn_distill::{Distilled, Result};
    /// fn student_of<S: Clone + 'static>(outcome: Result<Distilled<S, S>>) -> Result<S> {
    ///     outcome.map(|distilled| distilled.student).or_else(|error| {
    ///         eprintln!("{error}");
    ///         error.student().ok_or(error)
    ///     })
    /// }
    /// ```
    pub fn student<S: Clone + 'static>(&self) -> Option<S> {
        match self {
            Self::Stopped { student, .. } => student.downcast_ref().cloned(),
            _ => None,
        }
    }

    /// The same with the student of an epoch, unless there is one already.
    pub(crate) fn with_student<S: Send + Sync + 'static>(self, epoch: usize, student: S) -> Self {
        match self {
            Self::Stopped { .. } => self,
            reason => Self::Stopped {
                reason: Box::new(reason),
                epoch,
                student: Arc::new(student),
            },
        }
    }

    /// The same with the student put into another form.
    pub(crate) fn map_student<S, R>(self, map: impl FnOnce(S) -> R) -> Self
    where
        S: Clone + 'static,
        R: Send + Sync + 'static,
    {
        let student = self.student::<S>().map(map);
        match (self, student) {
            (Self::Stopped { reason, epoch, .. }, Some(student)) => {
                reason.with_student(epoch, student)
            }
            (error, _) => error,
        }
    }

    /// What went wrong, without the student.
    pub(crate) fn reason(&self) -> &Self {
        match self {
            Self::Stopped { reason, .. } => reason,
            reason => reason,
        }
    }

    /// The same for a reason that lies deeper.
    pub(crate) fn because(self, deeper: Self) -> Self {
        match self {
            Self::Stopped { epoch, student, .. } => Self::Stopped {
                reason: Box::new(deeper),
                epoch,
                student,
            },
            _ => deeper,
        }
    }

    /// Another number of rows than a head has. Where the numbers of a head of images would give as many
    /// rows, its axes may be in another order.
    pub(crate) fn row_mismatch(
        what: &str,
        side: Side,
        head: &str,
        [rows, width]: [usize; 2],
        found: usize,
    ) -> Self {
        let is_other_order =
            found > width && found.is_multiple_of(width) && (rows * width).is_multiple_of(found);
        Self::RowMismatch {
            what: what.to_string(),
            side,
            head: head.to_string(),
            expected: rows,
            found,
            hint: match is_other_order {
                true => {
                    "; classes are on the last axis, logits of images [N, C, H, W] go through `Outputs::images`"
                }
                false => "",
            },
        }
    }

    /// The same about the batch of these samples.
    pub(crate) fn in_batch(self, what: &'static str, samples: &[usize]) -> Self {
        Self::Batch {
            what,
            samples: samples.to_vec(),
            error: Box::new(self),
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, error: impl std::fmt::Display) -> Self {
        Self::Io {
            path: path.into(),
            message: error.to_string(),
        }
    }
}

/// Fails unless a hyper-parameter `is_valid`.
pub(crate) fn check(
    name: &str,
    value: impl std::fmt::Display,
    is_valid: bool,
    expected: &'static str,
) -> Result<()> {
    match is_valid {
        true => Ok(()),
        false => Err(Error::invalid(name, value, expected)),
    }
}

/// Fails unless a hyper-parameter is a number greater than 0.
pub(crate) fn check_positive(name: &str, value: f64) -> Result<()> {
    let is_valid = value.is_finite() && value > 0.0;
    check(name, value, is_valid, "a number greater than 0")
}

/// Fails unless a hyper-parameter is a number of at least 0.
pub(crate) fn check_not_negative(name: &str, value: f64) -> Result<()> {
    let is_valid = value.is_finite() && value >= 0.0;
    check(name, value, is_valid, "a number of at least 0")
}

/// The first samples of a batch, and how many more there are.
fn named(samples: &[usize]) -> String {
    let first: Vec<String> = samples.iter().take(3).map(usize::to_string).collect();
    let first = first.join(", ");
    match samples.len() {
        0 => "unknown samples".into(),
        1 => format!("sample {first}"),
        2 | 3 => format!("samples {first}"),
        all => format!("samples {first} and {} more", all - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_names_both_sides() {
        let cases = [
            (
                Error::ShapeMismatch {
                    what: "logits".into(),
                    student: vec![2, 5],
                    teacher: vec![2, 6],
                },
                "logits differ: student has [2, 5], teacher has [2, 6]",
            ),
            (
                Error::row_mismatch("the mask", Side::Student, "logits", [4, 2], 3),
                "the mask has 3 rows, head \"logits\" of the student has 4",
            ),
            (
                Error::MissingFeature {
                    term: "hint".into(),
                    name: "a".into(),
                    side: Side::Teacher,
                    available: vec!["b".into()],
                },
                "term \"hint\" needs feature \"a\" of the teacher, which gives [\"b\"]",
            ),
            (
                Error::FeatureShape {
                    term: "hint".into(),
                    name: "a".into(),
                    side: Side::Teacher,
                    shape: vec![2, 3],
                    expected: "[N, T, D]",
                },
                "term \"hint\": feature \"a\" of the teacher has shape [2, 3], expected [N, T, D]",
            ),
            (
                Error::LabelOutOfRange {
                    label: 10,
                    classes: 10,
                    row: 3,
                },
                "label 10 of row 3 is out of range: the student has 10 classes (0 to 9)",
            ),
            (
                Error::EmptyDataset { what: "training" }.in_batch("validation", &[4, 2, 7, 1, 3]),
                "validation batch of samples 4, 2, 7 and 2 more: the training set is empty",
            ),
            (
                Error::NoTerms.in_batch("training", &[4]),
                "training batch of sample 4: the objective has no terms: add one with `with`, or read one \
                 from a config",
            ),
            (
                Error::EmptyMask { what: "training" },
                "the masks of the training set leave no sample",
            ),
            (
                Error::DeviceUnavailable {
                    device: "Device<Wgpu>".into(),
                    reason: "no adapter".into(),
                },
                "device Device<Wgpu> is not available: no adapter",
            ),
            (
                Error::Io {
                    path: "a/b".into(),
                    message: "disk full".into(),
                },
                "a/b: disk full",
            ),
            (
                Error::Checkpoint {
                    directory: "runs".into(),
                    epoch: 3,
                    reason: "wrong shape".into(),
                },
                "cannot load the checkpoint of epoch 3 in runs: wrong shape",
            ),
            (
                Error::KnowledgeFile {
                    path: "a/b".into(),
                    reason: "is missing".into(),
                    remedy: "bring it back".into(),
                },
                "a/b: is missing; bring it back",
            ),
            (
                Error::NotRecorded {
                    directory: "a".into(),
                    sample: "1f (view 0)".into(),
                    recorded: 7,
                    unreadable: Some("a/b: is missing".into()),
                },
                "sample 1f (view 0) is not among the 7 recorded in a, of which some cannot be read: \
                 a/b: is missing",
            ),
            (
                Error::InvalidSample {
                    sample: "1f (view 0)".into(),
                    reason: "it has 2 logits".into(),
                },
                "sample 1f (view 0) cannot be recorded: it has 2 logits",
            ),
            (
                Error::Measuring {
                    what: "head \"logits\"".into(),
                    message: "no device".into(),
                },
                "cannot measure head \"logits\": no device",
            ),
            (
                Error::Dataset {
                    what: "training",
                    message: "gone".into(),
                },
                "the training set could not be read: gone",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }
}
