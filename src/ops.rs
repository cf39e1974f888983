//! Row-wise operations on logits: a value per row, and the gradient in closed form.
//!
//! Every function here works on tensors without autodiff and knows nothing of losses, weights or
//! reductions. [`with_gradient`] puts the closed form into the graph: the graph then holds one
//! product per loss instead of a dozen softmax steps, and the gradient has the accuracy of the
//! formula rather than that of its derivation.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor};

/// A value for each row, and its gradient with respect to the student's row.
pub(crate) struct Rows {
    /// `[N]`
    pub value: Tensor<1>,
    /// `[N, C]`
    pub gradient: Tensor<2>,
}

/// `KL(p ‖ q)` per row, with `p = softmax(z_t / τ)` and `q = softmax(z_s / τ)`, and its gradient
/// with respect to `z_s`: `(q − p) / τ`.
///
/// Each class adds `q − p − p·r` with `r = log q − log p`. The sum is the divergence, since both
/// distributions sum to one, but unlike `−p·r` no addend is ever negative: equal rows give exactly
/// zero, and at high temperatures, where the divergence is a tiny remainder of large addends, no
/// digits cancel.
pub(crate) fn divergence(student: &Tensor<2>, teacher: &Tensor<2>, temperature: f64) -> Rows {
    let log_q = log_softmax(student.clone() / temperature, 1);
    let log_p = log_softmax(teacher.clone() / temperature, 1);
    let (q, p) = (log_q.clone().exp(), log_p.clone().exp());

    // A class that the teacher rules out adds q: there r is +∞, or ∞ − ∞.
    let ruled_out = p.clone().equal_elem(0.0);
    let r = (log_q - log_p).mask_fill(ruled_out, 0.0);
    let far = q.clone() - p.clone() - p.clone() * r.clone();
    let near = p.clone() * exp_beyond_first_order(r.clone());
    let is_near = r
        .abs()
        .lower_elem(0.25)
        .bool_and(p.clone().greater_elem(0.0));
    let value = far.mask_where(is_near, near).sum_dim(1).squeeze_dim(1);

    Rows {
        value,
        gradient: (q - p) / temperature,
    }
}

/// `e^r − 1 − r` for small `r`, by its series: at `|r| = 0.25` what is left out is below 2e-8 of it.
fn exp_beyond_first_order(r: Tensor<2>) -> Tensor<2> {
    let mut series = r.clone() / 7.0 + 1.0;
    for n in (3..7).rev() {
        series = series * r.clone() / n as f64 + 1.0;
    }
    r.powi_scalar(2) / 2.0 * series
}

/// Cross-entropy per row between smoothed one-hot targets and `softmax(z_s)`, and its gradient.
///
/// The target distribution is `(1 − ε)·onehot(y) + ε/C`. Rows that do not count may carry any
/// label, such as an ignore index.
pub(crate) fn cross_entropy(
    student: &Tensor<2>,
    labels: &Tensor<1, Int>,
    smoothing: f64,
    mask: Option<&Tensor<1, Bool>>,
) -> Rows {
    let [_, classes] = student.dims();
    let labels = match mask {
        Some(mask) => labels.clone().mask_fill(mask.clone().bool_not(), 0),
        None => labels.clone(),
    };
    let log_q = log_softmax(student.clone(), 1);
    let hard = -log_q.clone().gather(1, labels.clone().unsqueeze_dim(1));
    let hard: Tensor<1> = hard.squeeze_dim(1);
    let one_hot: Tensor<2> = labels.one_hot::<2>(classes).float().cast(student.dtype());
    let (value, target) = match smoothing > 0.0 {
        true => (
            hard * (1.0 - smoothing) - log_q.clone().mean_dim(1).squeeze_dim::<1>(1) * smoothing,
            one_hot * (1.0 - smoothing) + smoothing / classes as f64,
        ),
        false => (hard, one_hot),
    };
    Rows {
        value,
        gradient: log_q.exp() - target,
    }
}

/// The value of `rows` as a tensor whose backward pass yields `rows.gradient` at `wrt`.
///
/// Where `wrt` is outside autodiff the value comes back as it is. Rows that do not count give zero
/// and receive zero, whatever they hold.
pub(crate) fn with_gradient(
    rows: Rows,
    wrt: &Tensor<2>,
    mask: Option<&Tensor<1, Bool>>,
) -> Tensor<1> {
    let Rows {
        mut value,
        mut gradient,
    } = rows;
    if let Some(mask) = mask {
        let ignored = mask.clone().bool_not();
        value = value.mask_fill(ignored.clone(), 0.0);
        gradient = mask_rows(gradient, &ignored);
    }
    if !wrt.is_autodiff() {
        return value;
    }
    // f(z) = v + ⟨g, z⟩ − ⟨g, z₀⟩ has the value v and the gradient g at z = z₀. A class at −∞, and
    // whatever an ignored row holds, has no gradient and would turn the product into NaN.
    let not_finite = wrt.clone().is_finite().bool_not();
    let product = wrt.clone().mask_fill(not_finite, 0.0) * gradient;
    let product: Tensor<1> = product.sum_dim(1).squeeze_dim(1);
    let at_start = product.clone().without_autodiff();
    product - at_start + value
}

/// Zero in the rows named by `ignored`.
pub(crate) fn mask_rows<const D: usize>(x: Tensor<D>, ignored: &Tensor<1, Bool>) -> Tensor<D> {
    let mut shape = [1; D];
    shape[0] = ignored.dims()[0];
    let ignored = ignored.clone().reshape(shape).expand(x.shape());
    x.mask_fill(ignored, 0.0)
}

/// The mean of one value per row over the rows that count, `[1]`; zero where none counts.
pub(crate) fn mean_rows(values: Tensor<1>, mask: Option<&Tensor<1, Bool>>) -> Tensor<1> {
    match mask {
        None => values.mean(),
        Some(mask) => {
            let kept = values.mask_fill(mask.clone().bool_not(), 0.0);
            let count = mask.clone().int().sum().float().cast(kept.dtype());
            kept.sum() / count.clamp_min(1.0)
        }
    }
}
