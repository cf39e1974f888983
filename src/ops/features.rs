//! Operations on features: rows with weights, one vector per sample, and weighted means over samples or
//! tuples of samples.
//!
//! Samples of weight zero are zeroed and left out of every mean rather than taken out of the
//! tensors: that would wait for the device, and shapes would change from step to step.

use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Bool, Int, Tensor};

use crate::data::feature::Feature;
use crate::data::targets::{Weights, from_bool};
use crate::ops::vectors::{mask_rows, mean_rows, or_one};

/// A vector with no element beyond this has no direction.
const ZERO: f64 = 1e-12;

/// The feature with zeros wherever its weight is zero: of samples, tokens or positions, as fine as both
/// the weights and the feature are.
///
/// Whatever a row of weight zero holds must be gone before the first product: its gradient would be 0
/// times that.
pub(crate) fn masked(feature: Feature, weights: Option<&Weights>) -> Feature {
    let Some(weights) = weights else {
        return feature;
    };
    match feature {
        Feature::Rank2(x) => {
            let [samples, _] = x.dims();
            mask_rows(x, &is_zero(weights.by_sample(samples))).into()
        }
        Feature::Rank3(x) => {
            let [samples, tokens, _] = x.dims();
            let shape = x.dims();
            let rows: Tensor<2> = x.flatten(0, 1);
            let ignored = is_zero(weights.by_token(samples, tokens));
            mask_rows(rows, &ignored).reshape(shape).into()
        }
        Feature::Rank4(x) => {
            let [samples, _, height, width] = x.dims();
            let ignored = is_zero(weights.by_position(samples, [height, width]));
            let ignored: Tensor<4, Bool> = ignored.unsqueeze_dim::<4>(1).expand(x.shape());
            x.mask_fill(ignored, 0.0).into()
        }
    }
}

fn is_zero<const D: usize>(weights: Tensor<D>) -> Tensor<D, Bool> {
    weights.equal_elem(0.0)
}

/// Two features of one shape as rows with a weight each: the samples, or the tokens or positions where
/// weights tell them apart.
pub(crate) struct WeightedRows {
    /// `[rows, D]`, zero where the weight is.
    pub student: Tensor<2>,
    /// `[rows, D]`, zero where the weight is, constant.
    pub teacher: Tensor<2>,
    /// `[rows]`
    pub weights: Option<Tensor<1>>,
}

impl WeightedRows {
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn new(student: Feature, teacher: Feature, weights: Option<&Weights>) -> Self {
        assert_eq!(
            student.shape(),
            teacher.shape(),
            "student and teacher features have one shape"
        );
        let own = weights.map(|weights| feature_weights(&student.shape(), weights));
        let is_fine = own
            .as_ref()
            .is_some_and(|own| own.dims()[0] != student.shape()[0]);
        let rows = |feature: Feature| flat(masked(feature, weights), is_fine);
        Self {
            teacher: rows(teacher.without_autodiff()),
            student: rows(student),
            weights: own,
        }
    }
}

/// The weights of a feature's rows: of its samples, or of its tokens or positions where the weights tell
/// them apart.
fn feature_weights(shape: &[usize], weights: &Weights) -> Tensor<1> {
    let samples = shape[0];
    match *shape {
        [_, tokens, _] if weights.rows() == samples * tokens => weights.by_token(samples, tokens),
        [_, _, h, w] if are_of_positions(weights, samples, [h, w]) => {
            weights.by_position(samples, [h, w]).flatten(0, 2)
        }
        _ => weights.by_sample(samples),
    }
}

/// One row per sample, or per token or position.
fn flat(feature: Feature, is_fine: bool) -> Tensor<2> {
    match (feature, is_fine) {
        (Feature::Rank2(x), _) => x,
        (Feature::Rank3(x), true) => x.flatten(0, 1),
        (Feature::Rank3(x), false) => x.flatten(1, 2),
        (Feature::Rank4(x), true) => x.permute([0, 2, 3, 1]).flatten(0, 2),
        (Feature::Rank4(x), false) => x.flatten(1, 3),
    }
}

