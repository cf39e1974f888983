//! Rows of some classes: given, drawn, and in numbers of their own.

use super::*;
use crate::knowledge::format::header::{LogitsFormat, ValuePrecision};
use crate::knowledge::format::rows::BatchLogits;
use crate::knowledge::format::sample::LogitsRecord;
use crate::knowledge::testing::Numbers;

fn top(k: usize, classes: usize) -> Header {
    Header {
        teacher: "a teacher".into(),
        heads: Vec::new(),
        classes,
        logits: LogitsFormat::TopK {
            k,
            temperature: 1.0,
            precision: ValuePrecision::Step(0.1),
        },
        features: Vec::new(),
        views: 1,
    }
}

fn sample<'a>(n: u64, logits: LogitsRecord<'a>) -> SampleRecord<'a> {
    SampleRecord {
        id: SampleId(n.into()),
        view: 0,
        seed: 0,
        rows: 1,
        logits,
        features: &[],
    }
}

#[test]
fn classes_found_on_a_device_are_those_found_here() {
    let (all, found) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let header = top(2, 4);
    let logits = [0.5f32, 2.0, -1.0, 1.0];
    let sum: f32 = logits.iter().map(|z| z.exp()).sum();
    let log_prob = |class: usize| logits[class] - sum.ln();
    let rest = (log_prob(0).exp() + log_prob(2).exp()).ln();
    let record = |directory: &Path, logits| {
        let mut writer = Writer::create_or_resume(directory, &header).unwrap();
        writer.write(&sample(1, logits)).unwrap();
        writer.finish().unwrap();
        let store = Store::open(directory).unwrap();
        match store.read(&[Key::new(SampleId(1))]).unwrap().logits {
            BatchLogits::Sparse {
                indices, log_probs, ..
            } => (indices, log_probs),
            dense => panic!("{dense:?}"),
        }
    };
    let given = LogitsRecord::TopK {
        indices: &[3, 1],
        log_probs: &[log_prob(3), log_prob(1)],
        log_rest: &[rest],
    };
    let (all, found) = (
        record(all.path(), LogitsRecord::Full(&logits)),
        record(found.path(), given),
    );
    assert_eq!(all.0, found.0);
    for (a, b) in all.1.iter().zip(&found.1) {
        assert!((a - b).abs() < 1e-5);
    }
}

#[test]
fn classes_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::create_or_resume(directory.path(), &top(2, 4)).unwrap();
    let half = 0.5f32.ln();
    let mut refused = |indices: &[i32], rest: &[f32]| {
        let logits = LogitsRecord::TopK {
            indices,
            log_probs: &[half, half],
            log_rest: rest,
        };
        let text = writer.write(&sample(1, logits)).unwrap_err().to_string();
        text.split_once("cannot be recorded: ")
            .unwrap()
            .1
            .to_string()
    };
    let none = [f32::NEG_INFINITY];
    assert_eq!(refused(&[1, 1], &none), "a row names a class twice");
    assert_eq!(refused(&[1, 4], &none), "class 4 is none of 4");
    assert_eq!(refused(&[-1, 2], &none), "class -1 is none of 4");
    assert_eq!(
        refused(&[1], &none),
        "it has 1 classes, expected 1 rows of 2"
    );
    assert_eq!(
        refused(&[1, 2], &[]),
        "it has 0 masses left out, expected 1 rows of 1"
    );
    let dense_store = tempfile::tempdir().unwrap();
    let mut writer = Writer::create_or_resume(dense_store.path(), &dense()).unwrap();
    let logits = LogitsRecord::TopK {
        indices: &[],
        log_probs: &[],
        log_rest: &[],
    };
    let error = writer.write(&sample(1, logits)).unwrap_err().to_string();
    assert!(error.ends_with("it has the most likely classes, the store keeps something else"));
}

/// Rows whose classes are mostly the same few, far apart.
fn skewed(directory: &Path, ranks: RankChoice, rows: u64) -> u64 {
    let header = top(16, 4096);
    let options = WriterOptions {
        shard_bytes: 150_000,
        ranks,
    };
    let mut writer = Writer::create_or_resume_with(directory, &header, options).unwrap();
    let recorded = writer.recorded();
    for n in 0..rows {
        let mut numbers = Numbers(n);
        let mut logits = vec![-20.0; 4096];
        for at in 0..40 {
            // 97 and 4096 have no common divisor.
            logits[at * 97 * 3 % 4096] = 3.0 * numbers.normal() as f32;
        }
        if n < recorded {
            continue;
        }
        writer
            .write(&sample(n, LogitsRecord::Full(&logits)))
            .unwrap();
        if n == rows / 2 && ranks_interrupt(directory) {
            return 0;
        }
    }
    writer.finish().unwrap();
    Store::open(directory).unwrap().bytes()
}

