//! Losses on the hidden states and attention maps of transformers.

pub(crate) mod attention_map;
pub(crate) mod gram_mse;
pub(crate) mod hidden_cosine;
pub(crate) mod patient_kd;