/// Both features zero where the weight is, the teacher's constant, and maps at the smaller height and
/// width of the two by [`pooled`].
pub(crate) fn masked_at_one_size(
    student: Feature,
    teacher: Feature,
    weights: Option<&Weights>,
) -> (Feature, Feature) {
    let teacher = masked(teacher.without_autodiff(), weights);
    match (masked(student, weights), teacher) {
        (Feature::Rank4(s), Feature::Rank4(t)) => {
            let size = [2, 3].map(|axis| s.dims()[axis].min(t.dims()[axis]));
            let (s, t) = (pooled(s, size, weights), pooled(t, size, weights));
            (s.into(), t.into())
        }
        same => same,
    }
}

/// Maps brought to a size by adaptive average pooling, as the mean over the weighted positions: one of
/// weight zero, which is to be zero already, does not draw a mean towards zero.
pub(crate) fn pooled(x: Tensor<4>, size: [usize; 2], weights: Option<&Weights>) -> Tensor<4> {
    let [samples, _, height, width] = x.dims();
    if [height, width] == size {
        return x;
    }
    match weights {
        Some(weights) if are_of_positions(weights, samples, [height, width]) => {
            let weights = weights.by_position(samples, [height, width]);
            let weights: Tensor<4> = weights.cast(x.dtype()).unsqueeze_dim(1);
            let share = adaptive_avg_pool2d(weights.clone(), size);
            let is_zero = is_zero(share.clone());
            adaptive_avg_pool2d(x * weights, size) / share.mask_fill(is_zero, 1.0)
        }
        _ => adaptive_avg_pool2d(x, size),
    }
}

/// Whether weights tell the positions of maps of this size apart.
pub(crate) fn are_of_positions(weights: &Weights, samples: usize, size: [usize; 2]) -> bool {
    let [height, width] = size;
    let is_image = matches!(weights.axes(), [n, _, _] if *n == samples);
    is_image || (weights.rows() == samples * height * width && height * width > 1)
}

/// One number per element of a feature, such as the squared error to another feature there.
pub(crate) struct Elements {
    /// `[N, elements of a sample]`
    values: Tensor<2>,
    /// The shape of the feature.
    shape: Vec<usize>,
}

