use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::*;
use crate::knowledge::fuzzing::headers;
use crate::knowledge::header::{LogitsFormat, ValuePrecision};
use crate::knowledge::key::SampleId;
use crate::knowledge::rows::BatchLogits;
use crate::knowledge::sample::LogitsRecord;
use crate::knowledge::store::Store;
use crate::knowledge::testing::{Numbers, Owned, dense, record, small_shards};

/// What a directory holds but for the lock and what is not whole.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        (name, fs::read(path).unwrap())
    });
    entries
        .filter(|(name, _)| name.ends_with(".json") || name.ends_with(".safetensors"))
        .collect()
}

/// Goes on with the samples 0 to `count` as a user does, calling `after` behind each.
fn go_on(directory: &Path, header: &Header, count: u64, after: impl Fn(&Writer)) {
    let mut writer = Writer::create_or_resume_with(directory, header, small_shards()).unwrap();
    let recorded = writer.recorded();
    for n in 0..count {
        let sample = Owned::new(n, header);
        if n < recorded {
            writer.expect(&[(sample.key, sample.seed)]).unwrap();
        } else {
            sample.write(&mut writer).unwrap();
            after(&writer);
        }
    }
    writer.finish().unwrap();
}

/// This test again, in a process of its own with a directory to work in.
fn again(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let module = module_path!().split_once("::").unwrap().1;
    command
        .args([&format!("{module}::{test}"), "--exact", "--nocapture"])
        .env(CHILD, directory);
    command
}

/// Tells a test that it is the child.
const CHILD: &str = "BURN_DISTILL_TEST_CHILD";

#[test]
fn killed_at_any_moment_the_next_writer_goes_on() {
    let (header, count) = (headers().swap_remove(5), 150);
    if let Some(directory) = std::env::var_os(CHILD) {
        go_on(Path::new(&directory), &header, count, |writer| {
            println!("written {}", writer.written());
        });
        return;
    }

    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut last = 0;
    for round in 0..8 {
        let mut child = again("killed_at_any_moment_the_next_writer_goes_on", directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Two shards further, and some moments more, up to about the time that a shard takes.
        // The pipe stays open until it is dead: a child must not end for want of a listener.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = last;
        while seen < last + 10 {
            let line = lines.next().expect("it has more to write").unwrap();
            if let Some((_, written)) = line.split_once("written ") {
                seen = written.parse().unwrap();
            }
        }
        std::thread::sleep(std::time::Duration::from_micros(400 * round));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "killed, not ended: {status}");
        drop(lines);

        let store = Store::open_partial(directory).unwrap();
        store.verify().unwrap();
        assert!(store.len() >= seen && store.len() > last);
        last = store.len();
        let keys: Vec<u128> = store.keys().map(|(key, _)| key.id.0).collect();
        assert_eq!(keys, (0..u128::from(last)).collect::<Vec<_>>());
    }

    go_on(directory, &header, count, |_| {});
    let undisturbed = tempfile::tempdir().unwrap();
    record(undisturbed.path(), &header, count);
    assert!(files(directory) == files(undisturbed.path()));
}

