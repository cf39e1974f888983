//! What losses share whose rows are composed of tensor operations.

use burn::tensor::Tensor;

use crate::data::head::Logits;
use crate::loss::context::LossContext;
use crate::loss::value::LossValue;
use crate::ops::vectors::mask_rows;
use crate::ops::{Rows, single, with_gradient};

/// One value per row, `[rows]`, whose backward pass hands the gradient of the formula on to the student.
///
/// A row whose value is not finite has no gradient, so that a weight of 0 can still leave it out.
pub(super) fn per_row(student: &Tensor<2>, formula: impl FnOnce(&Tensor<2>) -> Rows) -> Tensor<1> {
    let mut rows = formula(&constant(student));
    if student.is_autodiff() {
        let is_broken = rows.value.clone().is_finite().bool_not();
        rows.gradient = mask_rows(rows.gradient, &is_broken);
    }
    with_gradient(rows, student, None)
}

/// The same of a formula between student and teacher, to whom nothing flows.
///
/// # Panics
///
/// Panics if the shapes differ.
pub(super) fn compare(
    student: impl Into<Logits>,
    teacher: impl Into<Logits>,
    formula: impl FnOnce(&Tensor<2>, &Tensor<2>) -> Rows,
) -> Tensor<1> {
    let (student, teacher) = (student.into().dense(), teacher.into().dense());
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher logits have one shape"
    );
    per_row(&student, |student| formula(student, &constant(&teacher)))
}

fn constant(logits: &Tensor<2>) -> Tensor<2> {
    single(logits.clone().without_autodiff())
}

/// The mean over the rows of a batch, with its weights.
pub(super) fn mean(value: LossValue, context: &LossContext<'_>) -> Tensor<1> {
    match context.weights() {
        Some(weights) => value.weighted(weights.clone()).mean(),
        None => value.mean(),
    }
}
