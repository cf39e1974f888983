use std::fs;

use super::*;
use crate::data::key::SampleId;
use crate::knowledge::format::header::{
    FeaturePrecision, LogitsFormat, LogitsPrecision, ValuePrecision,
};
use crate::knowledge::format::rows::BatchLogits;
use crate::knowledge::fuzzing::headers;
use crate::knowledge::store::writer::Writer;
use crate::knowledge::testing::{Owned, SMALL, dense, exact_log_probs, record};

#[test]
fn every_form_comes_back_within_its_error() {
    for header in headers() {
        let directory = tempfile::tempdir().unwrap();
        let samples = record(directory.path(), &header, 40);
        let store = Store::open(directory.path()).unwrap();
        assert!(store.inner.shards.len() > 3, "several shards");
        store.verify().unwrap();

        // Some of them, in an order of their own.
        let chosen: Vec<&Owned> = [17, 3, 39, 0, 22, 17]
            .iter()
            .map(|n| &samples[*n])
            .collect();
        let keys: Vec<Key> = chosen.iter().map(|s| s.key).collect();
        let rows = store.read(&keys).unwrap();
        assert_eq!(
            rows.per_sample,
            chosen.iter().map(|s| s.rows).collect::<Vec<_>>()
        );
        assert_eq!(
            rows.seeds,
            chosen.iter().map(|s| s.seed).collect::<Vec<_>>()
        );
        let logits: Vec<f32> = chosen.iter().flat_map(|s| s.logits.clone()).collect();
        let all_rows: Vec<&[f32]> = logits.chunks(header.classes).collect();

        match (&rows.logits, header.logits) {
            (BatchLogits::Dense { classes, values }, LogitsFormat::Dense { precision }) => {
                assert_eq!((*classes, values.len()), (header.classes, logits.len()));
                // The relative errors that the header states.
                let relative = match precision {
                    LogitsPrecision::F32 => 0.0,
                    LogitsPrecision::F16 => 2f32.powi(-11),
                    LogitsPrecision::Bf16 => 2f32.powi(-8),
                };
                for (value, exact) in values.iter().zip(&logits) {
                    let allowed = (exact.abs() * relative).max(2f32.powi(-25) * relative.signum());
                    assert!((value - exact).abs() <= allowed);
                }
            }
            (
                BatchLogits::Sparse {
                    width,
                    indices,
                    log_probs: got,
                },
                form,
            ) => {
                assert_eq!(indices.len(), all_rows.len() * width);
                let rows = indices.chunks(*width).zip(got.chunks(*width));
                for ((indices, got), logits) in rows.zip(&all_rows) {
                    check_row(form, indices, got, logits);
                }
            }
            other => panic!("{other:?}"),
        }
        check_features(&header, &rows, &chosen);
    }
}

fn check_row(form: LogitsFormat, indices: &[i32], got: &[f32], logits: &[f32]) {
    let mass: f64 = got.iter().map(|l| f64::from(*l).exp()).sum();
    match form {
        LogitsFormat::TopK {
            k,
            temperature,
            precision,
        } => {
            // Of log-probabilities down to −8, in half precision to 8/2048; and of their sum.
            let (allowed, allowed_mass) = match precision {
                ValuePrecision::F32 => (1e-6, 1e-6),
                ValuePrecision::F16 => (0.004, 0.004),
                ValuePrecision::Step(step) => (step + 1e-5, 1e-6),
            };
            let exact = exact_log_probs(logits, temperature);
            let mut sorted: Vec<i32> = (0..logits.len() as i32).collect();
            sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
            let mut top = indices.to_vec();
            top.sort_unstable();
            sorted[..k].sort_unstable();
            assert_eq!(top, sorted[..k]);
            for (index, got) in indices.iter().zip(got) {
                assert!((f64::from(*got) - exact[*index as usize]).abs() <= allowed);
            }
            let left: f64 = sorted[k..].iter().map(|c| exact[*c as usize].exp()).sum();
            assert!((1.0 - mass - left).abs() < allowed_mass);
        }
        LogitsFormat::Sampled { draws, .. } => {
            assert!((mass - 1.0).abs() < 1e-6);
            for (place, (index, got)) in indices.iter().zip(got).enumerate() {
                let count = f64::from(*got).exp() * draws as f64;
                assert!((count - count.round()).abs() < 1e-4, "whole counts");
                // Places without a class name the first again.
                let first = indices.iter().position(|i| i == index);
                assert_eq!(first, Some(if count == 0.0 { 0 } else { place }));
            }
        }
        LogitsFormat::Dense { .. } => panic!("dense rows have no indices"),
    }
}

