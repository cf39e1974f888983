//! The crate as a user meets it: nothing but what is public, and what it promises of its types.

mod common;

use std::sync::Arc;

use burn::backend::Flex;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::AdamConfig;
use burn::store::{BurnpackStore, ModuleSnapshot, ModuleStore, SafetensorsStore};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::knowledge::{RecordOptions, Store, record};
use burn_distill::loss::{
    HardLabel, Hint, JensenShannon, KnownLoss, LogitCosine, LogitMse, Loss, LossContext,
    LossModules, LossValue, Needs, ReverseKl, SoftCrossEntropy, SoftTarget, SymmetricKl,
    TemperatureScale, TotalVariation, loss_fn,
};
use burn_distill::metric::{CalibrationErrorMetric, FidelityMetric, ParameterDistance};
use burn_distill::report::ModelReport;
use burn_distill::{
    AnyTeacher, ClassPolicy, Combine, DataBuilder, DistillBatch, DistillData, Distillable,
    Distilled, Distiller, Ensemble, Error, Feature, FitConfig, Head, HeadKind, History, Logits,
    Objective, ObjectiveModules, OutputLayer, Outputs, Preflight, ProgressMode, Recorded, Report,
    Schedule, Side, Target, TargetKind, Targets, Teacher, TeacherBatch, TeacherCache, TeacherInfo,
    Term, TopK, Trained, TrainingSummary, Transfer, TransferSummary, Weights, adapt, teacher_fn,
};
use common::net::{CLASSES, INPUTS, Net, Point, inputs, labelled, numbers, points, unlabelled};

