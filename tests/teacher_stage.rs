//! The teacher in a training: when it is asked, what it is asked, and that no way of asking it makes
//! another student.
#![cfg(feature = "flex")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{Module, ParamGroup};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_distill::loss::{HardLabel, Hint, LossContext, SoftTarget, loss_fn};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distilled, Distiller, Error, Feature, FitConfig,
    Objective, Outputs, ProgressMode, Schedule, Targets, TeacherCache, TopK, adapt, teacher_fn,
};
use common::net::{
    CLASSES, INPUTS, Net, Point, classes, initialized, inputs, labelled, largest_difference, named,
    numbers, points,
};

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(16)
        .with_progress(ProgressMode::Silent)
}

/// A teacher and a student with dropout, the same in every call.
fn pair() -> (Net, Net) {
    let device = Device::flex();
    device.seed(3);
    (
        initialized(Net::new(16, 0.4, &device)),
        initialized(Net::new(5, 0.3, &device)),
    )
}

fn objective() -> Objective {
    Objective::new()
        .with(SoftTarget::new(Schedule::linear(8.0, 2.0)), 1)
        .with(HardLabel::new(), 0.1)
        .with(Hint::new("hidden", "hidden"), 0.5)
}

fn distil(config: &FitConfig, data: DistillData<Tensor<2>>) -> Distilled<Net, Net> {
    let (teacher, student) = pair();
    Distiller::on(Device::flex(), teacher, student)
        .with_objective(objective())
        .fit(config, data, None)
        .unwrap()
}

/// A linear model of some outputs, the same for every seed.
fn linear(
    seed: u64,
    width: usize,
    outputs: fn(Tensor<2>) -> Outputs,
) -> impl Distillable<Tensor<2>> {
    let device = Device::flex();
    device.seed(seed);
    let linear: Linear = initialized(LinearConfig::new(INPUTS, width).init(&device));
    adapt(linear, move |linear: &Linear, x: Tensor<2>| {
        outputs(linear.forward(x))
    })
}

#[test]
fn one_student_comes_of_every_way_to_ask() {
    let _seeded = common::seeded();
    // The last of three batches has 8 samples.
    let data = named(points(40));
    let expected = numbers(&distil(&quiet(3).with_workers(0), data.clone()).student);
    let check = |what: &str, config: FitConfig| {
        let found = numbers(&distil(&config, data.clone()).student);
        assert_eq!(found, expected, "{what}");
    };
    for workers in [0, 1, 3] {
        let config = || quiet(3).with_workers(workers);
        check(&format!("{workers} workers"), config());
        let memory = TeacherCache::memory(1 << 20);
        check(
            &format!("{workers} workers, cached in memory"),
            config().with_teacher_cache(memory),
        );
        // 16 samples of 3 logits and 16 features, and a little more.
        let small = TeacherCache::memory(16 * 19 * 4 + 10);
        check(
            &format!("{workers} workers, partly cached in memory"),
            config().with_teacher_cache(small),
        );
        let directory = tempfile::tempdir().unwrap();
        let directory = TeacherCache::directory(directory.path());
        check(
            &format!("{workers} workers, recorded"),
            config().with_teacher_cache(directory.clone()),
        );
    }
}

#[test]
fn accumulation_and_workers_go_together() {
    let _seeded = common::seeded();
    let run = |workers: usize| {
        let config = quiet(2).with_accumulation(2).with_workers(workers);
        numbers(&distil(&config, named(points(40))).student)
    };
    let expected = run(0);
    assert_eq!(run(1), expected);
    assert_eq!(run(3), expected);
}

#[test]
fn a_directory_serves_the_next_training_without_the_teacher_being_asked() {
    let _seeded = common::seeded();
    let asked = Arc::new(AtomicUsize::new(0));
    let directory = tempfile::tempdir().unwrap();
    let run = || {
        let before = asked.load(Ordering::Relaxed);
        let counted = asked.clone();
        let teacher = teacher_fn("the first three", move |x: Tensor<2>| {
            counted.fetch_add(x.dims()[0], Ordering::Relaxed);
            x.narrow(1, 0, CLASSES) * 4.0
        });
        let cache = TeacherCache::directory(directory.path());
        Distiller::on(Device::flex(), teacher, pair().1)
            .with(SoftTarget::new(1), 1)
            .fit(
                &quiet(2).with_teacher_cache(cache),
                named(points(40)),
                named(points(60)),
            )
            .unwrap();
        asked.load(Ordering::Relaxed) - before
    };
    // The validation data hold those of the training, which are there already.
    assert_eq!(run(), 60);
    assert_eq!(run(), 0);
}