fn check_features(header: &Header, rows: &Rows, chosen: &[&Owned]) {
    for (at, (feature, format)) in rows.features.iter().zip(&header.features).enumerate() {
        assert_eq!(
            (&feature.name, &feature.shape),
            (&format.name, &format.shape)
        );
        let exact: Vec<f32> = chosen.iter().flat_map(|s| s.features[at].clone()).collect();
        assert_eq!(feature.values.len(), exact.len());
        let lengths = chosen.iter().map(|s| s.features[at].len() / format.size());
        assert_eq!(feature.lengths, format.varies.then(|| lengths.collect()));
        for (value, exact) in feature.values.chunks(2).zip(exact.chunks(2)) {
            let largest = exact.iter().fold(0f32, |most, v| most.max(v.abs()));
            let allowed = match format.precision {
                FeaturePrecision::F32 => 0.0,
                FeaturePrecision::F16 => largest / 2048.0,
                // Vectors of two.
                FeaturePrecision::Int8 => largest / 253.9,
            };
            for (value, exact) in value.iter().zip(exact) {
                assert!((value - exact).abs() <= allowed, "{}", feature.name);
            }
        }
    }
}

#[test]
fn other_programs_open_the_shards() {
    let directory = tempfile::tempdir().unwrap();
    let samples = record(directory.path(), &dense(), 10);
    let bytes = fs::read(directory.path().join("shard-00000.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("ids").unwrap();
    assert_eq!(ids.shape()[1], 2);
    assert_eq!(ids.data()[..16], samples[0].key.id.0.to_le_bytes());
    let logits = file.tensor("logits").unwrap();
    let first = logits.data()[..4].try_into().unwrap();
    assert_eq!(f32::from_le_bytes(first), samples[0].logits[0]);
    for (name, tensor) in file.tensors() {
        let place = tensor.data().as_ptr().addr() - bytes.as_ptr().addr();
        let width = tensor.dtype().bitsize() / 8;
        assert!(place.is_multiple_of(width), "{name} can be cast");
    }
}

#[test]
fn samples_that_are_the_same_are_read_once_and_counted_each() {
    let directory = tempfile::tempdir().unwrap();
    let header = dense();
    let mut writer = Writer::create_or_resume(directory.path(), &header, SMALL).unwrap();
    let (first, mut other) = (Owned::new(1, &header), Owned::new(2, &header));
    other.key = first.key;
    first.write(&header, &mut writer).unwrap();
    Owned::new(3, &header).write(&header, &mut writer).unwrap();
    other.write(&header, &mut writer).unwrap();
    writer.finish().unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!((store.len(), store.duplicates()), (3, 1));
    let rows = store.read(&[first.key]).unwrap();
    assert_eq!(rows.seeds, [first.seed]);
    let keys: Vec<u128> = store.keys().map(|(key, _)| key.id.0).collect();
    assert_eq!(keys, [1, 3, 1]);
}

#[test]
fn what_was_not_recorded_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    record(directory.path(), &dense(), 4);
    let store = Store::open(directory.path()).unwrap();
    let key = Key::new(SampleId(1)).with_view(1);
    assert!(!store.contains(key) && store.contains(Key::new(SampleId(1))));
    assert_eq!(
        store.read(&[key]).unwrap_err().to_string(),
        format!(
            "sample 00000000000000000000000000000001 (view 1) is not among the 4 recorded in {}",
            directory.path().display()
        )
    );
}

/// Records 12 samples, changes the directory, and says what each sample is read as then.
fn after(change: impl FnOnce(&Path)) -> (Vec<Result<Rows>>, Store) {
    let directory = tempfile::tempdir().unwrap();
    let samples = record(directory.path(), &dense(), 12);
    let whole = Store::open(directory.path()).unwrap();
    let expected: Vec<Rows> = samples
        .iter()
        .map(|s| whole.read(&[s.key]).unwrap())
        .collect();
    change(directory.path());
    let store = Store::open(directory.path()).unwrap();
    let found: Vec<_> = samples.iter().map(|s| store.read(&[s.key])).collect();
    for (found, expected) in found.iter().zip(&expected) {
        if let Ok(found) = found {
            assert_eq!(found, expected, "what is read is right");
        }
    }
    (found, store)
}

#[test]
fn a_shard_that_is_gone_leaves_the_others() {
    let (found, store) = after(|d| fs::remove_file(d.join("shard-00001.safetensors")).unwrap());
    let bad: Vec<_> = found.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(!bad.is_empty() && bad.len() < 12);
    let problem = format!(
        "{}: is missing; bring it back, or record again into another directory",
        store.directory().join("shard-00001.safetensors").display()
    );
    assert_eq!(store.problems()[0].to_string(), problem);
    assert!(
        bad[0]
            .to_string()
            .ends_with(&format!(", of which some cannot be read: {problem}"))
    );
    assert_eq!(store.verify().unwrap_err().to_string(), problem);
}

#[test]
fn a_shard_that_was_cut_off_leaves_the_others() {
    let (found, store) = after(|d| {
        let file = fs::File::options()
            .write(true)
            .open(d.join("shard-00000.safetensors"))
            .unwrap();
        file.set_len(100).unwrap();
    });
    assert!(found.iter().any(Result::is_ok) && found.iter().any(Result::is_err));
    let problem = store.problems()[0].to_string();
    assert!(
        problem.contains("shard-00000.safetensors: has 100 bytes, "),
        "{problem}"
    );
}

#[test]
fn a_foreign_file_in_the_place_of_a_shard_is_named() {
    let (found, store) = after(|d| {
        let path = d.join("shard-00000.safetensors");
        let length = fs::metadata(&path).unwrap().len() as usize;
        fs::write(path, "#".repeat(length)).unwrap();
    });
    assert!(found.iter().any(Result::is_ok) && found.iter().any(Result::is_err));
    let problem = store.problems()[0].to_string();
    assert!(
        problem.contains("shard-00000.safetensors: it is no safetensors file"),
        "{problem}"
    );
}

#[test]
fn a_flipped_bit_anywhere_in_a_shard_is_found_before_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let samples = record(directory.path(), &dense(), 12);
    let path = directory.path().join("shard-00001.safetensors");
    let bytes = fs::read(&path).unwrap();
    let whole = Store::open(directory.path()).unwrap();
    let inside: Vec<Key> = whole.inner.shards[1]
        .as_ref()
        .map(|shard| shard.layout.keys(&shard.map).map(|(key, _)| key).collect())
        .unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        // Replaced, as everything in a store is: an open one keeps its own.
        fs::remove_file(&path).unwrap();
        fs::write(&path, changed).unwrap();
        let store = Store::open(directory.path()).unwrap();
        for sample in &samples {
            let read = store.read(&[sample.key]);
            assert_eq!(read.is_err(), inside.contains(&sample.key), "byte {at}");
            if let Err(error) = read {
                let text = error.to_string();
                assert!(text.contains("shard-00001.safetensors"), "{text}");
            }
        }
        assert!(store.verify().is_err());
    }
    assert_eq!(whole.read(&inside).unwrap().per_sample.len(), inside.len());
}

