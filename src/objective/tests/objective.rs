use burn::tensor::{Bool, DType, Device, Int, Tensor};

use super::*;
use crate::data::batch::Targets;
use crate::data::outputs::Outputs;
use crate::loss::custom::loss_fn;
use crate::loss::logits::logit_mse::LogitReduction;

fn outputs(classes: usize) -> Outputs {
    Outputs::new(Tensor::<2>::zeros([2, classes], &Device::flex()))
}

fn constant(name: &'static str, value: f64) -> impl Loss {
    loss_fn(name, move |context: &LossContext<'_>| {
        Tensor::full([1], value, &context.student.logits.device())
    })
}

#[test]
fn the_sum_is_the_weighted_terms() {
    let objective = Objective::new()
        .with(constant("a", 2.0), 0.5)
        .and_then(|o| o.with(constant("b", 3.0), Schedule::linear(0.0, 1.0)))
        .unwrap();
    let (student, teacher) = (outputs(2), outputs(2));
    let value = objective.forward(&LossContext::new(&student, &teacher).at(0.5), &[None, None]);
    assert_eq!(value.total.into_scalar::<f32>(), 2.5); // 0.5 · 2 + 0.5 · 3
    let terms: Vec<f32> = value.terms.into_iter().map(Tensor::into_scalar).collect();
    assert_eq!(terms, [2.0, 3.0]);
    assert_eq!(objective.to_string(), "0.5 · a + (linear 0 to 1) · b");
}

#[test]
fn equal_names_are_numbered() {
    let mut objective = Objective::new();
    for _ in 0..3 {
        objective = objective.with(SoftTargetConfig::new(2.0), 1.0).unwrap();
    }
    let names: Vec<_> = objective.terms().iter().map(Term::name).collect();
    assert_eq!(names, ["soft_target", "soft_target_2", "soft_target_3"]);
}

#[test]
fn toml_and_json_say_the_same() {
    let config = ObjectiveConfig::new()
        .with(SoftTargetConfig::new(Schedule::cosine(8.0, 2.0)), 0.9)
        .with(
            LogitMseConfig::new().with_reduction(LogitReduction::Sum),
            Schedule::from(1.0).warm_up(0.1),
        )
        .with(HintConfig::new("a", "b"), 2.0)
        .with(HardLabelConfig::new().with_smoothing(0.1), 0.1);
    let toml = toml::to_string(&config).unwrap();
    assert_eq!(ObjectiveConfig::from_toml(&toml).unwrap(), config);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(ObjectiveConfig::from_json(&json).unwrap(), config);
    assert_eq!(config.init().unwrap().terms().len(), 4);
}

#[test]
fn files_are_read_by_their_ending() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();

    write(
        "a.toml",
        "[[terms]]\nname = \"kd\"\nloss = { soft_target = {} }\n",
    );
    let objective = ObjectiveConfig::from_file(path("a.toml"))
        .unwrap()
        .init()
        .unwrap();
    assert_eq!(objective.to_string(), "1 · kd");
    write("b.json", r#"{"terms": [{"loss": {"hard_label": {}}}]}"#);
    assert!(ObjectiveConfig::from_file(path("b.json")).is_ok());

    write("c.yaml", "terms: []");
    let error = |name: &str| {
        ObjectiveConfig::from_file(path(name))
            .unwrap_err()
            .to_string()
    };
    let at = |name: &str| path(name).display().to_string();
    assert_eq!(
        error("c.yaml"),
        format!("{}: expected a file ending in .toml or .json", at("c.yaml"))
    );
    assert!(
        error("d.toml").starts_with(&format!("{}: No such file", at("d.toml"))),
        "{}",
        error("d.toml")
    );
    write(
        "e.toml",
        "[[terms]]\nweigth = 1\nloss = { soft_target = {} }\n",
    );
    let text = error("e.toml");
    assert!(text.starts_with(&at("e.toml")), "{text}");
    assert!(
        text.contains("line 2") && text.contains("unknown field `weigth`"),
        "{text}"
    );
}

