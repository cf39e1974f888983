//! Losses between logits, or between logits and labels.

mod composed;
pub(crate) mod dist;
pub(crate) mod dkd;
pub(crate) mod hard_label;
pub(crate) mod jensen_shannon;
pub(crate) mod logit_cosine;
pub(crate) mod logit_mse;
pub(crate) mod nkd;
pub(crate) mod reverse_kl;
pub(crate) mod scale;
pub(crate) mod soft_cross_entropy;
pub(crate) mod soft_target;
pub(crate) mod sparse_soft_target;
pub(crate) mod standardize;
pub(crate) mod symmetric_kl;
pub(crate) mod total_variation;
pub(crate) mod virtual_teacher;
