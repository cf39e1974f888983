//! Checkpoints of trainings that are killed, and files that are changed: `BURN_DISTILL_TEST_ROUNDS` sets how often.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use burn::data::dataset::InMemDataset;
use burn::optim::AdamConfig;
use burn::tensor::Device;
use burn_distill::loss::{Hint, SoftTarget};
use burn_distill::{
    DistillBatch, DistillData, Distilled, Distiller, Error, FitConfig, ProgressMode, Result,
    Schedule, load_student,
};
use common::net::{Net, Point, classes, initialized, inputs, numbers, points};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

fn rounds(default: usize) -> usize {
    let rounds = std::env::var("BURN_DISTILL_TEST_ROUNDS");
    rounds.map_or(default, |rounds| {
        rounds.parse().expect("a number of rounds")
    })
}

/// A resumed training with everything that has a state.
fn fit(directory: &Path, keep: usize, epochs: usize) -> Result<Distilled<Net, Net>> {
    let device = Device::flex();
    device.seed(3);
    let teacher = initialized(Net::new(16, 0.0, &device));
    let student = initialized(Net::new(5, 0.3, &device));
    let data = DistillData::from_fn(
        InMemDataset::new(points(40)),
        |points: Vec<Point>, device| {
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        },
    );
    let config = FitConfig::new(epochs)
        .with_batch_size(16)
        .with_optimizer(AdamConfig::new().init(), 0.01)
        .with_lr_schedule(Schedule::from(1.0).warm_up(0.01))
        .with_progress(ProgressMode::Silent)
        .with_seed(11)
        .with_checkpoints_kept(directory, keep)
        .with_resume(true);
    Distiller::on(device, teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .with(Hint::new("hidden", "hidden"), 0.5)
        .fit(&config, data, None)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Tells a test that it is the child, and where to train.
const CHILD: &str = "BURN_DISTILL_TEST_CHILD";
const EPOCHS: usize = 12;

/// The test of kills in a process of its own, once it has begun.
fn child(directory: &Path) -> (Child, impl Iterator<Item = String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["a_training_that_is_killed_becomes_the_undisturbed_one"])
        .args(["--exact", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| line.unwrap());
    lines
        .find(|line| line.contains("begun"))
        .expect("it begins");
    (child, lines)
}

#[test]
fn a_training_that_is_killed_becomes_the_undisturbed_one() {
    let _seeded = common::seeded();
    if let Some(directory) = std::env::var_os(CHILD) {
        println!("begun");
        fit(Path::new(&directory), 1, EPOCHS).unwrap();
        return;
    }
    let undisturbed = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let (mut whole, _lines) = child(undisturbed.path());
    assert!(whole.wait().unwrap().success());
    let most = began.elapsed();
    let expected = numbers(&fit(undisturbed.path(), 1, EPOCHS).unwrap().student);

    let mut random = StdRng::seed_from_u64(7);
    let (mut kills, mut trainings) = (0, 0);
    while kills < rounds(6) {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path();
        let mut has_set = false;
        loop {
            let (mut child, _lines) = child(directory);
            std::thread::sleep(Duration::from_secs_f64(
                random.random::<f64>() * most.as_secs_f64() / 2.0,
            ));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "killed, not ended: {status}");
            kills += 1;
            // Once there is a whole set, there is one for ever.
            let loaded = load_student(directory, Net::new(5, 0.3, &Device::flex()));
            match loaded {
                Ok(_) => has_set = true,
                Err(error) => assert!(!has_set, "{error}"),
            }
        }
        trainings += 1;
        let finished = fit(directory, 1, EPOCHS).unwrap();
        let training = &finished.report.training;
        assert_eq!(training.resumed_from, Some(EPOCHS));
        assert!(training.notes.is_empty(), "{:?}", training.notes);
        assert!(numbers(&finished.student) == expected);
        let (left, right) = (directory, undisturbed.path());
        let names = |directory: &Path| files(&directory.join("checkpoint")).into_keys();
        assert!(
            names(left).eq(names(right)),
            "{:?}",
            names(left).collect::<Vec<_>>()
        );
        let below = fs::read_dir(directory).unwrap();
        let below = below.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut below: Vec<_> = below.collect();
        below.sort();
        assert_eq!(below, ["checkpoint", "checkpoint.lock"]);
    }
    println!("{kills} kills of {trainings} trainings");
}

/// Changes a file in one of many ways.
fn change(bytes: &[u8], other: &[u8], random: &mut StdRng) -> Option<Vec<u8>> {
    let mut changed = bytes.to_vec();
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..8) {
        0 => changed[at] ^= 1 << random.random_range(0..8),
        1 => changed.truncate(at),
        2 => changed.extend((0..=at % 64).map(|_| random.random::<u8>())),
        3 => (changed[at..].iter_mut())
            .take(64)
            .for_each(|byte| *byte = 0),
        4 => (changed[at..].iter_mut())
            .take(64)
            .for_each(|byte| *byte = random.random()),
        5 => changed = other.to_vec(),
        6 => changed.clear(),
        _ => return None,
    }
    Some(changed)
}

#[test]
fn whatever_is_changed_nothing_else_is_trained() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    let undisturbed = tempfile::tempdir().unwrap();
    let expected = numbers(&fit(undisturbed.path(), 2, 4).unwrap().student);
    fit(directory, 2, 3).unwrap();
    let folder = directory.join("checkpoint");
    let whole = files(&folder);
    let names: Vec<_> = whole.keys().collect();
    assert_eq!(names.len(), 8, "two sets: {names:?}");

    let mut random = StdRng::seed_from_u64(5);
    let (mut passed_over, mut refused) = (0, 0);
    for round in 0..rounds(60) {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        whole
            .iter()
            .for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
        let mut sets = Vec::new();
        // Two files at times, and so at times both sets.
        for _ in 0..=usize::from(random.random_range(0..4) == 0) {
            let name = names[random.random_range(0..names.len())];
            let other = &whole[names[random.random_range(0..names.len())]];
            match change(&whole[name], other, &mut random) {
                Some(changed) if changed == whole[name] => continue,
                Some(changed) => fs::write(folder.join(name), changed).unwrap(),
                None => match fs::remove_file(folder.join(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                    _ => {}
                },
            }
            sets.push(name.contains("-3."));
        }
        let changed = |set: bool| sets.contains(&set);
        let result = catch_unwind(AssertUnwindSafe(|| fit(directory, 2, 4)));
        let what = format!("round {round}, of {}", random.next_u32());
        match result.unwrap_or_else(|_| panic!("{what}: a panic")) {
            Ok(trained) => {
                let training = &trained.report.training;
                let from = if changed(true) { 2 } else { 3 };
                assert_eq!(training.resumed_from, Some(from), "{what}");
                assert_eq!(
                    training.notes.len(),
                    3 - from,
                    "{what}: {:?}",
                    training.notes
                );
                assert!(
                    numbers(&trained.student) == expected,
                    "{what}: another student"
                );
                passed_over += training.notes.len();
            }
            Err(error) => {
                assert!(matches!(error, Error::Checkpoint { .. }), "{what}: {error}");
                assert!(changed(true) && changed(false), "{what}: {error}");
                refused += 1;
            }
        }
    }
    println!("{passed_over} sets passed over, {refused} trainings refused");
    assert!(passed_over > 0);
}
