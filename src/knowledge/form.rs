//! A header after its check, with what follows from it.

use safetensors::Dtype;

use super::header::{FeaturePrecision, Header, LogitsFormat, LogitsPrecision};
use super::sparse::RowFormat;
use super::values::Values;
use crate::Result;

/// What all samples of a store have in common.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) header: Header,
    /// The numbers of dense logits.
    pub(super) dense: Option<Dtype>,
    /// The rows of others.
    pub(super) packed: Option<Packed>,
}

/// How rows are packed, and what is in them.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) rows: RowFormat,
    pub(super) values: Values,
}

impl Form {
    pub(super) fn new(header: Header) -> Result<Self> {
        header.check()?;
        let dense = match header.logits {
            LogitsFormat::Dense { precision } => Some(match precision {
                LogitsPrecision::F32 => Dtype::F32,
                LogitsPrecision::F16 => Dtype::F16,
                LogitsPrecision::Bf16 => Dtype::BF16,
            }),
            LogitsFormat::TopK { .. } | LogitsFormat::Sampled { .. } => None,
        };
        let packed = RowFormat::new(&header)
            .zip(Values::new(&header))
            .map(|(rows, values)| Packed { rows, values });
        Ok(Self {
            header,
            dense,
            packed,
        })
    }
}

/// The type of a feature's numbers in a file.
pub(super) fn feature_dtype(precision: FeaturePrecision) -> Dtype {
    match precision {
        FeaturePrecision::F32 => Dtype::F32,
        FeaturePrecision::F16 => Dtype::F16,
        FeaturePrecision::Int8 => Dtype::I8,
    }
}