#[test]
fn a_resumed_training_fills_an_empty_cache_and_ends_where_an_undisturbed_one_does() {
    let _seeded = common::seeded();
    let config = || quiet(4).with_teacher_cache(TeacherCache::memory(1 << 20));
    let data = || labelled(points(40));
    let undisturbed = numbers(&distil(&quiet(4), data()).student);
    let directory = tempfile::tempdir().unwrap();
    let config = || config().with_checkpoints_kept(directory.path(), 4);
    distil(&config(), data());
    // Two epochs are gone, and the cache with the process that had it.
    for epoch in [3, 4] {
        for part in ["model", "optim", "scheduler"] {
            let file = format!("checkpoint/{part}-{epoch}.bpk");
            std::fs::remove_file(directory.path().join(file)).unwrap();
        }
    }
    let resumed = distil(&config().with_resume(true), data());
    assert_eq!(resumed.report.training.resumed_from, Some(2));
    assert_eq!(numbers(&resumed.student), undisturbed);
}

#[test]
fn with_a_cache_a_teacher_is_asked_once_for_each_sample() {
    let _seeded = common::seeded();
    let asked = Arc::new(AtomicUsize::new(0));
    let rows = |epochs: usize, cache: Option<TeacherCache>| {
        let before = asked.load(Ordering::Relaxed);
        let counted = asked.clone();
        let teacher = teacher_fn("the first three", move |x: Tensor<2>| {
            counted.fetch_add(x.dims()[0], Ordering::Relaxed);
            x.narrow(1, 0, CLASSES) * 4.0
        });
        let mut config = quiet(epochs).with_workers(2);
        if let Some(cache) = cache {
            config = config.with_teacher_cache(cache);
        }
        Distiller::on(Device::flex(), teacher, pair().1)
            .with(SoftTarget::new(1), 1)
            .fit(&config, labelled(points(40)), labelled(points(16)))
            .unwrap();
        asked.load(Ordering::Relaxed) - before
    };
    // Two more epochs, each of 40 samples and 16 to validate with.
    assert_eq!(rows(3, None) - rows(1, None), 2 * (40 + 16));
    let memory = || Some(TeacherCache::memory(1 << 20));
    assert_eq!(rows(3, memory()), rows(1, memory()));
    let none = || Some(TeacherCache::memory(0));
    assert_eq!(rows(3, none()) - rows(1, none()), 2 * (40 + 16));
}

#[test]
fn a_cache_needs_inputs_that_are_the_same_twice() {
    let _seeded = common::seeded();
    let batches = AtomicUsize::new(0);
    let noisy = DistillData::builder(InMemDataset::new(points(40)))
        .by_content()
        .batched(move |points: Vec<Point>, device: &Device| {
            let noise = batches.fetch_add(1, Ordering::Relaxed) as f64;
            DistillBatch::new(inputs(&points, device) + noise)
                .with_classes(classes(&points, device))
        });
    let (teacher, student) = pair();
    let config = quiet(1).with_teacher_cache(TeacherCache::memory(1 << 20));
    let error = Distiller::on(Device::flex(), teacher, student)
        .with_objective(objective())
        .fit(&config, noisy.clone(), None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "teacher_cache is on for training data whose inputs are never the same twice, expected views \
         with seeds (`DistillData::builder(..).with_views`), or no cache"
    );
    // Without a cache they are as good as any.
    distil(&quiet(1), noisy);
}

