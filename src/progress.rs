//! What a person sees while training runs.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How a training shows its progress, on standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressMode {
    /// The dashboard of the `tui` feature where that is on and standard output is a terminal; else
    /// bars on a terminal, and lines elsewhere.
    #[default]
    Auto,
    /// A bar for the running epoch: each term, agreement with the teacher, throughput, time left.
    Bars,
    /// A line per epoch, at most one a second.
    Lines,
    /// Nothing.
    Silent,
}

impl ProgressMode {
    /// Shows what is about to happen, unless nothing is to be shown.
    pub(crate) fn announce(self, text: &impl std::fmt::Display) {
        if self != Self::Silent {
            // A closed pipe is no reason not to train.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// The renderer to use instead of the engine's own; `None` for the engine's dashboard.
    pub(crate) fn renderer(self) -> Option<Box<dyn MetricsRenderer>> {
        let output = match self {
            Self::Auto if cfg!(feature = "tui") && std::io::stdout().is_terminal() => return None,
            Self::Auto if std::io::stderr().is_terminal() => Output::bar(),
            Self::Bars => Output::bar(),
            Self::Auto | Self::Lines => Output::Lines(Box::new(std::io::stderr())),
            Self::Silent => Output::Silent,
        };
        Some(Box::new(Renderer::new(output)))
    }
}

enum Output {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send + Sync>),
    Silent,
}

impl Output {
    fn bar() -> Self {
        let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len}  {msg}")
            .expect("a valid template")
            .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        Self::Bar(bar.with_style(style))
    }
}

/// Draws bars or lines from what the engine reports.
struct Renderer {
    output: Output,
    label: String,
    names: HashMap<MetricId, String>,
    /// The metrics in the order of their registration.
    order: Vec<MetricId>,
    train: Means,
    valid: Means,
    epoch: usize,
    first_epoch: usize,
    epochs: usize,
    is_training: bool,
    train_items: usize,
    items: usize,
    /// Training samples of the epochs that have been trained, and how many these are.
    trained: usize,
    trained_epochs: usize,
    started: Instant,
    last_line: Option<Instant>,
}

/// Running means of one split of one epoch.
#[derive(Default)]
struct Means(HashMap<MetricId, (f64, usize)>);

impl Means {
    fn update(&mut self, state: &MetricState) {
        if let MetricState::Numeric(
            entry,
            Some(NumericEntry::Aggregated {
                aggregated_value,
                count,
            }),
        ) = state
            && *count > 0
        {
            let (sum, rows) = self.0.entry(entry.metric_id.clone()).or_default();
            *sum += aggregated_value * *count as f64;
            *rows += count;
        }
    }

    fn get(&self, id: &MetricId) -> Option<f64> {
        self.0.get(id).map(|(sum, rows)| sum / *rows as f64)
    }
}

impl Renderer {
    fn new(output: Output) -> Self {
        Self {
            output,
            label: String::new(),
            names: HashMap::new(),
            order: Vec::new(),
            train: Means::default(),
            valid: Means::default(),
            epoch: 1,
            first_epoch: 1,
            epochs: 1,
            is_training: true,
            train_items: 0,
            items: 0,
            trained: 0,
            trained_epochs: 0,
            started: Instant::now(),
            last_line: None,
        }
    }

    fn numbers(&self, means: &Means) -> String {
        let known = self.order.iter().filter_map(|id| {
            let mean = means.get(id)?;
            Some(format!("{} {mean:.4}", self.names.get(id)?))
        });
        known.collect::<Vec<_>>().join("  ")
    }

    /// The training samples that are done, and all that there will be.
    fn samples(&self) -> (f64, f64) {
        let in_epoch = if self.is_training { self.items } else { 0 };
        let per_epoch = match self.trained_epochs {
            0 => self.train_items as f64,
            epochs => self.trained as f64 / epochs as f64,
        };
        let epochs = self.epochs + 1 - self.first_epoch;
        ((self.trained + in_epoch) as f64, per_epoch * epochs as f64)
    }

    /// Throughput and the time that is left, from what is done.
    fn pace(&self) -> String {
        let elapsed = self.started.elapsed().as_secs_f64().max(1e-9);
        let (done, all) = self.samples();
        if done == 0.0 {
            return String::new();
        }
        let left = elapsed * ((all - done) / done).max(0.0);
        format!(
            "{} samples/s  {} left",
            HumanCount((done / elapsed) as u64),
            HumanDuration(Duration::from_secs_f64(left)),
        )
    }

    fn draw(&mut self) {
        let numbers = match self.is_training {
            true => self.numbers(&self.train),
            false => self.numbers(&self.valid),
        };
        let message = format!("{numbers}  {}", self.pace());
        if let Output::Bar(bar) = &self.output {
            bar.set_position(self.items as u64);
            bar.set_message(message);
        }
    }

