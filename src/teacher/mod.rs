//! Where knowledge comes from.

pub(crate) mod closure;
pub(crate) mod ensemble;
pub(crate) mod fingerprint;
pub(crate) mod frozen;
pub(crate) mod mean;
