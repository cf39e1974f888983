mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::*;
use crate::data::key::SampleId;
use crate::knowledge::fuzzing::headers;
use crate::knowledge::store::Store;
use crate::knowledge::testing::{LARGE, Owned, SMALL, dense, record};

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
    let mut writer = Writer::create_or_resume(directory, header, SMALL).unwrap();
    let recorded = writer.manifest.samples();
    for n in 0..count {
        if n >= recorded {
            Owned::new(n, header).write(header, &mut writer).unwrap();
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
            println!("written {}", writer.manifest.samples());
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
    let mut writer = Writer::create_or_resume(directory, &header, SMALL).unwrap();
    for n in 0..7 {
        Owned::new(n, &header).write(&header, &mut writer).unwrap();
    }
    let written = writer.manifest.samples();
    assert!((1..7).contains(&written), "some in memory, some on disk");
    drop(writer);
    // As a writer leaves them that was killed while it wrote a shard, or before it wrote the manifest.
    let next = files(directory).len() - 1;
    let whole = fs::read(undisturbed.path().join("shard-00000.safetensors")).unwrap();
    let shard = directory.join(format!("shard-{next:05}.safetensors"));
    let aside = shard.with_extension("safetensors.0123456789abcdef.tmp");
    fs::write(&aside, &whole[..50]).unwrap();
    fs::write(shard, whole).unwrap();
    assert_eq!(Store::open_partial(directory).unwrap().len(), written);

    go_on(directory, &header, 12, |_| {});
    assert!(files(directory) == files(undisturbed.path()));
    assert!(!aside.exists());
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let header = dense();
    if let Some(directory) = std::env::var_os(CHILD) {
        let directory = Path::new(&directory);
        let mut writer = Writer::create_or_resume(directory, &header, LARGE).unwrap();
        Owned::new(0, &header).write(&header, &mut writer).unwrap();
        writer.flush().unwrap();
        for n in 1..300 {
            Owned::new(n, &header).write(&header, &mut writer).unwrap();
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
        assert_eq!(writer.manifest.samples(), 1);
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
    let error = Writer::create_or_resume(&below, &dense(), LARGE).unwrap_err();
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
        let error = Writer::create_or_resume(Path::new("/proc/self"), &dense(), LARGE).unwrap_err();
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
    let first = Writer::create_or_resume(directory.path(), &dense(), LARGE).unwrap();
    let second = Writer::create_or_resume(directory.path(), &dense(), LARGE).unwrap_err();
    assert_eq!(
        second.to_string(),
        format!(
            "another process or thread is writing into {}; wait for it, or name another directory",
            directory.path().display()
        )
    );
    drop(first);
    Writer::create_or_resume(directory.path(), &dense(), LARGE).unwrap();
}

#[test]
fn what_is_gone_meanwhile_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let header = dense();
    let open = || Writer::create_or_resume(directory, &header, SMALL).unwrap();
    let mut writer = open();
    (0..9).for_each(|n| Owned::new(n, &header).write(&header, &mut writer).unwrap());
    let first = directory.join("shard-00000.safetensors");
    let bytes = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    let error = writer.finish().unwrap_err().to_string();
    let expected = format!("{}: is gone: No such file", first.display());
    assert!(error.starts_with(&expected), "{error}");
    // Brought back, it counts.
    fs::write(&first, bytes).unwrap();
    open().finish().unwrap();
    assert!(Store::open(directory).unwrap().is_complete());
}

#[test]
fn another_header_is_refused_with_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let mut header = dense();
    drop(Writer::create_or_resume(directory.path(), &header, LARGE).unwrap());
    header.teacher = "another".into();
    let error = Writer::create_or_resume(directory.path(), &header, LARGE).unwrap_err();
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
fn a_finished_store_grows() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let header = dense();
    let open = || Writer::create_or_resume(directory, &header, SMALL).unwrap();
    let write = |writer: &mut Writer, numbers: std::ops::Range<u64>| {
        numbers.for_each(|n| Owned::new(n as _, &header).write(&header, writer).unwrap());
    };
    let mut writer = open();
    write(&mut writer, 0..9);
    writer.finish().unwrap();
    let before = Store::open(directory).unwrap();

    let mut writer = open();
    assert!(writer.manifest.complete && writer.manifest.samples() == 9);
    write(&mut writer, 9..12);
    writer.flush().unwrap();
    drop(writer);
    // Until it is finished again, a store that grows is unfinished.
    assert!(Store::open(directory).is_err());
    let mut writer = open();
    assert_eq!(writer.manifest.samples(), 12);
    write(&mut writer, 12..13);
    writer.finish().unwrap();

    let store = Store::open(directory).unwrap();
    assert_eq!((before.len(), store.len()), (9, 13));
    let keys: Vec<Key> = (0..9).map(|n| Key::new(SampleId(n))).collect();
    assert_eq!(before.read(&keys).unwrap(), store.read(&keys).unwrap());
}

#[test]
fn a_sample_of_another_form_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let header = dense();
    let mut writer = Writer::create_or_resume(directory.path(), &header, LARGE).unwrap();
    let good = Owned::new(4, &header);
    let count = good.logits.len();
    let mut refused = |change: &dyn Fn(&mut Owned)| {
        let mut bad = good.clone();
        change(&mut bad);
        let text = bad.write(&header, &mut writer).unwrap_err().to_string();
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
    good.write(&header, &mut writer).unwrap();
    writer.finish().unwrap();

    let alone = tempfile::tempdir().unwrap();
    let mut writer = Writer::create_or_resume(alone.path(), &header, LARGE).unwrap();
    good.write(&header, &mut writer).unwrap();
    writer.finish().unwrap();
    assert!(files(directory.path()) == files(alone.path()));
}
