//! The heads of student and teacher, each measured by its kind.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::Tensor;

use crate::data::head::{Head, Logits};
use crate::data::outputs::Outputs;
use crate::data::precision::single;
use crate::data::targets::{Target, Targets};
use crate::error::{Error, Result, Side};
use crate::metric::rows::Truth;
use crate::objective::classes::ClassPolicy;
use crate::report::batches::unreadable;
use crate::report::categorical::{Categorical, Versus};
use crate::report::comparison::Comparer;
use crate::report::model::{HeadReport, ModelReport};
use crate::report::real::{Binary, Continuous};

/// Sums over the rows of one head.
#[derive(Debug)]
enum Sums {
    Categorical(Box<Categorical>),
    Binary(Binary),
    Continuous(Continuous),
}

impl Sums {
    fn new(head: &Head) -> Self {
        match head {
            Head::Categorical(_) => Self::Categorical(Box::default()),
            Head::Binary(_) => Self::Binary(Binary::default()),
            Head::Continuous(_) => Self::Continuous(Continuous::default()),
        }
    }

    fn alone(&mut self) {
        match self {
            Self::Categorical(it) => it.alone(),
            Self::Binary(it) => it.alone(),
            Self::Continuous(it) => it.alone(),
        }
    }

    fn report(&self) -> HeadReport {
        match self {
            Self::Categorical(it) => it.report(),
            Self::Binary(it) => it.report(),
            Self::Continuous(it) => it.report(),
        }
    }
}

/// Sums over the heads of one model, in the model's order.
#[derive(Debug, Default)]
pub(crate) struct HeadSums(Vec<(String, Sums)>);

