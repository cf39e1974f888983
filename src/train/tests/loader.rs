use burn::data::dataset::InMemDataset;
use burn::tensor::{Bool, Int};

use super::*;

fn plan(batch_size: usize, accumulation: usize, devices: usize, workers: usize) -> Plan {
    Plan {
        batch_size,
        accumulation,
        devices,
        reduction: 1.0,
        epochs: 4,
        workers,
    }
}

/// The numbers 0 to `len`, masked where `counts` says so.
fn data(len: usize, counts: Option<fn(i64) -> bool>) -> DistillData<Tensor<1, Int>> {
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

fn loader(len: usize, plan: Plan, epochs_done: usize) -> Arc<dyn DataLoader<Step<Tensor<1, Int>>>> {
    let loader = Loader::training(data(len, None), plan, 7, epochs_done);
    loader.to_device(&Device::flex())
}

type Steps = Vec<Step<Tensor<1, Int>>>;

fn epoch(loader: &Arc<dyn DataLoader<Step<Tensor<1, Int>>>>) -> Steps {
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

#[test]
fn workers_do_not_change_the_order() {
    let here = epoch(&loader(23, plan(4, 2, 1, 0), 0));
    let ahead = epoch(&loader(23, plan(4, 2, 1, 3), 0));
    assert_eq!(samples(&here), samples(&ahead));
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

fn known(steps: &Steps) -> Vec<f64> {
    let share = |step: &Step<_>| match &step.share {
        Share::Known(share) => *share,
        Share::Counted(share) => f64::from(share.clone().into_scalar::<f32>()),
    };
    steps.iter().map(share).collect()
}

#[test]
fn shares_are_those_of_one_large_batch() {
    // Windows of 4 + 4 and 2 samples.
    let steps = epoch(&loader(10, plan(4, 2, 1, 0), 0));
    assert_eq!(known(&steps), [0.5, 0.5, 1.0]);
    // Windows of 4 + 2 samples.
    let steps = epoch(&loader(6, plan(4, 2, 1, 0), 0));
    assert_eq!(known(&steps), [4.0 / 6.0, 2.0 / 6.0]);
}

#[test]
fn shares_count_what_the_mask_leaves() {
    let data = data(6, Some(|i| i < 2));
    let validation = Loader::validation(data.clone(), plan(2, 3, 1, 0), 0);
    let steps: Steps = validation
        .to_device(&Device::flex())
        .iter()
        .map(|s| s.unwrap())
        .collect();
    assert_eq!(
        known(&steps),
        [1.0, 1.0, 1.0],
        "validation does not accumulate"
    );

    let training = Loader::training(data, plan(2, 3, 1, 0), 7, 0);
    let steps: Steps = training
        .to_device(&Device::flex())
        .iter()
        .map(|s| s.unwrap())
        .collect();
    let counted = |step: &Step<_>| step.batch.indices.iter().filter(|i| **i < 2).count();
    let expected: Vec<f64> = steps.iter().map(|s| counted(s) as f64 / 2.0).collect();
    assert_eq!(known(&steps), expected);
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
            .filter_map(|part| known(part).get(step).copied());
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
fn nothing_is_an_epoch_without_batches() {
    let nothing = Loader::nothing(data(5, None), plan(2, 1, 1, 0));
    assert_eq!(nothing.num_items(), 0);
    assert!(nothing.to_device(&Device::flex()).iter().next().is_none());
}
