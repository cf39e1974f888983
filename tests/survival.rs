//! Nothing that happens after training, and no error in the middle of it, loses the student.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::Dispatch;
use burn::data::dataset::InMemDataset;
use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use burn::train::metric::store::Direction;
use burn_distill::loss::{HardLabel, LogitMse, LossContext, SoftTarget, loss_fn};
use burn_distill::recipe::{Mutual, Stage, Stages, born_again, mutual_learning};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, Error, FitConfig, Objective, Outputs,
    ProgressMode, adapt, teacher_fn, train_supervised,
};
use common::net::{Point, classes, inputs, labelled, numbers, points, unlabelled};
use common::plain::Plain;

/// Batches of 16: three per epoch of 40 or 48 points, prepared when they are asked for.
fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(16)
        .with_workers(0)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_progress(ProgressMode::Silent)
}

fn soft() -> Distiller<Dispatch, Plain, Plain> {
    let distiller = Distiller::on(Device::flex(), Plain::new(12), Plain::new(4));
    distiller.with(SoftTarget::new(4.0), 1.0)
}

/// The numbers of the student after some undisturbed epochs.
fn after(epochs: usize) -> Vec<f32> {
    let distilled = soft().fit(&quiet(epochs), labelled(points(48)), None);
    numbers(&distilled.unwrap().student)
}

/// Labelled points; something happens before each batch, with its number from 1.
fn watched(count: usize, before: impl Fn(usize) + Send + Sync + 'static) -> DistillData<Tensor<2>> {
    let batches = AtomicUsize::new(0);
    DistillData::from_fn(
        InMemDataset::new(points(count)),
        move |points: Vec<Point>, device: &Device| {
            before(batches.fetch_add(1, Ordering::Relaxed) + 1);
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        },
    )
}

/// 48 points whose disk goes after a number of batches.
fn failing(after: usize) -> DistillData<Tensor<2>> {
    watched(48, move |batch| assert!(batch <= after, "the disk is gone"))
}

#[test]
fn a_baseline_without_labels_fails_before_training() {
    let _seeded = common::seeded();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let teacher = teacher_fn("counted", move |x: Tensor<2>| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Error>(Outputs::new(x.narrow(1, 0, 3)))
    });
    let fit = |data| {
        Distiller::on(Device::flex(), teacher.clone(), Plain::new(4))
            .with(SoftTarget::new(4.0), 1.0)
            .fit(&quiet(3).with_baseline(true), data, None)
            .unwrap_err()
            .to_string()
    };
    let expected = "term \"baseline\" needs class targets, or a term of the objective that needs no \
                    teacher, the batches carry ";
    assert_eq!(fit(unlabelled(points(64))), format!("{expected}no targets"));
    // A label that only the baseline cares about: the second sample's.
    let unfit = DistillData::from_fn(
        InMemDataset::new(points(64)),
        |points: Vec<Point>, device: &Device| {
            let ones = Tensor::<2>::ones([points.len(), 3], device);
            DistillBatch::new(inputs(&points, device)).with_values(ones)
        },
    );
    assert_eq!(fit(unfit), format!("{expected}real-valued targets"));
    assert_eq!(asked.load(Ordering::Relaxed), 0, "nothing was trained");
}

