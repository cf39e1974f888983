//! Training: equal to a loop by hand, equal however it is cut up, resumed, or computed.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::Flex;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::{Interrupter, MultiDeviceOptim};
use burn_distill::loss::{
    HardLabel, Hint, LossContext, SoftTarget, hard_label, loss_fn, soft_target,
};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distilled, Distiller, FitConfig, ProgressMode, Schedule,
};
use common::net::{
    Net, Point, bytes, classes, initialized, inputs, labelled, largest_difference, masked, numbers,
    points,
};
use common::plain::Plain;

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(16)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_progress(ProgressMode::Silent)
}

/// A teacher and a student with the same weights in every test, and dropout as asked.
fn pair(dropout: f64) -> (Net, Net) {
    let device = Device::flex();
    device.seed(3);
    (
        initialized(Net::new(16, 0.0, &device)),
        initialized(Net::new(5, dropout, &device)),
    )
}

fn distil(config: &FitConfig, dropout: f64, data: DistillData<Tensor<2>>) -> Distilled<Net, Net> {
    let (teacher, student) = pair(dropout);
    Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 0.9)
        .with(HardLabel::new(), 0.1)
        .fit(config, data, None)
        .unwrap()
}

#[test]
fn it_equals_a_loop_by_hand_step_for_step() {
    let _seeded = common::seeded();
    let points = points(16);
    let device = Device::flex().autodiff();
    let (teacher, student) = pair(0.0);
    let teacher = teacher.valid();
    let mut by_hand = student.train().fork(&device);
    let mut optimizer = SgdConfig::new().init();
    for step in 1..=4 {
        let taught = teacher.outputs(inputs(&points, &Device::flex())).logits();
        let logits = by_hand.outputs(inputs(&points, &device)).logits();
        let labels = classes(&points, &Device::flex());
        let soft = soft_target(logits.clone(), taught, 4.0).mean();
        let loss = soft * 0.9 + hard_label(logits, labels, 0.0).mean() * 0.1;
        let gradients = GradientsParams::from_grads(loss.backward(), &by_hand);
        by_hand = optimizer.step(0.1, by_hand, gradients);

        // All points in one batch: as many steps as epochs.
        let distilled = distil(&quiet(step), 0.0, labelled(points.clone()));
        let difference =
            largest_difference(&numbers(&by_hand.valid()), &numbers(&distilled.student));
        assert!(difference < 1e-6, "{difference} after step {step}");
    }
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let _seeded = common::seeded();
    // Batch norm sees the small batches: a student without it.
    for (data, what) in [
        (
            labelled as fn(Vec<Point>) -> DistillData<Tensor<2>>,
            "all are valid",
        ),
        (masked, "some are masked"),
    ] {
        // 44 points: the last step of an epoch has 12 of 32.
        let run = |batch_size, accumulation| {
            let (teacher, student) = (Plain::new(12), Plain::new(4));
            let config = quiet(3)
                .with_batch_size(batch_size)
                .with_accumulation(accumulation);
            Distiller::on(Device::flex(), teacher, student)
                .with(SoftTarget::new(4.0), 0.9)
                .with(HardLabel::new(), 0.1)
                .fit(&config, data(points(44)), None)
                .unwrap()
                .student
        };
        let difference = largest_difference(&numbers(&run(32, 1)), &numbers(&run(8, 4)));
        assert!(difference < 1e-6, "{difference} where {what}");
        let other = largest_difference(&numbers(&run(32, 1)), &numbers(&run(8, 1)));
        assert!(
            other > 1e-3,
            "the control: without accumulation it is another training"
        );
    }
}

/// With everything that has a state: Adam, a learning-rate schedule, a temperature schedule,
/// dropout, batch norm, a projector.
fn stateful(config: &FitConfig, data: DistillData<Tensor<2>>) -> Distilled<Net, Net> {
    let (teacher, student) = pair(0.3);
    Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(Schedule::linear(8.0, 2.0)), 1.0)
        .with(Hint::new("hidden", "hidden"), 0.5)
        .fit(config, data, None)
        .unwrap()
}

fn adam(epochs: usize) -> FitConfig {
    quiet(epochs)
        .with_optimizer(AdamConfig::new().init(), 0.01)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(11)
}

/// Points that ask a training to stop after a number of batches.
fn stopping(after: usize, interrupter: Interrupter) -> DistillData<Tensor<2>> {
    let batches = Arc::new(AtomicUsize::new(0));
    DistillData::from_fn(
        InMemDataset::new(points(40)),
        move |points: Vec<Point>, device| {
            if batches.fetch_add(1, Ordering::Relaxed) + 1 == after {
                interrupter.stop(Some("pulled the plug"));
            }
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        },
    )
}

