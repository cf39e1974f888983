use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, TensorMetadata, backend_extension};

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
use burn::backend::fusion::custom::TensorSpec;
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
use burn::tensor::{DType, Shape};

use crate::ops::formula::Formula;

/// The shape of an unused gradient: not every GPU has empty tensors.
#[cfg(any(feature = "flex", feature = "wgpu", feature = "cuda", feature = "rocm"))]
pub(crate) const NO_GRADIENT: [usize; 2] = [1, 1];

/// What the student's logits are compared with.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm")))]
pub(crate) enum Against<B: Backend> {
    /// Logits, `[N, C]`.
    Teacher(FloatTensor<B>),
    /// Classes, `[N]`.
    Labels(IntTensor<B>),
    /// Both.
    TeacherAndLabels(FloatTensor<B>, IntTensor<B>),
    /// A sparse distribution over classes, `[N, k]`.
    Sparse {
        indices: IntTensor<B>,
        /// The logarithms of their probabilities, `[N, k]`; an entry at −∞ is a gap.
        log_p: FloatTensor<B>,
        /// The logarithm of the tail probability, `[N, 1]`.
        log_tail: FloatTensor<B>,
    },
}

/// [`Formula`]s as operations of a backend.
///
/// The weights, `[N]`, are factors of the rows' values and gradients; a row of weight zero is not
/// read. A comparison gives the values, `[N]`, and the gradient with respect to the student,
/// `[N, C]`, or `[1, 1]` where it is unused, both in single precision.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm")),
    Autodiff,
    Fusion: cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm")),
)]
pub(crate) trait RowOps: Backend {
    /// The value of every row and its gradient, by a formula.
    #[fusion(meta = |student, _against, _weights, _formula, has_gradient| {
        outputs(student, *has_gradient)
    })]
    fn compare(
        student: FloatTensor<Self>,
        #[extension_type] against: Against<Self>,
        weights: FloatTensor<Self>,
        formula: Formula,
        has_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Every row times its factor, `[N]`, or all of them times one, `[1]`.
    #[fusion(default)]
    fn scale_rows(rows: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut shape = vec![1; rows.shape().num_dims()];
        shape[0] = factors.shape()[0];
        Self::float_mul(rows, Self::float_reshape(factors, shape.into()))
    }

    /// `sum + lhs · rhs`, all of rank 2.
    #[fusion(default)]
    fn add_product(
        sum: FloatTensor<Self>,
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_add(sum, Self::float_matmul(lhs, rhs))
    }

    /// The values, with the gradient of their rows at the student put into the graph.
    #[fusion(default)]
    fn attach(
        _student: FloatTensor<Self>,
        values: FloatTensor<Self>,
        _gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        values
    }
}

/// The values and the gradient that a comparison will give.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
fn outputs(student: &TensorSpec, has_gradient: bool) -> (TensorSpec, TensorSpec) {
    let gradient = match has_gradient {
        true => student.shape.clone(),
        false => Shape::new(NO_GRADIENT),
    };
    let values = Shape::new([student.shape[0]]);
    (
        TensorSpec::new(values, DType::F32),
        TensorSpec::new(gradient, DType::F32),
    )
}
