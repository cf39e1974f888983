//! What terms need, held against what models and batches give.

use crate::data::head::{Head, HeadKind};
use crate::data::outputs::Outputs;
use crate::data::targets::{Target, too_large};
use crate::error::{Error, Result, Side};
use crate::loss::context::LossContext;
use crate::loss::term::Term;
use crate::objective::classes::{ClassPolicy, valid_rows};

/// Fails unless targets and weights belong to heads of the student, have as many rows, and fit their
/// kind and width. It looks at shapes alone.
pub(crate) fn check_rows(context: &LossContext<'_>) -> Result<()> {
    for name in context.targets.iter().flat_map(|t| t.named_heads()) {
        if context.student.head(name).is_none() {
            return Err(missing_head(
                "targets",
                name,
                Side::Student,
                context.student,
            ));
        }
    }
    for (name, head) in context.student.heads() {
        let context = context.clone().on(name);
        let mismatch = |what: &str, found: usize| match found == head.rows() {
            true => Ok(()),
            false => Err(Error::row_mismatch(
                what,
                Side::Student,
                name,
                head.shape(),
                found,
            )),
        };
        if let Some(target) = context.target() {
            mismatch("the target", target.rows())?;
            check_target(name, head, target)?;
        }
        if let Some(weights) = context.weights() {
            mismatch("the mask", weights.rows())?;
        }
        if let Some(theirs) = context.teacher_head()
            && theirs.rows() != head.rows()
        {
            return Err(Error::ShapeMismatch {
                what: format!("heads {name:?}"),
                student: head.shape().to_vec(),
                teacher: theirs.shape().to_vec(),
            });
        }
    }
    Ok(())
}

fn check_target(name: &str, head: &Head, target: &Target) -> Result<()> {
    let width = head.width();
    match (head.kind(), target) {
        (HeadKind::Categorical, Target::Class(_)) => Ok(()),
        (HeadKind::Binary, Target::Binary(x)) | (HeadKind::Continuous, Target::Value(x)) => {
            match x.dims()[1] {
                found if found == width => Ok(()),
                found => Err(Error::TargetWidth {
                    head: name.to_string(),
                    expected: width,
                    found,
                }),
            }
        }
        (kind, target) => Err(Error::TargetKind {
            head: name.to_string(),
            kind: kind.to_string(),
            found: target.kind().to_string(),
        }),
    }
}

/// Fails if a label of a valid row is too large for its head. A label below 0 is no label.
pub(crate) fn check_labels(context: &LossContext<'_>) -> Result<()> {
    for (name, head) in context.student.heads() {
        let context = context.clone().on(name);
        let Some(labels) = context.labels() else {
            continue;
        };
        let found = too_large(labels, context.row_weights(), head.width());
        let found = found.map_err(|error| Error::Measuring {
            what: "the labels of a batch".into(),
            message: error.to_string(),
        })?;
        if let Some((row, label)) = found {
            return Err(Error::LabelOutOfRange {
                label,
                classes: head.width(),
                row,
            });
        }
    }
    Ok(())
}

/// Fails unless everything that the loss of a term needs is there.
pub(crate) fn check_needs(
    term: &Term,
    context: &LossContext<'_>,
    policy: ClassPolicy,
) -> Result<()> {
    let needs = term.loss().needs();
    let name = term.name();
    if needs.teacher && context.teacher.is_none() {
        return Err(Error::NeedsTeacher { term: name });
    }
    let context = term.narrow(context);
    if let Some(head) = term.head()
        && context.student.head(head).is_none()
    {
        return Err(missing_head(
            &format!("term {name:?}"),
            head,
            Side::Student,
            context.student,
        ));
    }
    if !needs.heads.is_empty() {
        let teacher = context.teacher.filter(|_| needs.teacher);
        let sides = [
            (Side::Student, Some(context.student)),
            (Side::Teacher, teacher),
        ];
        for (side, outputs) in sides {
            if let Some(outputs) = outputs {
                check_head(&name, &needs.heads, context.head_name(), side, outputs)?;
            }
        }
        if context.student_head().map(Head::kind) == Some(HeadKind::Categorical) {
            context.check_two_classes(&name)?;
        }
        check_width(&name, &context, policy, needs.teacher)?;
    }
    if let Some(expected) = needs.target {
        let found = context.target().map(Target::kind);
        if found != Some(expected) {
            return Err(Error::MissingTargets {
                term: name,
                expected: expected.to_string(),
                found: found.map_or("no targets".into(), |found| found.to_string()),
            });
        }
    }
    for (student, teacher) in &needs.features {
        let feature = context.feature(&name, Side::Student, student)?;
        if needs.teacher {
            context.feature(&name, Side::Teacher, teacher)?;
        }
        let samples = feature.shape()[0];
        if let Some(weights) = context.weights()
            && !weights.rows().is_multiple_of(samples.max(1))
        {
            return Err(Error::FeatureRows {
                term: name,
                feature: student.clone(),
                samples,
                rows: weights.rows(),
            });
        }
    }
    if needs.indices && context.indices.is_empty() {
        return Err(Error::MissingIndices { term: name });
    }
    Ok(())
}

fn check_head(
    term: &str,
    kinds: &[HeadKind],
    name: &str,
    side: Side,
    outputs: &Outputs,
) -> Result<()> {
    let head = outputs.head(name);
    let head = head.ok_or_else(|| missing_head(&format!("term {term:?}"), name, side, outputs))?;
    match kinds.contains(&head.kind()) {
        true => Ok(()),
        false => Err(Error::HeadKind {
            term: term.to_string(),
            head: name.to_string(),
            side,
            expected: kinds
                .iter()
                .map(HeadKind::to_string)
                .collect::<Vec<_>>()
                .join(" or "),
            found: head.kind().to_string(),
        }),
    }
}

fn check_width(
    term: &str,
    context: &LossContext<'_>,
    policy: ClassPolicy,
    needs_teacher: bool,
) -> Result<()> {
    let (Some(student), Some(teacher)) = (context.student_head(), context.teacher_head()) else {
        return Ok(());
    };
    let is_aligned = policy != ClassPolicy::Error && student.kind() == HeadKind::Categorical;
    match !needs_teacher || is_aligned || student.shape() == teacher.shape() {
        true => Ok(()),
        false => Err(Error::ShapeMismatch {
            what: format!("term {term:?}: {}", context.head_name()),
            student: student.shape().to_vec(),
            teacher: teacher.shape().to_vec(),
        }),
    }
}

fn missing_head(what: &str, head: &str, side: Side, outputs: &Outputs) -> Error {
    Error::MissingHead {
        what: what.to_string(),
        head: head.to_string(),
        side,
        available: outputs.head_names(),
    }
}

/// Fails if the logits behind z-scores are not finite: a class at −∞ is fine elsewhere, but leaves no mean
/// there.
pub(crate) fn check_standardized(term: &Term, seen: &LossContext<'_>) -> Result<()> {
    if term.standardize().is_none() {
        return Ok(());
    }
    for (side, head) in [
        (Side::Student, seen.student_head()),
        (Side::Teacher, seen.teacher_head()),
    ] {
        let Some(head) = head else { continue };
        let finite = valid_rows(head.tensor(), seen.weights()).is_finite().all();
        if !finite.into_scalar::<bool>() {
            return Err(Error::NonFinite {
                what: format!("term {:?}: a logit of the {side}", term.name()),
                value: "NaN or infinite".into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests/requirements.rs"]
mod tests;
