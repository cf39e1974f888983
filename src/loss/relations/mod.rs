//! Losses on how the samples of a batch relate to each other.

pub(crate) mod correlation_congruence;
pub(crate) mod crd;
pub(crate) mod mmd;
pub(crate) mod pkt;
pub(crate) mod relative;
pub(crate) mod rkd;
pub(crate) mod similarity_preserving;
