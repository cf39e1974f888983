//! The teacher stays as it was: not in training mode, not in a graph, not in an optimizer, not in a
//! checkpoint; but on the device where it is needed.

mod common;

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, Quantizer};
use burn::optim::{AdamConfig, SgdConfig};
use burn::store::{BurnpackStore, ModuleStore};
use burn::tensor::quantization::{Calibration, QuantScheme, QuantStore, QuantValue};
use burn::tensor::{Device, Tensor};
use burn::train::MultiDeviceOptim;
use burn_distill::loss::{Hint, LossContext, SoftTarget, loss_fn};
use burn_distill::report::measure;
use burn_distill::{Distillable, Distilled, Distiller, Feature, FitConfig, Outputs, ProgressMode};
use common::net::{Net, bytes, initialized, inputs, labelled, largest_difference, numbers, points};

fn teacher() -> Net {
    initialized(Net::new(16, 0.5, &Device::flex()))
}

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(8)
        .with_progress(ProgressMode::Silent)
}

/// Trains the same student, whatever the teacher.
fn taught_by(teacher: Net) -> Distilled<Net, Net> {
    let device = Device::flex();
    device.seed(8);
    let student = initialized(Net::new(4, 0.0, &device));
    Distiller::on(device, teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .with(Hint::new("hidden", "hidden"), 0.5)
        .fit(&quiet(2), labelled(points(40)), labelled(points(16)))
        .unwrap()
}

#[test]
fn it_is_in_inference_mode_however_it_was_given() {
    let _seeded = common::seeded();
    let teacher = teacher();
    // Ready to train, so that dropout and batch norm would do so.
    let ready = teacher.clone().train().fork(&Device::flex().autodiff());
    let before = bytes(&ready.valid());
    let as_it_is = taught_by(teacher);
    let as_ready = taught_by(ready.clone());
    // Dropout would make another student, and statistics of the batch as well.
    assert_eq!(numbers(&as_it_is.student), numbers(&as_ready.student));
    for after in [&ready, &as_ready.teacher] {
        assert_eq!(bytes(&after.valid()), before, "running statistics moved");
    }
    // The control: the same module in training mode does both.
    let input = inputs(&points(32), &Device::flex().autodiff());
    let logits = |outputs: Outputs| outputs.logits().into_data();
    let expected = logits(ready.valid().outputs(input.clone().inner()));
    assert_ne!(logits(ready.outputs(input)), expected);
    assert_ne!(bytes(&ready.valid()), before);
}

#[test]
fn no_graph_is_recorded_for_it_and_its_outputs_are_on_the_students_device() {
    let _seeded = common::seeded();
    let looks = || {
        loss_fn("looks", |context: &LossContext<'_>| {
            let (student, teacher) = (context.logits(), context.teacher_logits());
            let Some(Feature::Rank2(hidden)) = context.teacher().feature("hidden") else {
                panic!("a feature of rank 2")
            };
            assert!(!teacher.is_autodiff() && !hidden.is_autodiff());
            let device = student.device().inner();
            assert_eq!(
                [teacher.device(), hidden.device()],
                [device.clone(), device]
            );
            context.mean((student - teacher).abs().mean_dim(1).squeeze_dim(1))
        })
    };
    let ready = teacher().train().fork(&Device::flex().autodiff());
    for workers in [0, 1] {
        for on in [None, Some(elsewhere())] {
            let student = Net::new(4, 0.0, &Device::flex());
            let mut distiller =
                Distiller::on(Device::flex(), ready.clone(), student).with(looks(), 1);
            if let Some(device) = on {
                distiller = distiller.teacher_on(device);
            }
            let config = quiet(1).with_workers(workers);
            distiller.fit(&config, labelled(points(16)), None).unwrap();
        }
    }
}

/// The identities of all parameters.
fn identities(module: &impl Module) -> Vec<String> {
    struct Identities(Vec<String>);
    impl ModuleVisitor for Identities {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(format!("{}.", param.id.val()));
        }
    }
    let mut identities = Identities(Vec::new());
    module.visit(&mut identities);
    identities.0
}

#[test]
fn no_optimizer_sees_it() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let (teacher, student) = (teacher(), Net::new(4, 0.0, &Device::flex()));
    let (of_teacher, of_student) = (identities(&teacher), identities(&student));
    let config = quiet(1)
        .with_optimizer(AdamConfig::new().init(), 0.01)
        .with_checkpoints(directory.path());
    Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .fit(&config, labelled(points(16)), None)
        .unwrap();
    let path = directory.path().join("checkpoint/optim-1.bpk");
    let keys = BurnpackStore::from_file(path).keys().unwrap();
    let has = |identity: &String| keys.iter().any(|key| key.starts_with(identity.as_str()));
    assert!(of_student.iter().any(has), "{keys:?}");
    assert!(!of_teacher.iter().any(has), "{keys:?}");
}

