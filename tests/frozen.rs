//! The teacher stays as it was: not in training mode, not in a graph, not in an optimizer, not in a
//! checkpoint; but on the device where it is needed.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::Flex;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::store::BurnpackStore;
use burn::store::ModuleStore;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::{HintConfig, SoftTargetConfig};
use burn_distill::{Distillable, Distiller, FitConfig, Frozen, Outputs, ProgressMode};
use common::net::{Net, bytes, inputs, labelled, points};

fn teacher() -> Net {
    Net::new(16, 0.5, &Device::flex())
}

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(8)
        .with_progress(ProgressMode::Silent)
}

fn logits(outputs: Outputs) -> Vec<f32> {
    outputs.logits.into_data().iter::<f32>().collect()
}

#[test]
fn it_is_in_inference_mode_even_inside_a_training_module() {
    let device = Device::flex().autodiff();
    // Ready to train, so that dropout and batch norm would do so.
    let ready = teacher().train().fork(&device);
    let frozen = Frozen::new(ready.clone()).train().fork(&device);
    let input = inputs(&points(32), &device);

    let expected = logits(ready.valid().outputs(input.clone().inner()));
    let before = bytes(frozen.inner());
    for _ in 0..3 {
        assert_eq!(logits(frozen.outputs(&input)), expected);
    }
    assert_eq!(
        bytes(frozen.inner()),
        before,
        "the running statistics moved"
    );
    // The control: the same module in training mode does both.
    assert_ne!(logits(ready.outputs(input)), expected);
}

#[test]
fn no_graph_is_recorded_for_it() {
    let device = Device::flex().autodiff();
    let frozen = Frozen::new(teacher().train().fork(&device)).fork(&device);
    let input = inputs(&points(4), &device).require_grad();
    let outputs = frozen.outputs(&input);
    assert!(!outputs.logits.is_autodiff());
    let hidden = outputs.feature("hidden").unwrap().clone();
    let burn_distill::Feature::Rank2(hidden) = hidden else {
        panic!("a feature of rank 2")
    };
    assert!(!hidden.is_autodiff());
}

/// Counts parameters that a visitor meets.
struct Count(usize);

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        self.0 += 1;
    }
}

#[test]
fn no_optimizer_and_no_record_see_it() {
    let device = Device::flex().autodiff();
    let frozen = Frozen::new(teacher()).fork(&device);
    let mut count = Count(0);
    frozen.visit(&mut count);
    assert_eq!(count.0, 0);
    assert!(frozen.clone().into_record().is_empty());

    let before = bytes(frozen.inner());
    let input = inputs(&points(4), &device).require_grad();
    let loss = (input.clone() * 2.0).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &frozen);
    assert!(gradients.is_empty());
    let mut optimizer = SgdConfig::new().init();
    let after = optimizer.step(1.0, frozen, gradients);
    assert_eq!(bytes(after.inner()), before);
}

#[test]
fn it_follows_its_device_without_autodiff() {
    let on = |frozen: &Frozen<Net>| frozen.devices();
    let device = Device::flex().autodiff();
    for moved in [
        Frozen::new(teacher()).fork(&device),
        Frozen::new(teacher()).to_device(&device),
    ] {
        assert!(
            on(&moved)
                .iter()
                .all(|d| *d == Device::flex() && !d.is_autodiff())
        );
        let input = inputs(&points(4), &device);
        assert!(!moved.outputs(&input).logits.is_autodiff());
    }
    #[cfg(feature = "ndarray")]
    {
        let elsewhere = common::ndarray();
        let moved = Frozen::new(teacher()).fork(&elsewhere.clone().autodiff());
        assert_eq!(on(&moved), [elsewhere]);
    }
}

#[test]
fn training_leaves_its_bytes_alone() {
    let teacher = teacher();
    let before = bytes(&teacher);
    let distilled = Distiller::<Flex, _, _>::new(
        Default::default(),
        teacher.clone(),
        Net::new(4, 0.2, &Device::flex()),
    )
    .with(SoftTargetConfig::new(4.0), 1.0)
    .with(HintConfig::new("hidden", "hidden"), 0.5)
    .fit(&quiet(3), labelled(points(40)), labelled(points(16)))
    .unwrap();
    assert_eq!(
        bytes(&distilled.teacher),
        before,
        "the teacher that comes back"
    );
    assert_eq!(bytes(&teacher), before, "the caller's own");
}

#[test]
fn a_checkpoint_holds_no_key_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let student = Net::new(4, 0.0, &Device::flex());
    let parameters = {
        let mut count = Count(0);
        student.visit(&mut count);
        count.0
    };
    Distiller::<Flex, _, _>::new(Default::default(), teacher(), student)
        .with(HintConfig::new("hidden", "hidden"), 1.0)
        .fit(
            &quiet(1).with_checkpoints(directory.path()),
            labelled(points(16)),
            None,
        )
        .unwrap();
    let path = directory.path().join("checkpoint/model-1.bpk");
    let keys = BurnpackStore::from_file(path).keys().unwrap();
    // The student's, and weight and bias of the projector.
    assert_eq!(keys.len(), parameters + 2, "{keys:?}");
    let known = |key: &String| key.starts_with("student.") || key.starts_with("parts.");
    assert!(keys.iter().all(known), "{keys:?}");
}

/// A module that counts how often it runs.
#[derive(Module, Debug)]
struct Counting {
    net: Net,
    #[module(skip)]
    runs: Arc<AtomicUsize>,
}

impl Distillable<Tensor<2>> for Counting {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.net.outputs(input)
    }
}

#[test]
fn each_model_runs_once_per_step() {
    let counting = |hidden| Counting {
        net: Net::new(hidden, 0.0, &Device::flex()),
        runs: Arc::default(),
    };
    let (teacher, student) = (counting(8), counting(4));
    let runs = [teacher.runs.clone(), student.runs.clone()];
    let train = labelled(points(40));
    let after = |epochs: usize| {
        let before = runs.clone().map(|runs| runs.load(Ordering::Relaxed));
        Distiller::<Flex, _, _>::new(Default::default(), teacher.clone(), student.clone())
            .with(SoftTargetConfig::new(4.0), 1.0)
            .with(HintConfig::new("hidden", "hidden"), 1.0)
            .fit(&quiet(epochs), train.clone(), None)
            .unwrap();
        [0, 1].map(|i| runs[i].load(Ordering::Relaxed) - before[i])
    };
    // What checking and measuring need is the same for both; two more epochs are ten more steps.
    let (short, long) = (after(1), after(3));
    assert_eq!([long[0] - short[0], long[1] - short[1]], [10, 10]);
}
