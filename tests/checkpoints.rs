//! Checkpoints: one is whole at every moment, belongs to its training, and shows when it was changed.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc;

use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::optim::{AdamConfig, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::MultiDeviceOptim;
use burn_distill::loss::{HardLabel, Hint, SoftTarget};
use burn_distill::{
    DistillBatch, DistillData, Distilled, Distiller, Error, FitConfig, ProgressMode, Report,
    Result, Schedule, load_student,
};
use common::net::{Net, Point, classes, initialized, inputs, labelled, numbers, points};
use common::plain::Plain;

fn adam(epochs: usize, directory: &Path) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(16)
        .with_optimizer(AdamConfig::new().init(), 0.01)
        .with_progress(ProgressMode::Silent)
        .with_seed(11)
        .with_checkpoints(directory)
}

fn pair() -> (Net, Net) {
    let device = Device::flex();
    device.seed(3);
    (
        initialized(Net::new(16, 0.0, &device)),
        initialized(Net::new(5, 0.3, &device)),
    )
}

fn objective(temperature: impl Into<Schedule>) -> Distiller<burn::backend::Dispatch, Net, Net> {
    let (teacher, student) = pair();
    Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(temperature), 1.0)
        .with(Hint::new("hidden", "hidden"), 0.5)
}

/// With everything that has a state: Adam, dropout, batch norm, a projector.
fn fit(config: &FitConfig) -> Result<Distilled<Net, Net>> {
    objective(4.0).fit(config, labelled(points(40)), None)
}

/// The files below a directory, with folders.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        match path.is_dir() {
            true => found.extend(
                files(&path)
                    .into_iter()
                    .map(|file| format!("{name}/{file}")),
            ),
            false => drop(found.insert(name)),
        }
    }
    found
}

/// The lock, and the sets of these epochs.
fn sets(epochs: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    let of_epoch = |epoch| {
        let parts = ["model", "optim", "scheduler"].map(|part| format!("{part}-{epoch}.bpk"));
        parts.into_iter().chain([format!("set-{epoch}.json")])
    };
    let sets = epochs.into_iter().flat_map(of_epoch);
    let sets = sets.map(|file| format!("checkpoint/{file}"));
    sets.chain(["checkpoint.lock".into()]).collect()
}

fn refused(result: Result<Distilled<Net, Net>>) -> (String, String, String) {
    match result {
        Err(Error::CheckpointMismatch {
            what,
            recorded,
            given,
            ..
        }) => (what, recorded, given),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it went on from the checkpoint of another training"),
    }
}

#[test]
fn a_set_goes_when_its_successor_is_whole_and_not_before() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    let config = |epochs| adam(epochs, directory).with_checkpoints_kept(directory, 1);
    fit(&config(2)).unwrap();
    assert_eq!(files(directory), sets([2]));
    // As if there were no room for one file of the third set, whichever.
    for part in ["model", "optim", "scheduler"] {
        let blocked = directory.join(format!("checkpoint/{part}-3.bpk"));
        fs::create_dir_all(blocked.join("in the way")).unwrap();
        let error = fit(&config(3).with_resume(true)).unwrap_err().to_string();
        assert!(error.starts_with(blocked.to_str().unwrap()), "{error}");
        fs::remove_dir_all(blocked).unwrap();
        assert_eq!(files(directory), sets([2]), "{part}");
    }
    let undisturbed = tempfile::tempdir().unwrap();
    let undisturbed = fit(&adam(4, undisturbed.path())).unwrap();
    let resumed = fit(&config(4).with_resume(true)).unwrap();
    assert_eq!(resumed.report.training.resumed_from, Some(2));
    assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
    assert_eq!(files(directory), sets([4]));

    // As a kill leaves them between a new set and the end of the old ones: they go with the next start.
    let more = tempfile::tempdir().unwrap();
    let config = adam(4, more.path()).with_checkpoints_kept(more.path(), 3);
    fit(&config).unwrap();
    assert_eq!(files(more.path()), sets([2, 3, 4]));
    let config = config.with_checkpoints_kept(more.path(), 1);
    fit(&config.with_resume(true)).unwrap();
    assert_eq!(files(more.path()), sets([4]));
}