#[test]
fn views_with_seeds_are_cached_one_by_one() {
    let _seeded = common::seeded();
    let shifted = || {
        DistillData::builder(InMemDataset::new(points(10)))
            .by_content()
            .with_views(3, 7, |mut point: Point, seed| {
                point.input[0] += (seed % 1000) as f32 / 1000.0;
                point
            })
            .batched(|points: Vec<Point>, device: &Device| {
                DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
            })
    };
    let live = numbers(&distil(&quiet(3), shifted()).student);
    let directory = tempfile::tempdir().unwrap();
    for cache in [
        TeacherCache::memory(1 << 20),
        TeacherCache::directory(directory.path()),
    ] {
        let cached = distil(&quiet(3).with_teacher_cache(cache), shifted());
        assert_eq!(numbers(&cached.student), live);
    }
}

#[test]
fn a_rollout_is_what_both_models_see() {
    let _seeded = common::seeded();
    let doubled = DistillData::from_fn(
        InMemDataset::new(points(32)),
        |points: Vec<Point>, device: &Device| {
            DistillBatch::new(inputs(&points, device) * 2.0).with_classes(classes(&points, device))
        },
    );
    let expected = numbers(&distil(&quiet(3), doubled).student);
    for workers in [0, 1] {
        let (teacher, student) = pair();
        let distilled = Distiller::on(Device::flex(), teacher, student)
            .with_objective(objective())
            .with_rollout(
                |student: &Net, mut batch: DistillBatch<Tensor<2>>, progress: f64| {
                    assert!((0.0..=1.0).contains(&progress));
                    // It is in inference mode: with dropout no two would be the same.
                    let [a, b] = [0, 1].map(|_| student.outputs(batch.input.clone()).logits());
                    assert_eq!(a.into_data(), b.into_data());
                    batch.input = batch.input * 2.0;
                    batch.teacher_input = batch.input.clone();
                    batch
                },
            )
            // Nothing that the student writes is cached.
            .fit(
                &quiet(3)
                    .with_workers(workers)
                    .with_teacher_cache(TeacherCache::memory(1 << 20)),
                labelled(points(32)),
                None,
            )
            .unwrap();
        assert_eq!(numbers(&distilled.student), expected, "{workers}");
    }
}

#[test]
fn a_teacher_may_take_another_type_of_input() {
    let _seeded = common::seeded();
    // The teacher's [N, 3, 2] is the student's [N, 6].
    let data = || {
        DistillData::builder(InMemDataset::new(points(40)))
            .by_content()
            .batched(|points: Vec<Point>, device: &Device| {
                let input = inputs(&points, device);
                let pairs: Tensor<3> = input.clone().reshape([-1, 3, 2]);
                DistillBatch::new(input)
                    .with_classes(classes(&points, device))
                    .with_teacher_input(pairs)
            })
    };
    let (net, _) = pair();
    let expected = numbers(&distil(&quiet(2), named(points(40))).student);
    let directory = tempfile::tempdir().unwrap();
    let configs = [
        quiet(2).with_workers(0),
        quiet(2).with_workers(3),
        quiet(2).with_teacher_cache(TeacherCache::memory(1 << 20)),
        quiet(2).with_teacher_cache(TeacherCache::directory(directory.path())),
    ];
    for config in configs {
        let teacher = adapt(net.clone(), |net: &Net, x: Tensor<3>| {
            net.outputs(x.flatten(1, 2))
        });
        let distilled = Distiller::on(Device::flex(), teacher, pair().1)
            .with_objective(objective())
            .fit(&config, data(), None)
            .unwrap();
        assert_eq!(numbers(&distilled.student), expected);
    }
}