#[test]
fn from_a_config_file_to_a_deployed_student() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objective.toml");
    let text = "
        [[terms]]
        weight = 0.9
        loss = { soft_target = { temperature = 4.0 } }
        [[terms]]
        weight = { warm_up = { over = 0.5, then = 0.5 } }
        loss = { hint = { student = \"hidden\", teacher = \"hidden\" } }
        [[terms]]
        weight = 0.1
        loss = { hard_label = {} }
    ";
    std::fs::write(&path, text).unwrap();

    let device = Device::flex();
    let (train, valid) = (labelled(points(60)), labelled(points(20)));
    let config = FitConfig::new(3)
        .with_batch_size(20)
        .with_progress(ProgressMode::Silent);
    let distiller = Distiller::on(
        Device::flex(),
        Net::new(16, 0.2, &device),
        Net::new(4, 0.0, &device),
    )
    .with_objective(Objective::from_file(path).unwrap());

    let preflight = distiller.preflight(&config, &train, Some(&valid)).unwrap();
    let expected = "\
term         weight            student          teacher           trainable
soft_target  0.9               logits [20, 3]   logits [20, 3]    -
hint_hidden  0.5, warm-up 0.5  hidden [20, 4]   hidden [20, 16]   Linear, 80 parameters
hard_label   0.1               logits [20, 3]   -                 -
parameters: teacher 227, student 59, auxiliary 80; at least ";
    let shown = preflight.to_string();
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plain(&shown).starts_with(&plain(expected)), "{shown}");
    // Student 51 trained and 8 running statistics, 80 of the projector, 227 of the teacher; outputs of
    // 20 samples: 20 · (3 + 4) and 20 · (3 + 16). Four bytes each, four times for what is trained, and a
    // copy of the student.
    assert_eq!(
        preflight.memory,
        4 * (4 * (51 + 80) + 8 + 227 + 140 + 380 + 59)
    );
    assert!(
        shown.ends_with("60 training and 20 validation samples"),
        "{shown}"
    );

    let distilled = distiller
        .fit(&config.with_baseline(true), train, valid)
        .unwrap();
    let report = &distilled.report;
    assert_eq!(report.measured_on, "validation");
    let history = &report.training.history;
    for curves in [&history.train, &history.valid] {
        let names: Vec<_> = curves.keys().map(String::as_str).collect();
        let expected = [
            "accuracy",
            "agreement",
            "hard_label",
            "hint_hidden",
            "loss",
            "soft_target",
        ];
        assert_eq!(names, expected);
        assert!(curves.values().all(|curve| curve.len() == 3));
    }
    let json = directory.path().join("report.json");
    report.save_json(&json).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    for model in ["teacher", "baseline", "distilled"] {
        let accuracy = json[model]["accuracy"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&accuracy));
        assert!(json[model]["bytes"].as_u64().unwrap() > 0);
        assert!(json[model]["latency_ms"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(json["compression"].as_f64(), Some(227.0 / 59.0));

    let file = directory.path().join("student.safetensors");
    let mut store = SafetensorsStore::from_file(&file);
    distilled.student.save_into(&mut store).unwrap();
    let mut loaded = Net::new(4, 0.0, &device);
    loaded
        .load_from(&mut SafetensorsStore::from_file(&file))
        .unwrap();
    let logits = |net: &Net| {
        let outputs = net.outputs(inputs(&points(8), &device));
        outputs.logits().into_data()
    };
    assert_eq!(logits(&loaded.valid()), logits(&distilled.student));
}

#[test]
fn distillation_needs_no_labels() {
    let _seeded = common::seeded();
    let device = Device::flex();
    let distilled = Distiller::on(
        Device::flex(),
        Net::new(16, 0.0, &device),
        Net::new(4, 0.0, &device),
    )
    .with(SoftTarget::new(4.0), 1.0)
    .fit(
        &FitConfig::new(1).with_progress(ProgressMode::Silent),
        unlabelled(points(30)),
        None,
    )
    .unwrap();
    let report = distilled.report;
    assert_eq!(report.measured_on, "training");
    assert_eq!(report.distilled.accuracy, None);
    assert!(report.distilled.agreement.is_some());
    assert!(!report.to_string().contains("accuracy"), "{report}");
}

/// A network whose outputs a test can spoil.
#[derive(Module, Debug)]
struct Spoiled {
    net: Net,
    factor: f64,
}

impl Distillable<Tensor<2>> for Spoiled {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let logits = self.net.outputs(input).logits();
        Outputs::new(logits * self.factor)
    }
}

#[test]
fn what_cannot_work_is_said_before_training() {
    let _seeded = common::seeded();
    let device = Device::flex();
    let net = |hidden| Net::new(hidden, 0.0, &device);
    let config = FitConfig::new(1).with_progress(ProgressMode::Silent);
    let distiller = || Distiller::on(Device::flex(), net(8), net(4));
    let soft = || distiller().with(SoftTarget::new(4.0), 1.0);
    let text = |error: Error| error.to_string();

    let error = distiller()
        .fit(&config, labelled(points(8)), None)
        .unwrap_err();
    assert_eq!(
        text(error),
        "the objective has no terms: add one with `with`, or read one from a config"
    );
    let invalid = distiller().with(SoftTarget::new(-4.0), 1.0);
    let error = invalid.fit(&config, labelled(points(8)), None).unwrap_err();
    assert_eq!(
        text(error),
        "soft_target.temperature is -4, expected a number greater than 0"
    );
    let error = soft().fit(&config, labelled(vec![]), None).unwrap_err();
    assert_eq!(text(error), "the training set is empty");
    let error = soft()
        .fit(&config, labelled(points(8)), labelled(vec![]))
        .unwrap_err();
    assert_eq!(text(error), "the validation set is empty");
    let hard = distiller().with(HardLabel::new(), 1.0);
    let error = hard.fit(&config, unlabelled(points(8)), None).unwrap_err();
    assert_eq!(
        text(error),
        "term \"hard_label\" needs class targets, the batches carry no targets"
    );
    let hint = distiller().with(Hint::new("hidden", "block2"), 1.0);
    let error = hint.fit(&config, labelled(points(8)), None).unwrap_err();
    assert_eq!(
        text(error),
        "term \"hint_hidden\" needs feature \"block2\" of the teacher, which gives [\"hidden\"]"
    );
    let mut wrong = points(8);
    wrong[3].class = 3;
    let hard = distiller().with(HardLabel::new(), 1.0);
    let error = hard.fit(&config, labelled(wrong), None).unwrap_err();
    assert_eq!(
        text(error),
        "label 3 of sample 3 of the training set is out of range: the student has 3 classes (0 to 2)"
    );

    let spoiled = Spoiled {
        net: net(8),
        factor: f64::NAN,
    };
    let error = Distiller::on(Device::flex(), spoiled, net(4))
        .with(SoftTarget::new(4.0), 1.0)
        .fit(&config, labelled(points(8)), None)
        .unwrap_err();
    assert_eq!(
        text(error),
        "not finite: head \"logits\" of the teacher for sample 0 of the training set (NaN or infinite)"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    let error = soft()
        .fit(
            &config.clone().with_checkpoints(file.path()),
            labelled(points(8)),
            None,
        )
        .unwrap_err();
    let start = file.path().join("checkpoint").display().to_string();
    assert!(text(error.clone()).starts_with(&start), "{error}");
}

/// A linear model of some outputs.
fn linear(width: usize, outputs: fn(Tensor<2>) -> Outputs) -> impl Distillable<Tensor<2>> {
    let linear: Linear = LinearConfig::new(INPUTS, width).init(&Device::flex());
    adapt(linear, move |linear: &Linear, x: Tensor<2>| {
        outputs(linear.forward(x))
    })
}

/// Points with targets and weights made of them.
fn with_targets(
    batch: fn(DistillBatch<Tensor<2>>, Tensor<2>) -> DistillBatch<Tensor<2>>,
) -> DistillData<Tensor<2>> {
    DistillData::from_fn(
        InMemDataset::new(points(40)),
        move |points: Vec<Point>, device: &Device| {
            let input = inputs(&points, device);
            batch(DistillBatch::new(input.clone()), input)
        },
    )
}

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(20)
        .with_progress(ProgressMode::Silent)
}

/// Trains a student, whose loss falls, and gives the report.
fn falls<T: Teacher<Tensor<2>>, S: Distillable<Tensor<2>>>(
    teacher: T,
    student: S,
    objective: Objective,
    data: DistillData<Tensor<2>>,
) -> Report {
    // Weights are drawn when they are first used.
    Device::flex().seed(3);
    let distilled = Distiller::on(Device::flex(), teacher, student)
        .with_objective(objective)
        .fit(
            &quiet(10).with_optimizer(AdamConfig::new().init(), 1e-2),
            data,
            None,
        )
        .unwrap();
    let loss = &distilled.report.training.history.train["loss"];
    assert!(loss[9] < loss[0], "{loss:?}");
    distilled.report
}

#[test]
fn a_binary_head_learns_and_is_measured_by_its_labels() {
    let _seeded = common::seeded();
    let needs = Needs::teacher()
        .with_head(HeadKind::Binary)
        .with_target(TargetKind::Binary);
    let bernoulli = loss_fn("bernoulli", |context: &LossContext<'_>| {
        let (p, q) = (context.teacher_logits(), context.logits());
        let error = sigmoid(p) - sigmoid(q);
        context.mean((error.clone() * error).sum_dim(1).squeeze_dim(1))
    })
    .needing(needs);
    let model = || linear(2, Outputs::binary);
    let data = || {
        with_targets(|batch, input| {
            let positive = input.narrow(1, 0, 2).greater_elem(0.0);
            batch.with_binary(positive.float())
        })
    };
    let objective = Objective::new().with(bernoulli, 1);
    let report = falls(model(), model(), objective.clone(), data()).distilled;
    let head = &report.heads["logits"];
    assert_eq!(head.kind, HeadKind::Binary);
    assert!(head.accuracy.is_some() && head.exact_match.is_some());

    let error = Distiller::on(Device::flex(), model(), model())
        .with_objective(objective)
        .fit(&quiet(1), unlabelled(points(40)), None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "term \"bernoulli\" needs binary targets, the batches carry no targets"
    );
    let error = Distiller::on(Device::flex(), model(), model())
        .with(SoftTarget::new(1), 1)
        .fit(&quiet(1), data(), None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "term \"soft_target\" needs a categorical head, \"logits\" of the student is binary"
    );
}

