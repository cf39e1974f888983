//! Files that are written whole or not at all, and directories that one writer holds at a time.

use std::ffi::OsStr;
use std::fs::{File, Metadata, TryLockError};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

/// The end of the names of files that are not whole yet.
const UNFINISHED: &str = ".tmp";

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
/// They go into a new file aside, of a random name, which is synced and takes the name only
/// then; the directory is synced after. A process killed at any moment leaves the old file or the new one,
/// and perhaps the one aside, which [`remove_unfinished`] finds.
pub(crate) fn write_whole<'a>(
    directory: &Path,
    name: impl AsRef<OsStr>,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Written> {
    let name = name.as_ref();
    let mut aside = name.to_os_string();
    aside.push(format!(".{:016x}{UNFINISHED}", rand::random::<u64>()));
    let aside = directory.join(aside);
    // A new file: whatever has the name already, a link as well, is an error.
    let mut file = File::options().write(true).create_new(true).open(&aside)?;
    let write = || -> Result<(u64, u64)> {
        let mut hash = Xxh3::new();
        let mut bytes = 0;
        for part in parts {
            file.write_all(part)?;
            hash.update(part);
            bytes += part.len() as u64;
        }
        file.sync_all()?;
        std::fs::rename(&aside, directory.join(name))?;
        Ok((bytes, hash.digest()))
    };
    let (bytes, digest) = write().inspect_err(|_| remove(&aside))?;
    sync_directory(directory)?;
    Ok(Written {
        file: name.to_string_lossy().into_owned(),
        bytes,
        checksum: format!("{digest:016x}"),
    })
}

/// Writes a file that a user names: whole or not at all, where a link leads, and straight into a device.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = match std::fs::canonicalize(path) {
        Ok(target) if !target.is_file() => return std::fs::write(target, bytes),
        Ok(target) => target,
        Err(_) => path.to_path_buf(),
    };
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = target.file_name().ok_or(ErrorKind::InvalidFilename)?;
    write_whole(directory, name, [bytes]).map(drop)
}

/// Removes an unused file. What went wrong before is what to tell, so a failure is only logged.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        log::warn!("{}: {error}", path.display());
    }
}

/// Removes what killed writers of these files left aside. The caller holds the directory.
pub(crate) fn remove_unfinished(directory: &Path, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name
            .to_str()
            .and_then(|name| name.strip_suffix(UNFINISHED))
            .is_some_and(&is_ours);
        if ours {
            remove(&entry.path());
        }
    }
    Ok(())
}

/// Makes a rename last.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    // Windows has no handle of a directory to sync.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}

/// Opens a file for reading, if it is a regular one: a pipe would have us wait, a device would never end.
pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata)> {
    is_regular(path)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn is_regular(path: &Path) -> Result<()> {
    match std::fs::metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Reads a regular file of at most `most` bytes.
pub(crate) fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (file, metadata) = open_regular(path)?;
    let too_large = |bytes: u64| {
        let reason = format!("has {bytes} bytes, expected at most {most}");
        Error::new(ErrorKind::InvalidData, reason)
    };
    if metadata.len() > most {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(too_large(bytes.len() as u64)),
        false => Ok(bytes),
    }
}

/// Holds a directory for one writer, by a file in it; `None` while another one does. The system lets go of
/// it with the process if need be.
pub(crate) fn lock(path: &Path) -> Result<Option<File>> {
    match is_regular(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A checksum that is not known yet.
pub(crate) const ZEROS: &str = "0000000000000000";
/// What comes before the digits of the checksum.
const OPENING: &str = "{\n  \"checksum\": \"";

/// A JSON text with its own checksum in front, `None` where it has no place for one.
pub(crate) fn seal(text: &[u8]) -> Option<Vec<u8>> {
    let digits = OPENING.len()..OPENING.len() + ZEROS.len();
    if !text.starts_with(OPENING.as_bytes()) || text.len() < digits.end {
        return None;
    }
    let mut text = text.to_vec();
    text[digits.clone()].copy_from_slice(ZEROS.as_bytes());
    let sum = checksum(&text);
    text[digits].copy_from_slice(sum.as_bytes());
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_aside() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        for text in ["old", "newer"] {
            let written = write_whole(directory, "a", [text.as_bytes()]).unwrap();
            assert_eq!(std::fs::read(directory.join("a")).unwrap(), text.as_bytes());
            assert_eq!(written.bytes, text.len() as u64);
            assert_eq!(written.checksum, checksum(text.as_bytes()));
        }
        std::fs::create_dir(directory.join("b")).unwrap();
        write_whole(directory, "b", [b"x".as_slice()]).unwrap_err();
        assert_eq!(left(directory), ["a", "b"]);
        std::fs::write(directory.join("a.0.tmp"), "").unwrap();
        std::fs::write(directory.join("other.tmp"), "").unwrap();
        remove_unfinished(directory, |name| name.starts_with("a.")).unwrap();
        assert_eq!(left(directory), ["a", "b", "other.tmp"]);
    }

    #[cfg(unix)]
    #[test]
    fn no_link_is_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let precious = directory.join("precious");
        std::fs::write(&precious, "precious").unwrap();
        for link in ["a", "a.tmp"] {
            std::os::unix::fs::symlink(&precious, directory.join(link)).unwrap();
        }
        write_whole(directory, "a", [b"new".as_slice()]).unwrap();
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
        assert_eq!(std::fs::read(directory.join("a")).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), directory.path()] {
            let error = read_regular(path, u64::MAX - 1).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file");
            assert_eq!(lock(path).unwrap_err().to_string(), "not a regular file");
        }
        let file = directory.path().join("file");
        std::fs::write(&file, "four").unwrap();
        assert_eq!(read_regular(&file, 4).unwrap(), b"four");
        let error = read_regular(&file, 3).unwrap_err();
        assert_eq!(error.to_string(), "has 4 bytes, expected at most 3");
    }
}
