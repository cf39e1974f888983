//! What the losses on a feature of each side share: two names, what is behind them, and masks.

use burn::tensor::{Bool, Tensor};

use super::LossContext;
use crate::{Error, Feature, Result, Side};

/// A feature of the student and the feature of the teacher that it is compared with.
#[derive(Debug, Clone)]
pub(super) struct FeaturePair {
    pub student: String,
    pub teacher: String,
}

impl FeaturePair {
    /// Checks that there are names; whether the models have such features shows when they run.
    pub fn new(loss: &str, student: &str, teacher: &str) -> Result<Self> {
        for (side, value) in [("student", student), ("teacher", teacher)] {
            if value.is_empty() {
                return Err(Error::invalid(
                    format!("{loss}.{side}"),
                    format!("{value:?}"),
                    "the name of a feature",
                ));
            }
        }
        Ok(Self {
            student: student.into(),
            teacher: teacher.into(),
        })
    }

    /// Both names, the student's first.
    pub fn names(&self) -> (String, String) {
        (self.student.clone(), self.teacher.clone())
    }

    /// Both features.
    pub fn find<'a>(
        &self,
        term: &str,
        context: &LossContext<'a>,
    ) -> Result<(&'a Feature, &'a Feature)> {
        Ok((
            context.feature(term, Side::Student, &self.student)?,
            context.feature(term, Side::Teacher, &self.teacher)?,
        ))
    }

    /// Fails unless both shapes have one of these ranks.
    pub fn check_ranks(
        &self,
        term: &str,
        shapes: [&[usize]; 2],
        ranks: &[usize],
        expected: &'static str,
    ) -> Result<()> {
        for (side, shape) in [Side::Student, Side::Teacher].into_iter().zip(shapes) {
            if !ranks.contains(&shape.len()) {
                return Err(self.unsuited(term, side, shape, expected));
            }
        }
        Ok(())
    }

    /// One side has a shape that nothing can be compared with.
    pub fn unsuited(
        &self,
        term: &str,
        side: Side,
        shape: &[usize],
        expected: &'static str,
    ) -> Error {
        Error::FeatureShape {
            term: term.into(),
            name: match side {
                Side::Student => self.student.clone(),
                Side::Teacher => self.teacher.clone(),
            },
            side,
            shape: shape.to_vec(),
            expected,
        }
    }

    /// The two shapes do not fit each other.
    pub fn mismatch(&self, term: &str, student: Vec<usize>, teacher: Vec<usize>) -> Error {
        Error::ShapeMismatch {
            what: format!(
                "term {term:?}: features {:?} and {:?}",
                self.student, self.teacher
            ),
            student,
            teacher,
        }
    }
}

/// Fails unless the mask, if there is one, has an entry per sample or an entry per token.
pub(super) fn check_mask(context: &LossContext<'_>, samples: usize, tokens: usize) -> Result<()> {
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

/// The mask with an entry per token, `[samples · tokens]`: as it is, or each sample's entry for all
/// of its tokens.
pub(super) fn token_mask(
    mask: Option<&Tensor<1, Bool>>,
    samples: usize,
    tokens: usize,
) -> Option<Tensor<1, Bool>> {
    let mask = mask?.clone();
    Some(match mask.dims()[0] == samples * tokens {
        true => mask,
        false => mask
            .unsqueeze_dim::<2>(1)
            .expand([samples, tokens])
            .reshape([samples * tokens]),
    })
}

/// What the tests of the losses on features share.
#[cfg(test)]
pub(super) mod fixtures {
    use burn::tensor::{Tensor, TensorData};

    use crate::{Feature, Outputs};

    /// Outputs of `rows` rows with one feature.
    pub fn outputs(rows: usize, name: &str, feature: impl Into<Feature>) -> Outputs {
        let feature = feature.into();
        let device = match &feature {
            Feature::Rank2(x) => x.device(),
            Feature::Rank3(x) => x.device(),
            Feature::Rank4(x) => x.device(),
        };
        Outputs::new(Tensor::<2>::zeros([rows, 2], &device)).with_feature(name, feature)
    }

    /// All elements.
    pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    /// Fails unless all elements are these, up to the tolerance.
    #[track_caller]
    pub fn assert_close<const D: usize>(tensor: Tensor<D>, expected: &[f32], tolerance: f32) {
        let found = numbers(tensor);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        let is_close = |(f, e): (&f32, &f32)| (f - e).abs() <= tolerance;
        let all = found.iter().zip(expected).all(is_close);
        assert!(all, "found {found:?}, expected {expected:?}");
    }

    /// Reproducible numbers between −1 and 1 without a pattern.
    pub fn noise(shape: impl Into<Vec<usize>>, seed: u64) -> TensorData {
        let shape = shape.into();
        let count: usize = shape.iter().product();
        let number = |i: usize| {
            let mixed = (seed * 1_000_003 + i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        TensorData::new((0..count).map(number).collect::<Vec<f32>>(), shape)
    }
}
