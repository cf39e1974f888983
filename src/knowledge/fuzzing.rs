//! What reads bytes of files, as plain functions: whatever the bytes, they return.

use crate::files::seal;
use crate::knowledge::format::form::Form;
use crate::knowledge::format::header::{
    FeatureFormat, FeaturePrecision, Header, LogitsFormat, LogitsPrecision, ValuePrecision,
};
use crate::knowledge::format::manifest::Manifest;
use crate::knowledge::format::rows::Rows;
use crate::knowledge::format::sparse::Row;
use crate::knowledge::store::shard::{Layout, Scratch};

/// Reads a manifest, as it is and with its checksum put right.
pub fn manifest(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        if let Ok(manifest) = Manifest::parse(bytes) {
            // What is understood is understood again; numbers may lose their last bit once.
            assert!(Manifest::parse(&manifest.to_bytes()).is_ok());
            drop(Form::new(manifest.header));
        }
    };
    read(bytes);
    if let Some(sealed) = seal(bytes) {
        read(&sealed);
    }
}

/// Reads all samples of a shard, in each of several forms.
pub fn shard(bytes: &[u8]) {
    for header in headers() {
        let form = Form::new(header).expect("a valid header");
        let Ok(layout) = Layout::parse(bytes, &form) else {
            continue;
        };
        let _digest = layout.key_digest(bytes);
        for sample in 0..layout.samples {
            let mut scratch = Scratch::default();
            let mut rows = Rows::new(&form.header);
            let read = layout.read(bytes, sample, &form, None, &mut scratch, &mut rows);
            if read.is_ok() {
                rows.pad(&scratch.widths);
            }
        }
    }
}

/// Reads a packed row, in the form that the first byte chooses.
pub fn sparse_row(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let headers = headers();
    let form = Form::new(headers[usize::from(*choice) % headers.len()].clone());
    let Some(packed) = form.expect("a valid header").packed else {
        return;
    };
    let mut row = Row::default();
    if let Ok(read) = packed.rows.decode(bytes, &mut row) {
        assert!(read <= bytes.len());
        assert!(row.classes.is_sorted_by(|a, b| a < b));
        let mut log_probs = Vec::new();
        if packed
            .values
            .log_probs(&row.values, row.log_rest, &mut log_probs)
            .is_ok()
        {
            assert_eq!(log_probs.len(), row.classes.len());
        }
    }
}

/// One header for each way in which shards differ.
pub(crate) fn headers() -> Vec<Header> {
    let top = |k, precision| LogitsFormat::TopK {
        k,
        temperature: 2.0,
        precision,
    };
    let dense = |precision| LogitsFormat::Dense { precision };
    let logits = [
        dense(LogitsPrecision::F32),
        dense(LogitsPrecision::F16),
        dense(LogitsPrecision::Bf16),
        top(5, ValuePrecision::F32),
        top(8, ValuePrecision::F16),
        top(3, ValuePrecision::Step(0.1)),
        LogitsFormat::Sampled {
            draws: 12,
            temperature: 1.0,
        },
    ];
    let feature = |name: &str, shape: &[usize], varies, precision| FeatureFormat {
        name: name.into(),
        shape: shape.to_vec(),
        varies,
        precision,
    };
    let features = [
        feature("pooled", &[3], false, FeaturePrecision::F16),
        feature("tokens", &[2, 2], true, FeaturePrecision::Int8),
        feature("bias", &[], true, FeaturePrecision::F32),
    ];
    let header = |logits| Header {
        teacher: "a teacher".into(),
        heads: Vec::new(),
        classes: 8,
        logits,
        features: features.to_vec(),
        views: 2,
    };
    logits.map(header).into()
}

#[cfg(test)]
#[path = "tests/fuzzing.rs"]
mod tests;
