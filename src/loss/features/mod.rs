//! Losses between intermediate features, sample by sample.

pub(crate) mod activation_boundary;
pub(crate) mod attention_transfer;
pub(crate) mod channel_wise;
pub(crate) mod factor_transfer;
pub(crate) mod fsp;
pub(crate) mod hint;
pub(crate) mod mgd;
pub(crate) mod nst;
pub(crate) mod overhaul;
pub(crate) mod pair;
pub(crate) mod review_kd;
pub(crate) mod vid;
