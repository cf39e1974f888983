//! The numbers of a categorical head, a chunk of rows at a time.

use std::ops::Range;

use burn::tensor::TensorReadError;

use crate::data::head::{HeadKind, Logits};
use crate::metric::calibration::Bins;
use crate::metric::mean::Mean;
use crate::metric::rows::{Truth, chunk, chunks, compare, cross_entropy, floats};
use crate::objective::classes::at_width;
use crate::ops::formula::Formula;
use crate::report::comparison::{Comparer, Place};
use crate::report::model::HeadReport;
use crate::report::predictions::Predictions;

/// Sums over the rows of one model's head.
#[derive(Debug, Default)]
pub(crate) struct Categorical {
    rows: usize,
    correct: Mean,
    cross_entropy: Mean,
    bins: Bins,
    agreeing: Mean,
    kl_teacher_student: Mean,
    kl_student_teacher: Mean,
    /// Whether some label has no probability that is known.
    has_unknown: bool,
    /// The same of a divergence from the teacher's side.
    has_unknown_teacher: bool,
}

/// The teacher's side of a head.
pub(crate) struct Versus<'a> {
    pub logits: &'a Logits,
    /// At how many classes both are compared.
    pub classes: Option<usize>,
    /// The teacher's own numbers, where they are asked for.
    pub own: Option<&'a mut Categorical>,
    /// What compares both sides row by row, where that is asked for.
    pub comparer: Option<&'a mut Comparer>,
}

impl Categorical {
    /// Adds a batch. Each side's logits are computed once.
    pub fn add(
        &mut self,
        logits: &Logits,
        mut versus: Option<Versus<'_>>,
        truth: &Truth,
        samples: Range<usize>,
    ) -> Result<(), TensorReadError> {
        let [rows, own] = logits.shape();
        let theirs = versus.as_ref().map_or(0, |it| it.logits.shape()[1]);
        for at in chunks([rows, own.max(theirs)]) {
            let ours = chunk(logits, at.clone());
            let predictions = Predictions::of(&ours)?;
            self.add_own(&ours, &predictions, truth, at.clone())?;
            let Some(versus) = &mut versus else {
                continue;
            };
            let theirs = chunk(versus.logits, at.clone());
            if let Some(own) = &mut versus.own {
                let predictions = Predictions::of(&theirs)?;
                own.add_own(&theirs, &predictions, truth, at.clone())?;
            }
            if let Some(classes) = versus.classes {
                let place = Place {
                    samples: samples.clone(),
                    rows: at,
                    of: rows,
                };
                let sides = [&ours, &theirs].map(|side| at_width(side, classes));
                self.add_pair(&sides, truth, place, versus.comparer.as_deref_mut())?;
            }
        }
        Ok(())
    }

    fn add_own(
        &mut self,
        logits: &Logits,
        predictions: &Predictions,
        truth: &Truth,
        rows: Range<usize>,
    ) -> Result<(), TensorReadError> {
        self.rows += rows.clone().filter(|row| truth.weight(*row) > 0.0).count();
        if !truth.has_labels() {
            return Ok(());
        }
        let [_, classes] = logits.shape();
        for (at, row) in rows.clone().enumerate() {
            let (weight, Some(label)) = (truth.weight(row), truth.label(row)) else {
                continue;
            };
            let is_right = predictions.classes[at] == label;
            self.correct.add(f64::from(is_right), weight);
            self.bins.add(predictions.confidences[at], is_right, weight);
            self.has_unknown |= label >= classes;
        }
        self.has_unknown |= matches!(logits, Logits::TopK(_));
        if self.has_unknown {
            return Ok(());
        }
        if let Some(labels) = truth.labels_of(rows.clone(), logits) {
            let [values] = floats([cross_entropy(logits, labels)])?;
            for (row, value) in rows.zip(values) {
                if truth.label(row).is_some() {
                    self.cross_entropy.add(value, truth.weight(row));
                }
            }
        }
        Ok(())
    }

    fn add_pair(
        &mut self,
        [student, teacher]: &[Logits; 2],
        truth: &Truth,
        place: Place,
        comparer: Option<&mut Comparer>,
    ) -> Result<(), TensorReadError> {
        let ours = Predictions::of(student)?;
        let theirs = Predictions::of(teacher)?;
        let temperature = 1.0;
        let is_sparse = matches!(teacher, Logits::TopK(_));
        self.has_unknown_teacher |= is_sparse;
        let forward = compare(Formula::Divergence { temperature }, student, teacher);
        let [forward] = floats([forward])?;
        // What the student gives to classes that a top-k teacher does not name is compared with nothing.
        let backward = match is_sparse {
            true => None,
            false => {
                let backward = compare(Formula::Reverse { temperature }, student, teacher);
                Some(floats([backward])?.concat())
            }
        };
        for (at, row) in place.rows.clone().enumerate() {
            let weight = truth.weight(row);
            let is_same = ours.classes[at] == theirs.classes[at];
            self.agreeing.add(f64::from(is_same), weight);
            self.kl_teacher_student.add(forward[at], weight);
            if let Some(backward) = &backward {
                self.kl_student_teacher.add(backward[at], weight);
            }
        }
        if let Some(comparer) = comparer {
            let [_, classes] = student.shape();
            comparer.add([&ours, &theirs], &forward, classes, truth, &place);
        }
        Ok(())
    }

    /// Forgets what was compared with the teacher.
    pub fn alone(&mut self) {
        self.agreeing = Mean::default();
        self.kl_teacher_student = Mean::default();
        self.kl_student_teacher = Mean::default();
        self.has_unknown_teacher = false;
    }

    /// What the numbers leave out, and why.
    pub fn unknown(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        if self.has_unknown {
            unknown.push("cross-entropy: not every label has a probability that is known".into());
        }
        if self.has_unknown_teacher {
            unknown.push(
                "KL(student || teacher): only the teacher's most likely classes are known".into(),
            );
        }
        unknown
    }

    pub fn report(&self) -> HeadReport {
        let cross_entropy = self.cross_entropy.get().filter(|_| !self.has_unknown);
        HeadReport {
            rows: self.rows,
            accuracy: self.correct.get(),
            cross_entropy,
            perplexity: cross_entropy.map(f64::exp),
            calibration_error: self.bins.error(),
            reliability: self.bins.filled(),
            agreement: self.agreeing.get(),
            kl_teacher_student: self.kl_teacher_student.get(),
            kl_student_teacher: self.kl_student_teacher.get(),
            ..HeadReport::new(HeadKind::Categorical)
        }
    }
}
