//! What a training is told beyond its data: which epoch comes back, which batches and parameters take
//! part, and how far a step may go.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataset::InMemDataset;
use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, ParamGroup};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::metric::store::Direction;
use burn::train::{Interrupter, MultiDeviceOptim};
use burn_distill::loss::{HardLabel, Hint, LossContext, SoftTarget, loss_fn};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distilled, Distiller, FitConfig, Outputs, ProgressMode,
    load_student,
};
use common::net::{
    CLASSES, INPUTS, Net, Point, classes, initialized, inputs, labelled, largest_difference,
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
        // One batch for the check, two by which checkpoints know the data, and three per epoch: cut off in the
        // fifth.
        let interrupter = Interrupter::new();
        let data = stopping(3 + 3 * 4 + 2, interrupter.clone());
        soft_on(&config.clone().with_interrupter(interrupter), best, data);
        let resumed = soft(&config.clone().with_resume(true), best);
        let training = &resumed.report.training;
        assert_eq!(training.resumed_from, Some(4));
        assert_eq!(training.best_epoch, undisturbed.report.training.best_epoch);
        assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
        let names = std::fs::read_dir(directory.path().join("checkpoint")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = names.filter(|name| name.starts_with("best")).collect();
        files.sort();
        let epoch = training.best_epoch.unwrap();
        assert_eq!(files, [format!("best-{epoch}.bpk"), "best.json".into()]);
        // A best that is gone is said to be.
        std::fs::remove_file(directory.path().join("checkpoint/best.json")).unwrap();
        let without = soft(&config.clone().with_resume(true), best);
        let note = "the best of the epochs up to 8 is not there: the best is one after them";
        assert_eq!(without.report.training.notes, [note]);
        assert_eq!(without.report.training.best_epoch, None);
        // A training that starts afresh finds nothing of it.
        let afresh = soft(&config, 1.0);
        assert_eq!(afresh.report.training.best_epoch, Some(8));
    }
}

#[test]
fn a_training_that_keeps_no_best_leaves_none_of_another() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let config = |epochs| quiet(epochs).with_checkpoints(directory.path());
    soft(&config(3).with_best("loss", Direction::Highest), 0.5);
    let resumed = config(3).with_resume(true).with_changed_settings(true);
    let student = soft(&resumed, 0.5).student;
    let loaded = load_student(directory.path(), Net::new(5, 0.0, &Device::flex())).unwrap();
    assert_eq!(numbers(&loaded), numbers(&student));
}

/// Points that ask a training to stop after `after` batches.
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
fn a_baseline_has_a_best_of_its_own() {
    let _seeded = common::seeded();
    // It agrees with no teacher, and trains no projector.
    let config = quiet(3)
        .with_baseline(true)
        .with_best("agreement", Direction::Highest)
        .with_lr_group(ParamGroup::from_predicate("loss-modules"), 0.5);
    let distilled = Distiller::on(Device::flex(), Plain::new(12), Plain::new(4))
        .with(Hint::new("hidden", "hidden"), 1.0)
        .fit(&config, labelled(points(40)), None)
        .unwrap();
    let report = distilled.report;
    assert!(report.baseline.is_some(), "{:?}", report.unmeasured);
    assert_eq!(
        report.training.best_by.as_deref(),
        Some("training agreement")
    );
}

#[test]
fn the_mean_teacher_of_the_best_epoch_comes_back_with_it() {
    let _seeded = common::seeded();
    let run = |config: FitConfig| {
        let device = Device::flex();
        device.seed(3);
        let student = initialized(Net::new(5, 0.0, &device));
        let valley = loss_fn("valley", |context: &LossContext<'_>| {
            let distance = (context.progress - 0.375).abs();
            context.mean(context.logits().mean_dim(1).squeeze_dim(1)) * 0.0 + distance
        });
        Distiller::mean_teacher(device, student, 0.9)
            .with(SoftTarget::new(1.0), 1.0)
            .with(HardLabel::new(), 1.0)
            .with(valley, 1e-9)
            .fit(&config, labelled(points(48)), labelled(points(16)))
            .unwrap()
    };
    let third = run(quiet(3));
    let directory = tempfile::tempdir().unwrap();
    let config = quiet(8)
        .with_best("valley", Direction::Lowest)
        .with_checkpoints(directory.path());
    // Once more, from what lies on the disk.
    for config in [config.clone(), config.with_resume(true)] {
        let best = run(config);
        assert_eq!(best.report.training.best_epoch, Some(3));
        assert_eq!(numbers(&best.student), numbers(&third.student));
        assert_eq!(numbers(&best.teacher), numbers(&third.teacher));
    }
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

