//! How many classes student and teacher are compared on where they do not have the same number.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;
use serde::{Deserialize, Serialize};

use crate::data::outputs::Outputs;
use crate::loss::LossContext;

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
/// use burn_distill::{ClassPolicy, ObjectiveConfig};
///
/// # fn main() -> burn_distill::Result<()> {
/// let config = ObjectiveConfig::from_toml(
///     r#"
///     classes = "truncate"
///
///     [[terms]]
///     loss = { soft_target = { temperature = 2.0 } }
///     "#,
/// )?;
/// assert_eq!(config.init()?.class_policy(), ClassPolicy::Truncate);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClassPolicy {
    /// It is an error, found before training. The default.
    #[default]
    Error,
    /// Both sides are cut to the smaller number of classes. Probabilities are over what is left, and
    /// the student's surplus classes get no gradient: the right choice for entries that nobody uses.
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

    fn at_one_width(self, student: &Outputs, teacher: &Outputs) -> Option<(Outputs, Outputs)> {
        let classes = [student, teacher].map(|outputs| outputs.logits.dims()[1]);
        let [fewest, most] = [classes[0].min(classes[1]), classes[0].max(classes[1])];
        if fewest == most {
            return None;
        }
        let align = |outputs: &Outputs| match self {
            Self::Error => None,
            Self::Truncate => Some(with(outputs, |z| z.narrow(1, 0, fewest))),
            Self::Pad => Some(with(outputs, |z| {
                let missing = most - z.dims()[1];
                match missing {
                    0 => z,
                    _ => z.pad([(0, missing)], PadMode::Constant(f32::NEG_INFINITY)),
                }
            })),
        };
        align(student).zip(align(teacher))
    }
}

fn with(outputs: &Outputs, change: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Outputs {
    let mut outputs = outputs.clone();
    outputs.logits = change(outputs.logits);
    outputs
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
}

#[cfg(test)]
#[path = "tests/classes.rs"]
mod tests;
