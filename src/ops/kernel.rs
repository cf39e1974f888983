//! Kernels between vectors, and the maximum mean discrepancy that they measure between two sets.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_not_negative};

/// A similarity of two vectors, for losses that compare two sets of vectors.
///
/// | kernel | `k(x, y)` | what a discrepancy of 0 means |
/// |---|---|---|
/// | `Linear` | `⟨x, y⟩` | the means agree |
/// | `Polynomial` | `(⟨x, y⟩ + c)^d` | moments up to order `d` agree; of order `d` alone where `c` is 0 |
/// | `Gaussian` | `exp(−‖x − y‖² / 2σ²)` | the distributions agree |
///
/// The bandwidth `σ²` of the Gaussian kernel is the mean of `‖x − y‖²` over all pairs of one vector
/// of the student and one of the teacher, computed for every batch, as a constant: no gradient
/// flows through it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Kernel {
    /// The inner product.
    Linear,
    /// A power of the inner product.
    Polynomial {
        /// The exponent `d`, at least 1.
        degree: u32,
        /// The number added to the inner product, `c`, at least 0.
        offset: f64,
    },
    /// A Gaussian of the distance.
    Gaussian,
}

impl Kernel {
    pub(crate) fn check(self, name: &str) -> Result<()> {
        match self {
            Self::Polynomial { degree: 0, .. } => Err(Error::invalid(
                format!("{name}.degree"),
                0,
                "a whole number of at least 1",
            )),
            Self::Polynomial { offset, .. } => {
                check_not_negative(&format!("{name}.offset"), offset)
            }
            _ => Ok(()),
        }
    }
}

/// The squared maximum mean discrepancy between sets of vectors, one pair of sets per batch entry:
/// `[B]` from `[B, S, D]` and `[B, T, D]`, the teacher's constant.
///
/// `average` takes the means of `[B, ·, ·]` over its last two axes, `[B, 1, 1]`.
pub(crate) fn discrepancy(
    student: Tensor<3>,
    teacher: Tensor<3>,
    kernel: Kernel,
    average: impl Fn(Tensor<3>) -> Tensor<3>,
) -> Tensor<1> {
    let value = match kernel {
        Kernel::Linear => between(&student, &teacher, &average, inner_products),
        Kernel::Polynomial { degree, offset } => between(&student, &teacher, &average, |x, y| {
            (inner_products(x, y) + offset).powi_scalar(degree as i32)
        }),
        Kernel::Gaussian => {
            // Distances do not change with the origin, but around it they lose the fewest digits.
            let origin = teacher.clone().mean_dim(1);
            let (student, teacher) = (student - origin.clone(), teacher - origin);
            let scale = bandwidth(&student, &teacher, &average) * -2.0;
            between(&student, &teacher, &average, |x, y| {
                (square_distances(x, y) / scale.clone()).exp()
            })
        }
    };
    value.flatten(0, 2)
}

fn between(
    student: &Tensor<3>,
    teacher: &Tensor<3>,
    average: impl Fn(Tensor<3>) -> Tensor<3>,
    kernel: impl Fn(&Tensor<3>, &Tensor<3>) -> Tensor<3>,
) -> Tensor<3> {
    average(kernel(student, student)) + average(kernel(teacher, teacher))
        - average(kernel(student, teacher)) * 2.0
}

fn inner_products(x: &Tensor<3>, y: &Tensor<3>) -> Tensor<3> {
    x.clone().matmul(y.clone().swap_dims(1, 2))
}

fn square_distances(x: &Tensor<3>, y: &Tensor<3>) -> Tensor<3> {
    let square = |x: &Tensor<3>| x.clone().square().sum_dim(2);
    let square_lengths = square(x) + square(y).swap_dims(1, 2);
    (square_lengths - inner_products(x, y) * 2.0).clamp_min(0.0)
}

/// The mean squared distance between a vector of the student and one of the teacher, `[B, 1, 1]`.
fn bandwidth(
    student: &Tensor<3>,
    teacher: &Tensor<3>,
    average: impl Fn(Tensor<3>) -> Tensor<3>,
) -> Tensor<3> {
    let student = student.clone().without_autodiff();
    let bandwidth = average(square_distances(&student, teacher));
    // Where all vectors coincide, any bandwidth gives the same.
    let none = bandwidth.clone().equal_elem(0.0);
    bandwidth.mask_fill(none, 1.0)
}

#[cfg(test)]
#[path = "tests/kernel.rs"]
mod tests;