impl Elements {
    /// What `compare` makes of two features as `[N, elements of a sample]`, the teacher's constant.
    ///
    /// # Panics
    ///
    /// Panics if the ranks or the shapes differ.
    pub fn between(
        student: Feature,
        teacher: Feature,
        compare: impl FnOnce(Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Self {
        let (shape, other) = (student.shape(), teacher.shape());
        assert_eq!(
            shape.len(),
            other.len(),
            "features have one rank: student has {shape:?}, teacher has {other:?}"
        );
        assert_eq!(shape, other, "student and teacher features have one shape");
        let teacher = flat(teacher.without_autodiff(), false);
        Self {
            values: compare(flat(student, false), teacher),
            shape,
        }
    }

    /// Numbers of the shape of the maps that they are of.
    pub fn of(maps: Tensor<4>) -> Self {
        Self {
            shape: maps.dims().to_vec(),
            values: maps.flatten(1, 3),
        }
    }

    /// The mean of each sample's elements, `[N]`.
    pub fn means(self) -> Tensor<1> {
        self.values.mean_dim(1).squeeze_dim(1)
    }

    /// The sum of each sample's elements, `[N]`. Elements of tokens or positions count by their weight
    /// over the largest of the sample, which is the weight of the sample.
    pub fn sums(self, weights: Option<&Weights>) -> Tensor<1> {
        let samples = self.shape[0];
        match self.fine(weights) {
            None => self.values.sum_dim(1).squeeze_dim(1),
            Some(fine) => {
                let weights = fine.cast(self.values.dtype());
                let rows = self.rows().sum_dim(1).squeeze_dim::<1>(1);
                let rows = rows.mask_fill(is_zero(weights.clone()), 0.0) * weights.clone();
                let [rows, weights] = [rows, weights].map(|x| {
                    let x: Tensor<2> = x.reshape([samples as isize, -1]);
                    x
                });
                let sums: Tensor<1> = rows.sum_dim(1).squeeze_dim(1);
                sums / or_one(weights.max_dim(1).squeeze_dim(1))
            }
        }
    }

    /// The weighted mean over the elements of all samples, `[1]`.
    pub fn mean(self, weights: Option<&Weights>) -> Tensor<1> {
        match self.fine(weights) {
            None => {
                let by_sample = weights.map(|weights| weights.by_sample(self.shape[0]));
                mean_rows(self.means(), by_sample.as_ref())
            }
            Some(fine) => mean_rows(self.rows().mean_dim(1).squeeze_dim(1), Some(&fine)),
        }
    }

    /// One weight per token or position, where weights tell these apart.
    fn fine(&self, weights: Option<&Weights>) -> Option<Tensor<1>> {
        let own = weights.map(|weights| feature_weights(&self.shape, weights))?;
        (own.dims()[0] != self.shape[0]).then_some(own)
    }

    /// One row per token or position.
    fn rows(&self) -> Tensor<2> {
        let x = self.values.clone();
        match self.shape[..] {
            [n, tokens, d] => x.reshape([n * tokens, d]),
            [n, c, h, w] => {
                let channels: Tensor<3> = x.reshape([n, c, h * w]);
                channels.swap_dims(1, 2).reshape([n * h * w, c])
            }
            _ => x,
        }
    }
}

/// One vector per sample of each side, `[N, D_s]` and `[N, D_t]`, zero where the weight is, the
/// teacher's constant, and the weights of the samples.
pub(crate) fn vectors(
    student: Feature,
    teacher: Feature,
    weights: Option<&Weights>,
) -> (Tensor<2>, Tensor<2>, Samples) {
    let samples = Samples::of(&student, &teacher, weights);
    let vector = |feature: Feature| flat(masked(feature, weights), false);
    (vector(student), vector(teacher.without_autodiff()), samples)
}

/// Channels over positions, `[N, C_s, P]` and `[N, C_t, P]`: feature maps of one size with their pixels
/// as positions, sequences with their tokens. Zero where the weight is, the teacher's constant, with the
/// weights of the samples.
pub(crate) fn channels(
    student: Feature,
    teacher: Feature,
    weights: Option<&Weights>,
) -> (Tensor<3>, Tensor<3>, Samples) {
    let samples = Samples::of(&student, &teacher, weights);
    let (student, teacher) = masked_at_one_size(student, teacher, weights);
    let (student, teacher): (Tensor<3>, Tensor<3>) = match (student, teacher) {
        (Feature::Rank3(s), Feature::Rank3(t)) => (s.swap_dims(1, 2), t.swap_dims(1, 2)),
        (Feature::Rank4(s), Feature::Rank4(t)) => (s.flatten(2, 3), t.flatten(2, 3)),
        (s, t) => panic!(
            "features are both feature maps or both sequences: student has {:?}, teacher has {:?}",
            s.shape(),
            t.shape()
        ),
    };
    assert_eq!(
        student.dims()[2],
        teacher.dims()[2],
        "student and teacher have one number of tokens"
    );
    (student, teacher, samples)
}

/// The samples of a batch with their weights, and means over them, their pairs or their triples. The
/// weight of a tuple is the product of its samples'.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    total: usize,
    weights: Option<Tensor<1>>,
}

impl Samples {
    /// A sample has the largest weight of its rows.
    pub fn of(student: &Feature, teacher: &Feature, weights: Option<&Weights>) -> Self {
        let (total, other) = (student.shape()[0], teacher.shape()[0]);
        assert_eq!(
            total, other,
            "student and teacher have one number of samples"
        );
        Self {
            total,
            weights: weights.map(|weights| weights.by_sample(total)),
        }
    }

    /// Zero wherever a sample of weight zero takes part; every axis is one of samples.
    pub fn keep<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let Some(weights) = &self.weights else {
            return x;
        };
        let ignored = is_zero(weights.clone());
        (0..D).fold(x, |x, axis| {
            let mut shape = [1; D];
            shape[axis] = self.total;
            let ignored: Tensor<D, Bool> = ignored.clone().reshape(shape).expand(x.shape());
            x.mask_fill(ignored, 0.0)
        })
    }

