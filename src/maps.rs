//! What the losses on features share: two features by name, brought to one size, without the rows
//! that do not count.

mod conv_norm;

pub(crate) use conv_norm::ConvNorm;

use burn::tensor::module::{adaptive_avg_pool2d, max_pool2d};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Bool, Tensor};

use crate::ops::mask_rows;
use crate::{Error, Feature, Result, Side};

/// The names of two features that a loss compares.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub student: String,
    pub teacher: String,
}

impl Pair {
    /// A pair of the loss of this name. Fails if a name is empty.
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
            student: student.to_string(),
            teacher: teacher.to_string(),
        })
    }

    pub fn names(&self) -> (String, String) {
        (self.student.clone(), self.teacher.clone())
    }

    /// Fails unless both features have one rank and, but for their width and for the size of maps,
    /// one shape.
    pub fn check(&self, term: &str, student: &Feature, teacher: &Feature) -> Result<()> {
        let (s, t) = (student.shape(), teacher.shape());
        let fixed = match s.len() {
            4 => 0..1,
            rank => 0..rank - 1,
        };
        match s.len() == t.len() && s[fixed.clone()] == t[fixed] {
            true => Ok(()),
            false => Err(self.mismatch(term, student, teacher)),
        }
    }

    /// Fails unless both features have one width.
    pub fn check_width(&self, term: &str, student: &Feature, teacher: &Feature) -> Result<()> {
        match student.width() == teacher.width() {
            true => Ok(()),
            false => Err(self.mismatch(term, student, teacher)),
        }
    }

    /// Fails unless both features are maps.
    pub fn check_maps(&self, term: &str, student: &Feature, teacher: &Feature) -> Result<()> {
        let sides = [
            (Side::Student, &self.student, student),
            (Side::Teacher, &self.teacher, teacher),
        ];
        for (side, name, feature) in sides {
            if !matches!(feature, Feature::Rank4(_)) {
                return Err(Error::invalid(
                    format!("term {term:?}: the shape of feature {name:?} of the {side}"),
                    format!("{:?}", feature.shape()),
                    "feature maps [N, C, H, W]",
                ));
            }
        }
        Ok(())
    }

    fn mismatch(&self, term: &str, student: &Feature, teacher: &Feature) -> Error {
        Error::ShapeMismatch {
            what: format!(
                "term {term:?}: features {:?} and {:?}",
                self.student, self.teacher
            ),
            student: student.shape(),
            teacher: teacher.shape(),
        }
    }
}

/// Fails unless the mask has one place for each row of the feature: a sample, or a token.
pub(crate) fn check_mask(feature: &Feature, mask: Option<&Tensor<1, Bool>>) -> Result<()> {
    let Some(mask) = mask else { return Ok(()) };
    let (rows, shape) = (mask.dims()[0], feature.shape());
    match rows == shape[0] || (shape.len() == 3 && rows == shape[0] * shape[1]) {
        true => Ok(()),
        false => Err(Error::BatchMismatch {
            what: "a masked feature",
            side: Side::Student,
            expected: rows,
            found: shape[0],
        }),
    }
}

/// A feature with zeros in the rows that do not count. Under a mask of tokens every token becomes
/// a row of its own, `[N·T, D]`.
pub(crate) fn masked(feature: Feature, mask: Option<&Tensor<1, Bool>>) -> Feature {
    let Some(mask) = mask else { return feature };
    let ignored = mask.clone().bool_not();
    match feature {
        Feature::Rank2(x) => mask_rows(x, &ignored).into(),
        Feature::Rank3(x) if x.dims()[0] != ignored.dims()[0] => {
            mask_rows(x.flatten::<2>(0, 1), &ignored).into()
        }
        Feature::Rank3(x) => mask_rows(x, &ignored).into(),
        Feature::Rank4(x) => mask_rows(x, &ignored).into(),
    }
}

/// Both features as [maps](to_map) of one height and one width, the teacher's as a constant.
pub(crate) fn as_maps(student: Feature, teacher: Feature) -> (Tensor<4>, Tensor<4>) {
    assert_eq!(
        student.shape().len(),
        teacher.shape().len(),
        "features have one rank: student has {:?}, teacher has {:?}",
        student.shape(),
        teacher.shape()
    );
    let (student, teacher) = pooled(student, teacher);
    (to_map(student), to_map(teacher).without_autodiff())
}

/// A feature as maps `[N, D, H, W]`: a vector is a map of one place, a sequence a map of one
/// column.
pub(crate) fn to_map(feature: Feature) -> Tensor<4> {
    match feature {
        Feature::Rank2(x) => x.unsqueeze_dims(&[2, 3]),
        Feature::Rank3(x) => x.swap_dims(1, 2).unsqueeze_dim(3),
        Feature::Rank4(x) => x,
    }
}

/// Feature maps at the smaller height and the smaller width of the two, everything else as it is.
pub(crate) fn pooled(student: Feature, teacher: Feature) -> (Feature, Feature) {
    match (student, teacher) {
        (Feature::Rank4(s), Feature::Rank4(t)) => {
            let (s, t) = matched(s, t);
            (s.into(), t.into())
        }
        same => same,
    }
}

/// The maps of a feature that [`Pair::check_maps`] has seen.
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

/// [`pooled`] by adaptive maximum pooling.
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

/// The mean of the squares along all axes but the first.
pub(crate) fn mean_square<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let x: Tensor<2> = x.flatten(1, D - 1);
    (x.clone() * x).mean_dim(1).squeeze_dim(1)
}

/// The Euclidean norm along an axis, whose gradient is zero where it is zero.
pub(crate) fn norm<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let squares = (x.clone() * x).sum_dim(axis);
    let zero = squares.clone().equal_elem(0.0);
    // The root of zero has an infinite slope, so it is taken of something else there.
    let root = squares.mask_fill(zero.clone(), 1.0).sqrt();
    root.mask_fill(zero, 0.0)
}

/// Every row divided by its norm; a row shorter than 1e-12 stays as it is.
pub(crate) fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = norm(x.clone(), 1);
    let tiny = length.clone().lower_elem(1e-12);
    x / length.mask_fill(tiny, 1.0)
}