#[test]
fn what_is_half_written_is_never_taken_for_whole() {
    let header = dense();
    let (directory, undisturbed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directory = directory.path();
    record(undisturbed.path(), &header, 12);
    let mut writer = Writer::create_or_resume_with(directory, &header, small_shards()).unwrap();
    for n in 0..7 {
        Owned::new(n, &header).write(&mut writer).unwrap();
    }
    let written = writer.written();
    assert!((1..7).contains(&written), "some in memory, some on disk");
    drop(writer);
    // As a writer leaves them that was killed while it wrote a shard, or before it wrote the manifest.
    let next = files(directory).len() - 1;
    let whole = fs::read(undisturbed.path().join("shard-00000.safetensors")).unwrap();
    let shard = directory.join(format!("shard-{next:05}.safetensors"));
    fs::write(shard.with_extension("safetensors.tmp"), &whole[..50]).unwrap();
    fs::write(shard, whole).unwrap();
    assert_eq!(Store::open_partial(directory).unwrap().len(), written);

    go_on(directory, &header, 12, |_| {});
    assert!(files(directory) == files(undisturbed.path()));
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let header = dense();
    if let Some(directory) = std::env::var_os(CHILD) {
        let directory = Path::new(&directory);
        let mut writer = Writer::create_or_resume(directory, &header).unwrap();
        Owned::new(0, &header).write(&mut writer).unwrap();
        writer.flush().unwrap();
        for n in 1..300 {
            Owned::new(n, &header).write(&mut writer).unwrap();
        }
        let shard = directory.join("shard-00001.safetensors");
        for _ in 0..2 {
            assert_eq!(
                writer.flush().unwrap_err().to_string(),
                format!(
                    "{}: cannot be written: File too large (os error 27); make room or let it be written \
                     there, and record again: it goes on after the last whole shard",
                    shard.display()
                )
            );
        }
        assert_eq!(writer.written(), 1);
        let left = files(directory).into_keys().collect::<Vec<_>>();
        assert_eq!(left, ["manifest.json", "shard-00000.safetensors"]);
        return;
    }

    // A limit on the size of files, which any user may set, stands in for the end of a disk: 4 KiB.
    let directory = tempfile::tempdir().unwrap();
    let child = again("a_full_disk_is_named_and_nothing_is_lost", directory.path());
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(child.get_program())
        .args(child.get_args())
        .env(CHILD, directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");

    // With room again.
    go_on(directory.path(), &header, 300, |_| {});
    assert_eq!(Store::open(directory.path()).unwrap().len(), 300);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a file");
    fs::write(&file, "").unwrap();
    let below = file.join("store");
    let error = Writer::create_or_resume(&below, &dense()).unwrap_err();
    let remedy = "; name a directory that can be made and written";
    assert_eq!(
        error.to_string(),
        format!(
            "{}: cannot be written: Not a directory (os error 20){remedy}",
            below.display()
        )
    );
    // A directory in which not even the superuser makes a file.
    #[cfg(target_os = "linux")]
    {
        let error = Writer::create_or_resume("/proc/self", &dense()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("/proc/self/.lock: cannot be written: ") && text.ends_with(remedy),
            "{text}"
        );
    }
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let first = Writer::create_or_resume(directory.path(), &dense()).unwrap();
    let second = Writer::create_or_resume(directory.path(), &dense()).unwrap_err();
    assert_eq!(
        second.to_string(),
        format!(
            "another writer is recording into {}; wait for it, or record into another directory",
            directory.path().display()
        )
    );
    drop(first);
    Writer::create_or_resume(directory.path(), &dense()).unwrap();
}

#[test]
fn another_header_is_refused_with_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let mut header = dense();
    drop(Writer::create_or_resume(directory.path(), &header).unwrap());
    header.teacher = "another".into();
    let error = Writer::create_or_resume(directory.path(), &header).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} holds knowledge with the teacher's fingerprint \"a teacher\", now it is \"another\"; \
             record into another directory, or delete this one",
            directory.path().display()
        )
    );
}

