//! Spoken words: those in `examples/data/keywords`, or a directory of recordings.

use std::collections::BTreeSet;
use std::io::{Error, Read, Result};
use std::path::Path;

use flate2::read::GzDecoder;

/// Samples per second.
pub const RATE: usize = 8000;

/// What is listened for. One more class stands for every other word.
pub const KEYWORDS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

/// One spoken word.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Samples from -1 to 1.
    pub sound: Vec<f32>,
    /// The number of the keyword, or 10.
    pub class: usize,
}

/// Clips by the voices that speak them: no voice is in two of the sets.
#[derive(Debug, Default)]
pub struct Clips {
    pub train: Vec<Clip>,
    /// For choosing settings.
    pub valid: Vec<Clip>,
    pub test: Vec<Clip>,
}

impl Clips {
    /// The synthesised clips that come with the repository.
    pub fn shipped() -> Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/keywords");
        let table = std::fs::read_to_string(directory.join("clips.tsv"))?;
        let mut sounds = GzDecoder::new(std::fs::File::open(directory.join("clips.adpcm.gz"))?);
        let mut clips = Self::default();
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [split, _voice, _manner, word, samples] = columns[..] else {
                return Err(Error::other(format!(
                    "clips.tsv: five columns expected: {line}"
                )));
            };
            let samples: usize = samples.parse().map_err(Error::other)?;
            let mut codes = vec![0; samples / 2];
            sounds.read_exact(&mut codes)?;
            let is_word = |keyword: &&str| *keyword == word;
            let class = KEYWORDS.iter().position(is_word).unwrap_or(KEYWORDS.len());
            let sound = decode(&codes);
            match split {
                "train" => clips.train.push(Clip { sound, class }),
                "valid" => clips.valid.push(Clip { sound, class }),
                _ => clips.test.push(Clip { sound, class }),
            }
        }
        Ok(clips)
    }

    /// Recordings of digits, named as in the Free Spoken Digit Dataset: `7_jackson_32.wav`, mono,
    /// 16 bits, 8 kHz. The last two speakers of the alphabet are tested.
    pub fn recordings(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if let [digit, speaker, _take] = name.split('_').collect::<Vec<_>>()[..]
                && let Ok(class @ 0..=9) = digit.parse()
            {
                files.push((speaker.to_string(), class, path.clone()));
            }
        }
        // The order in which a directory is read is not the same everywhere.
        files.sort();
        let speakers: BTreeSet<String> = files.iter().map(|file| file.0.clone()).collect();
        if speakers.len() < 3 {
            let found = speakers.len();
            return Err(Error::other(format!(
                "{}: recordings of three speakers or more expected, found {found}",
                directory.display()
            )));
        }
        let tested: Vec<String> = speakers.into_iter().rev().take(2).collect();
        let mut clips = Self::default();
        for (speaker, class, path) in files {
            let sound = wav(&std::fs::read(&path)?).ok_or_else(|| {
                Error::other(format!("{}: not 16 bits, mono, 8 kHz", path.display()))
            })?;
            match tested.contains(&speaker) {
                true => clips.test.push(Clip { sound, class }),
                false => clips.train.push(Clip { sound, class }),
            }
        }
        Ok(clips)
    }
}

/// How the step changes after a code of this magnitude.
const GROW: [f64; 8] = [0.9, 0.9, 0.9, 0.9, 1.2, 1.6, 2.0, 2.4];

/// The opposite of `encode` in `make.py`: each four bits say how far it is to the next sample.
fn decode(codes: &[u8]) -> Vec<f32> {
    let (mut value, mut step) = (0.0, 0.002);
    let mut sound = Vec::with_capacity(codes.len() * 2);
    for code in codes.iter().flat_map(|byte| [byte & 15, byte >> 4]) {
        let magnitude = usize::from(code & 7);
        let change = (magnitude as f64 + 0.5) * step;
        value += if code & 8 == 0 { change } else { -change };
        step = (step * GROW[magnitude]).clamp(0.0005, 0.25);
        sound.push(value as f32);
    }
    sound
}

/// The samples of a WAV file, if it is one of 16 bits, one channel and 8 kHz.
fn wav(bytes: &[u8]) -> Option<Vec<f32>> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (mut at, mut format) = (12, None);
    while let Some(size) = number(at + 4) {
        let (name, body) = (
            &bytes[at..at + 4],
            bytes.get(at + 8..at + 8 + size as usize)?,
        );
        match name {
            b"fmt " => format = Some((body[..4].to_vec(), number(at + 12)?, body.get(14)?)),
            b"data" => {
                // One is the code of plain samples, and one the number of channels.
                let (kind, rate, bits) = format?;
                let fits = kind == [1, 0, 1, 0] && rate as usize == RATE && *bits == 16;
                let sample =
                    |pair: &[u8]| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0;
                return fits.then(|| body.chunks_exact(2).map(sample).collect());
            }
            _ => {}
        }
        at += 8 + size as usize + size as usize % 2;
    }
    None
}