impl HeadSums {
    fn of(&mut self, name: &str, head: &Head) -> &mut Sums {
        let at = self.0.iter().position(|(other, _)| other == name);
        let at = at.unwrap_or_else(|| {
            self.0.push((name.to_string(), Sums::new(head)));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Forgets what was compared with the teacher.
    pub fn alone(&mut self) {
        self.0.iter_mut().for_each(|(_, sums)| sums.alone());
    }

    /// The numbers of all heads, and once more those of the first.
    pub fn report(&self) -> ModelReport {
        let heads = self.0.iter();
        let heads: BTreeMap<_, _> = heads
            .map(|(name, sums)| (name.clone(), sums.report()))
            .collect();
        let main_head = self.0.first().map(|(name, _)| name.clone());
        let main = main_head.as_ref().map(|name| heads[name].clone());
        ModelReport {
            main_head,
            heads,
            ..main.map(ModelReport::of_head).unwrap_or_default()
        }
    }

    /// What the numbers leave out, and why.
    pub fn unknown(&self, side: Side) -> Vec<String> {
        let heads = self.0.iter();
        let unknown = heads.filter_map(|(name, sums)| match sums {
            Sums::Categorical(it) => Some((name, it.unknown())),
            _ => None,
        });
        unknown
            .flat_map(|(name, all)| {
                all.into_iter()
                    .map(move |it| format!("head {name:?} of the {side}: {it}"))
            })
            .collect()
    }
}

/// Everything that is summed over the batches.
#[derive(Debug, Default)]
pub(crate) struct Measurement {
    pub student: HeadSums,
    pub teacher: HeadSums,
    pub comparer: Comparer,
    pub unmeasured: Vec<String>,
}

/// What is known of a batch.
pub(crate) struct Batch<'a> {
    pub targets: &'a Targets,
    /// Its samples, by their index in the data.
    pub samples: Range<usize>,
    pub policy: ClassPolicy,
    /// Whether the teacher's own numbers are asked for.
    pub own: bool,
}

impl Measurement {
    pub fn add(
        &mut self,
        student: &Outputs,
        teacher: Option<&Outputs>,
        batch: &Batch<'_>,
    ) -> Result<()> {
        let first = student.first_head().map(|(name, _)| name);
        for (name, head) in student.heads() {
            let facts = self.facts(name, head, first == Some(name), Side::Student, batch)?;
            let theirs = teacher.map(|teacher| teacher.head(name));
            let theirs = theirs.and_then(|theirs| self.comparable(name, head, theirs));
            self.add_head(name, head, theirs, &facts, batch)?;
        }
        let Some(teacher) = teacher.filter(|_| batch.own) else {
            return Ok(());
        };
        let first = teacher.first_head().map(|(name, _)| name);
        for (name, head) in teacher.heads() {
            // Categorical heads that fit together were measured in one pass.
            let ours = student.head(name);
            if ours.is_some_and(|ours| is_one_pass(ours, head)) {
                self.teacher.of(name, head);
                continue;
            }
            let facts = self.facts(name, head, first == Some(name), Side::Teacher, batch)?;
            let sums = self.teacher.of(name, head);
            add_own(sums, head, &facts, batch.samples.clone())
                .map_err(|error| unreadable(&format!("head {name:?}"))(&error))?;
        }
        Ok(())
    }

    fn add_head(
        &mut self,
        name: &str,
        head: &Head,
        theirs: Option<&Head>,
        facts: &Facts<'_>,
        batch: &Batch<'_>,
    ) -> Result<()> {
        let Self {
            student,
            teacher,
            comparer,
            ..
        } = self;
        let samples = batch.samples.clone();
        let truth = &facts.truth;
        let sums = student.of(name, head);
        let added = match (sums, head, theirs) {
            (Sums::Categorical(sums), Head::Categorical(ours), Some(Head::Categorical(it))) => {
                let own = match batch.own.then(|| teacher.of(name, head)) {
                    Some(Sums::Categorical(own)) => Some(own.as_mut()),
                    _ => None,
                };
                let classes = batch.policy.width(ours.shape()[1], it.shape()[1]);
                if let Some(note) = classes.is_none().then(|| other_width(name, ours, it)) {
                    note_once(&mut self.unmeasured, note);
                }
                let comparer = comparer.is_for(name).then_some(comparer);
                let versus = Versus {
                    logits: it,
                    classes,
                    own,
                    comparer,
                };
                sums.add(ours, Some(versus), truth, samples)
            }
            (sums, head, theirs) => add_own(sums, head, facts, samples)
                .and_then(|()| theirs.map_or(Ok(()), |theirs| add_pair(sums, head, theirs, truth))),
        };
        added.map_err(|error| unreadable(&format!("head {name:?}"))(&error))
    }

    /// The teacher's head, where the student's can be compared with it.
    fn comparable<'a>(
        &mut self,
        name: &str,
        ours: &Head,
        theirs: Option<&'a Head>,
    ) -> Option<&'a Head> {
        let Some(theirs) = theirs else {
            self.note(format!(
                "comparison of head {name:?}: the teacher has no such head"
            ));
            return None;
        };
        let is_categorical = |head: &Head| matches!(head, Head::Categorical(_));
        let note = if ours.kind() != theirs.kind() {
            let (ours, theirs) = (ours.kind(), theirs.kind());
            format!("the student's is {ours}, the teacher's {theirs}")
        } else if ours.rows() != theirs.rows() {
            let (ours, theirs) = (ours.rows(), theirs.rows());
            format!("the student has {ours} rows, the teacher {theirs}")
        } else if !is_categorical(ours) && ours.width() != theirs.width() {
            let (ours, theirs) = (ours.width(), theirs.width());
            format!("the student has {ours} values per row, the teacher {theirs}")
        } else {
            return Some(theirs);
        };
        self.note(format!("comparison of head {name:?}: {note}"));
        None
    }

