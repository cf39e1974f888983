//! The two features that a term compares, by name.

use burn::tensor::{Device, Tensor};

use crate::data::feature::Feature;
use crate::error::{Error, Result, Side};
use crate::loss::context::LossContext;
use crate::loss::loss::Needs;
use crate::loss::modules::LossModules;
use crate::loss::modules::projector::Projector;
use crate::ops::features::{masked, masked_at_one_size};
use crate::ops::maps::expect_maps;

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
    student: String,
    teacher: String,
}

impl FeaturePair {
    /// The pair of a loss. The term is called after the loss and the student's feature.
    pub fn new(loss: &str, student: &str, teacher: &str) -> Self {
        Self {
            term: format!("{loss}_{student}"),
            student: student.to_string(),
            teacher: teacher.to_string(),
        }
    }

    /// The same pair as one of several of a term of this name.
    #[must_use]
    pub fn named(mut self, term: impl Into<String>) -> Self {
        self.term = term.into();
        self
    }

    /// Fails if a name is empty.
    pub fn validate(&self, loss: &str) -> Result<()> {
        for (side, name) in [("student", &self.student), ("teacher", &self.teacher)] {
            if name.is_empty() {
                return Err(Error::invalid(
                    format!("{loss}.{side}"),
                    format!("{name:?}"),
                    "the name of a feature",
                ));
            }
        }
        Ok(())
    }

    /// The name of the term.
    pub fn name(&self) -> String {
        self.term.clone()
    }

    /// What a loss between the two needs.
    pub fn needs(&self) -> Needs {
        Needs::teacher().with_features(&self.student, &self.teacher)
    }

    /// What a loss between each of several pairs needs.
    pub fn needs_of_all(pairs: impl IntoIterator<Item = Self>) -> Needs {
        let pairs = pairs.into_iter();
        pairs.fold(Needs::teacher(), |needs, pair| {
            needs.with_features(pair.student, pair.teacher)
        })
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

    /// The two features at one size and of one width: zero where the weight is, pooled and, where the
    /// context has a projector, projected. The teacher's is constant.
    pub fn aligned(&self, context: &LossContext<'_>) -> (Feature, Feature) {
        let (student, teacher) = self.features(context);
        let weights = context.weights();
        // A linear map commutes with pooling, and this order is the cheaper one.
        let (student, teacher) = masked_at_one_size(student, teacher, weights);
        let projector = context
            .modules
            .and_then(|modules| modules.try_get::<Projector>());
        match projector {
            Some(projector) => (projector.forward_weighted(student, weights), teacher),
            None => (student, teacher),
        }
    }

    /// A projector from the student's width to the teacher's, where they differ.
    pub fn projector(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let (student, teacher) = self.features(context);
        Projector::between(&student, &teacher, device).map(LossModules::new)
    }

    /// [`aligned`](Self::aligned) feature maps.
    pub fn aligned_maps(&self, context: &LossContext<'_>) -> (Tensor<4>, Tensor<4>) {
        let (student, teacher) = self.aligned(context);
        (expect_maps(&student), expect_maps(&teacher))
    }

    /// The two feature maps, zero where the weight is.
    pub fn maps(&self, context: &LossContext<'_>) -> (Tensor<4>, Tensor<4>) {
        let (student, teacher) = self.features(context);
        let maps = |feature| expect_maps(&masked(feature, context.weights()));
        (maps(student), maps(teacher))
    }

    /// Fails unless both features are there and have the axes in common that the loss needs.
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
        match agree {
            true => Ok(()),
            false => Err(self.mismatch(s, t)),
        }
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
                return Err(self.shape_error(side, shape, expected));
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
    pub fn shape_error(&self, side: Side, shape: Vec<usize>, expected: &'static str) -> Error {
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
