//! Outputs that were written down before, as a batch asks for them.

use burn::tensor::Device;

use crate::data::key::Name;
use crate::data::outputs::Outputs;
use crate::data::targets::Weights;
use crate::error::Result;

/// The recorded outputs of a teacher, by the names of samples.
pub(crate) trait RecordedOutputs: std::fmt::Debug + Send + Sync {
    /// The outputs for these samples, in this order, on a device. Rows of weight zero were not recorded;
    /// the weights say where the others go.
    fn read(&self, names: &[Name], weights: Option<&Weights>, device: &Device) -> Result<Outputs>;

    /// Whether there is a record of this sample.
    fn has(&self, name: &Name) -> bool;

    /// The fingerprint of the teacher.
    fn teacher(&self) -> &str;
}
