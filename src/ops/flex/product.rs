//! Matrix products that are added to what is there.

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;
use gemm::Parallelism;

/// How many multiplications are worth a second thread.
const PARALLEL_FROM: usize = 1 << 20;

/// `sum + lhs · rhs` in single precision, in the buffer of `sum` where it is not shared.
///
/// Burn's product is a new tensor, which then has to be read, and added, as a whole.
pub(crate) fn add(mut sum: FlexTensor, lhs: &FlexTensor, rhs: &FlexTensor) -> FlexTensor {
    if !(sum.is_contiguous() && sum.layout().start_offset() == 0) {
        sum = sum.to_contiguous();
    }
    let (left, right) = (Matrix::new(lhs), Matrix::new(rhs));
    let [m, n] = Matrix::new(&sum).dims;
    let k = left.dims[1];
    assert_eq!(
        ([m, k], [k, n]),
        (left.dims, right.dims),
        "a product has the shape of the sum"
    );
    let parallelism = match m * n * k > PARALLEL_FROM {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    // A shared buffer is copied here.
    let numbers: &mut [f32] = sum.storage_mut();
    let numbers = &mut numbers[..m * n];
    // SAFETY: the sum is contiguous, of `m` rows of `n` numbers, and exclusively ours. `Matrix` has
    // seen that every element of the factors lies within their storage.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            numbers.as_mut_ptr(),
            1,
            n as isize,
            true,
            left.first,
            left.strides[1],
            left.strides[0],
            right.first,
            right.strides[1],
            right.strides[0],
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
    sum
}

/// A matrix in memory, as a product reads it.
struct Matrix {
    dims: [usize; 2],
    strides: [isize; 2],
    first: *const f32,
}

impl Matrix {
    /// # Panics
    ///
    /// Panics if the tensor is not a matrix in single precision, or not within its storage.
    fn new(tensor: &FlexTensor) -> Self {
        assert_eq!(tensor.dtype(), DType::F32, "a product in single precision");
        let layout = tensor.layout();
        let (&[rows, columns], &[down, right]) = (&layout.shape()[..], layout.strides()) else {
            panic!("a matrix has two axes");
        };
        let (mut low, mut high) = (
            layout.start_offset() as isize,
            layout.start_offset() as isize,
        );
        if rows * columns > 0 {
            for reach in [(rows - 1) as isize * down, (columns - 1) as isize * right] {
                low += reach.min(0);
                high += reach.max(0);
            }
        }
        let numbers: &[f32] = tensor.storage();
        let is_within = low >= 0 && (high as usize) < numbers.len() || rows * columns == 0;
        assert!(is_within, "a matrix lies within its storage");
        Self {
            dims: [rows, columns],
            strides: [down, right],
            first: numbers.as_ptr().wrapping_add(layout.start_offset()),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor, Tolerance};

    use crate::ops::comparison::add_product;

    fn random(rows: usize, columns: usize) -> Tensor<2> {
        let uniform = Distribution::Uniform(-1.0, 1.0);
        Tensor::random([rows, columns], uniform, &Device::flex())
    }

    fn check(sum: Tensor<2>, lhs: Tensor<2>, rhs: Tensor<2>) {
        let expected = sum.clone() + lhs.clone().matmul(rhs.clone());
        let found = add_product(sum, lhs, rhs).into_data();
        found.assert_approx_eq::<f32>(&expected.into_data(), Tolerance::rel_abs(1e-5, 1e-5));
    }

    #[test]
    fn it_is_the_sum_with_the_product() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (7, 4, 33), (40, 100, 300), (2, 0, 3)] {
            check(random(m, n), random(m, k), random(k, n));
        }
    }

    #[test]
    fn factors_may_be_views() {
        check(
            random(4, 6),
            random(3, 4).transpose(),
            random(6, 3).transpose(),
        );
        let part = random(9, 6).slice(5..8);
        check(random(4, 6), random(9, 4).slice(2..5).transpose(), part);
        check(
            random(4, 6),
            random(4, 3).flip([0, 1]),
            random(1, 6).expand([3, 6]),
        );
        check(random(6, 4).transpose(), random(4, 3), random(3, 6));
        check(random(9, 6).slice(5..9), random(4, 3), random(3, 6));
    }

    #[test]
    fn a_shared_sum_is_not_changed() {
        let sum = random(3, 4);
        let before = sum.clone().into_data();
        let held = sum.clone();
        let _ = add_product(sum, random(3, 2), random(2, 4));
        assert_eq!(held.into_data(), before);
    }
}
