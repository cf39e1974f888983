//! How many classes student and teacher are compared on where they do not have the same number, and
//! what each term of an objective sees of the outputs.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;
use serde::{Deserialize, Serialize};

use crate::data::head::{Head, Logits};
use crate::data::outputs::Outputs;
use crate::data::targets::Weights;
use crate::loss::context::LossContext;
use crate::loss::logits::standardize::standardize;
use crate::loss::term::Term;
use crate::ops::vectors::mask_rows;

/// What an objective does where the teacher's logits and the student's have different widths.
///
/// Models of one family often have vocabularies that differ only in unused entries at the end,
/// such as 151936 and 152064, put there to fill a multiple of some size. Class `c` of one side is
/// then class `c` of the other, and the question is what becomes of the surplus. Where the classes
/// have another order no policy helps.
///
/// It concerns the terms that compare with the teacher. Those that do not, such as hard labels, see
/// the student's own logits.
///
/// # Example
///
/// ```
/// use burn_distill::{ClassPolicy, Objective};
///
/// let objective = Objective::from_toml(
///     r#"
///     classes = "truncate"
///
///     [[terms]]
///     loss = { soft_target = { temperature = 2.0 } }
///     "#,
/// )?;
/// assert_eq!(objective.class_policy(), ClassPolicy::Truncate);
/// # Ok::<(), burn_distill::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClassPolicy {
    /// It is an error, found before training. The default.
    #[default]
    Error,
    /// Both sides are cut to the smaller number of classes. Probabilities are over what is left, and
    /// the student's surplus classes get no gradient: the right choice for unused entries.
    Truncate,
    /// The narrower side is padded with −∞ to the larger number of classes. A wider student learns
    /// that its surplus classes never happen; a narrower one is told how far it is from a teacher
    /// that uses classes which it does not have, and nothing leads it there.
    Pad,
}

impl ClassPolicy {
    pub(crate) fn align(self, student: &Outputs, teacher: Option<&Outputs>) -> Aligned {
        let own = student.in_single();
        let compared = teacher.and_then(|teacher| {
            let single = teacher.in_single();
            let is_changed = own.is_some() || single.is_some();
            let (student, teacher) = (
                own.as_ref().unwrap_or(student),
                single.as_ref().unwrap_or(teacher),
            );
            let same = || is_changed.then(|| (student.clone(), teacher.clone()));
            self.at_one_width(student, teacher).or_else(same)
        });
        Aligned { own, compared }
    }

    /// The number of classes at which two heads are compared; `None` where they are not.
    pub(crate) fn width(self, own: usize, other: usize) -> Option<usize> {
        match self {
            Self::Truncate => Some(own.min(other)),
            Self::Pad => Some(own.max(other)),
            Self::Error => (own == other).then_some(own),
        }
    }

    /// Both sides' outputs with as many classes in each categorical head, where they differ.
    fn at_one_width(self, student: &Outputs, teacher: &Outputs) -> Option<(Outputs, Outputs)> {
        if self == Self::Error {
            return None;
        }
        let mut changed = None;
        for (name, ours) in student.heads() {
            let Some((Head::Categorical(ours), Head::Categorical(theirs))) =
                Some(ours).zip(teacher.head(name))
            else {
                continue;
            };
            let [own, other] = [ours.shape()[1], theirs.shape()[1]];
            if own == other {
                continue;
            }
            let Some(classes) = self.width(own, other) else {
                continue;
            };
            let (s, t) = changed.take().unwrap_or((student.clone(), teacher.clone()));
            changed = Some((
                s.with_head(name, at_width(ours, classes)),
                t.with_head(name, at_width(theirs, classes)),
            ));
        }
        changed
    }
}

/// Logits cut or padded to a number of classes.
pub(crate) fn at_width(logits: &Logits, classes: usize) -> Logits {
    let [_, own] = logits.shape();
    match logits {
        _ if own == classes => logits.clone(),
        Logits::Projected(layer) if own > classes => layer.truncated(classes).into(),
        other if own > classes => Logits::Dense(other.dense().narrow(1, 0, classes)),
        other => {
            let padding = PadMode::Constant(f32::NEG_INFINITY);
            Logits::Dense(other.dense().pad([(0, classes - own)], padding))
        }
    }
}

/// What the terms of an objective see of the outputs: in single precision where a model runs in
/// half, and with one number of classes where a policy says so.
#[derive(Debug)]
pub(crate) struct Aligned {
    /// The student's outputs, where they changed by themselves.
    own: Option<Outputs>,
    /// Both sides' outputs, where one of them changed.
    compared: Option<(Outputs, Outputs)>,
}

impl Aligned {
    /// Both sides' outputs, where anything changed.
    pub fn changed(&self) -> Option<(&Outputs, &Outputs)> {
        self.compared
            .as_ref()
            .map(|(student, teacher)| (student, teacher))
    }

    /// The context of a term that compares with the teacher.
    pub fn context<'a>(&'a self, own: &LossContext<'a>) -> LossContext<'a> {
        match self.changed() {
            None => self.own(own),
            Some((student, teacher)) => LossContext {
                student,
                teacher: Some(teacher),
                ..own.clone()
            },
        }
    }

    /// The context of a term that does not: its classes are the student's own.
    pub fn own<'a>(&'a self, own: &LossContext<'a>) -> LossContext<'a> {
        LossContext {
            student: self.own.as_ref().unwrap_or(own.student),
            ..own.clone()
        }
    }

    /// The context of a term, narrowed to its head. Labels name classes of the student's own; only a
    /// comparison needs one width on both sides.
    pub fn narrowed<'a>(&'a self, term: &'a Term, own: &LossContext<'a>) -> LossContext<'a> {
        let seen = match term.loss().needs().teacher {
            true => self.context(own),
            false => self.own(own),
        };
        term.narrow(&seen)
    }

    /// Runs what a term sees: the narrowed context, with z-scores where the term asks for them.
    pub fn seen_by<R>(
        &self,
        term: &Term,
        own: &LossContext<'_>,
        run: impl FnOnce(&LossContext<'_>) -> R,
    ) -> R {
        let seen = self.narrowed(term, own);
        let Some(eps) = term.standardize() else {
            return run(&seen);
        };
        let head = seen.head_name();
        let z_scores = |outputs: &Outputs| {
            let Some(logits) = outputs.head(head).map(Head::tensor) else {
                return outputs.clone();
            };
            let logits = valid_rows(logits, seen.weights());
            outputs.clone().with_head(head, standardize(logits, eps))
        };
        let student = z_scores(seen.student);
        let teacher = seen.teacher.map(z_scores);
        run(&LossContext {
            student: &student,
            teacher: teacher.as_ref(),
            ..seen.clone()
        })
    }
}

/// The logits, with zeros in rows of weight zero: those may hold anything, and the root of a NaN has no
/// gradient that a later mask could stop.
pub(crate) fn valid_rows(logits: Tensor<2>, weights: Option<&Weights>) -> Tensor<2> {
    match weights {
        Some(weights) => mask_rows(logits, &weights.values().clone().equal_elem(0.0)),
        None => logits,
    }
}

#[cfg(test)]
#[path = "tests/classes.rs"]
mod tests;

#[cfg(test)]
#[path = "tests/heads.rs"]
mod heads;
