use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, backend_extension};

use super::Formula;

/// [`Formula`]s as operations of a backend.
///
/// The weights, `[N]`, are factors of the rows' values and gradients; a row of weight zero is not
/// looked at. All comparisons give the values, `[N]`, and the gradient with respect to the student,
/// `[N, C]`, or `[0, C]` where nobody asks for it, both in single precision.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Autodiff,
)]
pub(crate) trait RowOps: Backend {
    /// With a teacher, `[N, C]`.
    fn compare(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        formula: Formula,
        has_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// With labels, `[N]`.
    fn classify(
        student: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
        formula: Formula,
        has_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// With both.
    fn compare_classes(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
        formula: Formula,
        has_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Every row times its factor, `[N]`, or all of them times one, `[1]`.
    fn scale_rows(rows: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        let factors = Self::float_reshape(factors.clone(), [factors.shape()[0], 1].into());
        Self::float_mul(rows, factors)
    }

    /// `sum + lhs · rhs`, all of rank 2.
    fn add_product(
        sum: FloatTensor<Self>,
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_add(sum, Self::float_matmul(lhs, rhs))
    }

    /// The values, with the gradient of their rows at the student put into the graph.
    fn attach(
        _student: FloatTensor<Self>,
        values: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        values
    }
}
