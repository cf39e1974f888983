use super::*;
use crate::metric::calibration::ReliabilityBin;
use crate::report::comparison::{Answer, Comparison};
use crate::report::{ModelReport, TrainingSummary};
use crate::train::history::History;

fn model(accuracy: f64) -> ModelReport {
    ModelReport {
        samples: 20,
        accuracy: Some(accuracy),
        parameters: 10,
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
        command: "train --name \"<b>\"".into(),
        history,
        ..TrainingSummary::default()
    };
    let mut report = Report::new(Some(model(0.9)), model(0.8), None, "validation", training);
    report.comparison = Some(Comparison {
        confusion: vec![vec![9, 1], vec![2, 8]],
        disagreements: vec![Disagreement {
            sample: 3,
            row: 0,
            label: Some(1),
            teacher: Answer {
                class: 1,
                probability: 0.9,
            },
            student: Answer {
                class: 0,
                probability: 0.6,
            },
            divergence: 1.25,
            picture: Some("data:image/png;base64,AAAA".into()),
        }],
    });
    report
}

#[test]
fn the_page_has_every_part_and_nothing_from_elsewhere() {
    let page = report().to_html();
    for part in [
        "<h2>Result</h2>",
        "accuracy of each model",
        "how sure each model is",
        "Of 20 answers 17 are the same, 85 %",
        "sample 3</strong><br>teacher 1 (90 %)<br>student 0 (60 %)<br>label 1",
        "loss over epochs",
        "training: from 2 to 1. validation: from 2.5 to 1.5.",
        "learning rate over epochs",
        "1 · soft_target",
        "train --name &quot;&lt;b&gt;&quot;",
    ] {
        assert!(page.contains(part), "{part} is missing of {page}");
    }
    for elsewhere in ["http://", "https://", "<script", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn every_picture_says_what_it_shows() {
    let page = report().to_html();
    let pictures = page.matches("<svg ").count();
    assert!(pictures >= 5, "{pictures}");
    assert_eq!(page.matches("<svg role=\"img\"").count(), pictures);
    assert_eq!(page.matches("</desc>").count(), pictures);
    assert_eq!(page.matches("<summary>Numbers</summary>").count(), pictures);
    assert_eq!(page.matches("<img alt=\"sample 3\"").count(), 1);
}

#[test]
fn a_report_with_little_in_it_is_a_page_still() {
    let training = TrainingSummary::default();
    let report = Report::new(None, ModelReport::default(), None, "training", training);
    let page = report.to_html();
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    assert!(!page.contains("Where they disagree most"));
}