#[test]
fn a_quantised_one_stays_in_its_bits_wherever_it_goes() {
    let _seeded = common::seeded();
    let scheme = QuantScheme::default()
        .with_value(QuantValue::Q8S)
        .with_store(QuantStore::Native);
    let group = ParamGroup::from_predicate("weight");
    let mut quantizer = Quantizer::new(Calibration::MinMax, scheme);
    let teacher = teacher().quantize_weights_group(&mut quantizer, group);
    let record = teacher.clone().into_record().into_bytes().unwrap();

    let distilled = taught_by(teacher.clone());
    assert_eq!(bytes(&distilled.teacher), bytes(&teacher));
    let measured = distilled.report.teacher.unwrap();
    assert_eq!(measured.bytes, Some(record.len()));
    let device = Device::flex().autodiff();
    let report = measure(&teacher, None, &labelled(points(8)), 8, &device).unwrap();
    assert_eq!(report.bytes, Some(record.len()));

    let student = Net::new(4, 0.0, &Device::flex());
    let pinned = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(4.0), 1.0)
        .teacher_on(Device::flex())
        .fit(&quiet(1), labelled(points(16)), None)
        .unwrap();
    let measured = pinned.report.teacher.unwrap();
    assert_eq!(measured.bytes, Some(record.len()));
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
    let _seeded = common::seeded();
    let run = |on: Option<Device>, config: &FitConfig| {
        let teacher = teacher_of(3);
        let student = initialized(Net::new(4, 0.0, &Device::flex()));
        let mut distiller = Distiller::on(Device::flex(), teacher, student)
            .with(SoftTarget::new(4.0), 1.0)
            .with(Hint::new("hidden", "hidden"), 0.5);
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
        // It comes back as it was given.
        assert_eq!(there.teacher.devices(), from_ref(&Device::flex()));
        assert_eq!(numbers(&there.teacher), numbers(&follows.teacher));
        let expected = (at != Device::flex()).then(|| format!("{at:?}"));
        assert_eq!(there.report.teacher_device, expected);
    }
}

#[test]
fn a_mean_teacher_has_no_device_of_its_own() {
    let _seeded = common::seeded();
    let student = Net::new(4, 0.0, &Device::flex());
    let device = Device::flex();
    let distiller = Distiller::mean_teacher(Device::flex(), student, 0.9)
        .with(SoftTarget::new(4.0), 1.0)
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
    let _seeded = common::seeded();
    let teacher = teacher();
    let before = bytes(&teacher);
    let distilled = Distiller::on(
        Device::flex(),
        teacher.clone(),
        Net::new(4, 0.2, &Device::flex()),
    )
    .with(SoftTarget::new(4.0), 1.0)
    .with(Hint::new("hidden", "hidden"), 0.5)
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
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let student = Net::new(4, 0.0, &Device::flex());
    let parameters = identities(&student).len();
    Distiller::on(Device::flex(), teacher(), student)
        .with(Hint::new("hidden", "hidden"), 1.0)
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
    let of_projector = |key: &&String| key.starts_with("loss-modules.hint_hidden.");
    assert_eq!(keys.iter().filter(of_projector).count(), 2, "{keys:?}");
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
    let _seeded = common::seeded();
    let counting = |hidden| Counting {
        net: Net::new(hidden, 0.0, &Device::flex()),
        runs: Arc::default(),
    };
    let (teacher, student) = (counting(8), counting(4));
    let runs = [teacher.runs.clone(), student.runs.clone()];
    let train = labelled(points(40));
    let after = |epochs: usize| {
        let before = runs.clone().map(|runs| runs.load(Ordering::Relaxed));
        Distiller::on(Device::flex(), teacher.clone(), student.clone())
            .with(SoftTarget::new(4.0), 1.0)
            .with(Hint::new("hidden", "hidden"), 1.0)
            .fit(&quiet(epochs), train.clone(), None)
            .unwrap();
        [0, 1].map(|i| runs[i].load(Ordering::Relaxed) - before[i])
    };
    // What checking and measuring need is the same for both; two more epochs are ten more steps.
    let (short, long) = (after(1), after(3));
    assert_eq!([long[0] - short[0], long[1] - short[1]], [10, 10]);
}