#[test]
fn a_checkpoint_is_that_of_one_training() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    fit(&adam(2, directory)).unwrap();
    let before: Vec<_> = files(directory).into_iter().collect();
    let config = || adam(2, directory).with_resume(true);

    let error = objective(2.0).fit(&config(), labelled(points(40)), None);
    assert_eq!(
        error.unwrap_err().to_string(),
        format!(
            "the checkpoint of epoch 2 in {} has term \"soft_target\" \
             1 · {{\"soft_target\":{{\"temperature\":4.0}}}}, \
             now it is 1 · {{\"soft_target\":{{\"temperature\":2.0}}}}; \
             train with the settings of the checkpoint, name another directory, or go on all the same with \
             `FitConfig::with_changed_settings`",
            directory.display()
        )
    );
    let what = |config: FitConfig| refused(fit(&config));
    let as_text = |(what, recorded, given): (&str, &str, &str)| {
        (what.to_string(), recorded.to_string(), given.to_string())
    };
    assert_eq!(what(config().with_seed(12)), as_text(("seed", "11", "12")));
    let batch = what(config().with_batch_size(8));
    assert_eq!(batch, as_text(("batch size", "16", "8")));
    let accumulation = what(config().with_accumulation(2));
    assert_eq!(accumulation, as_text(("accumulation", "1", "2")));
    let rates = [
        config().with_optimizer(AdamConfig::new().init(), 0.02),
        config().with_lr_schedule(Schedule::cosine(1.0, 0.0)),
        config().with_lr_scheduler(LinearLrSchedulerConfig::new(0.01, 0.001, 6).init().unwrap()),
    ];
    for config in rates {
        assert_eq!(what(config).0, "learning rates");
    }
    let optimizers = [
        SgdConfig::new().init(),
        AdamConfig::new().with_beta_1(0.8).init(),
    ];
    for optimizer in optimizers {
        let (what, ..) = what(config().with_optimizer(optimizer, 0.01));
        assert!(what.starts_with("the optimizer at gradients of "), "{what}");
    }
    assert_eq!(
        refused(objective(4.0).with(HardLabel::new(), 1).fit(
            &config(),
            labelled(points(40)),
            None
        )),
        as_text((
            "term \"hard_label\"",
            "none",
            "1 · {\"hard_label\":{\"smoothing\":0.0}}"
        ))
    );

    // Other data, as far as that can be known.
    let fit_on = |data: DistillData<Tensor<2>>, valid| objective(4.0).fit(&config(), data, valid);
    let fewer = refused(fit_on(labelled(points(39)), None));
    assert_eq!(fewer, as_text(("training samples", "40", "39")));
    let others = points(41).split_off(1);
    assert_eq!(
        refused(fit_on(labelled(others), None)).0,
        "a first training batch of"
    );
    let valid = refused(fit_on(labelled(points(40)), Some(labelled(points(8)))));
    assert_eq!(valid, as_text(("validation samples", "none", "8")));

    // Another teacher.
    let (_, student) = pair();
    let teacher = initialized(Net::new(16, 0.0, &Device::flex()));
    let other = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .with(Hint::new("hidden", "hidden"), 0.5)
        .fit(&config(), labelled(points(40)), None);
    assert_eq!(refused(other).0, "teacher");

    // All of that, and nothing was lost; the same settings are the same training.
    assert_eq!(files(directory).into_iter().collect::<Vec<_>>(), before);
    let again = fit(&config().with_workers(0).with_gradient_checkpointing(true)).unwrap();
    assert_eq!(again.report.training.resumed_from, Some(2));
}