/// Whether a test wants its first writer to stop half way: it left a file that says so.
fn ranks_interrupt(directory: &Path) -> bool {
    fs::remove_file(directory.join("interrupt")).is_ok()
}

#[test]
fn ranks_are_found_where_they_pay_and_read_back() {
    let [own, found, given] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let rows = 12_000;
    let plain = skewed(own.path(), RankChoice::Off, rows);
    fs::write(found.path().join("interrupt"), "").unwrap();
    skewed(found.path(), RankChoice::Auto, rows);
    let ranked = skewed(found.path(), RankChoice::Auto, rows);
    let list = fs::metadata(found.path().join("ranks.safetensors")).unwrap();
    assert!(!own.path().join("ranks.safetensors").exists());
    // 16 of 40 classes take log2 C(40, 16) = 36 bits a row, 16 of 4096 at places 100 apart more than twice.
    assert!(ranked + list.len() < plain, "{ranked} {plain}");

    let stores = [own.path(), found.path()].map(|d| Store::open(d).unwrap());
    let keys: Vec<Key> = (0..rows).map(|n| Key::new(SampleId(n.into()))).collect();
    let sorted = |store: &Store| {
        let BatchLogits::Sparse {
            indices, log_probs, ..
        } = store.read(&keys).unwrap().logits
        else {
            panic!("rows of 16 classes were recorded");
        };
        let mut pairs: Vec<(usize, i32, u32)> = (0..indices.len())
            .map(|at| (at / 16, indices[at], log_probs[at].to_bits()))
            .collect();
        pairs.sort_unstable();
        pairs
    };
    let (a, b) = (sorted(&stores[0]), sorted(&stores[1]));
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((a.0, a.1), (b.0, b.1));
        // Added up in another order.
        assert!((f32::from_bits(a.2) - f32::from_bits(b.2)).abs() < 1e-5);
    }

    // Ranks given are kept, and others refused.
    let reversed: Vec<u32> = (0..4096).rev().collect();
    skewed(given.path(), RankChoice::Given(reversed.clone()), 10);
    let again = |classes| {
        let options = WriterOptions {
            ranks: RankChoice::Given(classes),
            ..WriterOptions::default()
        };
        Writer::create_or_resume_with(given.path(), &top(16, 4096), options).map(drop)
    };
    again(reversed).unwrap();
    let error = again((0..4096).collect()).unwrap_err().to_string();
    assert!(
        error.contains(
            "holds knowledge with classes numbered by other ranks, now it is by ranks given"
        ),
        "{error}"
    );
    assert_eq!(
        again(vec![0; 4096]).unwrap_err().to_string(),
        "knowledge.ranks is a list, expected every class once"
    );
    assert_eq!(
        again(vec![0]).unwrap_err().to_string(),
        "knowledge.ranks is 1 for 4096 classes, expected one class per logit"
    );
}

#[test]
fn ranks_that_are_gone_or_damaged_are_named() {
    let directory = tempfile::tempdir().unwrap();
    skewed(directory.path(), RankChoice::Given((0..4096).collect()), 10);
    let path = directory.path().join("ranks.safetensors");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&path, bytes).unwrap();
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("ranks.safetensors: has checksum "),
            "{error}"
        );
    }
    fs::remove_file(&path).unwrap();
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("ranks.safetensors: is missing; "), "{error}");
}

#[test]
fn a_shard_holds_no_more_than_its_size_and_a_sample() {
    let directory = tempfile::tempdir().unwrap();
    let header = dense();
    record(directory.path(), &header, 50);
    for (name, bytes) in files(directory.path()) {
        if name.starts_with("shard") {
            let head = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            // 3 rows of 8 numbers, 36 of places, two lengths, 3 halves, 2 · 2 vectors of bytes and their
            // scales, 2 numbers.
            let sample = 3 * 8 * 4 + 36 + 8 + 6 + 4 * (2 + 4) + 8;
            assert!(bytes.len() - head < 300 + sample, "{name}");
        }
    }
}

#[test]
fn nothing_is_a_store_without_samples() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::create_or_resume(directory.path(), &dense()).unwrap();
    writer.finish().unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(store.is_empty() && store.is_complete());
    assert_eq!(store.read(&[]).unwrap().per_sample, Vec::<usize>::new());
}