#[test]
fn targets_that_do_not_fit_a_head_are_refused_before_training() {
    let _seeded = common::seeded();
    let own = loss_fn("own", |context: &LossContext<'_>| {
        context.mean(context.logits().powi_scalar(2).mean_dim(1).squeeze_dim(1))
    });
    let one = |hidden| {
        adapt(Plain::new(hidden), |net: &Plain, x: Tensor<2>| {
            Outputs::new(net.outputs(x).logits().narrow(1, 0, 1))
        })
    };
    let error = Distiller::on(Device::flex(), one(12), one(4))
        .with(own, 1.0)
        .fit(&quiet(1), labelled(points(64)), None)
        .unwrap_err();
    let expected = "label 2 of sample 0 of the training set is out of range: the student has 1 classes (0 to 0)";
    assert_eq!(error.to_string(), expected);

    let values = DistillData::from_fn(
        InMemDataset::new(points(64)),
        |points: Vec<Point>, device: &Device| {
            let ones = Tensor::<2>::ones([points.len(), 4], device);
            DistillBatch::new(inputs(&points, device)).with_values(ones)
        },
    );
    let net = |hidden| {
        adapt(Plain::new(hidden), |net: &Plain, x: Tensor<2>| {
            Outputs::values(net.outputs(x).logits())
        })
    };
    let error = Distiller::on(Device::flex(), net(12), net(4))
        .with(LogitMse::new(), 1.0)
        .fit(&quiet(2), values, None)
        .unwrap_err();
    let expected = "head \"values\" has 3 values per row, its targets have 4";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_teacher_that_fails_or_panics_while_it_is_measured_keeps_the_student() {
    let _seeded = common::seeded();
    for panics in [false, true] {
        let calls = AtomicUsize::new(0);
        let teacher = teacher_fn("service", move |x: Tensor<2>| {
            // One for the check, three for each of two epochs.
            if calls.fetch_add(1, Ordering::Relaxed) < 7 {
                return Ok(Outputs::new(x.narrow(1, 0, 3)));
            }
            assert!(!panics, "the service is gone");
            Err("the service is gone")
        });
        let distilled = Distiller::on(Device::flex(), teacher, Plain::new(4))
            .with(SoftTarget::new(4.0), 1.0)
            .fit(&quiet(2), labelled(points(48)), None)
            .unwrap();
        let report = distilled.report;
        assert!(report.distilled.accuracy.is_some(), "its own numbers");
        assert_eq!(report.distilled.agreement, None);
        let notes = report.unmeasured.join("\n");
        assert!(notes.contains("comparison with the teacher: "), "{notes}");
        assert!(notes.contains("the service is gone"), "{notes}");
    }
}

#[test]
fn data_that_fail_while_they_are_measured_keep_the_student() {
    let _seeded = common::seeded();
    // One batch for the check, and three for each of two epochs.
    let distilled = soft().fit(&quiet(2), failing(7), None).unwrap();
    assert_eq!(numbers(&distilled.student), after(2));
    let report = distilled.report;
    let reason = "teacher and student: cannot measure the student: the disk is gone";
    assert_eq!(report.unmeasured, [reason]);
    for shown in [
        report.to_string(),
        report.to_html(),
        serde_json::to_string(&report).unwrap(),
    ] {
        assert!(shown.contains(reason), "{shown}");
    }

    let objective = Objective::new().with(HardLabel::new(), 1.0);
    let train = |data| {
        train_supervised(
            Device::flex(),
            Plain::new(4),
            &objective,
            &quiet(2),
            data,
            None,
        )
    };
    let trained = train(failing(7)).unwrap();
    let undisturbed = train(labelled(points(48))).unwrap();
    assert_eq!(numbers(&trained.model), numbers(&undisturbed.model));
    let reason = "not measured: cannot measure the student: the disk is gone";
    assert_eq!(trained.training.notes, [reason]);

    let peers = || vec![Plain::new(4), Plain::new(5)];
    let learn = |data| {
        mutual_learning(
            Device::flex(),
            peers(),
            &Mutual::new(),
            &quiet(2),
            data,
            None,
        )
    };
    let (peers, training) = learn(failing(7)).unwrap();
    let (undisturbed, _) = learn(labelled(points(48))).unwrap();
    assert_eq!(numbers(&peers[0].0), numbers(&undisturbed[0].0));
    assert_eq!(training.notes.len(), 2);
}