#[test]
fn heads_may_have_other_numbers_of_rows() {
    let _seeded = common::seeded();
    // One class per sample, and one for each of its two halves.
    let model = |seed| {
        linear(seed, CLASSES + 2 * 4, |x| {
            let halves: Tensor<3> = x.clone().narrow(1, CLASSES, 8).reshape([-1, 2, 4]);
            Outputs::new(x.narrow(1, 0, CLASSES)).with_head("halves", halves)
        })
    };
    let data = || {
        DistillData::builder(InMemDataset::new(points(40)))
            .by_content()
            .batched(|points: Vec<Point>, device: &Device| {
                let input = inputs(&points, device);
                let halves: Tensor<3> = input.clone().reshape([-1, 2, 3]);
                let largest = halves.argmax(2).squeeze_dim::<2>(2);
                // The second half of every sample weighs twice.
                let weights = [1f32, 2.0].repeat(points.len());
                let weights = TensorData::new(weights, [points.len(), 2]);
                let weights = Tensor::<2>::from_data(weights, device);
                let halves = Targets::new().with_classes(largest).with_weights(weights);
                DistillBatch::new(input)
                    .with_classes(classes(&points, device))
                    .with_head("halves", halves)
            })
    };
    let run = |config: FitConfig| {
        let distilled = Distiller::on(Device::flex(), model(1), model(2))
            .with(SoftTarget::new(2), 1)
            .with(SoftTarget::new(2).on("halves"), 1)
            .with(HardLabel::new().on("halves"), 0.5)
            .fit(&config, data(), None)
            .unwrap();
        let heads = &distilled.report.distilled.heads;
        assert_eq!((heads["logits"].rows, heads["halves"].rows), (40, 80));
        assert!(heads["halves"].accuracy.is_some());
        let loss = &distilled.report.training.history.train["loss"];
        assert!(loss[2] < loss[0], "{loss:?}");
        numbers(&distilled.student)
    };
    let live = run(quiet(3));
    let directory = tempfile::tempdir().unwrap();
    for cache in [
        TeacherCache::memory(1 << 20),
        TeacherCache::directory(directory.path()),
    ] {
        assert_eq!(run(quiet(3).with_teacher_cache(cache)), live);
    }
}