#[test]
fn named_samples_tell_data_apart() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let named = |last: usize| {
        let mut points = points(41);
        points.swap(39, last);
        points.truncate(40);
        DistillData::builder(InMemDataset::new(points))
            .by_content()
            .batched(|points: Vec<Point>, device: &Device| {
                DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
            })
    };
    let fit = |data| {
        let config = adam(1, temporary.path()).with_resume(true);
        objective(4.0).fit(&config, data, None)
    };
    fit(named(39)).unwrap();
    fit(named(39)).unwrap();
    let (what, ..) = refused(fit(named(40)));
    assert_eq!(what, "training samples with the fingerprint");
}

#[test]
fn other_settings_are_gone_on_with_where_that_is_said() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    fit(&adam(2, temporary.path())).unwrap();
    let config = adam(3, temporary.path())
        .with_resume(true)
        .with_seed(12)
        .with_changed_settings(true);
    let resumed = fit(&config).unwrap();
    let training = &resumed.report.training;
    assert_eq!((training.resumed_from, training.last_epoch), (Some(2), 3));
    assert_eq!(
        training.notes,
        ["training goes on from epoch 2 with other settings: seed was 11, now it is 12"]
    );
    // From now on these are the settings.
    let again = fit(&config.with_changed_settings(false)).unwrap();
    assert_eq!(again.report.training.resumed_from, Some(3));
    assert_eq!(numbers(&again.student), numbers(&resumed.student));
}