#[test]
fn a_continuous_head_learns_and_is_measured_by_its_error() {
    let _seeded = common::seeded();
    let model = || linear(4, Outputs::values);
    let data = with_targets(|batch, input| batch.with_values(input.narrow(1, 0, 4)));
    let objective = Objective::new().with(LogitMse::new(), 1);
    let report = falls(model(), model(), objective, data).distilled;
    let head = &report.heads["values"];
    assert_eq!(head.kind, HeadKind::Continuous);
    assert!(head.mean_squared_error.is_some() && head.error_to_teacher.is_some());
    assert_eq!(report.accuracy, None);

    let wider = with_targets(|batch, input| batch.with_values(input));
    let error = Distiller::on(Device::flex(), model(), model())
        .with(LogitMse::new(), 1)
        .fit(&quiet(1), wider, None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "head \"values\" has 4 values per row, its targets have 6"
    );
}

#[test]
fn a_model_of_features_alone_learns_them() {
    let _seeded = common::seeded();
    let model = |width| {
        linear(width, |x| {
            Outputs::features_only().with_feature("embedding", x)
        })
    };
    // The first sample of each batch is invalid, the second weighs twice.
    let data = with_targets(|batch, input| {
        let [rows, _] = input.dims();
        let mut weights = vec![1f32; rows];
        if let [first, second, ..] = &mut weights[..] {
            (*first, *second) = (0.0, 2.0);
        }
        batch.with_weights(Tensor::<1>::from_data(
            TensorData::new(weights, [rows]),
            &input.device(),
        ))
    });
    let objective = Objective::new().with(Hint::new("embedding", "embedding"), 1);
    let report = falls(model(8), model(3), objective, data);
    assert!(report.distilled.heads.is_empty());
    assert_eq!(report.distilled.agreement, None);
    assert!(report.distilled.parameters.is_some());
}

