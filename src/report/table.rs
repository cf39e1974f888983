//! The report as a table for people.

use std::fmt;

use indicatif::{DecimalBytes, HumanCount};

use crate::report::{ModelReport, Report};

const NAME: usize = 26;
const CELL: usize = 15;
const NOTE: usize = 20;

type Cell = fn(&ModelReport) -> Option<String>;

/// A row's name and what stands in it for each model.
const ROWS: [(&str, Cell); 11] = [
    ("accuracy", |m| m.accuracy.map(percent)),
    ("agreement with teacher", |m| m.agreement.map(percent)),
    ("KL(teacher || student)", |m| {
        m.kl_teacher_student.map(decimal)
    }),
    ("KL(student || teacher)", |m| {
        m.kl_student_teacher.map(decimal)
    }),
    ("cross-entropy", |m| m.cross_entropy.map(decimal)),
    ("calibration error", |m| m.calibration_error.map(percent)),
    ("mean squared error", |m| m.mean_squared_error.map(decimal)),
    ("parameters", |m| {
        m.is_here()
            .then(|| HumanCount(m.parameters as u64).to_string())
    }),
    ("file size", |m| {
        m.is_here()
            .then(|| DecimalBytes(m.bytes as u64).to_string())
    }),
    ("latency of one sample", |m| {
        m.is_here().then(|| format!("{:.3} ms", m.latency_ms))
    }),
    ("samples per second", |m| {
        m.is_here()
            .then(|| HumanCount(m.samples_per_second as u64).to_string())
    }),
];

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn decimal(value: f64) -> String {
    format!("{value:.4}")
}

/// The models that there are, each with its name.
pub(crate) fn columns(report: &Report) -> Vec<(&'static str, &ModelReport)> {
    let mut columns = Vec::new();
    columns.extend(report.teacher.as_ref().map(|m| ("teacher", m)));
    columns.extend(report.labels_alone.as_ref().map(|m| ("labels alone", m)));
    columns.push(("distilled", &report.distilled));
    columns
}

/// The rows that say something of one of the models.
pub(crate) fn rows(columns: &[(&str, &ModelReport)]) -> Vec<(&'static str, Vec<Option<String>>)> {
    let row = |(name, cell): (&'static str, Cell)| {
        let cells: Vec<_> = columns.iter().map(|(_, model)| cell(model)).collect();
        cells.iter().any(Option::is_some).then_some((name, cells))
    };
    ROWS.into_iter().filter_map(row).collect()
}

