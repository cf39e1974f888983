//! What a model predicts, on the host.

use burn::tensor::TensorReadError;

use crate::data::head::Logits;
use crate::metric::rows::{confidence, floats, ints, top_class};

/// What a model predicts for some rows.
#[derive(Debug)]
pub(crate) struct Predictions {
    /// The most likely class.
    pub classes: Vec<usize>,
    /// Its probability.
    pub confidences: Vec<f64>,
}

impl Predictions {
    pub fn of(logits: &Logits) -> Result<Self, TensorReadError> {
        let [classes] = ints([top_class(logits)])?;
        let [confidences] = floats([confidence(logits)])?;
        Ok(Self {
            classes: classes.into_iter().map(|class| class as usize).collect(),
            confidences,
        })
    }
}
