//! Files as memory.

use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::files::open_regular;

/// Maps a file that should have so many bytes.
///
/// The map reads what the file holds at that moment. If another program cuts the file off while it is
/// mapped, reading behind its new end stops this process with SIGBUS: the system offers nothing else. If
/// another program writes into it, numbers change; nothing else does, since every length and index read
/// from a file is checked when it is used.
#[allow(unsafe_code)]
pub(crate) fn map(path: &Path, bytes: u64) -> Result<Mmap> {
    let open = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::KnowledgeFile {
            path: path.to_path_buf(),
            reason: "is missing".into(),
            remedy: "bring it back, or record again into another directory".into(),
        },
        _ => Error::io(path, error),
    };
    let (file, metadata) = open_regular(path).map_err(open)?;
    let found = metadata.len();
    if found != bytes {
        return Err(Error::KnowledgeFile {
            path: path.to_path_buf(),
            reason: format!("has {found} bytes, {bytes} were recorded"),
            remedy: "bring it back from a copy, or record again into another directory".into(),
        });
    }
    // SAFETY: the map is only read. That nobody changes the file meanwhile is what a safe interface
    // cannot promise; this crate replaces files of knowledge by renaming and never writes into one. What
    // follows if somebody else does is said above, and the checksum finds what was changed before.
    unsafe { Mmap::map(&file) }.map_err(|error| Error::io(path, error))
}
