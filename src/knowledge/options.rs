//! What is recorded of a teacher, and how.

use burn::tensor::Device;

use crate::knowledge::format::header::{FeaturePrecision, LogitsFormat};
use crate::progress::ProgressMode;

/// What to record, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordOptions {
    /// Where the teacher runs.
    pub device: Device,
    /// Samples at a time, 128 by default.
    pub batch_size: usize,
    /// How logits are recorded; in single precision, and as the teacher gives them, where this is `None`: all
    /// of them, or its own top k.
    pub logits: Option<LogitsFormat>,
    /// Which features are recorded; none by default.
    pub features: Vec<RecordFeature>,
    /// What is shown: a bar, or nothing.
    pub progress: ProgressMode,
    /// A file is closed once it holds this many bytes, 64 MiB by default. With one batch more, it is what
    /// memory is needed for, twice that for the first file of some classes a row; and what an interrupted
    /// recording runs again.
    pub shard_bytes: usize,
}

/// A feature to record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordFeature {
    /// Its name in the teacher's [`Outputs`](crate::Outputs).
    pub name: String,
    /// The numbers it is recorded in.
    pub precision: FeaturePrecision,
    /// Whether its mean over tokens or positions is recorded instead of all of it.
    pub is_pooled: bool,
}

impl RecordOptions {
    /// Logits in single precision as the teacher gives them, no features.
    pub fn new(device: Device) -> Self {
        Self {
            device: device.inner(),
            batch_size: 128,
            logits: None,
            features: Vec::new(),
            progress: ProgressMode::default(),
            shard_bytes: 64 << 20,
        }
    }

    /// Sets how logits are recorded.
    #[must_use]
    pub fn with_logits(mut self, logits: LogitsFormat) -> Self {
        self.logits = Some(logits);
        self
    }

    /// Adds a feature, recorded whole.
    #[must_use]
    pub fn with_feature(self, name: impl Into<String>, precision: FeaturePrecision) -> Self {
        self.and_feature(name.into(), precision, false)
    }

    /// Adds a feature, of which the mean over tokens or positions is recorded, `[D]` or `[C]`.
    #[must_use]
    pub fn with_pooled_feature(self, name: impl Into<String>, precision: FeaturePrecision) -> Self {
        self.and_feature(name.into(), precision, true)
    }

    fn and_feature(mut self, name: String, precision: FeaturePrecision, is_pooled: bool) -> Self {
        self.features.push(RecordFeature {
            name,
            precision,
            is_pooled,
        });
        self
    }

    /// Adds a feature, recorded whole and exactly.
    #[must_use]
    pub(crate) fn with_exact_feature(self, name: String) -> Self {
        match self.features.iter().any(|feature| feature.name == name) {
            true => self,
            false => self.and_feature(name, FeaturePrecision::F32, false),
        }
    }

    /// Sets how many samples are run at a time.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets how many bytes a file holds.
    #[must_use]
    pub fn with_shard_bytes(mut self, shard_bytes: usize) -> Self {
        self.shard_bytes = shard_bytes;
        self
    }

    /// Sets what is shown.
    #[must_use]
    pub fn with_progress(mut self, progress: ProgressMode) -> Self {
        self.progress = progress;
        self
    }
}
