//! Operations on features: what a mask leaves of them, one vector per sample, and means over the
//! samples, or tuples of samples, that a mask counts.
//!
//! Samples that do not count are zeroed and left out of every mean rather than taken out of the
//! tensors: that would wait for the device, and shapes would change from step to step.

use burn::tensor::{Bool, Device, Int, Tensor};

use crate::data::outputs::Feature;
use crate::ops::maps::at_one_size;
use crate::ops::vectors::mask_rows;

/// A vector with no element beyond this has no direction.
const ZERO: f64 = 1e-12;

/// The feature with zeros wherever the mask, one of samples or one of tokens, does not count.
///
/// Whatever a sample that does not count holds must be gone before the first product: its gradient
/// would be 0 times that.
pub(crate) fn masked(feature: Feature, mask: Option<&Tensor<1, Bool>>) -> Feature {
    let Some(mask) = mask else {
        return feature;
    };
    let ignored = mask.clone().bool_not();
    match feature {
        Feature::Rank2(x) => mask_rows(x, &ignored).into(),
        Feature::Rank3(x) => match x.dims() {
            [samples, _, _] if samples == ignored.dims()[0] => mask_rows(x, &ignored).into(),
            shape => {
                let tokens: Tensor<2> = x.flatten(0, 1);
                mask_rows(tokens, &ignored).reshape(shape).into()
            }
        },
        Feature::Rank4(x) => mask_rows(x, &ignored).into(),
    }
}

/// [`masked`], with every token a row of its own, `[N·T, D]`, where the mask is one of tokens.
pub(crate) fn rows(feature: Feature, mask: Option<&Tensor<1, Bool>>) -> Feature {
    let by_token = |x: &Tensor<3>| mask.is_some_and(|mask| mask.dims()[0] != x.dims()[0]);
    match masked(feature, mask) {
        Feature::Rank3(x) if by_token(&x) => x.flatten::<2>(0, 1).into(),
        same => same,
    }
}

/// The mask with an entry per token, `[samples · tokens]`: as it is, or each sample's entry for all
/// of its tokens.
pub(crate) fn token_mask(
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

/// The samples that count alone, or `None` where none does. Waits for the device.
pub(crate) fn counted(feature: &Feature, mask: &Tensor<1, Bool>) -> Option<Feature> {
    let places: Tensor<1, Int> = mask.clone().argwhere().flatten(0, 1);
    (places.dims()[0] > 0).then(|| match feature.clone() {
        Feature::Rank2(x) => x.select(0, places).into(),
        Feature::Rank3(x) => x.select(0, places).into(),
        Feature::Rank4(x) => x.select(0, places).into(),
    })
}

/// One vector per sample of each side, `[N, D_s]` and `[N, D_t]`, zero where the mask does not
/// count, the teacher's constant, and the samples that count.
pub(crate) fn vectors(
    student: Feature,
    teacher: Feature,
    mask: Option<&Tensor<1, Bool>>,
) -> (Tensor<2>, Tensor<2>, Samples) {
    let flat = |feature: Feature| -> Tensor<2> {
        match masked(feature, mask) {
            Feature::Rank2(x) => x,
            Feature::Rank3(x) => x.flatten(1, 2),
            Feature::Rank4(x) => x.flatten(1, 3),
        }
    };
    let samples = Samples::of(&student, &teacher, mask);
    (flat(student), flat(teacher.without_autodiff()), samples)
}

/// Channels over places, `[N, C_s, P]` and `[N, C_t, P]`: feature maps of one size with their
/// pixels as places, sequences with their tokens. Zero where the mask does not count, the teacher's
/// constant, with the samples that count.
pub(crate) fn channels(
    student: Feature,
    teacher: Feature,
    mask: Option<&Tensor<1, Bool>>,
) -> (Tensor<3>, Tensor<3>, Samples) {
    let samples = Samples::of(&student, &teacher, mask);
    let teacher = masked(teacher.without_autodiff(), mask);
    let (student, teacher) = at_one_size(masked(student, mask), teacher);
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

/// The samples of a batch that count, and means over them, their pairs or their triples.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    total: usize,
    mask: Option<Tensor<1, Bool>>,
}

impl Samples {
    /// A sample counts if the mask counts it, or any of its tokens.
    fn of(student: &Feature, teacher: &Feature, mask: Option<&Tensor<1, Bool>>) -> Self {
        let (total, other) = (student.shape()[0], teacher.shape()[0]);
        assert_eq!(
            total, other,
            "student and teacher have one number of samples"
        );
        let by_sample = |mask: &Tensor<1, Bool>| -> Tensor<1, Bool> {
            match mask.dims()[0] / total {
                1 => mask.clone(),
                tokens => {
                    let mask: Tensor<2, Bool> = mask.clone().reshape([total, tokens]);
                    mask.any_dim(1).squeeze_dim(1)
                }
            }
        };
        Self {
            total,
            mask: mask.map(by_sample),
        }
    }

    /// Zero wherever a sample that does not count takes part; every axis is one of samples.
    pub fn keep<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let Some(mask) = &self.mask else {
            return x;
        };
        let ignored = mask.clone().bool_not();
        (0..D).fold(x, |x, axis| {
            let mut shape = [1; D];
            shape[axis] = self.total;
            let ignored: Tensor<D, Bool> = ignored.clone().reshape(shape).expand(x.shape());
            x.mask_fill(ignored, 0.0)
        })
    }

    /// The mean over all tuples of samples that count, `[1]`, where every axis is one of samples.
    pub fn mean<const D: usize>(&self, x: Tensor<D>) -> Tensor<1> {
        match &self.mask {
            None => x.mean(),
            Some(_) => self.per_tuple(self.keep(x).sum(), D),
        }
    }

    /// A sum divided by the number of tuples of `arity` samples that count.
    pub fn per_tuple(&self, sum: Tensor<1>, arity: usize) -> Tensor<1> {
        let count = self.count(&sum);
        sum / count.clamp_min(1.0).powi_scalar(arity as i32)
    }

    /// How many samples count, `[1]`, in the type and on the device of `like`.
    pub fn count<const D: usize>(&self, like: &Tensor<D>) -> Tensor<1> {
        match &self.mask {
            None => {
                let device = like.device().inner();
                Tensor::<1>::full([1], self.total as f64, &device).cast(like.dtype())
            }
            Some(mask) => mask.clone().int().sum().float().cast(like.dtype()),
        }
    }

    /// `[N, N]`, 1 where the column is the next sample that counts after the row's, else 0.
    pub fn next<const D: usize>(&self, like: &Tensor<D>) -> Tensor<2> {
        let place = match &self.mask {
            None => self.places(&like.device().inner()),
            Some(mask) => mask.clone().int().cumsum(0),
        };
        let shape = [self.total, self.total];
        let row: Tensor<2, Int> = place.clone().unsqueeze_dim::<2>(1).expand(shape);
        let column: Tensor<2, Int> = place.unsqueeze_dim::<2>(0).expand(shape);
        self.keep(column.equal(row + 1).float().cast(like.dtype()))
    }

    fn places(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::arange(0..self.total as i64, device)
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