#[test]
fn without_its_manifest_or_end_a_directory_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let text = Store::open(directory.path()).unwrap_err().to_string();
    let path = directory.path().join("manifest.json");
    assert_eq!(
        text,
        format!(
            "{}: is missing; name a directory in which knowledge was recorded",
            path.display()
        )
    );

    let header = dense();
    let mut writer = Writer::create_or_resume(directory.path(), &header, SMALL).unwrap();
    Owned::new(1, &header).write(&header, &mut writer).unwrap();
    writer.flush().unwrap();
    drop(writer);
    assert_eq!(
        Store::open(directory.path()).unwrap_err().to_string(),
        format!(
            "the knowledge in {} is unfinished, with 1 samples so far; record the rest, or open it as it \
             is with `Store::open_partial`",
            directory.path().display()
        )
    );
    let store = Store::open_partial(directory.path()).unwrap();
    assert!(!store.is_complete() && store.contains(Key::new(SampleId(1))));
}

#[test]
fn threads_read_at_the_same_time() {
    fn shared<T: Send + Sync + Clone>(value: &T) -> T {
        value.clone()
    }
    let directory = tempfile::tempdir().unwrap();
    let samples = record(directory.path(), &headers()[5], 30);
    let store = Store::open(directory.path()).unwrap();
    let keys: Vec<Key> = samples.iter().map(|s| s.key).collect();
    let expected = store.read(&keys).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let store = shared(&store);
            let (keys, expected) = (&keys, &expected);
            scope.spawn(move || assert_eq!(store.read(keys).unwrap(), *expected));
        }
    });
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_named_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    record(directory, &dense(), 9);
    for name in ["shard-00000.safetensors", "manifest.json"] {
        let path = directory.join(name);
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = match Store::open(directory) {
            Ok(store) => store.problems().remove(0),
            Err(error) => error,
        };
        let expected = format!("{}: not a regular file", path.display());
        assert_eq!(error.to_string(), expected);
    }
}