/// A student of which every part can be looked at.
#[derive(Module, Debug)]
struct Parts {
    first: Linear,
    norm: BatchNorm,
    head: Linear,
}

impl Parts {
    fn new() -> Self {
        let device = Device::flex();
        device.seed(7);
        initialized(Self {
            first: LinearConfig::new(INPUTS, 4).init(&device),
            norm: BatchNormConfig::new(4).init(&device),
            head: LinearConfig::new(4, CLASSES).init(&device),
        })
    }
}

impl Distillable<Tensor<2>> for Parts {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let hidden = self.norm.forward(self.first.forward(input));
        Outputs::new(self.head.forward(hidden.clone())).with_feature("hidden", hidden)
    }
}

fn distil<S: Distillable<Tensor<2>>>(
    student: S,
    config: &FitConfig,
    count: usize,
) -> burn_distill::Result<Distilled<Plain, S>> {
    Distiller::on(Device::flex(), Plain::new(12), student)
        .with(SoftTarget::new(4.0), 1.0)
        .fit(config, labelled(points(count)), None)
}

#[test]
fn a_last_batch_of_one_sample_is_named_and_can_be_left_out() {
    let _seeded = common::seeded();
    // Nothing but running statistics moves.
    let config = quiet(60)
        .with_batch_size(128)
        .with_lr_group(ParamGroup::all(), 0.0);
    let ratio = |config: &FitConfig, count| {
        let distilled = distil(Parts::new(), config, count).unwrap();
        let hidden = Parts::new()
            .first
            .forward(inputs(&points(count), &Device::flex()));
        let variance = hidden.var(0).squeeze_dim::<1>(0);
        let running = distilled.student.norm.running_var.value();
        let ratio = (running / variance).mean().into_scalar::<f32>();
        (ratio, distilled.report.training.notes)
    };
    let note = "the last batch of an epoch has 1 sample, which has no variance for the batch norm \
                \"norm\": `FitConfig::with_drop_last` leaves it out";
    let (kept, notes) = ratio(&config, 129);
    assert!(kept < 0.6, "{kept}");
    assert_eq!(notes, [note]);
    let (dropped, notes) = ratio(&config.clone().with_drop_last(true), 129);
    assert!((dropped - 1.0).abs() < 0.05, "{dropped}");
    assert!(notes.is_empty(), "{notes:?}");
    assert!(
        ratio(&config, 130).1.is_empty(),
        "two samples have a variance"
    );

    let distiller = Distiller::on(Device::flex(), Plain::new(12), Parts::new());
    let distiller = distiller.with(SoftTarget::new(4.0), 1.0);
    let found = distiller
        .preflight(&config, &labelled(points(129)), None)
        .unwrap();
    assert!(
        found.to_string().ends_with(&format!("\nnote: {note}")),
        "{found}"
    );

    let few = distil(Parts::new(), &config.with_drop_last(true), 100).unwrap_err();
    let expected = "drop_last is on with 100 training samples, expected at least as many samples as a batch has";
    assert_eq!(few.to_string(), expected);
}

#[test]
fn batches_that_are_left_out_change_with_the_epoch() {
    let _seeded = common::seeded();
    // 44 points in batches of 8: four are left out, of which accumulation and devices know.
    let run = |config: FitConfig| {
        let config = config.with_drop_last(true);
        numbers(&distil(Plain::new(4), &config, 44).unwrap().student)
    };
    let one = run(quiet(4).with_batch_size(8).with_accumulation(2));
    let devices = vec![Device::flex(), Device::flex()];
    let two = quiet(4)
        .with_batch_size(8)
        .with_devices(devices, MultiDeviceOptim::OptimMainDevice);
    assert!(largest_difference(&one, &run(two)) < 1e-6);
    let whole = numbers(
        &distil(
            Plain::new(4),
            &quiet(4).with_batch_size(8).with_accumulation(2),
            44,
        )
        .unwrap()
        .student,
    );
    assert!(largest_difference(&one, &whole) > 1e-3);
}

