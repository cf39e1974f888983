//! Byte pairs: a vocabulary of frequent pieces of words, learned from the text itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Ends a verse, starts the next, and fills a batch up.
pub const END: u16 = 0;

/// Bytes, and the pieces that pairs of pieces were merged into.
#[derive(Debug)]
pub struct Pairs {
    /// The bytes of each token.
    pieces: Vec<Vec<u8>>,
    /// The token that two tokens become. Those merged first have the smallest.
    merged: HashMap<(u16, u16), u16>,
}

impl Pairs {
    /// Starts from single bytes and merges the most frequent pair of neighbours within words, until
    /// the vocabulary has its size or no pair occurs twice.
    pub fn learn(text: &[String], vocabulary: usize) -> Self {
        let mut counts = BTreeMap::<&str, i64>::new();
        for word in text.iter().flat_map(|line| words(line)) {
            *counts.entry(word).or_default() += 1;
        }
        let mut words: Vec<(Vec<u16>, i64)> = (counts.into_iter())
            .map(|(word, count)| (bytes(word), count))
            .collect();
        let mut frequency = HashMap::<(u16, u16), i64>::new();
        for (word, count) in &words {
            for pair in neighbours(word) {
                *frequency.entry(pair).or_default() += count;
            }
        }

        let mut pairs = Self {
            // The end has no bytes.
            pieces: (std::iter::once(vec![]))
                .chain((0..=255).map(|byte| vec![byte]))
                .collect(),
            merged: HashMap::new(),
        };
        while pairs.vocabulary() < vocabulary {
            // Of equally frequent ones the smallest, whatever the order of the map.
            let most = frequency.iter().max_by_key(|(p, n)| (**n, Reverse(**p)));
            let Some((&pair, _)) = most.filter(|(_, n)| **n > 1) else {
                break;
            };
            let token = pairs.add(pair);
            for (word, count) in &mut words {
                if !neighbours(word).any(|found| found == pair) {
                    continue;
                }
                for pair in neighbours(word) {
                    *frequency.entry(pair).or_default() -= *count;
                }
                merge(word, pair, token);
                for pair in neighbours(word) {
                    *frequency.entry(pair).or_default() += *count;
                }
            }
        }
        pairs
    }

    /// The number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.pieces.len()
    }

    /// The tokens of a text: in each word, pairs are merged in the order in which they were learned.
    pub fn encode(&self, text: &str) -> Vec<u16> {
        let encoded = words(text).into_iter().flat_map(|word| {
            let mut tokens = bytes(word);
            loop {
                let known = neighbours(&tokens)
                    .filter_map(|pair| self.merged.get(&pair).map(|token| (*token, pair)));
                let Some((token, pair)) = known.min() else {
                    return tokens;
                };
                merge(&mut tokens, pair, token);
            }
        });
        encoded.collect()
    }

    /// The text of some tokens.
    pub fn decode(&self, tokens: &[u16]) -> String {
        let pieces = tokens.iter().map(|token| &self.pieces[usize::from(*token)]);
        let bytes: Vec<u8> = pieces.flatten().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn add(&mut self, (left, right): (u16, u16)) -> u16 {
        let token = u16::try_from(self.vocabulary()).expect("a vocabulary of at most 65,536");
        let [left_bytes, right_bytes] = [left, right].map(|t| &self.pieces[usize::from(t)]);
        let piece = [left_bytes.as_slice(), right_bytes].concat();
        self.pieces.push(piece);
        self.merged.insert((left, right), token);
        token
    }
}

/// Words with the space before them; runs of other signs are words as well.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut before) = (0, ' ');
    for (at, sign) in text.char_indices() {
        let begins = sign == ' ' || before != ' ' && before.is_alphabetic() != sign.is_alphabetic();
        if begins && at > start {
            words.push(&text[start..at]);
            start = at;
        }
        before = sign;
    }
    words.push(&text[start..]);
    words
}

fn bytes(word: &str) -> Vec<u16> {
    word.bytes().map(|byte| u16::from(byte) + 1).collect()
}

fn neighbours(tokens: &[u16]) -> impl Iterator<Item = (u16, u16)> {
    tokens.windows(2).map(|pair| (pair[0], pair[1]))
}

fn merge(tokens: &mut Vec<u16>, pair: (u16, u16), token: u16) {
    let mut at = 0;
    while at + 1 < tokens.len() {
        if (tokens[at], tokens[at + 1]) == pair {
            tokens[at] = token;
            tokens.remove(at + 1);
        }
        at += 1;
    }
}
