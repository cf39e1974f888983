//! Feature maps: features as maps, two of them at one size, and a convolution between them.

use burn::tensor::Tensor;
use burn::tensor::module::{adaptive_avg_pool2d, max_pool2d};
use burn::tensor::ops::MaxPoolOptions;

use crate::data::feature::Feature;

/// Both features as [maps](to_map) of one height and one width, the teacher's as a constant.
pub(crate) fn as_maps(student: Feature, teacher: Feature) -> (Tensor<4>, Tensor<4>) {
    assert_eq!(
        student.shape().len(),
        teacher.shape().len(),
        "features have one rank: student has {:?}, teacher has {:?}",
        student.shape(),
        teacher.shape()
    );
    let (student, teacher) = at_one_size(student, teacher);
    (to_map(student), to_map(teacher).without_autodiff())
}

/// A feature as maps `[N, D, H, W]`: a vector is a map of one position, a sequence a map of one
/// column.
pub(crate) fn to_map(feature: Feature) -> Tensor<4> {
    match feature {
        Feature::Rank2(x) => x.unsqueeze_dims(&[2, 3]),
        Feature::Rank3(x) => x.swap_dims(1, 2).unsqueeze_dim(3),
        Feature::Rank4(x) => x,
    }
}

/// Feature maps at the smaller height and the smaller width of the two, everything else unchanged.
pub(crate) fn at_one_size(student: Feature, teacher: Feature) -> (Feature, Feature) {
    match (student, teacher) {
        (Feature::Rank4(s), Feature::Rank4(t)) => {
            let (s, t) = matched(s, t);
            (s.into(), t.into())
        }
        same => same,
    }
}

/// The maps of a feature that has been checked to hold maps.
pub(crate) fn expect_maps(feature: &Feature) -> Tensor<4> {
    match feature {
        Feature::Rank4(x) => x.clone(),
        other => panic!(
            "expected feature maps [N, C, H, W], got {:?}",
            other.shape()
        ),
    }
}

/// Maps at the smaller height and the smaller width of the two, by adaptive average pooling.
pub(crate) fn matched(student: Tensor<4>, teacher: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let size = smaller(&student, &teacher);
    let pool = |x: Tensor<4>| match size_of(&x) == size {
        true => x,
        false => adaptive_avg_pool2d(x, size),
    };
    (pool(student), pool(teacher))
}

/// [`at_one_size`] by adaptive maximum pooling.
pub(crate) fn max_pooled(a: Feature, b: Feature) -> (Feature, Feature) {
    match (a, b) {
        (Feature::Rank4(a), Feature::Rank4(b)) => {
            let size = smaller(&a, &b);
            let (a, b) = (adaptive_max_pool(a, size), adaptive_max_pool(b, size));
            (a.into(), b.into())
        }
        same => same,
    }
}

fn size_of(x: &Tensor<4>) -> [usize; 2] {
    [x.dims()[2], x.dims()[3]]
}

fn smaller(a: &Tensor<4>, b: &Tensor<4>) -> [usize; 2] {
    let ([ha, wa], [hb, wb]) = (size_of(a), size_of(b));
    [ha.min(hb), wa.min(wb)]
}

/// The maximum over bins that span `⌊i·H/h⌋` to `⌈(i+1)·H/h⌉`, as in adaptive average pooling.
fn adaptive_max_pool(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    let [height, width] = size_of(&x);
    if [height, width] == size {
        return x;
    }
    if height % size[0] == 0 && width % size[1] == 0 {
        let window = [height / size[0], width / size[1]];
        return max_pool2d(x, MaxPoolOptions::new(window));
    }
    let bins = |x: Tensor<4>, axis: usize, count: usize| {
        let length = x.dims()[axis];
        let bin = |i: usize| {
            let (start, end) = (i * length / count, ((i + 1) * length).div_ceil(count));
            x.clone().narrow(axis, start, end - start).max_dim(axis)
        };
        Tensor::cat((0..count).map(bin).collect(), axis)
    };
    bins(bins(x, 2, size[0]), 3, size[1])
}