    /// Targets and weights of a head, where they fit it.
    fn facts<'a>(
        &mut self,
        name: &str,
        head: &Head,
        is_first: bool,
        side: Side,
        batch: &Batch<'a>,
    ) -> Result<Facts<'a>> {
        let (rows, shape) = (head.rows(), head.shape());
        let other_rows = |what, found| Err(Error::row_mismatch(what, side, name, shape, found));
        let weights = batch.targets.weights_of(name, is_first);
        if let Some(found) = weights.map(|it| it.rows()).filter(|found| *found != rows) {
            return other_rows("the mask", found);
        }
        let mut target = batch.targets.target_of(name, is_first);
        if let Some(found) = target {
            let width = match (head, found) {
                (Head::Categorical(_), Target::Class(_)) => head.width(),
                (Head::Binary(_), Target::Binary(x)) => x.dims()[1],
                (Head::Continuous(_), Target::Value(x)) => x.dims()[1],
                _ => {
                    let error = Error::TargetKind {
                        head: name.to_string(),
                        kind: head.kind().to_string(),
                        found: found.kind().to_string(),
                    };
                    self.note(format!("comparison with the targets: {error}"));
                    target = None;
                    head.width()
                }
            };
            if target.is_some() && found.rows() != rows {
                return other_rows("the target", found.rows());
            }
            if width != head.width() {
                let error = Error::TargetWidth {
                    head: name.to_string(),
                    expected: head.width(),
                    found: width,
                };
                match side {
                    Side::Student => return Err(error),
                    Side::Teacher => self.note(format!("error of the teacher: {error}")),
                }
                target = None;
            }
        }
        let labels = target.and_then(Target::classes);
        let truth = Truth::read(labels, weights)
            .map_err(|error| unreadable(&format!("head {name:?}"))(&error))?;
        if side == Side::Student
            && let Some((row, label)) = truth.out_of_range(head.width())
        {
            return Err(out_of_range(name, head, row, label, &batch.samples));
        }
        Ok(Facts { truth, target })
    }

    /// Forgets the teacher, which failed on the way.
    pub fn without_teacher(&mut self) {
        self.student.alone();
        self.teacher = HeadSums::default();
        self.comparer = Comparer::default();
    }

    pub fn note(&mut self, note: String) {
        note_once(&mut self.unmeasured, note);
    }
}

/// What is known of the rows of a head.
struct Facts<'a> {
    truth: Truth,
    target: Option<&'a Target>,
}

/// Whether both heads are measured together.
fn is_one_pass(ours: &Head, theirs: &Head) -> bool {
    matches!((ours, theirs), (Head::Categorical(_), Head::Categorical(_)))
        && ours.rows() == theirs.rows()
}

fn add_own(
    sums: &mut Sums,
    head: &Head,
    facts: &Facts<'_>,
    samples: Range<usize>,
) -> Result<(), burn::tensor::TensorReadError> {
    let truth = &facts.truth;
    match (sums, head) {
        (Sums::Categorical(sums), Head::Categorical(logits)) => {
            sums.add(logits, None, truth, samples)
        }
        (Sums::Binary(sums), Head::Binary(logits)) => {
            let labels = match facts.target {
                Some(Target::Binary(labels)) => Some(labels),
                _ => None,
            };
            sums.add_own(&constant(logits), labels, truth)
        }
        (Sums::Continuous(sums), Head::Continuous(values)) => {
            let targets = match facts.target {
                Some(Target::Value(values)) => Some(values),
                _ => None,
            };
            sums.add_own(&constant(values), targets, truth)
        }
        _ => Ok(()),
    }
}

fn add_pair(
    sums: &mut Sums,
    ours: &Head,
    theirs: &Head,
    truth: &Truth,
) -> Result<(), burn::tensor::TensorReadError> {
    match (sums, ours, theirs) {
        (Sums::Binary(sums), Head::Binary(ours), Head::Binary(theirs)) => {
            sums.add_pair(&constant(ours), &constant(theirs), truth)
        }
        (Sums::Continuous(sums), Head::Continuous(ours), Head::Continuous(theirs)) => {
            sums.add_pair(&constant(ours), &constant(theirs), truth)
        }
        _ => Ok(()),
    }
}

fn constant(x: &Tensor<2>) -> Tensor<2> {
    single(x.clone().without_autodiff())
}

fn other_width(name: &str, ours: &Logits, theirs: &Logits) -> String {
    format!(
        "comparison of head {name:?}: the student has {} classes, the teacher {}",
        ours.shape()[1],
        theirs.shape()[1]
    )
}

fn out_of_range(
    name: &str,
    head: &Head,
    row: usize,
    label: usize,
    samples: &Range<usize>,
) -> Error {
    let per_sample = (head.rows() / samples.len().max(1)).max(1);
    let classes = head.width();
    Error::Measuring {
        what: format!("head {name:?}"),
        message: format!(
            "label {label} of sample {} is out of range: the student has {classes} classes (0 to {})",
            samples.start + row / per_sample,
            classes.saturating_sub(1)
        ),
    }
}

fn note_once(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}
