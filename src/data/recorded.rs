//! Outputs that were written down before, as a batch asks for them.

use std::any::Any;

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

    /// The fingerprints of the teachers, of which there should be one.
    fn teachers(&self) -> Vec<&str>;

    /// Itself, for who adds to it.
    fn as_any(&self) -> &dyn Any;
}
