//! What flows in and out of models: outputs, targets, batches and the data they come from.

pub(crate) mod batch;
pub(crate) mod dataset;
pub(crate) mod distillable;
pub(crate) mod erased;
pub(crate) mod feature;
pub(crate) mod head;
pub(crate) mod key;
pub(crate) mod output_layer;
pub(crate) mod outputs;
pub(crate) mod precision;
pub(crate) mod recorded;
pub(crate) mod rows;
pub(crate) mod samples;
pub(crate) mod targets;
pub(crate) mod top_k;
