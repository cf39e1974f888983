//! The report as a table for people.

use std::fmt;

use indicatif::{DecimalBytes, HumanCount};

use crate::report::model::{HeadReport, ModelReport};
use crate::report::report::Report;

const NAME: usize = 26;
const CELL: usize = 15;
const NOTE: usize = 20;

/// A row's name and its cell, for one head of a model and its number of samples.
type HeadRow = (&'static str, fn(&HeadReport, usize) -> Option<String>);

const HEAD_ROWS: [HeadRow; 10] = [
    ("accuracy", |h, _| h.accuracy.map(percent)),
    ("exact match", |h, _| h.exact_match.map(percent)),
    ("agreement with teacher", |h, _| h.agreement.map(percent)),
    ("KL(teacher || student)", |h, _| {
        h.kl_teacher_student.map(decimal)
    }),
    ("KL(student || teacher)", |h, _| {
        h.kl_student_teacher.map(decimal)
    }),
    ("cross-entropy", |h, _| h.cross_entropy.map(decimal)),
    // Of tokens, not of images.
    ("perplexity", |h, samples| {
        h.perplexity.filter(|_| h.rows > samples).map(decimal)
    }),
    ("calibration error", |h, _| h.calibration_error.map(percent)),
    ("mean squared error", |h, _| {
        h.mean_squared_error.map(decimal)
    }),
    ("error against teacher", |h, _| {
        h.error_to_teacher.map(decimal)
    }),
];

/// A row's name and its cell, for one model.
type ModelRow = (&'static str, fn(&ModelReport) -> Option<String>);

const MODEL_ROWS: [ModelRow; 4] = [
    ("parameters", |m| m.parameters.map(count)),
    ("file size", |m| {
        m.bytes.map(|bytes| DecimalBytes(bytes as u64).to_string())
    }),
    ("latency of one sample", |m| {
        m.latency_ms.map(|ms| format!("{ms:.3} ms"))
    }),
    ("samples per second", |m| {
        m.samples_per_second.map(|speed| count(speed as usize))
    }),
];

fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

fn decimal(value: f64) -> String {
    format!("{value:.4}")
}

fn count(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

/// All models of a report, each with its name.
pub(crate) fn columns(report: &Report) -> Vec<(&'static str, &ModelReport)> {
    let mut columns = Vec::new();
    columns.extend(report.teacher.as_ref().map(|m| ("teacher", m)));
    columns.extend(report.baseline.as_ref().map(|m| ("labels only", m)));
    columns.push(("distilled", &report.distilled));
    columns
}

/// A row of the table: its name, and a cell for each model.
pub(crate) type Row = (String, Vec<Option<String>>);

/// The rows with a number for one of the models: those of the first head, those of the other heads by name,
/// then size and speed.
pub(crate) fn rows(columns: &[(&str, &ModelReport)]) -> Vec<Row> {
    let models = || columns.iter().map(|(_, model)| *model);
    let mut others: Vec<&String> = models()
        .flat_map(|model| model.other_heads().map(|(name, _)| name))
        .collect();
    others.sort();
    others.dedup();
    let of_heads = |prefix: String, head: &dyn Fn(&ModelReport) -> Option<HeadReport>| {
        let heads: Vec<_> = models().map(|model| (head(model), model.samples)).collect();
        let row = |(name, cell): HeadRow| {
            let cells = heads
                .iter()
                .map(|(head, samples)| cell(head.as_ref()?, *samples));
            (format!("{prefix}{name}"), cells.collect())
        };
        HEAD_ROWS.map(row)
    };
    let mut rows: Vec<Row> = of_heads(String::new(), &|model| Some(model.main())).to_vec();
    for name in others {
        let head = |model: &ModelReport| model.heads.get(name).cloned();
        rows.extend(of_heads(format!("{name} "), &head));
    }
    rows.extend(MODEL_ROWS.map(|(name, cell)| (name.to_string(), models().map(cell).collect())));
    rows.retain(|(_, cells)| cells.iter().any(Option::is_some));
    rows
}

/// The lines below the table.
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
    for what in &report.unmeasured {
        notes.push(("not measured", what.clone()));
    }
    if let Some(reason) = &training.interrupted {
        notes.push(("interrupted", reason.clone()));
    }
    for note in &training.notes {
        notes.push(("note", note.clone()));
    }
    notes
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = columns(self);
        let rows = rows(&columns);
        let longest = rows.iter().map(|(name, _)| name.chars().count() + 1).max();
        let wide = longest.unwrap_or(0).max(NAME);
        write!(f, "{:wide$}", "")?;
        for (name, _) in &columns {
            write!(f, "{name:>CELL$}")?;
        }
        writeln!(f)?;
        writeln!(f, "{}", "-".repeat(wide + CELL * columns.len()))?;
        for (name, cells) in rows {
            write!(f, "{name:wide$}")?;
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
    use crate::data::head::HeadKind;
    use crate::metric::distance::ParameterDistance;
    use crate::report::report::Parts;
    use crate::train::summary::TrainingSummary;

    fn parts(distilled: ModelReport) -> Parts {
        Parts {
            distilled,
            measured_on: "validation",
            ..Parts::default()
        }
    }

    #[test]
    fn the_table_shows_what_there_is() {
        let model = |accuracy, parameters, latency_ms| ModelReport {
            samples: 2000,
            accuracy: Some(accuracy),
            parameters: Some(parameters),
            bytes: Some(parameters * 4),
            latency_ms: Some(latency_ms),
            samples_per_second: Some(12_345.6),
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
        let report = Report::new(Parts {
            teacher: Some(model(0.97, 2_395_210, 0.8)),
            baseline: Some(model(0.89, 79_510, 0.05)),
            parameter_distance: Some(distance),
            training,
            ..parts(distilled)
        });
        let expected = "\
teacher    labels only      distilled
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
            unmeasured: vec!["speed of the teacher: gone".into()],
            ..report
        };
        let table = elsewhere.to_string();
        for expected in [
            "validation set\nteacher on          Device<Flex>\ntrained",
            "\nnot measured        speed of the teacher: gone",
        ] {
            assert!(table.contains(expected), "{table}");
        }
    }

    #[test]
    fn a_teacher_that_is_not_a_model_has_neither_size_nor_speed() {
        let teacher = ModelReport {
            accuracy: Some(0.9),
            ..ModelReport::default()
        };
        let model = ModelReport {
            parameters: Some(10),
            bytes: Some(40),
            latency_ms: Some(0.5),
            samples_per_second: Some(2000.0),
            ..teacher.clone()
        };
        let report = Report::new(Parts {
            teacher: Some(teacher),
            ..parts(model)
        });
        assert_eq!((report.compression, report.speed_up), (None, None));
        let table = report.to_string();
        for (row, _) in MODEL_ROWS {
            let line = table.lines().find(|line| line.starts_with(row)).unwrap();
            let cells: Vec<&str> = line[row.len()..].split_whitespace().collect();
            assert_eq!(cells[0], "-", "{line}");
            assert_ne!(cells[1], "-", "{line}");
        }
    }

    #[test]
    fn heads_after_the_first_have_their_name_and_tokens_a_perplexity() {
        let tokens = HeadReport {
            rows: 12,
            perplexity: Some(8.5),
            ..HeadReport::new(HeadKind::Categorical)
        };
        let position = HeadReport {
            rows: 4,
            mean_squared_error: Some(0.25),
            ..HeadReport::new(HeadKind::Continuous)
        };
        let mut model = ModelReport {
            samples: 4,
            main_head: Some("logits".into()),
            heads: [
                ("a_long_name_of_a_head".into(), position),
                ("logits".into(), tokens),
            ]
            .into(),
            ..ModelReport::default()
        };
        let table = Report::new(parts(model.clone())).to_string();
        let line = |start: &str| table.lines().find(|line| line.starts_with(start));
        assert!(line("perplexity ").unwrap().ends_with(" 8.5000"), "{table}");
        let of_other = line("a_long_name_of_a_head mean squared error ").unwrap();
        assert!(of_other.ends_with(" 0.2500"), "{table}");

        model.samples = 12;
        let table = Report::new(parts(model)).to_string();
        assert!(!table.contains("perplexity"), "{table}");
    }
}