    fn line(&self) -> String {
        let mut line = format!("{}epoch {}/{}", self.label, self.epoch, self.epochs);
        line += &format!("  {}", self.numbers(&self.train));
        let valid = self.numbers(&self.valid);
        if !valid.is_empty() {
            line += &format!("  | valid  {valid}");
        }
        line + &format!("  | {}", self.pace())
    }
}

impl TrainingProgressLogger for Renderer {
    fn start(
        &mut self,
        total_epochs: usize,
        starting_epoch: usize,
        _total_items: Option<usize>,
        label: Option<&str>,
    ) {
        self.epochs = total_epochs;
        self.epoch = starting_epoch;
        self.first_epoch = starting_epoch;
        self.label = label.map(|l| format!("{l}: ")).unwrap_or_default();
        self.started = Instant::now();
    }

    fn update_epoch(&mut self, epoch: usize) {
        let is_last = epoch >= self.epochs;
        let line = self.line();
        if let Output::Lines(output) = &mut self.output {
            let is_due = |last: Instant| last.elapsed() >= Duration::from_secs(1);
            if is_last || self.last_line.is_none_or(is_due) {
                self.last_line = Some(Instant::now());
                // A closed pipe is no reason to stop training.
                let _ = writeln!(output, "{line}");
            }
        }
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.is_training = split == "train";
        self.items = 0;
        match self.is_training {
            true => {
                self.train_items = total_items;
                self.train = Means::default();
                self.valid = Means::default();
            }
            false => self.valid = Means::default(),
        }
        if let Output::Bar(bar) = &self.output {
            let split = if self.is_training { "" } else { " valid" };
            bar.set_prefix(format!(
                "{}epoch {}/{}{split}",
                self.label, self.epoch, self.epochs
            ));
            bar.set_length(total_items as u64);
            bar.set_position(0);
        }
    }

    fn update_split(&mut self, items_processed: usize) {
        self.items = items_processed;
        self.draw();
    }

    fn end_split(&mut self) {
        if self.is_training {
            self.trained += self.train_items;
            self.trained_epochs += 1;
            self.items = 0;
        }
    }

    fn end(&mut self) {
        if let Output::Bar(bar) = &self.output {
            // The engine has counted past the last epoch by now.
            self.epoch = self.epoch.saturating_sub(1).max(self.first_epoch);
            bar.println(self.line());
            bar.finish_and_clear();
        }
    }

    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRendererTraining for Renderer {
    fn update_train(&mut self, state: MetricState) {
        self.train.update(&state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.valid.update(&state);
    }
}

impl EvaluationProgressLogger for Renderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}
    fn start_test(&mut self, _name: &str, _total_items: usize) {}
    fn update_test_progress(&mut self, _items_processed: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRendererEvaluation for Renderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl MetricsRenderer for Renderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        // The engine registers a metric of training and one of validation under one name.
        if self
            .names
            .insert(definition.metric_id.clone(), definition.name.to_string())
            .is_none()
        {
            self.order.push(definition.metric_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use burn::train::metric::{MetricAttributes, MetricEntry, SerializedEntry};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn metric(id: &str, value: f64, count: usize) -> MetricState {
        let id = MetricId::new(Arc::new(id.into()));
        let entry = MetricEntry::new(id, SerializedEntry::new(String::new(), String::new()));
        let value = NumericEntry::Aggregated {
            aggregated_value: value,
            count,
        };
        MetricState::Numeric(entry, Some(value))
    }

    #[test]
    fn a_line_holds_the_means_of_both_splits() {
        let written = Written::default();
        let mut renderer = Renderer::new(Output::Lines(Box::new(written.clone())));
        renderer.register_metric(MetricDefinition {
            metric_id: MetricId::new(Arc::new("loss".into())),
            name: Arc::new("loss".into()),
            description: None,
            attributes: MetricAttributes::None,
        });
        renderer.start(2, 1, None, Some("student"));
        renderer.start_split("train", 4);
        renderer.update_train(metric("loss", 2.0, 3));
        renderer.update_train(metric("loss", 6.0, 1));
        renderer.update_split(4);
        renderer.end_split();
        renderer.start_split("valid", 1);
        renderer.update_valid(metric("loss", 5.0, 1));
        renderer.end_split();
        renderer.update_epoch(1);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.starts_with("student: epoch 1/2  loss 3.0000  | valid  loss 5.0000  | "),
            "{text}"
        );
        assert!(text.trim_end().ends_with(" left"), "{text}");
        assert!(text.contains(" samples/s"), "{text}");
    }

    #[test]
    fn an_epoch_that_has_just_ended_is_no_longer_to_be_done() {
        let mut renderer = Renderer::new(Output::Silent);
        renderer.start(4, 1, None, None);
        for epoch in 1..=4 {
            renderer.start_split("train", 10);
            renderer.update_split(10);
            renderer.end_split();
            // As the line of this epoch sees it.
            assert_eq!(renderer.samples(), (10.0 * epoch as f64, 40.0));
            renderer.update_epoch(epoch);
        }
    }
}
