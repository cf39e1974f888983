use std::sync::atomic::AtomicBool;

use burn::data::dataset::InMemDataset;
use burn::tensor::{Bool, Int, Tensor};

use super::*;
use crate::data::dataset::DistillData;
use crate::teacher::Teacher;
use crate::teacher::closure::teacher_fn;
use crate::train::feed::{Classes, Failure};

type Input = Tensor<1, Int>;
type Steps = Vec<Step<Input, Input>>;
type Loading = Arc<dyn DataLoader<Step<Input, Input>>>;

fn plan(batch_size: usize, accumulation: usize, devices: usize, workers: usize) -> Plan {
    Plan {
        batch_size,
        accumulation,
        devices,
        drop_last: false,
        reduction: 1.0,
        epochs: 4,
        workers,
    }
}

/// The numbers 0 to `len`, masked where `counts` says so.
fn data(len: usize, counts: Option<fn(i64) -> bool>) -> DistillData<Input> {
    let items = InMemDataset::new((0..len as i64).collect());
    DistillData::from_fn(items, move |items: Vec<i64>, device| {
        let batch = DistillBatch::new(Tensor::<1, Int>::from_data(items.as_slice(), device));
        match counts {
            Some(counts) => {
                let mask: Vec<bool> = items.iter().map(|i| counts(*i)).collect();
                batch.with_mask(Tensor::<1, Bool>::from_data(mask.as_slice(), device))
            }
            None => batch,
        }
    })
}

fn feed(data: DistillData<Input>) -> Feed<Input, Input> {
    Feed {
        data,
        what: "training",
        teacher: None,
        wants_full_batches: false,
        needs_names: false,
        batch_size: 4,
        classes: Classes::default(),
        failure: Failure::default(),
    }
}

fn training(feed: Feed<Input, Input>, plan: Plan, epochs_done: usize) -> Loading {
    Loader::training(feed, plan, 7, epochs_done).to_device(&Device::flex())
}

fn loader(len: usize, plan: Plan, epochs_done: usize) -> Loading {
    training(feed(data(len, None)), plan, epochs_done)
}

fn epoch(loader: &Loading) -> Steps {
    loader.iter().map(|step| step.unwrap()).collect()
}

fn samples(steps: &Steps) -> Vec<Vec<usize>> {
    steps
        .iter()
        .map(|step| step.batch.indices.clone())
        .collect()
}

