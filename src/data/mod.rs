//! What flows in and out of models.

pub(crate) mod batch;
pub(crate) mod dataset;
pub(crate) mod outputs;
pub(crate) mod top_k;