#[test]
fn more_epochs_are_the_same_training_unless_a_schedule_follows_them() {
    let _seeded = common::seeded();
    let (temporary, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fit(&adam(2, temporary.path())).unwrap();
    let longer = fit(&adam(5, temporary.path()).with_resume(true)).unwrap();
    assert_eq!(longer.report.training.resumed_from, Some(2));
    let undisturbed = fit(&adam(5, other.path())).unwrap();
    assert_eq!(numbers(&longer.student), numbers(&undisturbed.student));

    let (what, recorded, given) = refused(fit(&adam(3, temporary.path()).with_resume(true)));
    assert_eq!(what, "a training that comes to");
    assert_eq!((&*recorded, &*given), ("epoch 5", "epoch 3, its last one"));

    // A rate that decays over the whole training, and a temperature.
    let directory = other.path().join("rates");
    let decaying = |epochs| {
        adam(epochs, &directory)
            .with_resume(true)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
    };
    fit(&decaying(2)).unwrap();
    assert_eq!(refused(fit(&decaying(4))).0, "learning rates");
    let directory = other.path().join("temperature");
    let cooling = |epochs| {
        let config = adam(epochs, &directory).with_resume(true);
        objective(Schedule::linear(8.0, 2.0)).fit(&config, labelled(points(40)), None)
    };
    cooling(2).unwrap();
    let (what, recorded, given) = refused(cooling(4));
    assert_eq!(what, "epochs, which a schedule follows,");
    assert_eq!((&*recorded, &*given), ("2", "4"));
}

/// A training whose loss does not get better.
fn stuck(config: FitConfig) -> Report {
    let config = config
        .with_optimizer(SgdConfig::new().init(), 1e-12)
        .with_batch_size(64);
    let (teacher, student) = pair();
    Distiller::on(Device::flex(), teacher.clone(), student)
        .with(SoftTarget::new(4.0), 1.0)
        .fit(&config, labelled(points(16)), labelled(points(16)))
        .unwrap()
        .report
}

#[test]
fn several_devices_resume_as_one_does() {
    let _seeded = common::seeded();
    let (temporary, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Without dropout, whose generator the two of them would share here.
    let on = |devices: usize, epochs, directory: &Path| {
        let config = adam(epochs, directory)
            .with_batch_size(8)
            .with_devices(
                vec![Device::flex(); devices],
                MultiDeviceOptim::OptimMainDevice,
            )
            .with_resume(true);
        let (teacher, student) = (Plain::new(12), Plain::new(4));
        Distiller::on(Device::flex(), teacher, student)
            .with(SoftTarget::new(4.0), 1.0)
            .fit(&config, labelled(points(40)), None)
    };
    on(2, 2, temporary.path()).unwrap();
    let resumed = on(2, 4, temporary.path()).unwrap();
    assert_eq!(resumed.report.training.resumed_from, Some(2));
    let undisturbed = on(2, 4, other.path()).unwrap();
    assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
    let error = on(1, 4, temporary.path()).unwrap_err().to_string();
    assert!(error.contains(" has devices 2, now it is 1; "), "{error}");
}

#[test]
fn early_stopping_counts_on_after_a_resume() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    let config = |epochs| adam(epochs, directory).with_early_stopping(2);
    let stopped = stuck(config(50)).training.last_epoch;
    assert!(stopped < 10, "{stopped}");
    for _ in 0..2 {
        let again = stuck(config(50).with_resume(true)).training;
        assert_eq!(again.resumed_from, Some(stopped));
        assert_eq!(again.last_epoch, stopped);
    }
    // Interrupted one epoch before.
    for name in ["model", "optim", "scheduler"] {
        fs::remove_file(directory.join(format!("checkpoint/{name}-{stopped}.bpk"))).unwrap();
    }
    fs::remove_file(directory.join(format!("checkpoint/set-{stopped}.json"))).unwrap();
    let again = stuck(config(50).with_resume(true)).training;
    assert_eq!(again.resumed_from, Some(stopped - 1));
    assert_eq!(again.last_epoch, stopped);
    // More patience is a longer training, less would not have come this far.
    let config = adam(50, directory).with_resume(true);
    let patient = stuck(config.clone().with_early_stopping(4)).training;
    assert_eq!(
        (patient.resumed_from, patient.last_epoch),
        (Some(stopped), stopped + 2)
    );
    let (teacher, student) = pair();
    let config = config
        .with_early_stopping(2)
        .with_optimizer(SgdConfig::new().init(), 1e-12)
        .with_batch_size(64);
    let error = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .fit(&config, labelled(points(16)), labelled(points(16)));
    let (what, _, given) = refused(error);
    assert_eq!(what, "a training that comes to");
    assert_eq!(given, format!("epoch {stopped}, where it stops early"));
}

#[test]
fn a_fresh_start_has_nothing_to_go_on_from_and_loses_nothing_before_its_first_set() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    fit(&adam(2, directory)).unwrap();
    let old: Vec<_> = sets([1, 2]).into_iter().collect();
    assert_eq!(files(directory).into_iter().collect::<Vec<_>>(), old);
    // One that ends in the middle of its first epoch.
    let interrupter = burn::train::Interrupter::new();
    let config = adam(2, directory).with_interrupter(interrupter.clone());
    let data = DistillData::from_fn(
        InMemDataset::new(points(40)),
        move |points: Vec<Point>, device: &Device| {
            interrupter.stop(Some("at once"));
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        },
    );
    let stopped = objective(4.0).fit(&config, data, None).unwrap();
    assert_eq!(
        stopped.report.training.interrupted.as_deref(),
        Some("at once")
    );
    let aside = |file: String| file.replace("checkpoint/", "checkpoint.before/");
    assert_eq!(
        files(directory),
        sets([1, 2]).into_iter().map(aside).collect()
    );

    let undisturbed = tempfile::tempdir().unwrap();
    let undisturbed = fit(&adam(1, undisturbed.path())).unwrap();
    let resumed = fit(&adam(1, directory).with_resume(true)).unwrap();
    assert_eq!(resumed.report.training.resumed_from, None);
    assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
    assert_eq!(files(directory), sets([1]));
}