#[test]
fn a_head_by_its_name_has_targets_of_its_own() {
    let _seeded = common::seeded();
    let model = || {
        linear(CLASSES + 2, |x| {
            Outputs::new(x.clone().narrow(1, 0, CLASSES))
                .with_head("box", Head::Continuous(x.narrow(1, CLASSES, 2)))
        })
    };
    let data = with_targets(|batch, input| {
        let labels = input.clone().narrow(1, 0, CLASSES).argmax(1);
        let boxes = Targets::new().with_values(input.narrow(1, 0, 2));
        batch.with_classes(labels).with_head("box", boxes)
    });
    let objective = Objective::new()
        .with(SoftTarget::new(2), 1)
        .with(HardLabel::new(), 0.5)
        .with(LogitMse::new().on("box"), 1);
    let report = falls(model(), model(), objective, data);
    let heads = &report.distilled.heads;
    assert!(heads["logits"].accuracy.is_some());
    assert!(heads["box"].error_to_teacher.is_some());

    let missing = Distiller::on(Device::flex(), model(), model())
        .with(LogitMse::new().on("mask"), 1)
        .fit(&quiet(1), unlabelled(points(20)), None);
    assert_eq!(
        missing.unwrap_err().to_string(),
        "term \"logit_mse_mask\": the student has no head \"mask\", it gives [\"logits\", \"box\"]"
    );
}

/// A teacher of a type of one's own.
#[derive(Debug, Clone)]
struct Constant(Device);

