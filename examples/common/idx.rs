//! MNIST's own file format, IDX: a header of big-endian numbers, then one byte per value.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// The images of a file with their height and width.
pub struct Images {
    pub height: usize,
    pub width: usize,
    /// Rows from the top, image after image.
    pub pixels: Vec<u8>,
}

/// Whether a directory holds a split's images, under `train` or `t10k`.
pub fn is_here(directory: &Path, split: &str) -> bool {
    found(directory, &images_name(split)).is_some()
}

/// The images and labels of a split, `train` or `t10k`.
pub fn read(directory: &Path, split: &str) -> Result<(Images, Vec<u8>)> {
    let path = path_of(directory, &images_name(split))?;
    let (sizes, pixels) = values(&path, 3)?;
    let (count, height, width) = (sizes[0], sizes[1], sizes[2]);
    let images = Images {
        height,
        width,
        pixels,
    };
    let path = path_of(directory, &format!("{split}-labels-idx1-ubyte"))?;
    let (sizes, labels) = values(&path, 1)?;
    if sizes[0] != count {
        let problem = format!("{} labels for {count} images", sizes[0]);
        return Err(unreadable(&path, &problem));
    }
    Ok((images, labels))
}

fn images_name(split: &str) -> String {
    format!("{split}-images-idx3-ubyte")
}

/// A file of this name, packed or not, here or in a directory of its split, as Burn keeps them.
fn found(directory: &Path, name: &str) -> Option<PathBuf> {
    let split = if name.starts_with("train") {
        "train"
    } else {
        "test"
    };
    let directories = [directory.to_path_buf(), directory.join(split)];
    let files = directories
        .iter()
        .flat_map(|parent| [parent.join(name), parent.join(format!("{name}.gz"))]);
    files.into_iter().find(|file| file.exists())
}

fn path_of(directory: &Path, name: &str) -> Result<PathBuf> {
    found(directory, name).ok_or_else(|| unreadable(directory, &format!("there is no {name}")))
}

/// The sizes along each axis, and the values behind them.
fn values(path: &Path, axes: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let named = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(named)?;
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file)
            .read_to_end(&mut bytes)
            .map_err(named)?;
    } else {
        file.read_to_end(&mut bytes).map_err(named)?;
    }
    let header = 4 + 4 * axes;
    // Two zeros, 8 for unsigned bytes, and the number of axes.
    if bytes.len() < header || bytes[..4] != [0, 0, 8, axes as u8] {
        let problem = format!("not an IDX file of bytes with {axes} axes");
        return Err(unreadable(path, &problem));
    }
    let sizes = bytes[4..header].chunks_exact(4);
    let sizes: Vec<usize> = sizes
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
        .collect();
    let values = bytes.split_off(header);
    let expected: usize = sizes.iter().product();
    if values.len() != expected {
        let problem = format!("{} values where the header says {expected}", values.len());
        return Err(unreadable(path, &problem));
    }
    Ok((sizes, values))
}

fn unreadable(path: &Path, problem: &str) -> Error {
    let message = format!("{}: {problem}", path.display());
    Error::new(ErrorKind::InvalidData, message)
}