#[test]
fn without_a_whole_set_training_does_not_begin_again_in_silence() {
    let _seeded = common::seeded();
    for damage in ["model-2.bpk", "set-2.json"] {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path();
        let config = adam(2, directory).with_checkpoints_kept(directory, 1);
        fit(&config).unwrap();
        fs::remove_file(directory.join("checkpoint").join(damage)).unwrap();
        let expected = format!(
            "cannot load the checkpoint of epoch 2 in {}: no set of files is whole: the checkpoint of epoch 2 \
             was passed over: {damage}: No such file or directory (os error 2)",
            directory.display()
        );
        let error = fit(&config.clone().with_resume(true)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let error = load_student(directory, pair().1).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_passed_over_at_once() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    let config = adam(3, directory).with_resume(true);
    fit(&config).unwrap();
    let folder = directory.join("checkpoint");
    for name in ["model-3.bpk", "set-3.json"] {
        fs::remove_file(folder.join(name)).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(folder.join(name))
            .status();
        assert!(made.unwrap().success());
        let resumed = fit(&config).unwrap();
        assert_eq!(resumed.report.training.resumed_from, Some(2));
        assert_eq!(
            resumed.report.training.notes,
            [format!(
                "the checkpoint of epoch 3 was passed over: {name}: not a regular file"
            )]
        );
    }
}

#[test]
fn one_training_at_a_time_holds_a_directory() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().to_path_buf();
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(Some(may_go_on));
    let held = directory.clone();
    let first = std::thread::spawn(move || {
        let batches = std::sync::atomic::AtomicUsize::new(0);
        let data = DistillData::from_fn(
            InMemDataset::new(points(40)),
            move |points: Vec<Point>, device| {
                // After those for the check and for what checkpoints belong to.
                if batches.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3 {
                    begun.send(()).unwrap();
                    may_go_on.lock().unwrap().take().unwrap().recv().unwrap();
                }
                DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
            },
        );
        objective(4.0).fit(&adam(2, &held), data, None).unwrap()
    });
    has_begun.recv().unwrap();
    let error = fit(&adam(2, &directory).with_resume(true)).unwrap_err();
    assert!(matches!(error, Error::DirectoryLocked { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "another process or thread is writing into {}; wait for it, or name another directory",
            directory.display()
        )
    );
    go_on.send(()).unwrap();
    first.join().unwrap();
    let resumed = fit(&adam(2, &directory).with_resume(true)).unwrap();
    assert_eq!(resumed.report.training.resumed_from, Some(2));
}

#[test]
fn a_student_is_loaded_from_a_checkpoint() {
    let _seeded = common::seeded();
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    let error = load_student(directory, pair().1).unwrap_err().to_string();
    assert!(error.ends_with(": there is none"), "{error}");
    let distilled = fit(&adam(2, directory)).unwrap();
    let fresh = Net::new(5, 0.3, &Device::flex());
    let loaded = load_student(directory, fresh.clone()).unwrap();
    assert_eq!(numbers(&loaded), numbers(&distilled.student));
    let input = inputs(&points(4), &Device::flex());
    use burn_distill::Distillable;
    let of = |net: &Net| net.outputs(input.clone()).logits().into_data();
    assert_eq!(of(&loaded), of(&distilled.student), "in inference mode");

    // A damaged set is passed over, another student refused.
    fs::write(directory.join("checkpoint/model-2.bpk"), "").unwrap();
    let older = load_student(directory, fresh.clone()).unwrap();
    assert_ne!(numbers(&older), numbers(&distilled.student));
    let wider = load_student(directory, Net::new(6, 0.3, &Device::flex()));
    let error = wider.unwrap_err().to_string();
    let start = "cannot load the checkpoint of epoch 1 in ";
    assert!(error.starts_with(start), "{error}");
    let head: burn::nn::Linear = burn::nn::LinearConfig::new(5, 3).init(&Device::flex());
    let error = load_student(directory, head).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("parameter tensors, this one "), "{text}");
}
