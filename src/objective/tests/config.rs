use super::*;
use crate::loss::custom::loss_fn;
use crate::loss::features::hint::Hint;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::logit_mse::LogitMse;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::reduction::Reduction;

#[test]
fn toml_and_json_say_the_same() {
    let objective = Objective::new()
        .with(SoftTarget::new(Schedule::cosine(8.0, 2.0)), 0.9)
        .with(
            LogitMse::new().with_reduction(Reduction::Sum),
            Schedule::from(1.0).warm_up(0.1),
        )
        .with(Hint::new("a", "b"), 2.0)
        .with(HardLabel::new().with_smoothing(0.1), 0.1)
        .with(SoftTarget::new(2).on("side").named("kd"), 1)
        .with(SoftTarget::new(2).standardized(), 1)
        .with_class_policy(ClassPolicy::Truncate);
    let toml = toml::to_string(&objective).unwrap();
    let json = serde_json::to_string(&objective).unwrap();
    for read in [
        Objective::from_toml(&toml).unwrap(),
        Objective::from_json(&json).unwrap(),
    ] {
        read.validate().unwrap();
        assert_eq!(read.to_string(), objective.to_string());
        assert_eq!(read.terms()[4].head(), Some("side"));
        assert_eq!(
            read.terms()[5].standardize(),
            objective.terms()[5].standardize()
        );
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
        for (read, term) in read.terms().iter().zip(objective.terms()) {
            assert_eq!(KnownLoss::of(read.loss()), KnownLoss::of(term.loss()));
        }
    }
}

#[test]
fn a_loss_from_code_has_no_place_in_a_file() {
    let loss = loss_fn("mine", |context| {
        context.mean(context.logits().sum_dim(1).squeeze_dim(1))
    });
    let error = toml::to_string(&Objective::new().with(loss, 1)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("term \"mine\" is a loss from code, which a config file cannot hold"),
        "{text}"
    );
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
    let objective = Objective::from_file(path("a.toml")).unwrap();
    assert_eq!(objective.to_string(), "1 · kd");
    write("b.json", r#"{"terms": [{"loss": {"hard_label": {}}}]}"#);
    assert!(Objective::from_file(path("b.json")).is_ok());

    write("c.yaml", "terms: []");
    let error = |name: &str| Objective::from_file(path(name)).unwrap_err().to_string();
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
        let config = Objective::from_json(json);
        let checked = config.and_then(|objective| objective.validate());
        checked.unwrap_err().to_string()
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
fn the_message_of_a_long_line_is_short() {
    let name = "x".repeat(1_000_000);
    for text in [
        format!("{{\"terms\": [{{\"loss\": \"{name}\"}}]}}"),
        format!("[[terms]]\nloss = \"{name}\""),
        format!("terms = [{name}"),
    ] {
        for error in [Objective::from_json(&text), Objective::from_toml(&text)] {
            let length = error.unwrap_err().to_string().len();
            assert!((20..10_000).contains(&length), "{length}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_device_is_no_config_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endless.toml");
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(
        Objective::from_file(&path).unwrap_err().to_string(),
        format!("{}: not a regular file", path.display())
    );
}