#[test]
fn an_epoch_has_every_sample_once_and_its_own_order() {
    let loader = loader(10, plan(4, 1, 1, 0), 0);
    let (first, second) = (epoch(&loader), epoch(&loader));
    assert_eq!(
        first
            .iter()
            .map(|s| s.batch.indices.len())
            .collect::<Vec<_>>(),
        [4, 4, 2]
    );
    let mut all = samples(&first).concat();
    assert_ne!(all, samples(&second).concat());
    all.sort();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    // Indices and input speak of the same samples.
    let input: Vec<i64> = first[0].batch.input.to_data().iter::<i64>().collect();
    assert_eq!(
        input,
        first[0]
            .batch
            .indices
            .iter()
            .map(|i| *i as i64)
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_resumed_training_sees_the_epochs_it_missed() {
    let whole = loader(10, plan(4, 1, 1, 0), 0);
    let (_, _, third) = (epoch(&whole), epoch(&whole), epoch(&whole));
    let resumed = epoch(&loader(10, plan(4, 1, 1, 0), 2));
    assert_eq!(samples(&third), samples(&resumed));
    assert_eq!(third[0].progress, resumed[0].progress);
}

/// A teacher whose logits are the sample and the number of samples that it is asked with.
fn teacher() -> Arc<dyn Teacher<Input>> {
    let teacher = teacher_fn("samples", |input: Input| {
        let samples = input.dims()[0];
        let input = input.float().unsqueeze_dim::<2>(1);
        let count = input.zeros_like() + samples as f64;
        Tensor::cat(vec![input, count], 1)
    });
    Arc::new(teacher)
}

fn taught(step: &Step<Input, Input>) -> Vec<f32> {
    let outputs = step.teacher.as_ref().expect("a teacher that was asked");
    outputs.logits().into_data().iter::<f32>().collect()
}

#[test]
fn workers_change_neither_the_order_nor_the_teacher() {
    let epochs = |workers| {
        let feed = Feed {
            teacher: Some(teacher()),
            ..feed(data(23, Some(|i| i % 3 > 0)))
        };
        let loader = training(feed, plan(4, 2, 1, workers), 0);
        [epoch(&loader), epoch(&loader)]
    };
    let here = epochs(0);
    for workers in 1..=3 {
        for (here, ahead) in here.iter().zip(&epochs(workers)) {
            assert_eq!(samples(here), samples(ahead));
            assert_eq!(fractions(here), fractions(ahead));
            for (here, ahead) in here.iter().zip(ahead) {
                let here = (taught(here), here.progress, here.number, here.epoch);
                let ahead = (taught(ahead), ahead.progress, ahead.number, ahead.epoch);
                assert_eq!(here, ahead);
            }
        }
    }
    for step in here.iter().flatten() {
        let indices = step.batch.indices.iter();
        let rows = indices.map(|i| [*i as f32, step.batch.indices.len() as f32]);
        assert_eq!(taught(step), rows.flatten().collect::<Vec<_>>());
    }
}

#[test]
fn an_epoch_that_ends_early_leaves_its_workers_to_the_next() {
    let loader = loader(23, plan(4, 1, 1, 2), 0);
    let whole = epoch(&self::loader(23, plan(4, 1, 1, 0), 1));
    drop(loader.iter().next());
    assert_eq!(samples(&epoch(&loader)), samples(&whole));
}

#[test]
fn a_teacher_that_wants_full_batches_is_asked_with_them() {
    for workers in [0, 2] {
        let feed = Feed {
            teacher: Some(teacher()),
            wants_full_batches: true,
            ..feed(data(10, None))
        };
        let steps = epoch(&training(feed, plan(4, 1, 1, workers), 0));
        assert_eq!(steps[2].batch.indices.len(), 2);
        for step in &steps {
            let rows = step.batch.indices.iter().map(|i| [*i as f32, 4.0]);
            assert_eq!(taught(step), rows.flatten().collect::<Vec<_>>());
        }
    }
}

/// Three views of four samples: the views of one epoch are those of another, and of a resumed one.
#[test]
fn an_epoch_goes_over_all_views() {
    let items = InMemDataset::new((0..4i64).collect());
    let data = DistillData::builder(items)
        .by_content()
        .with_views(3, 5, |item: i64, seed| item + 10 * (seed % 1000) as i64)
        .batched(|items: Vec<i64>, device: &Device| {
            DistillBatch::new(Tensor::<1, Int>::from_data(items.as_slice(), device))
        });
    let views = |loader: &Loading| {
        let mut views: Vec<(usize, i64)> = Vec::new();
        for step in epoch(loader) {
            let input: Vec<i64> = step.batch.input.into_data().iter().collect();
            views.extend(step.batch.indices.into_iter().zip(input));
        }
        views
    };
    let named = Feed {
        needs_names: true,
        ..feed(data)
    };
    let loader = training(named.clone(), plan(5, 1, 1, 0), 0);
    let (mut first, second) = (views(&loader), views(&loader));
    assert_eq!(second, views(&training(named, plan(5, 1, 1, 1), 1)));
    assert_ne!(first, second);
    first.sort();
    let mut sorted = second;
    sorted.sort();
    assert_eq!(first, sorted);
    assert_eq!(first.len(), 12);
    let samples: Vec<_> = first.iter().map(|(_, view)| view % 10).collect();
    assert_eq!(samples, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    let mut distinct: Vec<_> = first.iter().map(|(_, view)| view).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 12);
}

#[test]
fn the_code_of_a_user_that_fails_is_an_error_with_its_text() {
    let items = || InMemDataset::new((0..10i64).collect());
    for workers in [0, 2] {
        let panics = DistillData::from_fn(items(), |items: Vec<i64>, device: &Device| {
            assert!(!items.contains(&3), "three is not for us");
            DistillBatch::new(Tensor::<1, Int>::from_data(items.as_slice(), device))
        });
        let feed = feed(panics);
        let loader = training(feed.clone(), plan(2, 1, 1, workers), 0);
        assert!(loader.iter().any(|step| step.is_err()));
        let error = feed.failure.take().expect("a failure");
        assert_eq!(
            error.to_string(),
            "training batch of samples 1, 3: panicked: three is not for us"
        );
    }
}

#[test]
fn a_label_that_is_too_large_names_its_sample_in_whichever_batch_it_comes() {
    let student = Outputs::new(Tensor::<2>::zeros([1, 10], &Device::flex()));
    for workers in [0, 2] {
        let is_valid = Arc::new(AtomicBool::new(true));
        let valid = is_valid.clone();
        let items = InMemDataset::new((0..12i64).map(|i| 2 * i - 10).collect());
        let data = DistillData::from_fn(items, move |items: Vec<i64>, device: &Device| {
            let input = Tensor::<1, Int>::from_data(items.as_slice(), device);
            let is_valid = items
                .iter()
                .map(|i| *i < 10 || valid.load(Ordering::Relaxed));
            let mask: Vec<bool> = is_valid.collect();
            DistillBatch::new(input.clone())
                .with_classes(input)
                .with_mask(Tensor::<1, Bool>::from_data(mask.as_slice(), device))
        });
        let feed = Feed {
            classes: Classes::of(&student),
            ..feed(data)
        };
        let loader = training(feed.clone(), plan(3, 1, 1, workers), 0);
        assert!(loader.iter().any(|step| step.is_err()));
        let error = feed.failure.take().expect("a failure").to_string();
        let expected = [(10, 10), (11, 12)].map(|(sample, label)| {
            format!(
                "label {label} of sample {sample} of the training set is out of range: \
                 the student has 10 classes (0 to 9)"
            )
        });
        assert!(expected.contains(&error), "{error}");
        // Rows of weight 0 may hold anything.
        is_valid.store(false, Ordering::Relaxed);
        assert!(loader.iter().all(|step| step.is_ok()));
    }
}

#[test]
fn progress_counts_optimizer_steps() {
    let loader = loader(10, plan(2, 2, 1, 0), 0);
    // 5 batches make 3 steps an epoch, 12 in 4 epochs.
    let progress: Vec<_> = epoch(&loader).iter().map(|s| s.progress * 12.0).collect();
    assert_eq!(progress, [0.0, 0.0, 1.0, 1.0, 2.0]);
    let progress: Vec<_> = epoch(&loader).iter().map(|s| s.progress * 12.0).collect();
    assert_eq!(progress[0], 3.0);
}

fn fractions(steps: &Steps) -> Vec<f64> {
    steps.iter().map(|step| step.fraction).collect()
}

#[test]
fn fractions_are_those_of_one_large_batch() {
    // Windows of 4 + 4 and 2 samples.
    let steps = epoch(&loader(10, plan(4, 2, 1, 0), 0));
    assert_eq!(fractions(&steps), [0.5, 0.5, 1.0]);
    // Windows of 4 + 2 samples.
    let steps = epoch(&loader(6, plan(4, 2, 1, 0), 0));
    assert_eq!(fractions(&steps), [4.0 / 6.0, 2.0 / 6.0]);
}

#[test]
fn validation_does_not_accumulate() {
    let masked = feed(data(6, Some(|i| i < 2)));
    let validation = Loader::validation(masked, plan(2, 3, 1, 0), 0);
    let steps = epoch(&validation.to_device(&Device::flex()));
    assert_eq!(fractions(&steps), [1.0; 3]);
    assert_eq!(samples(&steps), [[0, 1], [2, 3], [4, 5]]);
}

#[test]
fn two_devices_see_together_what_one_sees() {
    let one = epoch(&loader(11, plan(4, 1, 1, 0), 0));
    let whole = loader(11, plan(2, 1, 2, 0), 0);
    assert_eq!(whole.num_items(), 11);
    let devices = [Device::flex(), Device::flex()];
    let parts = burn::data::dataloader::split::split_dataloader(whole, &devices);
    assert_eq!(
        parts.iter().map(|p| p.num_items()).collect::<Vec<_>>(),
        [6, 5]
    );
    let parts: Vec<Steps> = parts.iter().map(epoch).collect();
    for (step, batch) in samples(&one).into_iter().enumerate() {
        let both = parts
            .iter()
            .filter_map(|part| Some(part.get(step)?.batch.indices.clone()));
        assert_eq!(both.collect::<Vec<_>>().concat(), batch);
        let shares = parts
            .iter()
            .filter_map(|part| fractions(part).get(step).copied());
        assert!((shares.sum::<f64>() - 1.0).abs() < 1e-12);
    }
    assert_eq!(parts[0].len(), 3);
}

#[test]
fn progress_of_an_epoch_is_complete_with_the_last_batch() {
    let loader = loader(5, plan(2, 2, 1, 0), 0);
    let mut iter = loader.iter();
    let mut complete = Vec::new();
    while let Some(step) = iter.next() {
        step.unwrap();
        complete.push(iter.progress().is_completed());
    }
    assert_eq!(complete, [false, false, true]);
    assert!(iter.next().is_none());
}

#[test]
fn no_data_is_an_epoch_without_batches() {
    let empty = Loader::empty(feed(data(5, None)), plan(2, 1, 1, 0));
    assert_eq!(empty.num_items(), 0);
    assert!(empty.to_device(&Device::flex()).iter().next().is_none());
}
