//! The teacher stays as it was: not in training mode, not in a graph, not in an optimizer, not in a
//! checkpoint; but on the device where it is needed.

mod common;

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::backend::Flex;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, Quantizer};
use burn::optim::{GradientsParams, SgdConfig};
use burn::store::BurnpackStore;
use burn::store::ModuleStore;
use burn::tensor::quantization::{Calibration, QuantScheme, QuantStore, QuantValue};
use burn::tensor::{Device, Tensor};
use burn::train::MultiDeviceOptim;
use burn_distill::loss::{HintConfig, SoftTargetConfig};
use burn_distill::report::measure;
use burn_distill::{Distillable, Distiller, FitConfig, Frozen, Outputs, ProgressMode};
use common::net::{Net, bytes, initialized, inputs, labelled, largest_difference, numbers, points};

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
fn a_quantised_one_stays_in_its_bits_wherever_it_goes() {
    let scheme = QuantScheme::default()
        .with_value(QuantValue::Q8S)
        .with_store(QuantStore::Native);
    let group = ParamGroup::from_predicate("weight");
    let mut quantizer = Quantizer::new(Calibration::MinMax, scheme);
    let teacher = teacher().quantize_weights_group(&mut quantizer, group);

    let device = Device::flex().autodiff();
    let frozen = Frozen::new(teacher.clone());
    let pinned = frozen.clone().pinned_to(&device);
    for frozen in [
        frozen.clone().fork(&device),
        frozen.to_device(&device),
        pinned,
    ] {
        assert_eq!(bytes(frozen.inner()), bytes(&teacher));
    }
    let report = measure(
        &teacher,
        None::<&Frozen<Net>>,
        &labelled(points(8)),
        8,
        &device,
    )
    .unwrap();
    let record = teacher.into_record().into_bytes().unwrap();
    assert_eq!(report.bytes, record.len());
}

#[test]
fn pinned_it_stays_and_its_answers_follow() {
    let device = Device::flex();
    let input = inputs(&points(4), &device.clone().autodiff());
    let expected = logits(Frozen::new(teacher_of(3)).outputs(&input));
    let at = elsewhere();
    let pinned = Frozen::new(teacher_of(3)).pinned_to(&at.clone().autodiff());
    for moved in [
        pinned.clone().fork(&device.clone().autodiff()),
        pinned.clone().to_device(&device),
    ] {
        assert_eq!(moved.inner().devices(), from_ref(&at));
        // The engine puts what it makes for a model on the model's first device.
        assert_eq!(moved.devices(), from_ref(&device));
        let outputs = moved.outputs(&input);
        assert_eq!(outputs.logits.device(), device);
        assert!(!outputs.logits.is_autodiff());
        let burn_distill::Feature::Rank2(hidden) = outputs.feature("hidden").unwrap() else {
            panic!("a feature of rank 2")
        };
        assert_eq!(hidden.device(), device);
        let found = logits(outputs);
        assert!(largest_difference(&found, &expected) < 1e-5);
    }
}

/// The device of another backend, where there is one, or else the same.
fn elsewhere() -> Device {
    let mut devices = common::devices();
    devices.pop().expect("flex is always there").1
}

/// The same teacher for every seed.
fn teacher_of(seed: u64) -> Net {
    Device::flex().seed(seed);
    initialized(teacher())
}

#[test]
fn a_training_learns_the_same_wherever_it_is() {
    let run = |on: Option<Device>, config: &FitConfig| {
        let teacher = teacher_of(3);
        let student = initialized(Net::new(4, 0.0, &Device::flex()));
        let mut distiller = Distiller::<Flex, _, _>::new(Default::default(), teacher, student)
            .with(SoftTargetConfig::new(4.0), 1.0)
            .with(HintConfig::new("hidden", "hidden"), 0.5);
        if let Some(device) = on {
            distiller = distiller.teacher_on(device);
        }
        distiller
            .fit(config, labelled(points(40)), labelled(points(16)))
            .unwrap()
    };
    let two = || {
        let devices = vec![Device::flex(); 2];
        quiet(2).with_devices(devices, MultiDeviceOptim::OptimMainDevice)
    };
    // Not Adam, which makes whole steps of the rounding errors that are the gradient of a bias before
    // a batch norm.
    let sgd = |config: FitConfig| config.with_optimizer(SgdConfig::new().init(), 0.1);
    for config in [quiet(2), two()].map(sgd) {
        let follows = run(None, &config);
        let here = run(Some(Device::flex()), &config);
        assert_eq!(numbers(&here.student), numbers(&follows.student));
        assert_eq!(here.report.teacher_device, None);

        let at = elsewhere();
        let there = run(Some(at.clone()), &config);
        let difference = largest_difference(&numbers(&there.student), &numbers(&follows.student));
        assert!(difference < 1e-4, "{difference} with the teacher on {at:?}");
        assert_eq!(there.teacher.devices(), from_ref(&at));
        assert_eq!(numbers(&there.teacher), numbers(&follows.teacher));
        let expected = (at != Device::flex()).then(|| format!("{at:?}"));
        assert_eq!(there.report.teacher_device, expected);
    }
}

#[test]
fn a_mean_teacher_has_no_device_of_its_own() {
    let student = Net::new(4, 0.0, &Device::flex());
    let device = Device::flex();
    let distiller = Distiller::<Flex, _, _>::mean_teacher(Default::default(), student, 0.9)
        .with(SoftTargetConfig::new(4.0), 1.0)
        .teacher_on(device.clone());
    let expected = format!(
        "teacher_on is {device:?}, expected no device of its own for a mean teacher, which follows its student at every step"
    );
    let data = labelled(points(16));
    let found = distiller.preflight(&quiet(1), &data, None).unwrap_err();
    assert_eq!(found.to_string(), expected);
    let found = distiller.fit(&quiet(1), data, None).unwrap_err();
    assert_eq!(found.to_string(), expected);
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
