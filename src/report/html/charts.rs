//! The charts of an HTML report, each with its caption, description and numbers.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::metric::calibration::ReliabilityBin;
use crate::report::html::plane::{Axis, Plane, Unit, svg};
use crate::report::html::text::{escape, number, numbers};
use crate::report::model::ModelReport;
use crate::report::report::Report;
use crate::train::summary::History;

/// Up to so many classes a confusion matrix has its numbers written in.
const WRITTEN: usize = 20;

fn figure(caption: &str, keys: &str, class: &str, chart: &str, numbers: &str) -> String {
    format!(
        "<figure class=\"{class}\"><figcaption>{} {keys}</figcaption>{chart}{numbers}</figure>",
        escape(caption)
    )
}

fn key(class: &str, name: &str) -> String {
    format!("<span class=\"key {class}\">{}</span>", escape(name))
}

/// Every curve that was recorded: losses, fractions, and what followed a schedule.
pub fn curves(history: &History) -> String {
    let unit = |name: &str| match name {
        "accuracy" | "agreement" => Unit::Percent,
        _ => Unit::Plain,
    };
    let names: std::collections::BTreeSet<&String> =
        history.train.keys().chain(history.valid.keys()).collect();
    // The total before its terms, fractions last.
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|name| (unit(name) == Unit::Percent, *name != "loss"));
    let mut html = String::new();
    for name in names {
        let of =
            |curves: &BTreeMap<String, Vec<f64>>| curves.get(name).cloned().unwrap_or_default();
        let lines = [
            ("train", "training", of(&history.train)),
            ("valid", "validation", of(&history.valid)),
        ];
        html += &curve(&title(name), unit(name), history.first_epoch, &lines);
    }
    for (name, values) in &history.schedules {
        let lines = [("valid", "", values.clone())];
        html += &curve(&title(name), Unit::Plain, history.first_epoch, &lines);
    }
    html
}

/// A name as a heading: `hard_label` is "hard label".
fn title(name: &str) -> String {
    name.replace('_', " ")
}

fn curve(name: &str, unit: Unit, first: usize, lines: &[(&str, &str, Vec<f64>)]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .filter(|(.., values)| !values.is_empty())
        .collect();
    let all = lines.iter().flat_map(|(.., values)| values.iter().copied());
    let longest = lines
        .iter()
        .map(|(.., values)| values.len())
        .max()
        .unwrap_or(0);
    let epochs = (first..first + longest).map(|epoch| epoch as f64);
    let mut plane = Plane::new(
        Axis::around("epoch", Unit::Whole, epochs),
        Axis::around(name, unit, all),
    );
    let (mut keys, mut words) = (String::new(), String::new());
    for (class, set, values) in &lines {
        let points = values
            .iter()
            .enumerate()
            .map(|(i, v)| ((first + i) as f64, *v));
        plane.path(class, &points.collect::<Vec<_>>());
        if !set.is_empty() {
            keys += &key(class, set);
        }
        if let (Some(start), Some(end)) = (values.first(), values.last()) {
            let (start, end) = (unit.show(*start), unit.show(*end));
            let set = if set.is_empty() { name } else { set };
            write!(words, "{set}: from {start} to {end}. ").expect("text can always be longer");
        }
    }
    let mut columns = vec!["epoch"];
    columns.extend(
        lines
            .iter()
            .map(|(_, set, _)| if set.is_empty() { name } else { set }),
    );
    let rows: Vec<Vec<String>> = (0..longest)
        .map(|i| {
            let value = |values: &Vec<f64>| values.get(i).map_or("-".into(), |v| unit.show(*v));
            let cells = lines.iter().map(|(.., values)| value(values));
            std::iter::once((first + i).to_string())
                .chain(cells)
                .collect()
        })
        .collect();
    let chart = plane.finish(&format!("{name} over epochs"), words.trim_end());
    figure(name, &keys, "", &chart, &numbers(&columns, &rows))
}

/// The models beside each other, by the first number that all of them have.
pub fn bars(models: &[(&str, &str, &ModelReport)]) -> Option<String> {
    type Number = fn(&ModelReport) -> Option<f64>;
    let candidates: [(&str, Unit, Number); 3] = [
        ("accuracy", Unit::Percent, |m| m.accuracy),
        ("mean squared error", Unit::Plain, |m| m.mean_squared_error),
        ("cross-entropy", Unit::Plain, |m| m.cross_entropy),
    ];
    let (name, unit, values) = candidates.into_iter().find_map(|(name, unit, of)| {
        let values: Option<Vec<f64>> = models.iter().map(|(.., model)| of(model)).collect();
        Some((name, unit, values?))
    })?;
    let highest = values.iter().copied().fold(0.0, f64::max);
    let to = match unit {
        Unit::Percent => 1.0,
        _ => highest * 1.1 + f64::from(highest == 0.0),
    };
    let bars: Vec<(&str, &str, f64)> = models
        .iter()
        .zip(&values)
        .map(|((class, name, _), value)| (*class, *name, *value))
        .collect();
    // Bars start at zero, or their lengths would not be in proportion to the numbers.
    let hidden = Axis {
        name: "",
        unit: Unit::Plain,
        from: 2.0,
        to: 2.0,
    };
    let mut plane = Plane::new(
        hidden,
        Axis {
            name,
            unit,
            from: 0.0,
            to,
        },
    );
    plane.bars(&bars);
    let shown: Vec<Vec<String>> = bars
        .iter()
        .map(|(_, name, value)| vec![name.to_string(), unit.show(*value)])
        .collect();
    let words: Vec<String> = shown.iter().map(|row| row.join(" ")).collect();
    let chart = plane.finish(&format!("{name} of each model"), &words.join(", "));
    Some(figure(
        name,
        "",
        "",
        &chart,
        &numbers(&["model", name], &shown),
    ))
}