#[test]
fn groups_go_by_the_students_own_paths() {
    let _seeded = common::seeded();
    let before = Parts::new();
    let moved = |config: FitConfig| {
        let after = distil(Parts::new(), &config, 40).unwrap().student;
        let moved = |a: &Linear, b: &Linear| {
            let difference = a.weight.val() - b.weight.val();
            difference.abs().max().into_scalar::<f32>()
        };
        [
            moved(&after.first, &before.first),
            moved(&after.head, &before.head),
        ]
    };
    let head = || ParamGroup::from_path("head.weight");
    let [first, all] = moved(quiet(1));
    assert!(first > 0.0 && all > 0.0);
    let [first, none] = moved(quiet(1).with_lr_group(head(), 0.0));
    assert!(first > 0.0 && none == 0.0, "{none}");
    // The last group counts, and a factor is of the rate as it is scheduled.
    let half = quiet(1)
        .with_lr_group(ParamGroup::all(), 0.0)
        .with_lr_group(head(), 0.5);
    let [none, half] = moved(half);
    assert!(none == 0.0 && half > 0.0 && half < all, "{half} of {all}");
    // Burn's own groups, of rates and of optimizers, have the same paths.
    let scheduler = burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler::new(0.1);
    let [first, none] = moved(quiet(1).with_lr_scheduler(scheduler.with_group(head(), 0.0)));
    assert!(first > 0.0 && none == 0.0, "{none}");

    // Adam's first step is as large as the rate, whatever the gradient.
    let config = quiet(1).with_batch_size(40);
    let [first, adam] = moved(
        config
            .clone()
            .with_optimizer_group(head(), AdamConfig::new().build()),
    );
    assert!((adam - 0.1).abs() < 1e-3, "{adam}");
    assert!(first < 0.09, "{first}");
    // Clipping of each parameter reaches groups too.
    let tiny = config
        .with_gradient_clipping(GradientClippingConfig::Norm(1e-6))
        .with_optimizer_group(head(), SgdConfig::new().build());
    let [first, head] = moved(tiny);
    assert!(first <= 1e-7 && head <= 1e-7, "{first} {head}");
}

#[test]
fn a_group_without_parameters_is_refused_before_training() {
    let _seeded = common::seeded();
    let wrong = || ParamGroup::from_path("student.head.weight");
    let error = |config: FitConfig| distil(Parts::new(), &config, 40).unwrap_err().to_string();
    let expected = "is a group without parameters among first.weight, first.bias, norm.gamma, norm.beta, \
                    norm.running_mean, norm.running_var, head.weight, head.bias, \
                    expected a group that has at least one, by its path in the student";
    let rate = error(quiet(1).with_lr_group(wrong(), 0.1));
    assert_eq!(rate, format!("lr_group {expected}"));
    let optimizer = error(quiet(1).with_optimizer_group(wrong(), SgdConfig::new().build()));
    assert_eq!(optimizer, format!("optimizer_group {expected}"));
    let negative = error(quiet(1).with_lr_group(ParamGroup::all(), -1.0));
    assert_eq!(negative, "lr_group is -1, expected a number of at least 0");

    // What losses train has names too.
    let projector = ParamGroup::from_predicate("loss-modules");
    let config = quiet(1).with_lr_group(projector, 0.1);
    assert!(distil(Parts::new(), &config, 40).is_err());
    Distiller::on(Device::flex(), Plain::new(12), Plain::new(4))
        .with(Hint::new("hidden", "hidden"), 1.0)
        .fit(&config, labelled(points(40)), None)
        .unwrap();
}

