//! What a training is told beyond its data: which epoch comes back, which batches and parameters take
//! part, and how far a step may go.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataset::InMemDataset;
use burn::module::{Module, ParamGroup};

use burn::optim::{AdamConfig, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use burn::train::metric::store::Direction;
use burn_distill::loss::{HardLabel, LossContext, SoftTarget, loss_fn};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distilled, Distiller, FitConfig, Outputs, ProgressMode,
    Schedule,
};
use common::net::{
    CLASSES, INPUTS, Net, Point, bytes, classes, initialized, inputs, labelled, largest_difference,
    numbers, points, unlabelled,
};
use common::plain::Plain;

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(16)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_progress(ProgressMode::Silent)
}

/// A training whose loss falls, and whose numbers are best in a known epoch: a term of weight zero that
/// says `|progress − best|` of the training, by which the best can be asked for.
fn soft(config: &FitConfig, best: f64) -> Distilled<Net, Net> {
    soft_on(config, best, labelled(points(48)))
}

fn soft_on(config: &FitConfig, best: f64, data: DistillData<Tensor<2>>) -> Distilled<Net, Net> {
    let device = Device::flex();
    device.seed(3);
    let teacher = initialized(Net::new(16, 0.0, &device));
    let student = initialized(Net::new(5, 0.0, &device));
    let valley = loss_fn("valley", move |context: &LossContext<'_>| {
        let distance = (context.progress - best).abs();
        context.mean(context.logits().mean_dim(1).squeeze_dim(1)) * 0.0 + distance
    });
    Distiller::on(device, teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .with(valley, 1e-9)
        .fit(config, data, labelled(points(16)))
        .unwrap()
}

#[test]
fn the_student_of_the_best_epoch_comes_back() {
    let _seeded = common::seeded();
    // Validation is at the end of its epoch: of 8, the third ends at 0.375.
    let best = soft(&quiet(8).with_best("valley", Direction::Lowest), 0.375);
    let training = &best.report.training;
    assert_eq!(training.best_epoch, Some(3));
    assert_eq!(training.best_by.as_deref(), Some("validation valley"));
    assert_eq!(training.last_epoch, 8);
    // With its running statistics, which move in every step.
    let third = soft(&quiet(3), 0.0);
    assert_eq!(numbers(&best.student), numbers(&third.student));
    assert_eq!(third.report.training.best_epoch, None);
    let table = best.report.to_string();
    assert!(
        table.contains("\nstudent of          epoch 3, the best by validation valley"),
        "{table}"
    );

    let worst = soft(&quiet(8).with_best("valley", Direction::Highest), 0.375);
    assert_eq!(worst.report.training.best_epoch, Some(8));
}

#[test]
fn early_stopping_hands_back_the_best_by_any_metric() {
    let _seeded = common::seeded();
    let config = quiet(20).with_early_stopping(2);
    let stopped = soft(&config.clone().with_best("valley", Direction::Lowest), 0.15);
    let training = &stopped.report.training;
    assert_eq!((training.best_epoch, training.last_epoch), (Some(3), 5));
    // By the loss where nothing else is said, which rises when nothing is learned.
    let (teacher, student) = (Plain::new(12), Plain::new(4));
    let config = config.with_optimizer(SgdConfig::new().init(), 1e-12);
    let rises = loss_fn("rises", |context: &LossContext<'_>| {
        context.mean(context.logits().mean_dim(1).squeeze_dim(1)) * 0.0 + context.progress
    });
    let stopped = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .with(rises, 1.0)
        .fit(&config, labelled(points(40)), None)
        .unwrap();
    let training = stopped.report.training;
    assert_eq!((training.best_epoch, training.last_epoch), (Some(1), 3));
    assert_eq!(training.best_by.as_deref(), Some("training loss"));
}

#[test]
fn the_best_outlasts_a_training_that_is_cut_off() {
    let _seeded = common::seeded();
    for best in [0.25, 0.75] {
        let undisturbed = soft(&quiet(8).with_best("valley", Direction::Lowest), best);
        let directory = tempfile::tempdir().unwrap();
        let config = quiet(8)
            .with_best("valley", Direction::Lowest)
            .with_checkpoints(directory.path());
        // One batch for the check and three per epoch: cut off in the fifth.
        let interrupter = Interrupter::new();
        let data = stopping(1 + 3 * 4 + 2, interrupter.clone());
        soft_on(&config.clone().with_interrupter(interrupter), best, data);
        let resumed = soft(&config.clone().with_resume(true), best);
        let training = &resumed.report.training;
        assert_eq!(training.resumed_from, Some(4));
        assert_eq!(training.best_epoch, undisturbed.report.training.best_epoch);
        assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
        let names = std::fs::read_dir(directory.path().join("checkpoint")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut best: Vec<_> = names.filter(|name| name.starts_with("best")).collect();
        best.sort();
        let epoch = training.best_epoch.unwrap();
        assert_eq!(best, [format!("best-{epoch}.bpk"), "best.json".into()]);
        // A training that starts afresh finds nothing of it.
        let afresh = soft(&config, 1.0);
        assert_eq!(afresh.report.training.best_epoch, Some(8));
    }
}

/// Points that ask a training to stop when so many batches have been made.
fn stopping(after: usize, interrupter: Interrupter) -> DistillData<Tensor<2>> {
    let batches = AtomicUsize::new(0);
    DistillData::from_fn(
        InMemDataset::new(points(48)),
        move |points: Vec<Point>, device: &Device| {
            if batches.fetch_add(1, Ordering::Relaxed) + 1 == after {
                interrupter.stop(None);
            }
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        },
    )
}

#[test]
fn a_metric_that_no_step_reports_is_refused_before_training() {
    let _seeded = common::seeded();
    let fit = |metric: &str| {
        Distiller::on(Device::flex(), Plain::new(12), Plain::new(4))
            .with(SoftTarget::new(4.0), 1.0)
            .fit(
                &quiet(2).with_best(metric, Direction::Highest),
                unlabelled(points(40)),
                None,
            )
    };
    let expected = "best is by \"accuracy\", with [\"loss\", \"soft_target\", \"agreement\"] \
                    reported, expected a number that every step reports";
    assert_eq!(fit("accuracy").unwrap_err().to_string(), expected);
    assert!(fit("agreement").is_ok());
}
