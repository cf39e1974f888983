use super::*;
use crate::metric::calibration::ReliabilityBin;
use crate::report::comparison::{Comparison, Prediction};
use crate::report::model::ModelReport;
use crate::report::report::Parts;
use crate::train::summary::{History, TrainingSummary};

fn model(accuracy: f64) -> ModelReport {
    ModelReport {
        samples: 20,
        accuracy: Some(accuracy),
        parameters: Some(10),
        calibration_error: Some(0.1),
        reliability: vec![ReliabilityBin {
            confidence: 0.7,
            accuracy,
            samples: 20,
        }],
        ..ModelReport::default()
    }
}

fn report() -> Report {
    let history = History {
        first_epoch: 1,
        train: [("loss".to_string(), vec![2.0, 1.0])].into(),
        valid: [("loss".to_string(), vec![2.5, 1.5])].into(),
        schedules: [("learning_rate".to_string(), vec![0.1, 0.05])].into(),
    };
    let training = TrainingSummary {
        objective: "1 · soft_target".into(),
        notes: vec!["a note with \"<b>\"".into()],
        history,
        ..TrainingSummary::default()
    };
    let comparison = Comparison {
        head: "logits".into(),
        confusion: vec![vec![9, 1], vec![2, 8]],
        disagreements: vec![Disagreement {
            sample: 3,
            row: 0,
            label: Some(1),
            teacher: Prediction {
                class: 1,
                probability: 0.9,
            },
            student: Prediction {
                class: 0,
                probability: 0.6,
            },
            divergence: 1.25,
            image: Some("data:image/png;base64,AAAA".into()),
        }],
    };
    Report::new(Parts {
        teacher: Some(model(0.9)),
        distilled: model(0.8),
        comparison: Some(comparison),
        measured_on: "validation",
        training,
        ..Parts::default()
    })
}

#[test]
fn the_html_report_has_every_part_and_nothing_from_elsewhere() {
    let page = report().to_html();
    for part in [
        "<h2>Result</h2>",
        "accuracy of each model",
        "how sure each model is",
        "Of 20 predictions 17 are the same, 85 %",
        "sample 3</strong><br>teacher 1 (90 %)<br>student 0 (60 %)<br>label 1",
        "loss over epochs",
        "training: from 2 to 1. validation: from 2.5 to 1.5.",
        "learning rate over epochs",
        "1 · soft_target",
        "a note with &quot;&lt;b&gt;&quot;",
    ] {
        assert!(page.contains(part), "{part} is missing of {page}");
    }
    for elsewhere in ["http://", "https://", "<script", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn every_chart_has_a_description() {
    let page = report().to_html();
    let charts = page.matches("<svg ").count();
    assert!(charts >= 5, "{charts}");
    assert_eq!(page.matches("<svg role=\"img\"").count(), charts);
    assert_eq!(page.matches("</desc>").count(), charts);
    assert_eq!(page.matches("<summary>Numbers</summary>").count(), charts);
    assert_eq!(page.matches("<img alt=\"sample 3\"").count(), 1);
}

#[test]
fn a_report_with_little_in_it_is_valid_html() {
    let page = Report::new(Parts::default()).to_html();
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    assert!(!page.contains("Where they disagree most"));
}

#[test]
fn the_report_of_a_regression_has_no_number_of_classes() {
    let distilled = ModelReport {
        samples: 20,
        mean_squared_error: Some(0.25),
        ..ModelReport::default()
    };
    let page = Report::new(Parts {
        distilled,
        measured_on: "validation",
        ..Parts::default()
    })
    .to_html();
    let sentence = "The distilled student has a mean squared error of 0.25 on the 20 samples";
    assert!(page.contains(sentence), "{page}");
    assert!(!page.contains("accuracy") && !page.contains("agree"));
}
