//! Writing a file whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};

/// The end of the names of files that are not whole yet.
const UNFINISHED: &str = "tmp";

/// What a manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// The name within the directory.
    pub(crate) file: String,
    /// The length.
    pub(crate) bytes: u64,
    /// XXH3, 64 bits, of the whole file, in hexadecimal digits.
    pub(crate) checksum: String,
}

/// A checksum as manifests write it.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// Writes parts into a file of the directory, which is there whole, and stays, once this returns.
///
/// They go into a file aside, which is synced and takes the name only then; the directory is synced
/// after. A process killed at any moment leaves the old file or the new one, and perhaps the one aside,
/// which the next writer replaces.
pub(crate) fn write_whole<'a>(
    directory: &Path,
    name: &str,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Written> {
    let path = directory.join(name);
    let aside = directory.join(format!("{name}.{UNFINISHED}"));
    let failed = |error: std::io::Error| {
        // What went wrong first is what to tell; the next writer replaces a file left behind.
        if let Err(error) = std::fs::remove_file(&aside)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("{}: {error}", aside.display());
        }
        Error::KnowledgeFile {
            path: path.clone(),
            reason: format!("cannot be written: {error}"),
            remedy: "make room or let it be written there, and record again: it goes on after the \
                     last whole shard"
                .into(),
        }
    };
    let mut file = File::create(&aside).map_err(failed)?;
    let mut hash = Xxh3::new();
    let mut bytes = 0;
    for part in parts {
        file.write_all(part).map_err(failed)?;
        hash.update(part);
        bytes += part.len() as u64;
    }
    file.sync_all().map_err(failed)?;
    std::fs::rename(&aside, &path).map_err(failed)?;
    sync_directory(directory).map_err(failed)?;
    Ok(Written {
        file: name.to_string(),
        bytes,
        checksum: format!("{:016x}", hash.digest()),
    })
}

/// Makes a rename last.
fn sync_directory(directory: &Path) -> std::io::Result<()> {
    // Windows has no handle of a directory to sync.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}