#[test]
fn a_resumed_training_ends_where_an_undisturbed_one_does() {
    let _seeded = common::seeded();
    let undisturbed = stateful(&adam(5), labelled(points(40)));

    let directory = tempfile::tempdir().unwrap();
    let interrupter = Interrupter::new();
    // One batch for the check, two for what the checkpoints belong to, and four per epoch, the last of the three
    // being filled up for the teacher: the plug is pulled in the fourth epoch.
    let data = stopping(1 + 2 + 4 * 3 + 2, interrupter.clone());
    let config = adam(5)
        .with_checkpoints(directory.path())
        .with_interrupter(interrupter);
    let stopped = stateful(&config, data);
    let training = &stopped.report.training;
    assert_eq!(training.interrupted.as_deref(), Some("pulled the plug"));
    assert_eq!(training.last_epoch, 4);
    assert_ne!(numbers(&stopped.student), numbers(&undisturbed.student));

    let resume = || adam(5).with_checkpoints(directory.path()).with_resume(true);
    let resumed = stateful(&resume(), labelled(points(40)));
    assert_eq!(resumed.report.training.resumed_from, Some(3));
    assert_eq!(resumed.report.training.history.first_epoch, 4);
    assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
}

#[test]
fn a_checkpoint_with_a_missing_or_broken_file_is_passed_over() {
    let _seeded = common::seeded();
    let whole = adam(4);
    let undisturbed = stateful(&whole, labelled(points(40)));
    for broken in [None, Some("model-4.bpk"), Some("scheduler-4.bpk")] {
        let directory = tempfile::tempdir().unwrap();
        let config = adam(4).with_checkpoints(directory.path());
        stateful(&config, labelled(points(40)));
        let folder = directory.path().join("checkpoint");
        match broken {
            None => std::fs::remove_file(folder.join("optim-4.bpk")).unwrap(),
            Some(name) => std::fs::write(folder.join(name), b"cut off").unwrap(),
        }
        let resumed = stateful(&config.with_resume(true), labelled(points(40)));
        assert_eq!(resumed.report.training.resumed_from, Some(3));
        assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
        let notes = &resumed.report.training.notes;
        let name = broken.unwrap_or("optim-4.bpk");
        let start = format!("the checkpoint of epoch 4 was passed over: {name}");
        assert!(
            notes.len() == 1 && notes[0].starts_with(&start),
            "{notes:?}"
        );
        assert!(resumed.report.to_string().contains(&start));
    }
}

#[test]
fn a_finished_training_resumes_to_itself_and_an_empty_directory_starts_afresh() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let config = adam(2).with_checkpoints(directory.path()).with_resume(true);
    let first = stateful(&config, labelled(points(40)));
    assert_eq!(first.report.training.resumed_from, None);
    let again = stateful(&config, labelled(points(40)));
    assert_eq!(again.report.training.resumed_from, Some(2));
    assert_eq!(numbers(&again.student), numbers(&first.student));
}

#[test]
fn a_checkpoint_of_another_student_is_refused() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let config = adam(1).with_checkpoints(directory.path());
    stateful(&config, labelled(points(40)));
    let (teacher, _) = pair(0.0);
    let wider = Net::new(6, 0.0, &Device::flex());
    let error = Distiller::on(Device::flex(), teacher, wider)
        .with(SoftTarget::new(4.0), 1.0)
        .fit(&config.with_resume(true), labelled(points(40)), None)
        .unwrap_err()
        .to_string();
    let start = format!(
        "cannot load the checkpoint of epoch 1 in {}: ",
        directory.path().display()
    );
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn one_seed_is_one_student_and_another_is_another() {
    let _seeded = common::seeded();
    let run = |seed: u64, workers: usize| {
        let config = adam(2).with_seed(seed).with_workers(workers);
        numbers(&stateful(&config, labelled(points(40))).student)
    };
    let first = run(1, 0);
    assert_eq!(first, run(1, 0));
    assert_eq!(
        first,
        run(1, 2),
        "threads that prepare batches change nothing"
    );
    assert_ne!(first, run(2, 0));
}

#[test]
fn two_devices_train_what_one_does() {
    let _seeded = common::seeded();
    for optim in [
        MultiDeviceOptim::OptimMainDevice,
        MultiDeviceOptim::OptimSharded,
    ] {
        let run = |config: FitConfig| {
            let (teacher, student) = (Plain::new(12), Plain::new(4));
            Distiller::on(Device::flex(), teacher, student)
                .with(SoftTarget::new(4.0), 1.0)
                .fit(&config, labelled(points(44)), None)
                .unwrap()
                .student
        };
        let one = run(quiet(3).with_batch_size(16));
        let devices = vec![Device::flex(), Device::flex()];
        let two = run(quiet(3).with_batch_size(8).with_devices(devices, optim));
        let difference = largest_difference(&numbers(&one), &numbers(&two));
        assert!(difference < 1e-6, "{difference} with {optim:?}");
    }
}

