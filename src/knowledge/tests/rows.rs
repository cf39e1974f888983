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
        key: Key::new(SampleId(n.into())),
        seed: 0,
        rows: 1,
        logits,
        features: &[],
    }
}

#[test]
fn classes_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::create_or_resume(directory.path(), &top(2, 4), LARGE).unwrap();
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
    let all = LogitsRecord::Full(&[0.0; 4]);
    let error = writer.write(&sample(1, all)).unwrap_err().to_string();
    assert!(error.ends_with("it has all logits, the store keeps the most likely classes"));
    let dense_store = tempfile::tempdir().unwrap();
    let mut writer = Writer::create_or_resume(dense_store.path(), &dense(), LARGE).unwrap();
    let logits = LogitsRecord::TopK {
        indices: &[],
        log_probs: &[],
        log_rest: &[],
    };
    let error = writer.write(&sample(1, logits)).unwrap_err().to_string();
    assert!(error.ends_with("it has the most likely classes, the store keeps something else"));
}

/// Records rows of 16 classes, which are the same 40 of 4096 in all rows, far apart; goes on where the last
/// writer ended.
fn skewed(directory: &Path, rows: std::ops::Range<u64>) {
    let mut writer = Writer::create_or_resume(directory, &top(16, 4096), 150_000).unwrap();
    for n in rows {
        let mut numbers = Numbers(n);
        // 97 and 4096 have no common divisor.
        let indices: Vec<i32> = (numbers.classes(16, 40).iter())
            .map(|at| (at * 97 * 3 % 4096) as i32)
            .collect();
        let weights: Vec<f64> = (0..16).map(|_| (2.0 * numbers.normal()).exp()).collect();
        let sum = weights.iter().sum::<f64>() * 1.25;
        let log_probs: Vec<f32> = weights.iter().map(|w| (w / sum).ln() as f32).collect();
        let logits = LogitsRecord::TopK {
            indices: &indices,
            log_probs: &log_probs,
            log_rest: &[0.2f32.ln()],
        };
        writer.write(&sample(n, logits)).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn ranks_are_found_where_they_pay_and_read_back() {
    let [own, found] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let rows = 12_000;
    // One row does not pay for a list of 4096 numbers, and later shards keep to the first.
    skewed(own.path(), 0..1);
    skewed(own.path(), 1..rows);
    skewed(found.path(), 0..rows / 2);
    skewed(found.path(), rows / 2..rows);
    let stores = [own.path(), found.path()].map(|d| Store::open(d).unwrap());
    let [plain, ranked] = stores.each_ref().map(Store::bytes);
    let list = fs::metadata(found.path().join("ranks.safetensors")).unwrap();
    assert!(!own.path().join("ranks.safetensors").exists());
    // 16 of 40 classes take log2 C(40, 16) = 36 bits a row, 16 of 4096 at places 100 apart more than twice.
    assert!(ranked + list.len() < plain, "{ranked} {plain}");

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
}

#[test]
fn ranks_that_are_gone_or_damaged_are_named() {
    let directory = tempfile::tempdir().unwrap();
    skewed(directory.path(), 0..6000);
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
    let writer = Writer::create_or_resume(directory.path(), &dense(), LARGE).unwrap();
    writer.finish().unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(store.is_empty() && store.is_complete());
}
