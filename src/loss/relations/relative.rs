//! Weights of samples for sums that are not means.

use burn::tensor::Tensor;

use crate::ops::features::Samples;
use crate::ops::vectors::or_one;

/// The weights of the samples at a scale of their own, `w · Σw / Σw²`, `[N]`, in the type of `like`;
/// `None` where all are 1.
///
/// A norm, or a sum, over the samples of a batch grows with their number. With these weights it does
/// not depend on what all of them are multiplied by, equal ones leave it as it is, and a sample whose
/// weight goes to 0 leaves it without a jump.
pub(crate) fn relative<const D: usize>(samples: &Samples, like: &Tensor<D>) -> Option<Tensor<1>> {
    let weights = samples.weights()?.clone().cast(like.dtype());
    let squares = weights.clone().square().sum();
    let factor = weights.clone().sum() / or_one(squares);
    Some(weights * factor)
}
