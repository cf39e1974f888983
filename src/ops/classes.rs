//! Operations on some of the classes of a row: one of them alone, all others, a given few.

use burn::tensor::{Bool, Int, Tensor};

/// True at the class that each label names, `[N, C]`.
///
/// Masked rows may carry any label, such as an ignore index. Unlike a one-hot tensor it is made on the
/// labels' device, without a copy to the host.
pub(crate) fn at_labels(
    labels: &Tensor<1, Int>,
    classes: usize,
    mask: Option<&Tensor<1, Bool>>,
) -> Tensor<2, Bool> {
    let labels = valid_labels(labels, mask);
    let rows = labels.dims()[0];
    let all = Tensor::<1, Int>::arange(0..classes as i64, (&labels.device(), labels.dtype()));
    let all: Tensor<2, Int> = all.unsqueeze_dim(0);
    let labels: Tensor<2, Int> = labels.unsqueeze_dim(1);
    all.expand([rows, classes])
        .equal(labels.expand([rows, classes]))
}

/// The labels, with class 0 in masked rows.
pub(crate) fn valid_labels(
    labels: &Tensor<1, Int>,
    mask: Option<&Tensor<1, Bool>>,
) -> Tensor<1, Int> {
    let labels = labels.clone().without_autodiff();
    match mask {
        Some(mask) => labels.mask_fill(mask.clone().bool_not(), 0),
        None => labels,
    }
}

/// The logits with the marked classes next to −∞: their softmax is exactly zero.
///
/// The lowest finite number rather than −∞, because −∞ − (−∞) is NaN and not every GPU has
/// infinities. The logits have to be at their temperature already.
pub(crate) fn without_classes(logits: Tensor<2>, marked: Tensor<2, Bool>) -> Tensor<2> {
    let lowest = lowest(&logits);
    logits.mask_fill(marked, lowest)
}

/// The lowest finite number of a tensor's type.
pub(crate) fn lowest(tensor: &Tensor<2>) -> f64 {
    let info = tensor.dtype().finfo();
    info.expect("a tensor of floating-point numbers").min
}

/// The distance from 1 to the next number of a tensor's type.
pub(crate) fn epsilon(tensor: &Tensor<2>) -> f64 {
    let info = tensor.dtype().finfo();
    info.expect("a tensor of floating-point numbers").epsilon
}

/// `log Σ_c e^(z_c)` per row, `[N, 1]`.
pub(crate) fn log_sum_exp(logits: Tensor<2>) -> Tensor<2> {
    let max = logits.clone().max_dim(1);
    (logits - max.clone()).exp().sum_dim(1).log() + max
}