impl Teacher<Tensor<2>> for Constant {
    fn ask(&self, batch: &TeacherBatch<'_, Tensor<2>>) -> burn_distill::Result<Outputs> {
        let [rows, _] = batch.input.dims();
        let row = Tensor::<2>::from_floats([[2.0, 0.0, -1.0]], &self.0);
        Ok(Outputs::new(row.expand([rows, CLASSES])))
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<Tensor<2>>> {
        Arc::new(Self(device.clone()))
    }

    fn info(&self) -> TeacherInfo {
        TeacherInfo::named("constant")
    }
}

#[test]
fn every_kind_of_teacher_teaches() {
    fn teaches(teacher: impl Teacher<Tensor<2>>, data: DistillData<Tensor<2>>) {
        let objective = Objective::new().with(SoftTarget::new(2), 1);
        let student = Net::new(4, 0.0, &Device::flex());
        let report = falls(teacher, student, objective, data);
        assert!(report.distilled.agreement.is_some());
    }
    let _seeded = common::seeded();
    let device = Device::flex();
    let net = || Net::new(16, 0.0, &device);
    let closure = || {
        teacher_fn("the first three", |x: Tensor<2>| {
            4.0 * x.narrow(1, 0, CLASSES)
        })
    };
    let data = DistillData::builder(InMemDataset::new(points(40)))
        .by_content()
        .batched(|points: Vec<Point>, device: &Device| DistillBatch::new(inputs(&points, device)));
    let directory = tempfile::tempdir().unwrap();
    let options = RecordOptions::new(device.clone()).with_progress(ProgressMode::Silent);
    let recorded_net = net();
    record(&recorded_net, &data, directory.path(), &options).unwrap();
    let store = Store::open(directory.path()).unwrap();

    teaches(net(), data.clone());
    teaches(closure(), data.clone());
    teaches(Constant(device.clone()), data.clone());
    teaches(linear(CLASSES, Outputs::new), data.clone());
    teaches(Recorded::new(&store), data.clone());
    teaches(recorded_net, data.clone().with_knowledge(&store));
    teaches(AnyTeacher::new(net()), data.clone());
    let nets = Ensemble::new(vec![net(), net()], Combine::Probabilities).unwrap();
    teaches(nets, data.clone());
    let all = vec![
        AnyTeacher::new(net()),
        AnyTeacher::new(closure()),
        AnyTeacher::new(Recorded::new(&store)),
    ];
    let all = Ensemble::new(all, Combine::Logits).unwrap();
    teaches(all.with_weights(&[1.0, 2.0, 1.0]).unwrap(), data);
}

/// A loss of one's own: features in a common space, with a head that is trained for it.
#[derive(Debug)]
struct CommonSpace {
    width: usize,
}

/// What it trains.
#[derive(Module, Debug)]
struct EmbeddingHead {
    student: Linear,
}

impl CommonSpace {
    fn vectors(context: &LossContext<'_>, side: Side) -> Tensor<2> {
        match context.feature("common_space", side, "hidden") {
            Ok(Feature::Rank2(vectors)) => vectors.clone(),
            other => panic!("expected vectors, found {other:?}"),
        }
    }
}

impl Loss for CommonSpace {
    fn name(&self) -> String {
        "common_space".into()
    }