#[test]
fn a_baseline_that_fails_keeps_the_student() {
    let _seeded = common::seeded();
    // The check of both, two epochs and their report: one batch for it of three, one and one for the clock.
    let batches = 2 + 1 + 6 + 5;
    let config = quiet(2).with_baseline(true);
    let distilled = soft().fit(&config, failing(batches + 2), None).unwrap();
    assert_eq!(numbers(&distilled.student), after(2));
    assert!(distilled.report.distilled.accuracy.is_some());
    assert_eq!(distilled.report.baseline, None);
    let notes = distilled.report.unmeasured;
    let [note] = &notes[..] else {
        panic!("{notes:?}")
    };
    assert!(
        note.starts_with("the baseline: training batch of samples "),
        "{note}"
    );
    assert!(note.ends_with(": panicked: the disk is gone"), "{note}");
}

#[test]
fn an_error_in_the_middle_has_the_student_of_the_last_whole_epoch() {
    let _seeded = common::seeded();
    let student = after(2);
    for workers in [0, 1] {
        // The second batch of epoch 3.
        let config = quiet(4).with_workers(workers);
        let error = soft()
            .fit(&config, failing(1 + 3 + 3 + 1), None)
            .unwrap_err();
        let text = error.to_string();
        let end = ": panicked: the disk is gone; `Error::student` has the student of epoch 2";
        assert!(text.starts_with("training batch of samples "), "{text}");
        assert!(text.ends_with(end), "{text}");
        let kept = error.student::<Plain>().unwrap();
        assert_eq!(numbers(&kept), student);
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            format!("{reason}; `Error::student` has the student of epoch 2"),
            text
        );
    }

    // A term that stops being finite, and a step that panics.
    for panics in [false, true] {
        let poison = loss_fn("poison", move |context: &LossContext<'_>| {
            let is_late = context.progress >= 0.5;
            assert!(!(is_late && panics), "out of memory");
            let factor = if is_late { f64::NAN } else { 0.0 };
            context.mean(context.logits().mean_dim(1).squeeze_dim(1)) * factor
        });
        let error = soft()
            .with(poison, 1.0)
            .fit(&quiet(4), labelled(points(48)), None)
            .unwrap_err();
        let kept = error.student::<Plain>().unwrap();
        assert_eq!(numbers(&kept), student, "{error}");
    }

    // In the first epoch there is none.
    let error = soft().fit(&quiet(4), failing(2), None).unwrap_err();
    assert!(error.student::<Plain>().is_none(), "{error}");
    // And of another type neither.
    let error = soft().fit(&quiet(4), failing(8), None).unwrap_err();
    assert!(error.student::<Vec<Plain>>().is_none());
}

#[test]
fn a_disk_that_goes_in_the_middle_leaves_the_student() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("checkpoint");
    // In the first batch of epoch 3 a file stands where the folder was. Before the first are that of the check,
    // and two by which checkpoints know the data.
    let data = watched(48, move |batch| {
        if batch == 3 + 6 + 1 {
            std::fs::rename(&folder, folder.with_extension("gone")).unwrap();
            std::fs::write(&folder, []).unwrap();
        }
    });
    let config = quiet(8).with_checkpoints(directory.path());
    let error = soft().fit(&config, data, None).unwrap_err();
    assert!(error.to_string().contains("checkpoint/"), "{error}");
    assert!(error.student::<Plain>().is_some());

    // A best student that cannot be written.
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("checkpoint/best-1.bpk");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let config = quiet(8)
        .with_checkpoints(directory.path())
        .with_best("loss", Direction::Lowest);
    let error = soft().fit(&config, labelled(points(48)), None).unwrap_err();
    let expected = format!("{}: ", in_the_way.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(numbers(&error.student::<Plain>().unwrap()), after(1));
}

