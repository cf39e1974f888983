//! The HTML report: one self-contained file, without network and scripts.

mod charts;
mod plane;
mod text;

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::save;
use crate::report::comparison::{Disagreement, Prediction};
use crate::report::html::text::{escape, number};
use crate::report::report::Report;
use crate::report::table::{columns, footnotes, rows};

const STYLE: &str = include_str!("style.css");

impl Report {
    /// Writes the HTML report: one self-contained file for any browser, light or dark, or for print.
    ///
    /// It has the table, the course of the training, confidence against accuracy of each model, where
    /// student and teacher differ, down to single samples, and how all of this came about. Every chart is
    /// described in words and has its numbers in a table that opens. Samples are shown where inputs are
    /// images, `Tensor<4>`, or where [`DistillData::with_images`](crate::DistillData::with_images) makes
    /// images of them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_html(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        save(path, self.to_html().as_bytes()).map_err(|error| Error::io(path, error))
    }

    /// The HTML report of [`save_html`](Self::save_html) as text.
    pub fn to_html(&self) -> String {
        let models: Vec<_> = columns(self)
            .into_iter()
            .map(|(name, model)| (class(name), name, model))
            .collect();
        let charts: String = [
            charts::bars(&models),
            charts::reliability(&models),
            charts::confusion(self),
        ]
        .into_iter()
        .flatten()
        .collect();
        let sections = [
            ("Result", Some(self.table())),
            ("Comparison", Some(grid(&charts))),
            (
                "Where they disagree most",
                self.comparison
                    .as_ref()
                    .map(|it| samples(&it.disagreements)),
            ),
            (
                "Training",
                Some(grid(&charts::curves(&self.training.history))),
            ),
            ("How it was made", Some(self.origin())),
        ];
        let body: String = sections
            .into_iter()
            .filter_map(|(name, html)| Some((name, html.filter(|html| !html.is_empty())?)))
            .map(|(name, html)| format!("<section><h2>{name}</h2>{html}</section>\n"))
            .collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <link rel=\"icon\" href=\"data:,\"><title>Distillation report</title>\
             <style>\n{STYLE}</style></head>\n<body><main><h1>Distillation report</h1>\
             <p class=\"faint\">{}</p>\n{body}</main></body></html>\n",
            escape(&self.in_one_sentence())
        )
    }

    fn in_one_sentence(&self) -> String {
        if self.distilled.samples == 0 {
            return "The distilled student could not be measured.".into();
        }
        let percent = |fraction: f64| format!("{} %", number(fraction * 100.0));
        let main = self.distilled.main();
        let clauses = [
            (main.accuracy).map(|accuracy| format!("is right in {}", percent(accuracy))),
            (main.mean_squared_error).map(|e| format!("has a mean squared error of {}", number(e))),
            (main.agreement).map(|it| format!("agrees with its teacher in {}", percent(it))),
        ];
        let clauses: Vec<String> = clauses.into_iter().flatten().collect();
        let joined = match clauses.is_empty() {
            true => "was measured".to_string(),
            false => clauses.join(" and "),
        };
        let preposition = match main.accuracy.or(main.agreement) {
            Some(_) => "of",
            None => "on",
        };
        format!(
            "The distilled student {joined} {preposition} the {} samples of the {} set.",
            self.distilled.samples, self.measured_on
        )
    }

    fn table(&self) -> String {
        let columns = columns(self);
        let head: String = columns
            .iter()
            .map(|(name, _)| format!("<th scope=\"col\">{name}</th>"))
            .collect();
        let body: String = rows(&columns)
            .into_iter()
            .map(|(name, cells)| {
                let cell =
                    |cell: Option<String>| format!("<td>{}</td>", cell.as_deref().unwrap_or("-"));
                let cells: String = cells.into_iter().map(cell).collect();
                format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(&name))
            })
            .collect();
        format!(
            "<div class=\"scroll\"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>{}",
            list(&footnotes(self))
        )
    }

    fn origin(&self) -> String {
        let training = &self.training;
        let mut entries = vec![
            ("objective", training.objective.clone()),
            ("epochs", training.epochs.to_string()),
            ("batch size", training.batch_size.to_string()),
            ("learning rate", number(training.learning_rate)),
            ("seed", training.seed.to_string()),
            ("device", training.device.clone()),
            ("hardware", training.hardware.clone()),
            (
                "versions",
                format!(
                    "burn-distill {}, burn {}",
                    training.version, training.burn_version
                ),
            ),
        ];
        if let Some(epoch) = training.resumed_from {
            entries.push(("resumed from epoch", epoch.to_string()));
        }
        entries.retain(|(_, value)| !value.is_empty());
        list(&entries)
    }
}

/// The colours of a column.
fn class(name: &str) -> &'static str {
    match name {
        "teacher" => "teacher",
        "labels only" => "baseline",
        _ => "distilled",
    }
}

fn grid(figures: &str) -> String {
    match figures.is_empty() {
        true => String::new(),
        false => format!("<div class=\"charts\">{figures}</div>"),
    }
}

fn list(entries: &[(&str, String)]) -> String {
    let entries = entries
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)));
    format!("<dl>{}</dl>", entries.collect::<String>())
}

fn samples(disagreements: &[Disagreement]) -> String {
    if disagreements.is_empty() {
        return String::new();
    }
    let card = |it: &Disagreement| {
        let image = it.image.as_ref().map_or(String::new(), |image| {
            format!("<img alt=\"sample {}\" src=\"{image}\">", it.sample)
        });
        let which = match it.row {
            0 => format!("sample {}", it.sample),
            row => format!("sample {}, row {row}", it.sample),
        };
        let label = it
            .label
            .map_or(String::new(), |label| format!("<br>label {label}"));
        let prediction =
            |it: &Prediction| format!("{} ({} %)", it.class, number(100.0 * it.probability));
        format!(
            "<div>{image}<strong>{which}</strong><br>teacher {}<br>student {}{label}<br>\
             <span class=\"faint\">KL {} nats</span></div>",
            prediction(&it.teacher),
            prediction(&it.student),
            number(it.divergence)
        )
    };
    let cards: String = disagreements.iter().map(card).collect();
    format!("<section class=\"samples\">{cards}</section>")
}

#[cfg(test)]
#[path = "../tests/html.rs"]
mod tests;
