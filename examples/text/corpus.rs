//! The verses in `examples/data/text`, as tokens in padded batches.

use std::io::Read;
use std::path::Path;

use burn::data::dataset::InMemDataset;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_distill::{DistillBatch, DistillData};
use flate2::read::GzDecoder;

use crate::pairs::{END, Pairs};

/// Verses for training, for choosing settings, and for the table.
#[derive(Debug)]
pub struct Corpus {
    pub train: Vec<String>,
    pub valid: Vec<String>,
    pub test: Vec<String>,
}

impl Corpus {
    /// Reads the text. Whole chapters are held out, every tenth for each of two purposes, because
    /// neighbouring verses repeat each other's words.
    pub fn read() -> std::io::Result<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/text");
        let path = directory.join("genesis-to-ruth.txt.gz");
        let file = std::fs::File::open(&path)
            .map_err(|error| std::io::Error::other(format!("{}: {error}", path.display())))?;
        let mut text = String::new();
        GzDecoder::new(file).read_to_string(&mut text)?;

        let (mut train, mut valid, mut test) = (Vec::new(), Vec::new(), Vec::new());
        for (number, chapter) in text.split("\n\n").enumerate() {
            let part = match number % 10 {
                4 => &mut valid,
                9 => &mut test,
                _ => &mut train,
            };
            part.extend(chapter.lines().map(String::from));
        }
        Ok(Self { train, valid, test })
    }
}

/// Verses as tokens, and the number of their characters.
#[derive(Debug, Clone)]
pub struct Verses {
    /// The tokens of each, without an end.
    pub tokens: Vec<Vec<u16>>,
    /// Characters of all verses, with one for the end of each.
    pub characters: usize,
}

impl Verses {
    pub fn new(text: &[String], pairs: &Pairs) -> Self {
        let encode = |verse: &String| {
            let tokens = pairs.encode(verse);
            // Else a perplexity per character would be that of another text.
            assert_eq!(pairs.decode(&tokens), *verse, "nothing is lost");
            tokens
        };
        Self {
            tokens: text.iter().map(encode).collect(),
            characters: text.iter().map(|verse| verse.len() + 1).sum(),
        }
    }

    /// Tokens of all verses, with the end of each.
    pub fn count(&self) -> usize {
        self.tokens.iter().map(|tokens| tokens.len() + 1).sum()
    }

    /// Batches in which every token is to be predicted from those before it.
    ///
    /// A verse of n tokens makes n + 1 rows: the input begins with the end of the verse before, the
    /// target ends with its own. Shorter verses are padded, and the mask leaves the padding out.
    pub fn data(&self) -> DistillData<Tensor<2, Int>> {
        let verses = InMemDataset::new(self.tokens.clone());
        DistillData::from_fn(verses, |verses: Vec<Vec<u16>>, device: &Device| {
            let longest = verses.iter().map(Vec::len).max().unwrap_or(0) + 1;
            let shape = [verses.len(), longest];
            let rows = verses.len() * longest;
            let (mut input, mut target) = (vec![i32::from(END); rows], vec![i32::from(END); rows]);
            let mut valid = vec![false; rows];
            for (n, verse) in verses.iter().enumerate() {
                let first = n * longest;
                for (position, token) in verse.iter().enumerate() {
                    input[first + position + 1] = i32::from(*token);
                    target[first + position] = i32::from(*token);
                }
                valid[first..=first + verse.len()].fill(true);
            }
            let int = |tokens| Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), device);
            let mask = Tensor::<2, Bool>::from_data(TensorData::new(valid, shape), device);
            DistillBatch::new(int(input))
                .with_classes(int(target))
                .with_mask(mask)
        })
    }
}
