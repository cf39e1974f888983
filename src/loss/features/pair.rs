//! The two features that a term compares, by name.

use burn::tensor::Tensor;

use crate::data::outputs::Feature;
use crate::error::{Error, Result, Side};
use crate::loss::LossContext;
use crate::loss::modules::Parts;
use crate::ops::features::masked;
use crate::ops::maps::{at_one_size, expect_maps};

/// Which axes two features must have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Common {
    /// The samples: relations among them can be compared, whatever a sample looks like.
    Samples,
    /// All but the width and, for feature maps, their size: a projector and pooling see to these.
    AllButWidth,
}

/// The names of the two features that a term compares.
#[derive(Debug, Clone)]
pub(crate) struct FeaturePair {
    term: String,
    pub student: String,
    pub teacher: String,
}

impl FeaturePair {
    /// The pair of a loss, or an error if a name is empty. The term is called after the loss and
    /// the student's feature.
    pub fn new(loss: &str, student: &str, teacher: &str) -> Result<Self> {
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
            term: format!("{loss}_{student}"),
            student: student.to_string(),
            teacher: teacher.to_string(),
        })
    }

    /// The same pair as one of several of a term of this name.
    #[must_use]
    pub fn of_term(mut self, term: impl Into<String>) -> Self {
        self.term = term.into();
        self
    }

    /// The name of the term.
    pub fn name(&self) -> String {
        self.term.clone()
    }

    /// The names, student's first.
    pub fn names(&self) -> (String, String) {
        (self.student.clone(), self.teacher.clone())
    }

    /// The two features, or an error that lists what there is.
    pub fn find<'a>(&self, context: &LossContext<'a>) -> Result<(&'a Feature, &'a Feature)> {
        Ok((
            context.feature(&self.term, Side::Student, &self.student)?,
            context.feature(&self.term, Side::Teacher, &self.teacher)?,
        ))
    }

    /// The two features, once a check has found them.
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

    /// The two feature maps, without what the mask leaves out.
    pub fn maps(&self, context: &LossContext<'_>) -> (Tensor<4>, Tensor<4>) {
        let (student, teacher) = self.features(context);
        let maps = |feature| expect_maps(&masked(feature, context.mask));
        (maps(student), maps(teacher))
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
            return Err(self.mismatch(s, t));
        }
        [s, t].iter().try_for_each(|shape| {
            let tokens = match shape[..] {
                [_, tokens, _] => tokens,
                _ => 1,
            };
            check_mask(context, shape[0], tokens)
        })
    }

    /// Fails unless both features have one of these ranks, described by `expected`.
    pub fn check_ranks(
        &self,
        context: &LossContext<'_>,
        ranks: &[usize],
        expected: &'static str,
    ) -> Result<()> {
        let (student, teacher) = self.find(context)?;
        for (side, feature) in [(Side::Student, student), (Side::Teacher, teacher)] {
            let shape = feature.shape();
            if !ranks.contains(&shape.len()) {
                return Err(self.unsuited(side, shape, expected));
            }
        }
        Ok(())
    }

    /// Fails unless both features are maps.
    pub fn check_maps(&self, context: &LossContext<'_>) -> Result<()> {
        self.check_ranks(context, &[4], "feature maps [N, C, H, W]")
    }

    /// Fails unless both features have one width.
    pub fn check_width(&self, context: &LossContext<'_>) -> Result<()> {
        let (student, teacher) = self.find(context)?;
        match student.width() == teacher.width() {
            true => Ok(()),
            false => Err(self.mismatch(student.shape(), teacher.shape())),
        }
    }

    /// One side has a shape that nothing can be compared with.
    pub fn unsuited(&self, side: Side, shape: Vec<usize>, expected: &'static str) -> Error {
        Error::FeatureShape {
            term: self.name(),
            name: match side {
                Side::Student => self.student.clone(),
                Side::Teacher => self.teacher.clone(),
            },
            side,
            shape,
            expected,
        }
    }

    /// The two shapes do not fit each other.
    pub fn mismatch(&self, student: Vec<usize>, teacher: Vec<usize>) -> Error {
        Error::ShapeMismatch {
            what: format!(
                "term {:?}: features {:?} and {:?}",
                self.term, self.student, self.teacher
            ),
            student,
            teacher,
        }
    }
}

/// Fails unless the mask, if there is one, has an entry per sample or an entry per token.
pub(crate) fn check_mask(context: &LossContext<'_>, samples: usize, tokens: usize) -> Result<()> {
    match context.mask.map(|mask| mask.dims()[0]) {
        Some(rows) if rows != samples && rows != samples * tokens => Err(Error::BatchMismatch {
            what: "a masked feature",
            side: Side::Student,
            expected: rows,
            found: samples,
        }),
        _ => Ok(()),
    }
}