/// What stands below the table.
pub(crate) fn footnotes(report: &Report) -> Vec<(&'static str, String)> {
    let mut notes = Vec::new();
    if let Some(gap) = report.gap_recovered {
        notes.push(("gap recovered", percent(gap)));
    }
    if let Some(ratio) = report.compression {
        notes.push(("compression", format!("{ratio:.1} times fewer parameters")));
    }
    if let Some(ratio) = report.speed_up {
        notes.push(("speed-up", format!("{ratio:.1} times lower latency")));
    }
    if let Some(d) = report.parameter_distance.filter(|d| d.compared > 0) {
        let over = format!("{:.4} over {} of {} tensors", d.distance, d.compared, d.of);
        notes.push(("parameter distance", over));
    }
    let samples = HumanCount(report.distilled.samples as u64);
    let set = format!("{samples} samples of the {} set", report.measured_on);
    notes.push(("measured on", set));
    if let Some(device) = &report.teacher_device {
        notes.push(("teacher on", device.clone()));
    }
    let training = &report.training;
    let samples = HumanCount(training.samples as u64);
    notes.push((
        "trained",
        format!(
            "{} of {} epochs on {samples} samples in {:.1} s",
            training.last_epoch, training.epochs, training.seconds
        ),
    ));
    if let Some(reason) = &training.interrupted {
        notes.push(("interrupted", reason.clone()));
    }
    notes
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = columns(self);
        write!(f, "{:NAME$}", "")?;
        for (name, _) in &columns {
            write!(f, "{name:>CELL$}")?;
        }
        writeln!(f)?;
        writeln!(f, "{}", "-".repeat(NAME + CELL * columns.len()))?;
        for (name, cells) in rows(&columns) {
            write!(f, "{name:NAME$}")?;
            for cell in cells {
                write!(f, "{:>CELL$}", cell.as_deref().unwrap_or("-"))?;
            }
            writeln!(f)?;
        }
        for (name, note) in footnotes(self) {
            write!(f, "\n{name:NOTE$}{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::distance::ParameterDistance;
    use crate::report::TrainingSummary;

    #[test]
    fn the_table_shows_what_there_is() {
        let model = |accuracy, parameters, latency_ms| ModelReport {
            samples: 2000,
            accuracy: Some(accuracy),
            parameters,
            bytes: parameters * 4,
            latency_ms,
            samples_per_second: 12_345.6,
            ..ModelReport::default()
        };
        let mut distilled = model(0.93, 79_510, 0.05);
        distilled.agreement = Some(0.945);
        let training = TrainingSummary {
            epochs: 100,
            last_epoch: 100,
            samples: 1000,
            seconds: 1.5,
            ..TrainingSummary::default()
        };
        let distance = ParameterDistance {
            distance: 2.0,
            compared: 1,
            of: 4,
        };
        let teacher = Some(model(0.97, 2_395_210, 0.8));
        let report = Report::new(teacher, distilled, Some(distance), "validation", training)
            .with_labels_alone(model(0.89, 79_510, 0.05));
        let expected = "\
teacher   labels alone      distilled
-----------------------------------------------------------------------
accuracy                          97.00 %        89.00 %        93.00 %
agreement with teacher                  -              -        94.50 %
parameters                      2,395,210         79,510         79,510
file size                         9.58 MB      318.04 kB      318.04 kB
latency of one sample            0.800 ms       0.050 ms       0.050 ms
samples per second                 12,345         12,345         12,345

gap recovered       50.00 %
compression         30.1 times fewer parameters
speed-up            16.0 times lower latency
parameter distance  2.0000 over 1 of 4 tensors
measured on         2,000 samples of the validation set
trained             100 of 100 epochs on 1,000 samples in 1.5 s";
        assert_eq!(report.to_string().trim_start(), expected);

        let elsewhere = Report {
            teacher_device: Some("Device<Flex>".into()),
            ..report
        };
        let expected = "validation set\nteacher on          Device<Flex>\ntrained";
        let table = elsewhere.to_string();
        assert!(table.contains(expected), "{table}");
    }

    #[test]
    fn a_teacher_who_is_not_there_has_no_size_and_no_speed() {
        let model = |parameters| ModelReport {
            accuracy: Some(0.9),
            parameters,
            bytes: 4 * parameters,
            latency_ms: 0.5,
            samples_per_second: 2000.0,
            ..ModelReport::default()
        };
        let training = TrainingSummary::default();
        let report = Report::new(Some(model(0)), model(10), None, "validation", training);
        assert_eq!((report.compression, report.speed_up), (None, None));
        let table = report.to_string();
        for row in [
            "parameters",
            "file size",
            "latency of one sample",
            "samples per second",
        ] {
            let line = table.lines().find(|line| line.starts_with(row)).unwrap();
            let cells: Vec<&str> = line[row.len()..].split_whitespace().collect();
            assert_eq!(cells[0], "-", "{line}");
            assert_ne!(cells[1], "-", "{line}");
        }
    }

    #[test]
    fn a_report_survives_json() {
        let distilled = ModelReport {
            accuracy: Some(0.5),
            ..ModelReport::default()
        };
        let report = Report::new(
            None,
            distilled,
            None,
            "training",
            TrainingSummary::default(),
        );
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