#[test]
fn global_clipping_bounds_the_norm_over_all_parameters() {
    let _seeded = common::seeded();
    // One step of gradient descent with a rate of 1 moves the student by the gradient.
    let step = |config: FitConfig| {
        let config = config.with_optimizer(SgdConfig::new().init(), 1.0);
        let before = numbers(&Plain::new(4));
        let after = numbers(&distil(Plain::new(4), &config, 32).unwrap().student);
        let gradient: Vec<f32> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        let norm = gradient.iter().map(|x| x * x).sum::<f32>().sqrt();
        (norm, gradient)
    };
    let devices = || vec![Device::flex(), Device::flex()];
    let whole = quiet(1).with_batch_size(32);
    let half = quiet(1).with_batch_size(16);
    let (norm, gradient) = step(whole.clone());
    assert!(norm > 0.1, "{norm}");
    for config in [
        whole.clone(),
        whole
            .clone()
            .with_optimizer_group(ParamGroup::from_path("head.bias"), SgdConfig::new().build()),
        half.clone().with_accumulation(2),
        half.clone()
            .with_devices(devices(), MultiDeviceOptim::OptimMainDevice),
        half.with_devices(devices(), MultiDeviceOptim::OptimSharded),
    ] {
        let (clipped, shorter) = step(config.clone().with_global_clipping(0.05));
        assert!((clipped - 0.05).abs() < 1e-5, "{clipped} with {config:?}");
        // In the same direction.
        let scaled: Vec<f32> = gradient.iter().map(|x| x * 0.05 / norm).collect();
        assert!(largest_difference(&shorter, &scaled) < 1e-5);
        let (unclipped, _) = step(config.with_global_clipping(10.0));
        assert!((unclipped - norm).abs() < 1e-5);
    }
    let error = distil(Plain::new(4), &whole.with_global_clipping(0.0), 32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "global_clipping is 0, expected a number greater than 0"
    );
}

/// Layers of which one may be a copy of another.
#[derive(Module, Debug)]
struct Twice {
    first: Linear,
    second: Linear,
    head: Linear,
}

impl Twice {
    fn new(first: Linear, second: Linear) -> Self {
        let head = LinearConfig::new(INPUTS, CLASSES).init(&Device::flex());
        Self {
            first,
            second,
            head,
        }
    }
}

impl Distillable<Tensor<2>> for Twice {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let hidden = self.first.forward(input).tanh();
        Outputs::new(self.head.forward(self.second.forward(hidden)))
    }
}

#[test]
fn one_parameter_under_two_names_is_refused_before_training() {
    let _seeded = common::seeded();
    let layer = || -> Linear { LinearConfig::new(INPUTS, INPUTS).init(&Device::flex()) };
    let first = layer();
    let error = distil(Twice::new(first.clone(), first.clone()), &quiet(1), 40).unwrap_err();
    let expected = "student.second.weight is the same parameter as first.weight, expected one of its own: \
                    of a layer and its clone only one learns; call the layer twice, or make two";
    assert_eq!(error.to_string(), expected);
    // What does not learn is not harmed.
    let frozen = first.freeze();
    distil(Twice::new(frozen.clone(), frozen), &quiet(1), 40).unwrap();
    distil(Twice::new(layer(), layer()), &quiet(1), 40).unwrap();
}

#[test]
fn a_student_that_is_frozen_throughout_is_refused_before_training() {
    let _seeded = common::seeded();
    let error = distil(Parts::new().freeze(), &quiet(1), 40).unwrap_err();
    let expected = "student is frozen throughout, expected a parameter that learns";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_frozen_batch_norm_keeps_its_statistics_if_it_is_asked_to() {
    let _seeded = common::seeded();
    let run = |student: Parts| {
        let before = student.norm.running_mean.value().into_data();
        let distilled = distil(student, &quiet(2), 40).unwrap();
        let after = distilled.student.norm.running_mean.value().into_data();
        (before == after, distilled.report.training.notes)
    };
    let backbone = ParamGroup::from_any_predicates(vec!["first", "norm"]);
    assert_eq!(
        run(Parts::new().freeze_group(backbone.clone())),
        (true, vec![])
    );
    let (is_same, notes) = run(Parts::new().set_require_grad_group(backbone, false));
    assert!(!is_same);
    let expected = "1 batch norm(s), the first \"norm\", have frozen weights and statistics that move: \
                    `Module::freeze` and `freeze_group` hold both, `no_grad` the weights alone";
    assert_eq!(notes, [expected]);
    assert_eq!(run(Parts::new()), (false, vec![]));
}
