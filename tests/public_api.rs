//! The crate as a user meets it: nothing but what is public, and what it promises of its types.

mod common;

use burn::backend::Flex;
use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use burn_distill::loss::{
    Centring, CustomLoss, HardAndSoft, HardAndSoftConfig, HardLabel, HardLabelConfig, Hint,
    HintConfig, JensenShannon, JensenShannonConfig, LogitCosine, LogitCosineConfig, LogitMse,
    LogitMseConfig, Loss, LossContext, Parts, ReverseKl, ReverseKlConfig, SoftCrossEntropy,
    SoftCrossEntropyConfig, SoftTarget, SoftTargetConfig, SymmetricKl, SymmetricKlConfig,
    TemperatureScale, TotalVariation, TotalVariationConfig,
};
use burn_distill::metric::{CalibrationErrorMetric, FidelityMetric, ParameterDistance};
use burn_distill::report::{ModelReport, TrainingSummary};
use burn_distill::{
    ClassPolicy, DistillBatch, DistillData, Distillable, Distilled, Distiller, Error, Feature,
    FitConfig, Frozen, History, LossConfig, Objective, ObjectiveConfig, Outputs, Preflight,
    ProgressMode, Projector, Report, Schedule, Targets, Term, TermConfig, Trained, Transfer,
    TransferSummary,
};
use common::net::{Net, inputs, labelled, points, unlabelled};

#[test]
fn from_a_config_file_to_a_deployed_student() {
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
    let distiller = Distiller::<Flex, _, _>::new(
        Default::default(),
        Net::new(16, 0.2, &device),
        Net::new(4, 0.0, &device),
    )
    .with_config(&ObjectiveConfig::from_file(path).unwrap());

    let preflight = distiller.preflight(&config, &train, Some(&valid)).unwrap();
    let expected = "\
term         weight            student          teacher           trained along
soft_target  0.9               logits [20, 3]   logits [20, 3]    -
hint_hidden  0.5, warm-up 0.5  hidden [20, 4]   hidden [20, 16]   linear 4 -> 16
hard_label   0.1               logits [20, 3]   -                 -
parameters: teacher 227, student 59, trained along 80; at least ";
    let shown = preflight.to_string();
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plain(&shown).starts_with(&plain(expected)), "{shown}");
    // Student 51 trained and 8 running statistics, 80 of the projector, 227 of the teacher; outputs of
    // 20 samples: 20 · (3 + 4) and 20 · (3 + 16). Four bytes each, four times for what is trained.
    assert_eq!(preflight.memory, 4 * (4 * (51 + 80) + 8 + 227 + 140 + 380));
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
    for model in ["teacher", "labels_alone", "distilled"] {
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
    let answers = |net: &Net| net.outputs(inputs(&points(8), &device)).logits.into_data();
    assert_eq!(answers(&loaded.valid()), answers(&distilled.student));
}

#[test]
fn distillation_needs_no_labels() {
    let device = Device::flex();
    let distilled = Distiller::<Flex, _, _>::new(
        Default::default(),
        Net::new(16, 0.0, &device),
        Net::new(4, 0.0, &device),
    )
    .with(SoftTargetConfig::new(4.0), 1.0)
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

impl Distillable<burn::tensor::Tensor<2>> for Spoiled {
    fn outputs(&self, input: burn::tensor::Tensor<2>) -> Outputs {
        let logits = self.net.outputs(input).logits;
        Outputs::new(logits * self.factor)
    }
}

#[test]
fn what_cannot_work_is_said_before_training() {
    let device = Device::flex();
    let net = |hidden| Net::new(hidden, 0.0, &device);
    let config = FitConfig::new(1).with_progress(ProgressMode::Silent);
    let distiller = || Distiller::<Flex, _, _>::new(Default::default(), net(8), net(4));
    let soft = || distiller().with(SoftTargetConfig::new(4.0), 1.0);
    let text = |error: Error| error.to_string();

    let error = distiller()
        .fit(&config, labelled(points(8)), None)
        .unwrap_err();
    assert_eq!(
        text(error),
        "the objective has no terms: add one with `with`, or read one from a config"
    );
    let invalid = distiller().with(SoftTargetConfig::new(-4.0), 1.0);
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
    let hard = distiller().with(HardLabelConfig::new(), 1.0);
    let error = hard.fit(&config, unlabelled(points(8)), None).unwrap_err();
    assert_eq!(
        text(error),
        "term \"hard_label\" needs class targets, the batches carry no targets"
    );
    let hint = distiller().with(HintConfig::new("hidden", "block2"), 1.0);
    let error = hint.fit(&config, labelled(points(8)), None).unwrap_err();
    assert_eq!(
        text(error),
        "term \"hint_hidden\" needs feature \"block2\" of the teacher, which gives [\"hidden\"]"
    );
    let mut wrong = points(8);
    wrong[3].class = 3;
    let hard = distiller().with(HardLabelConfig::new(), 1.0);
    let error = hard.fit(&config, labelled(wrong), None).unwrap_err();
    assert_eq!(
        text(error),
        "label 3 is out of range: the student has 3 classes (0 to 2)"
    );

    let spoiled = Spoiled {
        net: net(8),
        factor: f64::NAN,
    };
    let error = Distiller::<Flex, _, _>::new(Default::default(), spoiled, net(4))
        .with(SoftTargetConfig::new(4.0), 1.0)
        .fit(&config, labelled(points(8)), None)
        .unwrap_err();
    assert_eq!(
        text(error),
        "not finite: the teacher's logits (NaN or infinite)"
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

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    fn check_clone<T: Send + Sync + Clone + std::fmt::Debug>() {}

    check::<Distiller<Flex, Net, Net>>();
    check_clone::<Distilled<Net, Net>>();
    check_clone::<Trained<Net>>();
    check_clone::<FitConfig>();
    check_clone::<DistillData<burn::tensor::Tensor<2>>>();
    check_clone::<DistillBatch<burn::tensor::Tensor<2>>>();
    check_clone::<Frozen<Net>>();
    check_clone::<Outputs>();
    check_clone::<Feature>();
    check_clone::<Targets>();
    check_clone::<Objective>();
    check_clone::<Term>();
    check_clone::<(ObjectiveConfig, TermConfig, LossConfig)>();
    check_clone::<(
        SoftTargetConfig,
        LogitMseConfig,
        HintConfig,
        HardLabelConfig,
        HardAndSoftConfig,
    )>();
    check_clone::<(SoftTarget, LogitMse, Hint, HardLabel, HardAndSoft)>();
    check_clone::<(
        SoftCrossEntropyConfig,
        ReverseKlConfig,
        SymmetricKlConfig,
        JensenShannonConfig,
        TotalVariationConfig,
        LogitCosineConfig,
    )>();
    check_clone::<(
        SoftCrossEntropy,
        ReverseKl,
        SymmetricKl,
        JensenShannon,
        TotalVariation,
        LogitCosine,
    )>();
    check_clone::<(TemperatureScale, Centring, ClassPolicy)>();
    check_clone::<CustomLoss<fn(&LossContext<'_>) -> burn::tensor::Tensor<1>>>();
    check_clone::<LossContext<'static>>();
    check_clone::<(Parts, Projector)>();
    check_clone::<(Schedule, ProgressMode)>();
    check_clone::<(Report, ModelReport, TrainingSummary, History)>();
    check_clone::<(Preflight, ParameterDistance)>();
    check_clone::<(FidelityMetric, CalibrationErrorMetric)>();
    check_clone::<(Transfer, TransferSummary)>();
    check_clone::<Error>();
    fn _object_safe(_: &dyn Loss) {}
}
