use serde_json::{Value, json};

use crate::report::report::Report;

/// A report with a course of made-up numbers.
fn report(changes: Value) -> Report {
    let mut report = json!({
        "measured_on": "validation",
        "distilled": { "samples": 1000 },
        "training": {
            "objective": "", "epochs": 6, "last_epoch": 6, "samples": 0, "batch_size": 0,
            "learning_rate": 0.1, "seed": 0, "device": "", "seconds": 0.0, "version": "",
            "history": { "first_epoch": 1, "train": {}, "valid": {} },
        },
    });
    merge(&mut report, changes);
    serde_json::from_value(report).unwrap()
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

fn training(changes: Value) -> Vec<String> {
    report(json!({ "training": changes })).advice()
}

fn train(curves: Value, schedules: Value) -> Value {
    json!({ "history": { "train": curves, "schedules": schedules } })
}

#[test]
fn a_loss_that_still_falls_steeply_advises_to_train_longer() {
    let losses = |losses: Value| train(json!({ "loss": losses }), json!({}));
    let steep = json!([1.0, 0.8, 0.6, 0.5, 0.4, 0.36]);
    let expected = "the training loss still fell by 10 % in the last epoch, from 0.4000 to 0.3600: train longer";
    assert_eq!(training(losses(steep.clone())), [expected]);
    let table = report(json!({ "training": losses(steep.clone()) }));
    for shown in [table.to_string(), table.to_html()] {
        assert!(shown.contains(expected), "{shown}");
    }

    let flat = json!([1.0, 0.8, 0.6, 0.5, 0.4, 0.39]);
    assert!(training(losses(flat)).is_empty(), "2.5 % is not steep");
    assert!(training(losses(json!([1.0]))).is_empty());
    let negative = json!([1.0, 0.8, 0.6, 0.5, 0.0, -0.5]);
    assert!(training(losses(negative)).is_empty(), "no fraction of it");
    let and = |mut course: Value, changes: Value| {
        merge(&mut course, changes);
        training(course)
    };
    let few = losses(json!([1.0, 0.5]));
    assert!(and(few, json!({ "epochs": 2, "last_epoch": 2 })).is_empty());
    let stopped = losses(steep.clone());
    assert!(
        and(stopped, json!({ "last_epoch": 5 })).is_empty(),
        "early stopping"
    );
    // A weight that falls takes the loss along; a learning rate does not.
    let falling = |name: &str| {
        train(
            json!({ "loss": steep }),
            json!({ name: [6, 5, 4, 3, 2, 1] }),
        )
    };
    assert!(training(falling("soft_target weight")).is_empty());
    assert_eq!(training(falling("learning_rate")), [expected]);
}

#[test]
fn a_validation_loss_that_rises_says_since_when() {
    let valid =
        |losses: Value| json!({ "history": { "first_epoch": 3, "valid": { "loss": losses } } });
    let expected = "the validation loss has been rising since epoch 4, from 0.5000 to 0.8000: ";
    let rising = valid(json!([0.9, 0.5, 0.6, 0.7, 0.8]));
    let advice = training(rising.clone());
    assert_eq!(advice.len(), 1);
    let with_best = "`FitConfig::with_best` hands back the student of the best epoch; ";
    assert!(
        advice[0].starts_with(&format!("{expected}{with_best}")),
        "{}",
        advice[0]
    );
    let mut best = rising;
    merge(&mut best, json!({ "best_epoch": 4 }));
    let expected = format!("{expected}the student is that of epoch 4; ");
    assert!(training(best)[0].starts_with(&expected));

    for calm in [
        json!([0.9, 0.5, 0.6, 0.7]),
        json!([0.9, 0.5, 0.502, 0.503, 0.504]),
        json!([0.9, 0.8, 0.7, 0.6, 0.5]),
        json!([]),
    ] {
        assert!(training(valid(calm.clone())).is_empty(), "{calm}");
    }
}

#[test]
fn a_term_that_counts_for_nothing_is_named() {
    let terms = |hint: Value, weight: Value| {
        let curves = json!({ "soft_target": [2.0, 1.0], "hint": hint });
        let schedules = json!({ "soft_target weight": [0.5, 0.5], "hint weight": weight });
        training(train(curves, schedules))
    };
    let expected = "term \"hint\" with its weight was less than a thousandth of the loss in every epoch, \
                    2.0e-4 beside 5.0e-1 of \"soft_target\" in the last: give it a larger weight, or leave it out";
    assert_eq!(terms(json!([0.02, 0.02]), json!([0.01, 0.01])), [expected]);
    // One that was learned, and one that is warmed up.
    assert!(terms(json!([0.2, 0.02]), json!([0.01, 0.01])).is_empty());
    assert!(terms(json!([0.02, 0.02]), json!([0.0, 1.0])).is_empty());
    let alone = train(json!({ "hint": [0.0] }), json!({ "hint weight": [1.0] }));
    assert!(training(alone).is_empty());
}

#[test]
fn a_student_below_its_baseline_says_why_that_may_be() {
    let accuracy = |value: f64| json!({ "samples": 1000, "accuracy": value });
    let models = |[teacher, baseline, distilled]: [f64; 3]| {
        json!({
            "teacher": accuracy(teacher),
            "baseline": accuracy(baseline),
            "distilled": accuracy(distilled),
        })
    };
    let below =
        "the student is below the baseline, right in 80.00 % against 90.00 % of 1000 rows: ";
    let advice = report(models([0.95, 0.9, 0.8])).advice();
    let expected = "tune the learning rate for this objective, or add the labels as a term";
    assert_eq!(advice, [format!("{below}{expected}")]);
    let advice = report(models([0.85, 0.9, 0.8])).advice();
    let expected = "the teacher is no better than the baseline, there is nothing to learn from it";
    assert_eq!(advice, [format!("{below}{expected}")]);
    let mut short = models([0.95, 0.9, 0.8]);
    let losses = json!({ "loss": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5] });
    merge(&mut short, json!({ "training": train(losses, json!({})) }));
    let expected = format!("{below}soft targets need more steps than labels");
    assert_eq!(report(short).advice()[1], expected);

    // Two standard errors of the difference are 2.7 points here.
    assert!(report(models([0.95, 0.9, 0.88])).advice().is_empty());
    assert!(report(models([0.95, 0.9, 0.92])).advice().is_empty());
    let error = |value: f64| json!({ "samples": 10, "mean_squared_error": value });
    let worse = json!({ "baseline": error(1.0), "distilled": error(1.5) });
    let expected = "the student is below the baseline, with a squared error of 1.5000 against 1.0000: \
                    tune the learning rate for this objective, or add the labels as a term";
    assert_eq!(report(worse).advice(), [expected]);
}