    fn needs(&self) -> Needs {
        Needs::teacher().with_features("hidden", "hidden")
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let [_, width] = Self::vectors(context, Side::Student).dims();
        Some(LossModules::new(EmbeddingHead {
            student: LinearConfig::new(width, self.width).init(device),
        }))
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let modules = context.modules.expect("it has modules");
        let head: &EmbeddingHead = modules.get();
        let student = head.student.forward(Self::vectors(context, Side::Student));
        let teacher = Self::vectors(context, Side::Teacher).narrow(1, 0, self.width);
        let error = student - teacher;
        context.mean((error.clone() * error).sum_dim(1).squeeze_dim(1))
    }
}

#[test]
fn a_loss_of_ones_own_trains_a_head_that_is_checkpointed_and_gone_in_the_end() {
    let _seeded = common::seeded();
    let device = Device::flex();
    device.seed(4);
    let (teacher, student) = (Net::new(16, 0.0, &device), Net::new(4, 0.0, &device));
    let fit = |config: &FitConfig| {
        Distiller::on(device.clone(), teacher.clone(), student.clone())
            .with(CommonSpace { width: 7 }, 1)
            .fit(config, unlabelled(points(40)), None)
            .unwrap()
    };
    let undisturbed = fit(&quiet(4));
    let course = &undisturbed.report.training.history.train["common_space"];
    assert!(course[3] < course[0], "{course:?}");
    assert_eq!(undisturbed.student.num_params(), student.num_params());

    let directory = tempfile::tempdir().unwrap();
    let config = quiet(4).with_checkpoints(directory.path());
    fit(&config);
    let newest = directory.path().join("checkpoint/model-4.bpk");
    let keys = BurnpackStore::from_file(&newest).keys().unwrap();
    let own: Vec<_> = keys.iter().filter(|key| key.contains('-')).collect();
    assert_eq!(
        own,
        [
            "loss-modules.common_space.student.bias",
            "loss-modules.common_space.student.weight"
        ]
    );
    std::fs::remove_file(newest).unwrap();
    let resumed = fit(&config.with_resume(true));
    assert_eq!(resumed.report.training.resumed_from, Some(3));
    let resumed_course = &resumed.report.training.history.train["common_space"];
    assert_eq!(resumed_course[..], course[3..]);
    assert_eq!(numbers(&resumed.student), numbers(&undisturbed.student));
}

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    fn check_clone<T: Send + Sync + Clone + std::fmt::Debug>() {}

    check::<Distiller<Flex, Net, Net>>();
    check_clone::<Distilled<Net, Net>>();
    check_clone::<Trained<Net>>();
    check_clone::<DistillData<Tensor<2>, Tensor<3>>>();
    check::<DataBuilder<Point>>();
    check_clone::<DistillBatch<Tensor<2>, Tensor<3>>>();
    check_clone::<(Outputs, Head, HeadKind, Logits, OutputLayer, TopK, Feature)>();
    check_clone::<(Targets, Target, TargetKind, Weights)>();
    check_clone::<(Objective, Term, KnownLoss, ObjectiveModules)>();
    check_clone::<(SoftTarget, LogitMse, Hint, HardLabel)>();
    check_clone::<(
        SoftCrossEntropy,
        ReverseKl,
        SymmetricKl,
        JensenShannon,
        TotalVariation,
        LogitCosine,
    )>();
    check_clone::<(TemperatureScale, ClassPolicy, Combine)>();
    check_clone::<(LossContext<'static>, LossModules, LossValue, Needs)>();
    check_clone::<(Schedule, ProgressMode, TeacherCache)>();
    check_clone::<(Report, ModelReport, TrainingSummary, History)>();
    check_clone::<(Preflight, ParameterDistance)>();
    check_clone::<(FidelityMetric, CalibrationErrorMetric)>();
    check_clone::<(Transfer, TransferSummary)>();
    check_clone::<(AnyTeacher<Tensor<2>>, Recorded, TeacherInfo)>();
    check_clone::<Ensemble<Net>>();
    check_clone::<TeacherBatch<'static, Tensor<2>>>();
    check_clone::<Error>();
    fn check_value(_: impl Send + Sync + Clone + std::fmt::Debug) {}
    check_value(loss_fn("l", |context| context.logits().mean()));
    check_value(teacher_fn("t", |x: Tensor<2>| x));
    fn check_config<T: Send + Sync + Clone>() {}
    check_config::<FitConfig>();
    fn _object_safe(_: &dyn Loss, _: &dyn Teacher<Tensor<2>>) {}
}
