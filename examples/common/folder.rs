//! Folders of PNG images: `train/cat/1.png` is an image of the class `cat` to learn from.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::images::{Image, ImageSet};
use super::png;

/// Whether a directory has folders to learn from.
pub fn is_here(directory: &Path) -> bool {
    directory.join("train").is_dir()
}

/// The images of `train` and `test`, all of one size, either all grey or all in colour.
pub fn read(directory: &Path) -> Result<ImageSet> {
    let classes: Vec<PathBuf> = sorted(&directory.join("train"))?;
    let classes: Vec<PathBuf> = classes.into_iter().filter(|path| path.is_dir()).collect();
    let mut shape = None;
    let mut split = |name: &str| {
        let mut images = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let class = directory
                .join(name)
                .join(class.file_name().unwrap_or_default());
            for path in sorted(&class)?.iter().filter(|path| is_png(path)) {
                let (found, pixels) = decode(path)?;
                let shape = *shape.get_or_insert(found);
                if found != shape {
                    let problem =
                        format!("is {found:?} in channels, height and width, others {shape:?}");
                    return Err(failed(path, ErrorKind::InvalidData, &problem));
                }
                images.push(Image { pixels, label });
            }
        }
        // Otherwise the first thousand images might all be cats.
        images.shuffle(&mut StdRng::seed_from_u64(0));
        Ok(images)
    };
    let (train, test) = (split("train")?, split("test")?);
    let Some(shape) = shape else {
        return Err(failed(
            directory,
            ErrorKind::NotFound,
            &"there are no PNG images",
        ));
    };
    Ok(ImageSet {
        shape,
        classes: classes.len(),
        train,
        test,
    })
}

fn is_png(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
}

/// What is in a directory, by name.
fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(directory).map_err(|error| failed(directory, error.kind(), &error))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Channels, height and width of a file, and its pixels, one plane per channel.
fn decode(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    let bytes = std::fs::read(path).map_err(|error| failed(path, error.kind(), &error))?;
    png::decode(&bytes).map_err(|problem| failed(path, ErrorKind::InvalidData, &problem))
}

fn failed(path: &Path, kind: ErrorKind, problem: &dyn std::fmt::Display) -> Error {
    Error::new(kind, format!("{}: {problem}", path.display()))
}
