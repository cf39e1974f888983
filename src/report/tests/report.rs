use super::*;
use crate::data::head::HeadKind;
use crate::report::model::HeadReport;

/// A report as the first version wrote it.
const OLD: &str = include_str!("report.json");

fn of(change: impl Fn(&mut ModelReport)) -> ModelReport {
    let mut model = ModelReport::default();
    change(&mut model);
    model
}

fn gap(models: [ModelReport; 3]) -> Option<f64> {
    let [teacher, baseline, distilled] = models;
    Report::new(Parts {
        teacher: Some(teacher),
        baseline: Some(baseline),
        distilled,
        ..Parts::default()
    })
    .gap_recovered
}

#[test]
fn a_report_survives_json() {
    let head = HeadReport {
        accuracy: Some(0.5),
        ..HeadReport::new(HeadKind::Categorical)
    };
    let distilled = ModelReport {
        main_head: Some("logits".into()),
        heads: [("logits".into(), head.clone())].into(),
        parameters: Some(3),
        ..ModelReport::of_head(head)
    };
    let report = Report::new(Parts {
        distilled,
        unmeasured: vec!["a number: a reason".into()],
        measured_on: "training",
        ..Parts::default()
    });
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn a_number_that_is_none_survives_json_as_none() {
    let mut report: Report = serde_json::from_str(OLD).unwrap();
    report.training.seconds = f64::NAN;
    report.training.learning_rate = f64::INFINITY;
    let curve = vec![1.0, f64::NAN];
    report.training.history.train.insert("loss".into(), curve);
    let disagreement = &mut report.comparison.as_mut().unwrap().disagreements[0];
    disagreement.divergence = f64::NAN;
    disagreement.student.probability = f64::NAN;
    let json = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert!(read.training.history.train["loss"][1].is_nan());
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
}

#[test]
fn a_report_is_saved_whole_and_where_a_link_leads() {
    let report: Report = serde_json::from_str(OLD).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
    #[cfg(unix)]
    let path = {
        let link = directory.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        link
    };
    report.save_json(&path).unwrap();
    let read: Report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(read, report);
    let real = directory.path().join("report.json");
    assert!(std::fs::read_to_string(real).unwrap().starts_with('{'));
    #[cfg(unix)]
    report.save_json("/dev/null").unwrap();
    let nowhere = directory.path().join("nowhere/report.json");
    assert!(report.save_json(nowhere).is_err());
}

#[test]
fn an_old_report_still_loads() {
    let report: Report = serde_json::from_str(OLD).unwrap();
    let teacher = report.teacher.as_ref().unwrap();
    // A recording has no size; it was written as 0.
    assert_eq!((teacher.parameters, teacher.latency_ms), (None, None));
    assert_eq!(report.baseline.as_ref().unwrap().accuracy, Some(0.89));
    assert_eq!(report.distilled.parameters, Some(79510));
    assert!(report.distilled.heads.is_empty() && report.unmeasured.is_empty());
    let comparison = report.comparison.as_ref().unwrap();
    let image = comparison.disagreements[0].image.as_deref();
    assert_eq!(image, Some("data:image/bmp;base64,AAAA"));
    let table = report.to_string();
    let line = |start: &str| table.lines().find(|it| it.starts_with(start)).unwrap();
    let cells: Vec<&str> = line("accuracy").split_whitespace().collect();
    assert_eq!(
        cells,
        ["accuracy", "97.00", "%", "89.00", "%", "93.00", "%"]
    );
}

#[test]
fn the_gap_is_that_of_the_first_head_s_number() {
    let accuracies = [0.75, 0.25, 0.5].map(|value| of(|model| model.accuracy = Some(value)));
    assert_eq!(gap(accuracies), Some(0.5));
    // Of an error, lower is better.
    let errors = [1.0, 3.0, 1.5].map(|value| of(|model| model.mean_squared_error = Some(value)));
    assert_eq!(gap(errors), Some(0.75));
    let nothing = [(); 3].map(|()| ModelReport::default());
    assert_eq!(gap(nothing), None);
}