    /// Every tuple times its weight; zero wherever a sample of weight zero takes part.
    pub fn weighted<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let Some(weights) = &self.weights else {
            return x;
        };
        let weights = weights.clone().cast(x.dtype());
        (0..D).fold(self.keep(x), |x, axis| {
            let mut shape = [1; D];
            shape[axis] = self.total;
            x * weights.clone().reshape(shape)
        })
    }

    /// The weighted mean over all tuples of samples, `[1]`, where every axis is one of samples.
    pub fn mean<const D: usize>(&self, x: Tensor<D>) -> Tensor<1> {
        match &self.weights {
            None => x.mean(),
            Some(_) => self.per_tuple(self.weighted(x).sum(), D),
        }
    }

    /// A weighted sum divided by the sum of the weights of all tuples of `arity` samples.
    pub fn per_tuple(&self, sum: Tensor<1>, arity: usize) -> Tensor<1> {
        let count = self.count(&sum);
        sum / or_one(count.powi_scalar(arity as i32))
    }

    /// The sum of the samples' weights, `[1]`, in the type and on the device of `like`.
    pub fn count<const D: usize>(&self, like: &Tensor<D>) -> Tensor<1> {
        match &self.weights {
            None => {
                let device = like.device().inner();
                Tensor::full([1], self.total as f64, (&device, like.dtype()))
            }
            Some(weights) => weights.clone().sum().cast(like.dtype()),
        }
    }

    /// The weight of each sample, `[N]`, where they are not all 1.
    pub fn weights(&self) -> Option<&Tensor<1>> {
        self.weights.as_ref()
    }

    /// `[N, N]`, 1 where the column is the next valid sample after the row's, else 0.
    pub fn next<const D: usize>(&self, like: &Tensor<D>) -> Tensor<2> {
        let order = match &self.weights {
            None => Tensor::arange(0..self.total as i64, &like.device().inner()),
            Some(weights) => is_zero(weights.clone()).bool_not().int().cumsum(0),
        };
        let shape = [self.total, self.total];
        let row: Tensor<2, Int> = order.clone().unsqueeze_dim::<2>(1).expand(shape);
        let column: Tensor<2, Int> = order.unsqueeze_dim::<2>(0).expand(shape);
        self.keep(from_bool(column.equal(row + 1)).cast(like.dtype()))
    }
}

/// Vectors along an axis at length 1. Zero vectors stay zero and have no gradient.
pub(crate) fn unit<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let Scaled { x, zero, .. } = at_scale(x, axis);
    x.clone() / root(x, zero, axis)
}

/// Lengths of vectors along an axis, which is kept with size 1. Zero vectors have no gradient.
pub(crate) fn length<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let Scaled { x, scale, zero } = at_scale(x, axis);
    root(x, zero.clone(), axis).mask_fill(zero, 0.0) * scale
}

/// The root of a sum of squares, and 1 where it would be that of zero: there its derivative is
/// infinite.
fn root<const D: usize>(x: Tensor<D>, zero: Tensor<D, Bool>, axis: usize) -> Tensor<D> {
    let square = (x.clone() * x).sum_dim(axis);
    square.mask_fill(zero, 1.0).sqrt()
}

/// Vectors along an axis, divided by their largest element.
pub(crate) struct Scaled<const D: usize> {
    /// The quotient, within -1 and 1, so that no power of it overflows; 0 for zero vectors.
    pub x: Tensor<D>,
    /// The divisor, a constant.
    pub scale: Tensor<D>,
    /// Which vectors are zero; their divisor is 1.
    pub zero: Tensor<D, Bool>,
}

/// Divides vectors along an axis by their largest element, as by a constant.
pub(crate) fn at_scale<const D: usize>(x: Tensor<D>, axis: usize) -> Scaled<D> {
    let largest = x.clone().without_autodiff().max_abs_dim(axis);
    let zero = largest.clone().lower_equal_elem(ZERO);
    let scale = largest.mask_fill(zero.clone(), 1.0);
    let all: Tensor<D, Bool> = zero.clone().expand(x.shape());
    Scaled {
        x: x.mask_fill(all, 0.0) / scale.clone(),
        scale,
        zero,
    }
}

#[cfg(test)]
#[path = "tests/features.rs"]
mod tests;
