//! A word of advice where the course of a training asks for it.

use crate::train::metrics::LOSS;
use crate::train::summary::{History, TrainingSummary};

/// A loss that loses more than this fraction of itself in the last epoch has not arrived: at that pace it
/// halves in fourteen more.
const STEEP: f64 = 0.05;
/// Epochs that make a course: in the first few every loss falls steeply.
const COURSE: usize = 5;
/// A validation loss that has not been better for this number of epochs rises; for fewer it may waver.
const RISING: usize = 3;
/// By which fraction of itself it must have risen: less makes no difference to a student.
const RISEN: f64 = 0.01;
/// A term below this fraction of the largest, in every epoch, moves a student by nothing that shows.
const NEGLIGIBLE: f64 = 1e-3;

impl TrainingSummary {
    /// What the course of the training advises, with the numbers; empty where it advises nothing.
    ///
    /// It says when the training loss still fell steeply in the last epoch, since when the validation loss
    /// has been rising, and which term was less than a thousandth of another throughout.
    pub fn advice(&self) -> Vec<String> {
        let all = [self.falling(), self.rising(), self.history.negligible()];
        all.into_iter().flatten().collect()
    }

    /// The training loss of the last epochs, if it still falls steeply.
    pub(crate) fn falling(&self) -> Option<String> {
        let losses = self.history.train.get(LOSS)?;
        let [.., before, last] = losses.as_slice() else {
            return None;
        };
        let fell = (before - last) / before.abs();
        // A fraction of a negative loss means nothing.
        let is_steep = *last >= 0.0 && *before > 0.0 && fell > STEEP;
        let is_over = self.interrupted.is_none() && self.last_epoch == self.epochs;
        let is_one_loss = self.history.is_one_loss(losses.len() - 2);
        (is_over && is_one_loss && self.epochs >= COURSE && is_steep).then(|| {
            format!(
                "the training loss still fell by {:.0} % in the last epoch, from {before:.4} to {last:.4}: \
                 train longer",
                100.0 * fell
            )
        })
    }

    fn rising(&self) -> Option<String> {
        let losses = self.history.valid.get(LOSS)?;
        let last = losses.last()?;
        let (at, best) = losses
            .iter()
            .enumerate()
            .min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let has_risen = last - best > RISEN * best.abs();
        if losses.len() - 1 - at < RISING || !has_risen || !self.history.is_one_loss(at) {
            return None;
        }
        let remedy = match self.best_epoch {
            Some(epoch) => format!("the student is that of epoch {epoch}"),
            None => "`FitConfig::with_best` hands back the student of the best epoch".into(),
        };
        Some(format!(
            "the validation loss has been rising since epoch {}, from {best:.4} to {last:.4}: {remedy}; \
             the teacher's outputs on more data would help",
            self.history.first_epoch + at
        ))
    }
}

impl History {
    /// Whether the loss is the same sum in all epochs from one on, counted from 0: schedules of weights and
    /// temperatures move it as well.
    fn is_one_loss(&self, from: usize) -> bool {
        let mut schedules = self
            .schedules
            .iter()
            .filter(|(name, _)| *name != "learning_rate");
        schedules.all(|(_, values)| {
            let values = values.get(from..).unwrap_or_default();
            values.windows(2).all(|pair| pair[0] == pair[1])
        })
    }

    /// What each term adds to the loss, by epoch.
    fn parts(&self) -> Vec<(&str, Vec<f64>)> {
        let terms = self.schedules.iter().filter_map(|(name, weights)| {
            let term = name.strip_suffix(" weight")?;
            let values = self.train.get(term)?.iter().zip(weights);
            Some((
                term,
                values
                    .map(|(value, weight)| (value * weight).abs())
                    .collect(),
            ))
        });
        terms.collect()
    }

    fn negligible(&self) -> Option<String> {
        let parts = self.parts();
        let epochs = parts.iter().map(|(_, values)| values.len()).min()?;
        let largest = |epoch: usize| {
            let all = parts.iter().map(|(term, values)| (*term, values[epoch]));
            all.max_by(|a, b| a.1.total_cmp(&b.1))
        };
        let is_small = |epoch: usize, value: f64| {
            largest(epoch).is_some_and(|(_, most)| value < NEGLIGIBLE * most)
        };
        let mut small = parts.iter().filter(|(_, values)| {
            epochs > 0 && (0..epochs).all(|epoch| is_small(epoch, values[epoch]))
        });
        let (term, values) = small.next()?;
        let (other, most) = largest(epochs - 1)?;
        Some(format!(
            "term {term:?} with its weight was less than a thousandth of the loss in every epoch, {:.1e} beside \
             {most:.1e} of {other:?} in the last: give it a larger weight, or leave it out",
            values[epochs - 1]
        ))
    }
}