/// Confidence against accuracy, a line per model.
pub fn reliability(models: &[(&str, &str, &ModelReport)]) -> Option<String> {
    let models: Vec<_> = models
        .iter()
        .filter(|(.., m)| !m.reliability.is_empty())
        .collect();
    if models.is_empty() {
        return None;
    }
    let fraction = |name| Axis {
        name,
        unit: Unit::Percent,
        from: 0.0,
        to: 1.0,
    };
    let mut plane = Plane::new(fraction("confidence"), fraction("accuracy"));
    plane.diagonal();
    let (mut keys, mut rows, mut words) = (String::new(), Vec::new(), Vec::new());
    for (class, name, model) in models {
        let point = |bin: &ReliabilityBin| (bin.confidence, bin.accuracy);
        plane.path(
            class,
            &model.reliability.iter().map(point).collect::<Vec<_>>(),
        );
        keys += &key(class, name);
        let error = model.calibration_error.unwrap_or(f64::NAN);
        words.push(format!(
            "{name}: calibration error {}",
            Unit::Percent.show(error)
        ));
        rows.extend(model.reliability.iter().map(|bin| {
            vec![
                name.to_string(),
                Unit::Percent.show(bin.confidence),
                Unit::Percent.show(bin.accuracy),
                bin.samples.to_string(),
            ]
        }));
    }
    let numbers = numbers(&["model", "confidence", "accuracy", "samples"], &rows);
    let chart = plane.finish(
        "how sure each model is, and how often it is right",
        &words.join(", "),
    );
    let caption = "reliability";
    Some(figure(caption, &keys, "", &chart, &numbers))
}

/// The teacher's predictions down, the student's across.
pub fn confusion(report: &Report) -> Option<String> {
    let counts = &report.comparison.as_ref()?.confusion;
    if counts.is_empty() {
        return None;
    }
    let classes = counts.len();
    let (side, margin) = (360.0, 40.0);
    let cell = side / classes as f64;
    let mut inside = String::new();
    for (teacher, row) in counts.iter().enumerate() {
        let of_class = row.iter().sum::<u64>().max(1) as f64;
        for (student, count) in row.iter().enumerate() {
            let (x, y) = (
                margin + student as f64 * cell,
                margin + teacher as f64 * cell,
            );
            // Few predictions of many would be too pale to see.
            let fraction = (*count as f64 / of_class).sqrt();
            write!(
                inside,
                "<rect class=\"mark cell\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell:.1}\" height=\"{cell:.1}\" \
                 opacity=\"{:.3}\"/>",
                fraction * 0.75
            )
            .expect("text can always be longer");
            if classes <= WRITTEN && *count > 0 {
                write!(
                    inside,
                    "<text text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{count}</text>",
                    x + cell / 2.0,
                    y + cell / 2.0 + 4.0
                )
                .expect("text can always be longer");
            }
        }
    }
    let every = classes.div_ceil(WRITTEN);
    for class in (0..classes).step_by(every) {
        let at = margin + (class as f64 + 0.5) * cell;
        write!(
            inside,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{class}</text>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{class}</text>",
            margin - 6.0,
            margin - 6.0,
            at + 4.0
        )
        .expect("text can always be longer");
    }
    let middle = margin + side / 2.0;
    write!(
        inside,
        "<text class=\"tick\" text-anchor=\"middle\" x=\"{middle}\" y=\"14\">student</text>\
         <text class=\"tick\" text-anchor=\"middle\" transform=\"translate(12 {middle}) rotate(-90)\">teacher</text>"
    )
    .expect("text can always be longer");
    let all: u64 = counts.iter().flatten().sum();
    let same: u64 = (0..classes).map(|class| counts[class][class]).sum();
    let words = format!(
        "Of {all} predictions {same} are the same, {} %",
        number(100.0 * same as f64 / all.max(1) as f64)
    );
    let size = (margin + side + 4.0, margin + side + 4.0);
    let chart = svg(
        size,
        "the student's predictions for each of the teacher's",
        &words,
        &inside,
    );
    let mut columns = vec!["teacher \\ student".to_string()];
    columns.extend((0..classes).map(|class| class.to_string()));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = counts
        .iter()
        .enumerate()
        .map(|(class, row)| {
            let cells = row.iter().map(u64::to_string);
            std::iter::once(class.to_string()).chain(cells).collect()
        })
        .collect();
    let caption = "student against teacher";
    Some(figure(caption, "", "", &chart, &numbers(&columns, &rows)))
}
