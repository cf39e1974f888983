//! The bytes of recorded knowledge and what they mean.

pub(crate) mod bits;
pub(crate) mod form;
pub(crate) mod header;
pub(crate) mod input;
pub(crate) mod ints;
pub(crate) mod manifest;
pub(crate) mod map;
pub(crate) mod numbers;
pub(crate) mod ranks;
pub(crate) mod reduce;
pub(crate) mod rows;
pub(crate) mod sample;
pub(crate) mod sparse;
pub(crate) mod tensors;
pub(crate) mod values;
