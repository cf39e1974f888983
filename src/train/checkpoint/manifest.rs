//! What is known of a set of files: what they belong to, and their checksums, as JSON.

use serde::{Deserialize, Serialize};

use crate::files::{Written, ZEROS, seal};
use crate::train::checkpoint::settings::Settings;
use crate::train::origin::BURN;

/// The version that this crate writes, and the only one that it reads.
const VERSION: u32 = 1;
const FORMAT: &str = "burn-distill checkpoint";

/// The files of a set, in the order in which the engine writes them.
pub(crate) const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// The name of a part of the set of an epoch.
pub(crate) fn part_name(part: usize, epoch: usize) -> String {
    format!("{}-{epoch}.bpk", PARTS[part])
}

/// The name of the manifest of the set of an epoch.
pub(crate) fn manifest_name(epoch: usize) -> String {
    format!("set-{epoch}.json")
}

/// The epoch that a file belongs to, and whether it is the manifest; `None` for the files of others.
pub(crate) fn epoch_of(name: &str) -> Option<(usize, bool)> {
    let number = |start: &str, end: &str| name.strip_prefix(start)?.strip_suffix(end)?.parse().ok();
    match number("set-", ".json") {
        Some(epoch) => Some((epoch, true)),
        None => PARTS
            .iter()
            .find_map(|part| number(&format!("{part}-"), ".bpk"))
            .map(|epoch| (epoch, false)),
    }
}

/// A whole set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    checksum: String,
    format: String,
    version: u32,
    #[serde(rename = "crate")]
    pub crate_version: String,
    pub burn_version: String,
    pub epoch: usize,
    pub settings: Settings,
    /// The number that early stopping and the best student go by, by epoch, as text that reads back exactly;
    /// empty where it is not known.
    pub scores: Vec<String>,
    /// How many parameter tensors of the model are the student's.
    pub student: usize,
    pub files: Vec<Written>,
}

impl Manifest {
    pub fn new(
        epoch: usize,
        settings: Settings,
        scores: &[Option<f64>],
        student: usize,
        files: Vec<Written>,
    ) -> Self {
        let text = |score: &Option<f64>| score.map(|score| score.to_string()).unwrap_or_default();
        Self {
            checksum: ZEROS.into(),
            format: FORMAT.into(),
            version: VERSION,
            crate_version: env!("CARGO_PKG_VERSION").into(),
            burn_version: BURN.into(),
            epoch,
            settings,
            scores: scores.iter().map(text).collect(),
            student,
            files,
        }
    }

    /// The scores by epoch, from the first.
    pub fn scores(&self) -> Vec<Option<f64>> {
        self.scores.iter().map(|score| score.parse().ok()).collect()
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string_pretty(self).expect("plain finite values have a text");
        seal(text.as_bytes()).unwrap_or(text.into_bytes())
    }

    /// Understands the manifest of the set of this epoch, or says what is wrong with it.
    pub fn parse(bytes: &[u8], epoch: usize) -> Result<Self, String> {
        match seal(bytes) {
            Some(sealed) if sealed == bytes => {}
            _ => return Err("was changed: its checksum is another".into()),
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("cannot be understood: {error}"))?;
        if (manifest.format.as_str(), manifest.version) != (FORMAT, VERSION) {
            return Err(format!(
                "has version {} of {:?}, expected {VERSION} of {FORMAT:?}",
                manifest.version, manifest.format
            ));
        }
        let names = (0..PARTS.len()).map(|part| part_name(part, epoch));
        let is_its_own = manifest.epoch == epoch
            && manifest.scores.len() == epoch
            && names.eq(manifest.files.iter().map(|file| file.file.clone()));
        match is_its_own {
            true => Ok(manifest),
            false => Err(format!("is of epoch {}", manifest.epoch)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_survives_and_shows_every_change() {
        let files = (0..3).map(|part| Written {
            file: part_name(part, 2),
            bytes: 7,
            checksum: ZEROS.into(),
        });
        let scores = [Some(0.1 + 0.2), None];
        let manifest = Manifest::new(2, Settings::default(), &scores, 4, files.collect());
        let bytes = manifest.to_bytes();
        let read = Manifest::parse(&bytes, 2).unwrap();
        assert_eq!(read.scores(), scores);
        assert_eq!(read.to_bytes(), bytes);
        assert_eq!(Manifest::parse(&bytes, 3).unwrap_err(), "is of epoch 2");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Manifest::parse(&changed, 2).is_err(), "byte {at}");
            assert!(Manifest::parse(&bytes[..at], 2).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn files_are_known_by_their_names() {
        assert_eq!(epoch_of("set-12.json"), Some((12, true)));
        assert_eq!(epoch_of("optim-3.bpk"), Some((3, false)));
        for other in ["set-.json", "notes.txt", "model-1.bpk.old", "model-x.bpk"] {
            assert_eq!(epoch_of(other), None);
        }
    }
}
