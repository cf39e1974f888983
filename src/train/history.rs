//! The course of a training: one number per epoch for everything that is reported.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use burn::tensor::TensorReadError;
use burn::train::logger::MetricLogger;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricDefinition, MetricId, MetricMetadata, MetricName,
    Numeric, NumericAttributes, NumericEntry, SerializedEntry,
};

use crate::train::metrics::{ACCURACY, AGREEMENT, StepOutput};
use crate::train::summary::History;

/// One of the numbers of every step, as a metric of the engine.
#[derive(Clone)]
pub(crate) struct StepMetric {
    name: MetricName,
    index: usize,
    state: NumericMetricState,
}

impl StepMetric {
    pub fn new(name: &str, index: usize) -> Self {
        Self {
            name: Arc::new(name.to_string()),
            index,
            state: NumericMetricState::new(),
        }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name.clone()).precision(4)
    }
}

impl Adaptor<Arc<Vec<f64>>> for StepOutput {
    fn adapt(&self) -> Arc<Vec<f64>> {
        self.numbers()
    }
}

impl Metric for StepMetric {
    type Input = Arc<Vec<f64>>;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        MetricAttributes::Numeric(NumericAttributes {
            unit: None,
            higher_is_better: [AGREEMENT, ACCURACY].contains(&self.name.as_str()),
        })
    }

    fn update(
        &mut self,
        numbers: &Self::Input,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        // Weights need not add up to a whole number; a batch that has any takes part.
        let rows = numbers.last().copied().unwrap_or_default().ceil() as usize;
        self.state.update(numbers[self.index], rows);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for StepMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

/// Means by epoch, of the training set or the validation set, and of a metric.
type Means = BTreeMap<(bool, String), BTreeMap<usize, f64>>;

/// Keeps each epoch's means. Early stopping reads them, and the report takes them away.
///
/// Burn's in-memory logger counts epochs from the first it sees, so that after a resume early
/// stopping would look for numbers that are not there.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    means: Arc<Mutex<Means>>,
    names: HashMap<MetricId, String>,
}

impl Recorder {
    pub fn history(&self) -> History {
        let means = self
            .means
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let epochs = means.values().flat_map(|by_epoch| by_epoch.keys());
        let mut history = History {
            first_epoch: epochs.min().copied().unwrap_or(1),
            ..History::default()
        };
        for ((is_train, name), by_epoch) in means.iter() {
            let curves = match is_train {
                true => &mut history.train,
                false => &mut history.valid,
            };
            curves.insert(name.clone(), by_epoch.values().copied().collect());
        }
        history
    }
}

impl MetricLogger for Recorder {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let mut means = self
            .means
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for update in update.entries_numeric {
            let entry = NumericEntry::deserialize(&update.entry.serialized_entry.serialized);
            if let (Ok(NumericEntry::Final(mean)), Some(name)) =
                (entry, self.names.get(&update.entry.metric_id))
                && mean.is_finite()
            {
                let key = (matches!(split, Split::Train), name.clone());
                means.entry(key).or_default().insert(epoch, mean);
            }
        }
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        let means = self
            .means
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = (matches!(split, Split::Train), name.to_string());
        let mean = means.get(&key).and_then(|by_epoch| by_epoch.get(&epoch));
        Ok(mean.map(|m| NumericEntry::Final(*m)).into_iter().collect())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
