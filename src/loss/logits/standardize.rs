//! Logits as z-scores.

use burn::tensor::Tensor;

use crate::data::precision::single;

/// Logits as z-scores: every row minus its mean, over its standard deviation.
///
/// A small student cannot reach the range of its teacher's logits, and need not: what is to be
/// learned is their order and their relative distance. A loss between standardized logits asks for
/// no more than that. [`Term::standardized`](crate::Term::standardized) puts any loss on logits behind
/// it, and so does `standardize = true` in a config file.
///
/// The paper takes soft targets at temperature 2 with a weight of 9, and hard labels of weight 0.1 as a
/// term on the logits themselves: standardized logits are at most √C apart, which lets no student give
/// the true one of ten classes more than 0.72, however well it does.
///
/// ```text
/// Z(z)_c = (z_c − mean(z)) / (std(z) + ε),   std(z)² = 1/(C − 1) Σ_c (z_c − mean(z))²
///
/// z   the logits of one row      C   classes      ε   keeps the quotient finite
/// ```
///
/// A row of equal logits becomes zeros. LSKD, CTKD and torchdistill compute the same.
///
/// # Shapes
///
/// - logits: `[N, C]`, finite, of at least two classes
/// - output: `[N, C]`
///
/// # Gradient
///
/// Through mean and standard deviation; at a row of equal logits 0 for the standard deviation, and
/// so `1/ε` times the centred gradient of `Z`. Two classes have none to speak of: their z-scores
/// are `±1/√2`, whatever the logits.
///
/// # Panics
///
/// Panics if there is only one class, which has no standard deviation.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor, Tolerance};
/// use burn_distill::loss::standardize;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::from_floats([[1.0, 3.0, 5.0], [7.0, 7.0, 7.0]], &device);
/// let standardized = standardize(logits, 1e-7).into_data();
/// let expected = [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]; // mean 3, std √((4 + 0 + 4) / 2)
/// standardized.assert_approx_eq::<f32>(&expected.into(), Tolerance::default());
/// ```
///
/// # References
///
/// Sun et al.: Logit Standardization in Knowledge Distillation, 2024, arXiv:2403.01427.
#[must_use]
pub fn standardize(logits: Tensor<2>, eps: f64) -> Tensor<2> {
    let [_, classes] = logits.dims();
    assert!(classes >= 2, "one class has no standard deviation");
    let logits = single(logits);
    // The level drops out anyway. Without it, equal logits have exactly the mean 0, and far from 0
    // the differences keep their digits.
    let level = logits.clone().detach().max_dim(1);
    let logits = logits - level;
    let centred = logits.clone() - logits.mean_dim(1);
    let squares = (centred.clone() * centred.clone()).sum_dim(1);
    let variance = squares / (classes - 1) as f64;
    // The root has no slope at 0: there it is taken of 1, which hands no gradient on.
    let constant = variance.clone().equal_elem(0.0);
    let std = variance.mask_fill(constant.clone(), 1.0).sqrt();
    centred / (std.mask_fill(constant, 0.0) + eps)
}

#[cfg(test)]
#[path = "../tests/standardize.rs"]
mod tests;
