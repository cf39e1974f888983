//! A header after its check, with what follows from it.

use safetensors::Dtype;

use crate::error::Result;
use crate::knowledge::format::header::{FeaturePrecision, Header, LogitsFormat, LogitsPrecision};
use crate::knowledge::format::sparse::RowFormat;
use crate::knowledge::format::values::Values;

/// What all samples of a store have in common.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) header: Header,
    /// The numbers of dense logits.
    pub(crate) dense: Option<Dtype>,
    /// The rows of others.
    pub(crate) packed: Option<Packed>,
}

/// How rows are packed, and what is in them.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) rows: RowFormat,
    pub(crate) values: Values,
}

impl Form {
    pub(crate) fn new(header: Header) -> Result<Self> {
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
pub(crate) fn feature_dtype(precision: FeaturePrecision) -> Dtype {
    match precision {
        FeaturePrecision::F32 => Dtype::F32,
        FeaturePrecision::F16 => Dtype::F16,
        FeaturePrecision::Int8 => Dtype::I8,
    }
}