#[test]
fn what_several_trainings_left_before_an_error_is_in_it() {
    let _seeded = common::seeded();
    let objective = || Objective::new().with(SoftTarget::new(4.0), 1.0);
    let stages = Stages::new()
        .with(Stage::new(objective(), 2))
        .with(Stage::new(objective(), 2));
    // Two epochs, their report, and then nothing for the check of the next.
    let batches = 1 + 6 + 5;
    let fit = |data| {
        stages.fit(
            Device::flex(),
            Plain::new(12),
            Plain::new(4),
            &quiet(1),
            data,
            None,
        )
    };
    let error = fit(failing(batches)).unwrap_err();
    assert_eq!(numbers(&error.student::<Plain>().unwrap()), after(2));

    let fresh = |_| Plain::new(4);
    let teacher = Plain::new(4);
    let again = |data| {
        born_again(
            Device::flex(),
            teacher.clone(),
            fresh,
            2,
            &objective(),
            &quiet(2),
            data,
            None,
        )
    };
    let error = again(failing(batches)).unwrap_err();
    assert!(error.student::<Plain>().is_some(), "{error}");

    let peers = vec![Plain::new(4), Plain::new(5)];
    let error = mutual_learning(
        Device::flex(),
        peers,
        &Mutual::new(),
        &quiet(4),
        failing(8),
        None,
    );
    let peers = error.unwrap_err().student::<Vec<Plain>>().unwrap();
    assert_eq!(peers.len(), 2);
}

#[test]
fn a_stop_is_of_the_training_that_runs() {
    let _seeded = common::seeded();
    let interrupter = Interrupter::new();
    let config = quiet(20)
        .with_baseline(true)
        .with_interrupter(interrupter.clone());
    let stopped_at = |at: usize| {
        let stop = interrupter.clone();
        watched(48, move |batch| {
            if batch == at {
                stop.stop(Some("enough"));
            }
        })
    };
    // The second batch of epoch 2, after two checks and a look at the targets.
    let distilled = soft().fit(&config, stopped_at(3 + 3 + 2), None).unwrap();
    assert_eq!(distilled.report.training.last_epoch, 2);
    assert_eq!(distilled.report.baseline, None, "of one batch");
    let expected = "the baseline: the distillation was stopped in epoch 2 of 20 (enough)";
    assert_eq!(distilled.report.unmeasured, [expected]);

    // A stop in the baseline, and one that comes when all is done: the next training runs to its end.
    let whole = 3 + 20 * 3 + 5;
    let distilled = soft().fit(&config, stopped_at(whole + 2), None).unwrap();
    assert_eq!(distilled.report.training.last_epoch, 20);
    assert_eq!(distilled.report.baseline, None);
    let expected = "the baseline: it was stopped in epoch 1 of 20 (enough)";
    assert_eq!(distilled.report.unmeasured, [expected]);
    interrupter.stop(None);
    let next = soft().fit(&config, labelled(points(48)), None).unwrap();
    assert_eq!(next.report.training.last_epoch, 20);
    assert!(next.report.baseline.is_some());

    // A stage that is stopped leaves the next one alone.
    let objective = || Objective::new().with(SoftTarget::new(4.0), 1.0);
    let stages = Stages::new()
        .with(Stage::new(objective(), 5))
        .with(Stage::new(objective(), 4));
    let config = quiet(1).with_interrupter(interrupter.clone());
    let data = stopped_at(1 + 3 + 1);
    let results = stages.fit(
        Device::flex(),
        Plain::new(12),
        Plain::new(4),
        &config,
        data,
        None,
    );
    let epochs: Vec<_> = results
        .unwrap()
        .iter()
        .map(|it| it.report.training.last_epoch)
        .collect();
    assert_eq!(epochs, [2, 4]);
}

/// A student goes on through `?` as it always did.
#[test]
fn a_question_mark_is_all_that_a_program_needs() {
    fn program() -> burn_distill::Result<Plain> {
        Ok(soft().fit(&quiet(1), labelled(points(48)), None)?.student)
    }
    fn boxed() -> Result<Plain, Box<dyn std::error::Error + Send + Sync>> {
        Ok(soft().fit(&quiet(1), labelled(points(48)), None)?.student)
    }
    let _seeded = common::seeded();
    assert_eq!(numbers(&program().unwrap()), numbers(&boxed().unwrap()));
}
