//! The two features that a term compares, by name.

use super::{LossContext, Parts};
use crate::features::{at_one_size, masked};
use crate::{Error, Feature, Result, Side};

/// Which axes two features must have in common.
#[derive(Debug, Clone, Copy)]
pub(super) enum Common {
    /// The samples: relations among them can be compared, whatever a sample looks like.
    Samples,
    /// All but the width and, for feature maps, their size: a projector and pooling see to these.
    AllButWidth,
}

/// The names of the two features that a term compares.
#[derive(Debug, Clone)]
pub(super) struct FeaturePair {
    loss: &'static str,
    pub student: String,
    pub teacher: String,
}

impl FeaturePair {
    /// The pair of a loss, or an error if a name is empty.
    pub fn new(loss: &'static str, student: &str, teacher: &str) -> Result<Self> {
        for (side, name) in [("student", student), ("teacher", teacher)] {
            if name.is_empty() {
                return Err(Error::invalid(
                    format!("{loss}.{side}"),
                    format!("{name:?}"),
                    "the name of a feature",
                ));
            }
        }
        Ok(Self {
            loss,
            student: student.to_string(),
            teacher: teacher.to_string(),
        })
    }

    /// The name of the term.
    pub fn name(&self) -> String {
        format!("{}_{}", self.loss, self.student)
    }

    /// The names, student's first.
    pub fn names(&self) -> (String, String) {
        (self.student.clone(), self.teacher.clone())
    }

    /// The two features, once [`check`](Self::check) has found them.
    pub fn features(&self, context: &LossContext<'_>) -> (Feature, Feature) {
        let (student, teacher) = self.find(context).expect("checked beforehand");
        (student.clone(), teacher.clone())
    }

    /// The two features at one size and of one width: without what the mask leaves out, pooled and,
    /// where the context has a projector, projected. The teacher's is constant.
    pub fn alike(&self, context: &LossContext<'_>) -> (Feature, Feature) {
        let (student, teacher) = self.features(context);
        let student = masked(student, context.mask);
        let (student, teacher) = at_one_size(student, teacher.without_autodiff());
        match context.parts {
            Some(Parts::Projector(projector)) => (projector.forward(student), teacher),
            _ => (student, teacher),
        }
    }

    fn find<'a>(&self, context: &LossContext<'a>) -> Result<(&'a Feature, &'a Feature)> {
        let name = self.name();
        Ok((
            context.feature(&name, Side::Student, &self.student)?,
            context.feature(&name, Side::Teacher, &self.teacher)?,
        ))
    }

    /// Fails unless both features are there, have the axes in common that the loss needs and, if
    /// there is a mask, one row per entry of it.
    pub fn check(&self, context: &LossContext<'_>, common: Common) -> Result<()> {
        let (student, teacher) = self.find(context)?;
        let (s, t) = (student.shape(), teacher.shape());
        let agree = match common {
            Common::Samples => s[0] == t[0],
            Common::AllButWidth => {
                let fixed = match s.len() {
                    4 => 0..1,
                    rank => 0..rank - 1,
                };
                s.len() == t.len() && s[fixed.clone()] == t[fixed]
            }
        };
        if !agree {
            return Err(Error::ShapeMismatch {
                what: format!(
                    "term {:?}: features {:?} and {:?}",
                    self.name(),
                    self.student,
                    self.teacher
                ),
                student: s,
                teacher: t,
            });
        }
        let Some(mask) = context.mask else {
            return Ok(());
        };
        let rows = mask.dims()[0];
        for shape in [s, t] {
            let tokens = shape.len() == 3 && rows == shape[0] * shape[1];
            if rows != shape[0] && !tokens {
                return Err(Error::BatchMismatch {
                    what: "a masked feature",
                    side: Side::Student,
                    expected: rows,
                    found: shape[0],
                });
            }
        }
        Ok(())
    }

    /// Fails unless both features have one of these ranks, described by `expected`.
    pub fn check_ranks(
        &self,
        context: &LossContext<'_>,
        ranks: &[usize],
        expected: &'static str,
    ) -> Result<()> {
        let (student, teacher) = self.find(context)?;
        let sides = [
            (Side::Student, &self.student, student),
            (Side::Teacher, &self.teacher, teacher),
        ];
        for (side, name, feature) in sides {
            let shape = feature.shape();
            if !ranks.contains(&shape.len()) {
                return Err(Error::FeatureRank {
                    term: self.name(),
                    name: name.clone(),
                    side,
                    expected,
                    shape,
                });
            }
        }
        Ok(())
    }
}
