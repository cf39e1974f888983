//! What follows a schedule, by epoch.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::module::Module;

use crate::data::distillable::Distillable;
use crate::schedule::Schedule;
use crate::train::Training;

impl<I, J, S> Training<'_, I, J, S>
where
    I: Module + 'static,
    J: Module + 'static,
    S: Distillable<I>,
{
    /// What follows a schedule, at the first step of each of these epochs, counted from 0.
    pub(super) fn schedules(&self, epochs: Range<usize>) -> BTreeMap<String, Vec<f64>> {
        let plan = self.config.plan();
        let per_epoch = plan.steps_per_epoch(self.train.len());
        let mut scheduler = self.config.scheduler(plan.epochs * per_epoch);
        let rates = (0..epochs.end * per_epoch).map(|_| scheduler.step().base());
        let rates = rates.step_by(per_epoch.max(1)).skip(epochs.start).collect();
        let mut schedules = BTreeMap::from([("learning_rate".to_string(), rates)]);
        let over = |schedule: &Schedule| -> Vec<f64> {
            let progress = |epoch| epoch as f64 / plan.epochs as f64;
            epochs
                .clone()
                .map(|epoch| schedule.at(progress(epoch)))
                .collect()
        };
        for term in self.objective.terms() {
            schedules.insert(format!("{} weight", term.name()), over(term.weight()));
            if let Some(temperature) = term.loss().temperature() {
                schedules.insert(format!("{} temperature", term.name()), over(temperature));
            }
        }
        schedules
    }
}