#[test]
fn a_label_out_of_range_is_found_in_any_batch() {
    let _seeded = common::seeded();
    let mut wrong = points(48);
    wrong[37].class = 3;
    for workers in [0, 1] {
        let (teacher, student) = pair();
        let error = Distiller::on(Device::flex(), teacher, student)
            .with_objective(objective())
            .fit(
                &quiet(1).with_workers(workers),
                labelled(wrong.clone()),
                None,
            )
            .unwrap_err();
        assert!(matches!(error, Error::SampleLabel { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "label 3 of sample 37 of the training set is out of range: the student has 3 classes (0 to 2)"
        );
    }
    // And in the validation set.
    let (teacher, student) = pair();
    let error = Distiller::on(Device::flex(), teacher, student)
        .with_objective(objective())
        .fit(&quiet(1), labelled(points(48)), labelled(wrong))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "label 3 of sample 37 of the validation set is out of range: the student has 3 classes (0 to 2)"
    );
}

#[test]
fn a_label_below_zero_is_no_label() {
    let _seeded = common::seeded();
    let is_labelled = |point: &Point| point.input[5] > 0.0;
    let half: Vec<Point> = (points(48).into_iter())
        .map(|point| Point {
            class: match is_labelled(&point) {
                true => point.class,
                false => -1,
            },
            ..point
        })
        .collect();
    // The same by a mask, where there is nothing but labels to learn from.
    let masked = DistillData::from_fn(
        InMemDataset::new(points(48)),
        move |points: Vec<Point>, device: &Device| {
            let valid: Vec<bool> = points.iter().map(is_labelled).collect();
            let valid = Tensor::<1, burn::tensor::Bool>::from_data(valid.as_slice(), device);
            DistillBatch::new(inputs(&points, device))
                .with_classes(classes(&points, device))
                .with_mask(valid)
        },
    );
    let run = |data| {
        let distilled = Distiller::on(Device::flex(), pair().0, pair().1)
            .with(HardLabel::new(), 1)
            .fit(&quiet(2), data, None)
            .unwrap();
        let accuracy = distilled.report.distilled.accuracy;
        (numbers(&distilled.student), accuracy.unwrap())
    };
    let (by_labels, by_mask) = (run(labelled(half.clone())), run(masked));
    let difference = largest_difference(&by_labels.0, &by_mask.0);
    assert!(difference < 1e-6, "{difference}");
    assert!((by_labels.1 - by_mask.1).abs() < 1e-9);

    // The teacher has something to say of all of them.
    let distilled = distil(&quiet(2), labelled(half));
    let history = &distilled.report.training.history.train;
    assert!(history["soft_target"].iter().all(|loss| loss.is_finite()));
    assert!(history["accuracy"].iter().all(|a| (0.0..=1.0).contains(a)));
}

/// A network that gives logits for each pixel, `[N, 3, 4, 4]`.
#[derive(Module, Debug)]
struct Pixels {
    conv: Conv2d,
    is_last: bool,
}

impl Distillable<Tensor<4>> for Pixels {
    fn outputs(&self, images: Tensor<4>) -> Outputs {
        let maps = self.conv.forward(images);
        match self.is_last {
            true => Outputs::images(maps),
            false => Outputs::new(maps),
        }
    }
}

#[test]
fn classes_on_another_axis_are_an_error_that_says_so() {
    let _seeded = common::seeded();
    let model = |is_last| Pixels {
        conv: Conv2dConfig::new([1, 3], [3, 3]).init(&Device::flex()),
        is_last,
    };
    let data = || {
        let images: Vec<[f32; 36]> = (0..20)
            .map(|n| std::array::from_fn(|i| ((n * 37 + i * 11) % 17) as f32 / 17.0))
            .collect();
        DistillData::from_fn(
            InMemDataset::new(images),
            |images: Vec<[f32; 36]>, device: &Device| {
                let count = images.len();
                let data = TensorData::new(images.concat(), [count, 1, 6, 6]);
                let labels = Tensor::<3, Int>::zeros([count, 4, 4], device);
                DistillBatch::new(Tensor::<4>::from_data(data, device)).with_classes(labels)
            },
        )
    };
    let fit = |is_last: bool| {
        Distiller::on(Device::flex(), model(is_last), model(is_last))
            .with(SoftTarget::new(2), 1)
            .with(HardLabel::new(), 1)
            .fit(&quiet(2), data(), None)
    };
    assert_eq!(
        fit(false).unwrap_err().to_string(),
        "the target has 256 rows, head \"logits\" of the student has 192; classes are on the last axis, \
         logits of images [N, C, H, W] go through `Outputs::images`"
    );
    let report = fit(true).unwrap().report;
    assert_eq!(report.distilled.heads["logits"].rows, 20 * 16);
}

#[test]
fn a_mean_teacher_is_asked_inside_the_step_whatever_the_workers() {
    let _seeded = common::seeded();
    let run = |config: FitConfig| {
        let distilled = Distiller::mean_teacher(Device::flex(), pair().1, 0.9)
            .with(HardLabel::new(), 1)
            .with(SoftTarget::new(1), 1)
            .fit(&config, labelled(points(40)), None)
            .unwrap();
        (numbers(&distilled.student), numbers(&distilled.teacher))
    };
    let expected = run(quiet(2).with_workers(0));
    assert_eq!(run(quiet(2).with_workers(3)), expected);
    // It changes with every step: nothing of it is cached.
    let cached = quiet(2).with_teacher_cache(TeacherCache::memory(1 << 20));
    assert_eq!(run(cached), expected);
}

#[test]
fn a_teacher_is_never_asked_where_no_term_needs_it() {
    let _seeded = common::seeded();
    let is_asked = Arc::new(AtomicBool::new(false));
    let asked = is_asked.clone();
    let teacher = teacher_fn("silent", move |x: Tensor<2>| {
        asked.store(true, Ordering::Relaxed);
        x.narrow(1, 0, CLASSES)
    });
    let distilled = Distiller::on(Device::flex(), teacher, pair().1)
        .with(HardLabel::new(), 1)
        .fit(&quiet(1), labelled(points(16)), None)
        .unwrap();
    assert!(!is_asked.load(Ordering::Relaxed));
    assert_eq!(distilled.report.distilled.agreement, None);
}

/// Features of a teacher that come with the batch are those of its samples, in order.
#[test]
fn outputs_belong_to_the_samples_of_their_batch() {
    let _seeded = common::seeded();
    for (workers, cache) in [(0, false), (1, false), (3, false), (3, true)] {
        let is_own = loss_fn("is_own", |context: &LossContext<'_>| {
            let Some(Feature::Rank2(seen)) = context.teacher().feature("input") else {
                panic!("a feature of rank 2")
            };
            let batch: Vec<Point> = {
                let all = points(40);
                context.indices.iter().map(|i| all[*i].clone()).collect()
            };
            let expected = inputs(&batch, &Device::flex());
            assert_eq!(seen.to_data(), expected.into_data());
            context.logits().sum() * 0.0
        });
        let teacher = teacher_fn("echo", |x: Tensor<2>| {
            Outputs::new(x.clone().narrow(1, 0, CLASSES)).with_feature("input", x)
        });
        let mut config = quiet(2).with_workers(workers);
        if cache {
            config = config.with_teacher_cache(TeacherCache::memory(1 << 20));
        }
        Distiller::on(Device::flex(), teacher, pair().1)
            .with(is_own, 1)
            .fit(&config, labelled(points(40)), None)
            .unwrap();
    }
}