#[test]
fn data_that_changed_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let header = dense();
    let mut writer = Writer::create_or_resume_with(directory, &header, small_shards()).unwrap();
    for n in 0..9 {
        Owned::new(n, &header).write(&mut writer).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    let resumed = || Writer::create_or_resume(directory, &header).unwrap();
    let same: Vec<(Key, u64)> = (0..9)
        .map(|n| (Key::new(SampleId(n)), n as u64 * 3))
        .collect();
    let holds = format!("{} holds knowledge with ", directory.display());
    let remedy = "; record into another directory, or delete this one";

    let mut other = same.clone();
    other[7].0.id = SampleId(255);
    let error = resumed().expect(&other).unwrap_err().to_string();
    let id = "000000000000000000000000000000";
    assert_eq!(
        error,
        format!(
            "{holds}sample number 7 {id}07 (view 0) with seed 21, now it is {id}ff (view 0) with seed \
             21{remedy}"
        )
    );
    let mut seeded = same.clone();
    seeded[0].1 = 1;
    assert!(resumed().expect(&seeded).is_err(), "another seed");
    other.swap(0, 1);
    assert!(resumed().expect(&other).is_err(), "another order");

    let mut writer = resumed();
    writer.expect(&same[..4]).unwrap();
    let error = Owned::new(9, &header).write(&mut writer).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "sample {id}09 (view 0) cannot be recorded: 9 samples are recorded before it, of which \
             `expect` was told 4"
        )
    );
    let error = writer.finish().unwrap_err().to_string();
    assert_eq!(error, format!("{holds}samples 9, now it is 4{remedy}"));

    let mut writer = resumed();
    writer.expect(&same).unwrap();
    assert!(writer.expect(&same[..1]).is_err(), "more than there are");
    Owned::new(9, &header).write(&mut writer).unwrap();
    writer.finish().unwrap();
    let writer = resumed();
    assert!(writer.is_complete() && writer.recorded() == 10);
    writer.finish().unwrap();
    let error = Owned::new(10, &header).write(&mut resumed()).unwrap_err();
    assert!(error.to_string().ends_with(": the recording is finished"));
}

#[test]
fn a_sample_of_another_form_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let header = dense();
    let mut writer = Writer::create_or_resume(directory.path(), &header).unwrap();
    let good = Owned::new(4, &header);
    let count = good.logits.len();
    let mut refused = |change: &dyn Fn(&mut Owned)| {
        let mut bad = good.clone();
        change(&mut bad);
        let text = bad.write(&mut writer).unwrap_err().to_string();
        text.split_once("cannot be recorded: ")
            .unwrap()
            .1
            .to_string()
    };
    assert_eq!(
        refused(&|s| s.key.view = 2),
        "the store keeps 2 views, from 0"
    );
    assert_eq!(
        refused(&|s| s.logits.truncate(count - 1)),
        format!(
            "it has {} logits, expected {} rows of 8",
            count - 1,
            good.rows
        )
    );
    assert_eq!(
        refused(&|s| s.rows = 0),
        format!("it has {count} logits, expected 0 rows of 8")
    );
    assert_eq!(
        refused(&|s| s.logits[0] = f32::NAN),
        "row 0 of its logits has a NaN, an infinity or nothing finite"
    );
    assert_eq!(
        refused(&|s| s.logits[..8].fill(f32::NEG_INFINITY)),
        "row 0 of its logits has a NaN, an infinity or nothing finite"
    );
    assert_eq!(
        refused(&|s| drop(s.features.pop())),
        "it has 2 features, the store keeps 3"
    );
    assert_eq!(
        refused(&|s| s.features[1].push(0.0)),
        "feature \"tokens\" has 5 numbers, expected any number of [2, 2]"
    );
    assert_eq!(
        refused(&|s| s.features[0].truncate(2)),
        "feature \"pooled\" has 2 numbers, expected [3]"
    );
    assert_eq!(
        refused(&|s| s.features[2][0] = f32::INFINITY),
        "feature \"bias\" has a number that is not finite"
    );
    assert_eq!(
        refused(&|s| s.features[0][0] = 1e6),
        "feature \"pooled\" has a number too large for half precision"
    );
    good.write(&mut writer).unwrap();
    writer.finish().unwrap();

    let alone = tempfile::tempdir().unwrap();
    let mut writer = Writer::create_or_resume(alone.path(), &header).unwrap();
    good.write(&mut writer).unwrap();
    writer.finish().unwrap();
    assert!(files(directory.path()) == files(alone.path()));
}

fn top(k: usize, classes: usize) -> Header {
    Header {
        teacher: "a teacher".into(),
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
            writer.expect(&[(Key::new(SampleId(n.into())), 0)]).unwrap();
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
