//! The list of what is in a directory, as JSON.
//!
//! ```text
//! { "checksum": "…16 digits…",           of this text with the digits as zeros
//!   "format": "burn-distill knowledge", "version": 1, "crate": "…",
//!   "complete": true, "header": { … }, "ranks": null, "shards": [ … ] }
//! ```

use serde::{Deserialize, Serialize};

use crate::files::{Written, ZEROS, seal};
use crate::knowledge::format::header::Header;
use crate::knowledge::format::input::InputSummary;

/// Its name in the directory.
pub(crate) const NAME: &str = "manifest.json";
/// The version that this crate writes, and the newest that it reads.
const VERSION: u32 = 1;
const FORMAT: &str = "burn-distill knowledge";

/// What is recorded, and in which files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    checksum: String,
    format: String,
    version: u32,
    #[serde(rename = "crate")]
    crate_version: String,
    /// Whether all of the data is recorded.
    pub(crate) complete: bool,
    pub(crate) header: Header,
    /// The numbering of classes in packed rows.
    pub(crate) ranks: Option<Written>,
    pub(crate) shards: Vec<ShardEntry>,
    /// The first sample, and a digest of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<Probe>,
}

/// The input of one sample, to be compared with what a batcher makes of it later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    /// The sample's id, in hexadecimal digits.
    pub(crate) id: String,
    pub(crate) view: u32,
    pub(crate) input: InputSummary,
}

/// What is known of a shard without opening it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardEntry {
    pub(crate) file: Written,
    pub(crate) samples: u64,
    pub(crate) rows: u64,
    /// A digest of ids, views and seeds in their order.
    pub(crate) keys: String,
}

/// Enough to know whether the rest can be understood.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
    #[serde(rename = "crate")]
    crate_version: String,
}

/// Why a manifest cannot be used, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl Unusable {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl Manifest {
    /// Nothing recorded yet.
    pub(crate) fn new(header: Header) -> Self {
        Self {
            checksum: ZEROS.into(),
            format: FORMAT.into(),
            version: VERSION,
            crate_version: env!("CARGO_PKG_VERSION").into(),
            complete: false,
            header,
            ranks: None,
            shards: Vec::new(),
            probe: None,
        }
    }

    pub(crate) fn samples(&self) -> u64 {
        self.shards.iter().map(|shard| shard.samples).sum()
    }

    /// The file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let open = Self {
            checksum: ZEROS.into(),
            ..self.clone()
        };
        let text = serde_json::to_string_pretty(&open).expect("plain finite values have a text");
        seal(text.as_bytes()).unwrap_or(text.into_bytes())
    }

    /// Understands the text of a file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unusable> {
        let foreign = |reason: String| {
            let remedy = "name a directory in which knowledge was recorded";
            Unusable::new(reason, remedy)
        };
        let damaged = |reason: String| {
            let remedy = "bring it back from a copy, or record again into another directory";
            Unusable::new(reason, remedy)
        };
        let kind: Kind = serde_json::from_slice(bytes)
            .map_err(|error| foreign(format!("is no manifest of knowledge ({error})")))?;
        if kind.format != FORMAT {
            let reason = format!("is a manifest of {:?}, expected {FORMAT:?}", kind.format);
            return Err(foreign(reason));
        }
        if kind.version != VERSION {
            let reason = format!(
                "has format version {} of burn-distill {}, this is {} and reads version {VERSION}",
                kind.version,
                kind.crate_version,
                env!("CARGO_PKG_VERSION"),
            );
            return Err(Unusable::new(reason, "read it with that version"));
        }
        match seal(bytes) {
            Some(sealed) if sealed == bytes => {}
            Some(_) => return Err(damaged("was changed: its checksum is another".into())),
            None => return Err(damaged("does not begin with its checksum".into())),
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| damaged(format!("cannot be understood: {error}")))?;
        let files = manifest.shards.iter().map(|shard| &shard.file);
        for file in files.chain(&manifest.ranks) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if file.file.starts_with('.') || !file.file.chars().all(plain) {
                let reason = format!("names a file outside of its directory: {:?}", file.file);
                return Err(damaged(reason));
            }
        }
        let total = |count: fn(&ShardEntry) -> u64| {
            let mut counts = manifest.shards.iter().map(count);
            counts.try_fold(0u64, u64::checked_add)
        };
        if total(|s| s.samples).and(total(|s| s.rows)).is_none() {
            return Err(damaged("counts more samples than there can be".into()));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
#[path = "../tests/manifest.rs"]
mod tests;