#[test]
fn parameter_groups_speak_of_the_students_own_paths() {
    let _seeded = common::seeded();
    let device = Device::flex();
    device.seed(6);
    #[derive(Module, Debug)]
    struct Two {
        hidden: Linear,
        head: Linear,
    }
    impl Distillable<Tensor<2>> for Two {
        fn outputs(&self, x: Tensor<2>) -> Outputs {
            let hidden = self.hidden.forward(x).tanh();
            Outputs::new(self.head.forward(hidden.clone())).with_feature("hidden", hidden)
        }
    }
    let student = initialized(Two {
        hidden: LinearConfig::new(INPUTS, 4).init(&device),
        head: LinearConfig::new(4, CLASSES).init(&device),
    });
    let scheduler = ModuleLrScheduler::new(0.1)
        .with_group(ParamGroup::from_path("head.weight"), 0.0)
        .with_group(ParamGroup::from_predicate("loss-modules"), 0.2);
    let config = quiet(2)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_lr_scheduler(scheduler);
    let distilled = Distiller::on(device, pair().0, student.clone())
        .with(SoftTarget::new(2), 1)
        .with(Hint::new("hidden", "hidden"), 1)
        .fit(&config, labelled(points(32)), None)
        .unwrap();
    let changed = |part: fn(&Two) -> &Linear| {
        let (before, after) = (part(&student), part(&distilled.student));
        let weight = numbers(&before.weight) != numbers(&after.weight);
        let bias = numbers(&before.bias) != numbers(&after.bias);
        (weight, bias)
    };
    assert_eq!(changed(|two| &two.hidden), (true, true));
    assert_eq!(changed(|two| &two.head), (false, true));
}

#[test]
fn a_directory_keeps_the_top_k_of_a_teacher_as_they_are() {
    let _seeded = common::seeded();
    let run = |config: FitConfig| {
        let (net, student) = pair();
        let teacher = adapt(net, |net: &Net, x: Tensor<2>| {
            let logits = net.outputs(x).logits() / 2.0;
            let (log_probs, classes) = log_softmax(logits, 1).topk_with_indices(2, 1);
            Outputs::new(TopK::new(classes, log_probs, CLASSES).at_temperature(2.0))
        });
        let distilled = Distiller::on(Device::flex(), teacher, student)
            .with(SoftTarget::new(2), 1)
            .fit(&config, named(points(40)), None);
        numbers(&distilled.unwrap().student)
    };
    let directory = tempfile::tempdir().unwrap();
    let cache = TeacherCache::directory(directory.path());
    let live = run(quiet(2));
    assert_eq!(run(quiet(2).with_teacher_cache(cache.clone())), live);
    // Nothing is left to record, and what is there is what is asked for.
    assert_eq!(run(quiet(2).with_teacher_cache(cache)), live);
}

#[test]
fn what_cannot_be_trained_is_not_recorded_first() {
    let _seeded = common::seeded();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let teacher = teacher_fn("one class more", move |x: Tensor<2>| {
        counted.fetch_add(x.dims()[0], Ordering::Relaxed);
        x.narrow(1, 0, CLASSES + 1)
    });
    let directory = tempfile::tempdir().unwrap();
    let cache = TeacherCache::directory(directory.path());
    let error = Distiller::on(Device::flex(), teacher, pair().1)
        .with(SoftTarget::new(1), 1)
        .fit(&quiet(2).with_teacher_cache(cache), named(points(40)), None)
        .unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
    assert!(asked.load(Ordering::Relaxed) <= 16, "{asked:?} samples");
}