#[test]
fn what_a_config_gets_wrong_is_named() {
    let error = |json: &str| {
        let config = ObjectiveConfig::from_json(json);
        config
            .and_then(|c| c.init().map(drop))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(r#"{"terms": []}"#),
        "the objective has no terms: add one with `with`, or read one from a config"
    );
    assert!(
        error(r#"{"terms": [{"loss": {"soft_targets": {}}}]}"#)
            .contains("unknown variant `soft_targets`")
    );
    assert!(error(r#"{"terms": [], "tau": 1}"#).contains("unknown field `tau`"));
    assert_eq!(
        error(r#"{"terms": [{"loss": {"soft_target": {"temperature": -1}}}]}"#),
        "soft_target.temperature is -1, expected a number greater than 0"
    );
    assert_eq!(
        error(r#"{"terms": [{"weight": -0.5, "loss": {"hard_label": {}}}]}"#),
        "the weight of hard_label is -0.5, expected a number of at least 0"
    );
}

#[test]
fn a_batch_that_does_not_fit_is_named() {
    let objective = Objective::new().with(constant("a", 0.0), 1.0).unwrap();
    let (student, teacher) = (outputs(2), outputs(2));
    let context = LossContext::new(&student, &teacher);
    let device = Device::flex();

    let three = Targets::Classes(Tensor::<1, Int>::zeros([3], &device));
    let error = objective
        .check(&context.clone().with_targets(&three))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the target has 3 rows, the student's logits have 2"
    );
    let mask = Tensor::<1, Bool>::from_data([true], &device);
    let error = objective
        .check(&context.clone().with_mask(&mask))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the mask has 1 rows, the student's logits have 2"
    );
    let error = Objective::new().check(&context).unwrap_err();
    assert!(matches!(error, Error::NoTerms));
    let alone = LossContext {
        teacher: None,
        ..context
    };
    let error = objective.check(&alone).unwrap_err();
    assert_eq!(
        error.to_string(),
        "term \"a\" needs a teacher, and this training has none"
    );
}

/// Everything in single precision, and everything but the parts in half, up to the digits of half.
#[test]
fn terms_of_models_in_half_precision_see_single_precision() {
    let objective = Objective::new()
        .with(SoftTargetConfig::new(2.0), 0.5)
        .and_then(|o| o.with(HardLabelConfig::new(), 0.25))
        .and_then(|o| o.with(HintConfig::new("f", "f"), 0.25))
        .and_then(|o| o.with(LogitMseConfig::new(), 0.5))
        .unwrap()
        .with_class_policy(ClassPolicy::Truncate);
    let device = Device::flex();
    let targets = Targets::Classes(Tensor::<1, Int>::from_ints([0, 2], &device));
    let logits = Tensor::<2>::from_floats([[0.5, -1.25, 2.0], [-0.75, 1.5, 0.25]], &device);
    let taught = [[1.5, -0.5, 1.0, 3.0], [0.25, 2.5, -1.0, 0.5]];
    let taught = Tensor::<2>::from_floats(taught, &device);
    let feature = Tensor::<2>::from_floats([[0.5, -1.0], [2.0, 0.25]], &device);
    let example = Tensor::<2>::from_floats([[1.0, 0.0, -0.5], [0.25, 1.5, 2.0]], &device);

    let plain = Outputs::new(logits.clone().autodiff()).with_feature("f", feature.clone());
    let teacher = Outputs::new(taught.clone()).with_feature("f", example.clone());
    let context = LossContext::new(&plain, &teacher).with_targets(&targets);
    let parts = objective.parts(&context, &device.clone().autodiff());

    let run = |student: DType, teacher: DType| {
        let leaf = |x: &Tensor<2>| x.clone().cast(student).autodiff().require_grad();
        let leaves = [leaf(&logits), leaf(&feature)];
        let student = Outputs::new(leaves[0].clone()).with_feature("f", leaves[1].clone());
        let constant = |x: &Tensor<2>| x.clone().cast(teacher);
        let teacher = Outputs::new(constant(&taught)).with_feature("f", constant(&example));
        let context = LossContext::new(&student, &teacher).with_targets(&targets);
        objective.check(&context).unwrap();
        let value = objective.forward(&context, &parts);
        assert!(value.terms.iter().all(|term| term.dtype() == DType::F32));
        let gradients = value.total.backward();
        let gradients = leaves.map(|leaf| leaf.grad(&gradients).unwrap());
        (value.total.into_scalar::<f32>(), gradients)
    };
    let (expected, slopes) = run(DType::F32, DType::F32);
    for (student, teacher) in [
        (DType::F16, DType::F16),
        (DType::BF16, DType::BF16),
        (DType::F16, DType::F32),
        (DType::F32, DType::BF16),
    ] {
        let (found, gradients) = run(student, teacher);
        assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        for (gradient, slope) in gradients.into_iter().zip(&slopes) {
            assert_eq!(gradient.dtype(), student);
            let gap = gradient.cast(DType::F32) - slope.clone();
            let (gap, size) = (gap.abs().max(), slope.clone().abs().max());
            assert!(gap.into_scalar::<f32>() < 1e-2 * size.into_scalar::<f32>());
        }
    }
}