#[test]
fn a_backend_without_distributed_training_says_so() {
    let _seeded = common::seeded();
    use burn::tensor::distributed::{DistributedConfig, ReduceOperation};
    let (teacher, student) = pair(0.0);
    let config = DistributedConfig {
        all_reduce_op: ReduceOperation::Mean,
    };
    let devices = vec![Device::flex(), Device::flex()];
    let error = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .fit(
            &quiet(1).with_ddp(devices, config),
            labelled(points(40)),
            None,
        )
        .unwrap_err()
        .to_string();
    let expected =
        "device Device<Flex(Cpu)> is not available: Distributed operations are not supported";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn early_stopping_stops() {
    let _seeded = common::seeded();
    let config = quiet(50)
        .with_optimizer(SgdConfig::new().init(), 1e-12)
        .with_early_stopping(2);
    let distilled = distil(&config, 0.0, labelled(points(16)));
    let training = &distilled.report.training;
    assert!(
        training.last_epoch < 10,
        "stopped after epoch {}",
        training.last_epoch
    );
    assert_eq!(training.history.train["loss"].len(), training.last_epoch);
}

#[test]
fn what_is_not_finite_stops_training_and_says_where() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let (teacher, student) = pair(0.0);
    let poisoned = loss_fn("poisoned", |context: &LossContext<'_>| {
        let factor = if context.progress < 0.5 {
            1.0
        } else {
            f64::NAN
        };
        context.mean(context.logits().mean_dim(1).squeeze_dim(1)) * factor
    });
    let config = quiet(4).with_checkpoints(directory.path());
    let error = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .with(poisoned, 1.0)
        .fit(&config, labelled(points(40)), None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "not finite: term \"poisoned\" at epoch 3, step 1 of training (NaN); `Error::student` has the student of epoch 2"
    );
    // The last good checkpoint is there, and none of the bad epoch.
    let folder = directory.path().join("checkpoint");
    assert!(folder.join("model-2.bpk").exists());
    assert!(!folder.join("model-3.bpk").exists());
}

#[test]
fn gradient_clipping_and_checkpointing_are_one_line_each() {
    let _seeded = common::seeded();
    use burn::grad_clipping::GradientClippingConfig;
    let run = |config: FitConfig| numbers(&distil(&config, 0.0, labelled(points(40))).student);
    let plain = run(quiet(2));
    assert_eq!(run(quiet(2).with_gradient_checkpointing(true)), plain);
    assert_ne!(
        run(quiet(2).with_gradient_clipping(GradientClippingConfig::Norm(1e-3))),
        plain
    );
}

#[test]
fn the_baseline_never_runs_the_teacher_and_gets_the_same_recipe() {
    let _seeded = common::seeded();
    let (teacher, student) = pair(0.0);
    let data = labelled(points(40));
    let distiller = Distiller::on(Device::flex(), teacher, student).with(SoftTarget::new(4.0), 1.0);
    let alone = distiller.baseline(&quiet(2), &data, None).unwrap();
    assert_eq!(alone.training.objective, "1 · hard_label");
    assert!(
        alone.report.agreement.is_some(),
        "measured against the teacher"
    );
    let both = distiller
        .fit(&quiet(2).with_baseline(true), data, None)
        .unwrap();
    let beside = both.report.baseline.unwrap();
    assert_eq!(beside.accuracy, alone.report.accuracy);
    assert_eq!(beside.cross_entropy, alone.report.cross_entropy);
}

#[test]
fn every_backend_trains_the_same_student() {
    let _seeded = common::seeded();
    fn run<B: burn::backend::Backend>(device: B::Device) -> Vec<f32>
    where
        B::Device: Into<Device>,
    {
        let (teacher, student) = pair(0.0);
        let distilled = Distiller::<B, _, _>::new(device, teacher, student)
            .with(SoftTarget::new(4.0), 0.9)
            .with(HardLabel::new(), 0.1)
            .fit(&quiet(3), labelled(points(40)), None)
            .unwrap();
        numbers(&distilled.student)
    }
    let flex = run::<Flex>(Default::default());
    let mut others: Vec<(&str, Vec<f32>)> = Vec::new();
    others.push((
        "dispatch",
        run::<burn::backend::Dispatch>(burn::backend::FlexDevice.into()),
    ));
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)] // Tested as long as Burn ships it.
    others.push(("ndarray", run::<burn::backend::NdArray>(Default::default())));
    #[cfg(feature = "wgpu")]
    if common::gpu().is_some() {
        others.push(("wgpu", run::<burn::backend::Wgpu>(Default::default())));
    }
    for (name, found) in others {
        let difference = largest_difference(&flex, &found);
        assert!(
            difference < 1e-4,
            "{name} differs from flex by {difference}"
        );
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let _seeded = common::seeded();
    use burn::tensor::DeviceKind;
    let device = Device::wgpu(DeviceKind::DiscreteGpu(99));
    let error = burn_distill::check_device(&device).unwrap_err().to_string();
    assert!(error.starts_with("device Device<"), "{error}");
    assert!(error.contains(" is not available: "), "{error}");
}

#[test]
fn the_student_comes_back_in_inference_mode_without_autodiff() {
    let _seeded = common::seeded();
    let distilled = distil(&quiet(1), 0.5, labelled(points(16)));
    let logits = |student: &Net| {
        student
            .outputs(inputs(&points(8), &Device::flex()))
            .logits()
    };
    let first = logits(&distilled.student);
    assert!(!first.is_autodiff());
    // With dropout no two would be the same.
    let second = logits(&distilled.student);
    assert_eq!(first.into_data(), second.into_data());
    let again = distilled.student.valid();
    assert_eq!(bytes(&again), bytes(&distilled.student));
}
