//! Row-wise operations on logits: a value per row, and the gradient in closed form.
//!
//! [`Comparison`] runs a [`Formula`] as an operation of the backend where it has one. What stands in
//! this file is the composed form: it works on tensors without autodiff and knows nothing of losses,
//! weights or reductions. [`with_gradient`] puts it into the graph: the graph then holds one product
//! per loss instead of a dozen softmax steps, and the gradient has the accuracy of the formula rather
//! than that of its derivation.

#![allow(unsafe_code)] // Rows are written in place; every use says why it is sound.

pub(crate) mod autodiff;
pub(crate) mod classes;
pub(crate) mod closed_form;
pub(crate) mod comparison;
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
pub(crate) mod cube;
pub(crate) mod decoupled;
pub(crate) mod extension;
#[cfg(feature = "flex")]
pub(crate) mod flex;
pub(crate) mod formula;
pub(crate) mod sparse;
pub(crate) mod projected;
pub(crate) mod row_loss;
pub(crate) mod vectors;

pub(crate) mod features;
pub(crate) mod kernel;
pub(crate) mod maps;

pub(crate) use crate::data::precision::single;
use crate::ops::classes::{at_labels, valid_labels};
use crate::ops::vectors::mask_rows;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor};

/// A value for each row, and its gradient with respect to the student's row.
pub(crate) struct Rows {
    /// `[N]`
    pub value: Tensor<1>,
    /// `[N, C]`
    pub gradient: Tensor<2>,
}

impl Rows {
    /// Both times a factor.
    pub fn scaled(self, factor: f64) -> Self {
        match factor == 1.0 {
            true => self,
            false => Self {
                value: self.value * factor,
                gradient: self.gradient * factor,
            },
        }
    }
}

/// The logarithm that stands for that of zero: of the smallest normal number in single precision.
///
/// A logit of −∞ masks a class. Where only one side masks it, a divergence may be infinite; with a
/// floor it is large, has a gradient that leads away from there, and is never `∞ − ∞`, which is NaN.
/// Where both do, the class adds exactly zero.
const LOG_OF_ZERO: f64 = -126.0 * std::f64::consts::LN_2;

/// Where a logit masks its class.
pub(crate) fn masked_classes(logits: &Tensor<2>) -> Tensor<2, Bool> {
    logits.clone().equal_elem(f32::NEG_INFINITY)
}

/// The softened probabilities of one side, `softmax(z / τ)`.
struct Softened {
    p: Tensor<2>,
    /// Their logarithms, all finite.
    log: Tensor<2>,
    masked: Tensor<2, Bool>,
}

impl Softened {
    fn new(logits: &Tensor<2>, temperature: f64) -> Self {
        let masked = masked_classes(logits);
        let log = log_softmax(logits.clone() / temperature, 1);
        let log = log.mask_fill(masked.clone(), LOG_OF_ZERO);
        Self {
            p: log.clone().exp(),
            log,
            masked,
        }
    }

    /// Those of the student, then those of the teacher.
    fn both(student: &Tensor<2>, teacher: &Tensor<2>, temperature: f64) -> [Self; 2] {
        [student, teacher].map(|logits| Self::new(logits, temperature))
    }
}

/// `KL(p ‖ q)` per row, with `p = softmax(z_t / τ)` and `q = softmax(z_s / τ)`, and its gradient
/// with respect to `z_s`: `(q − p) / τ`.
pub(crate) fn divergence(student: &Tensor<2>, teacher: &Tensor<2>, temperature: f64) -> Rows {
    let [q, p] = Softened::both(student, teacher, temperature);
    let r = q.log.clone() - p.log.clone();
    Rows {
        value: sum(addends(&p.p, &q.p, r)),
        gradient: cross_entropy_gradient(&q, p.p) / temperature,
    }
}

/// `KL(p ‖ q)` per row from the logarithms of two distributions, and its gradient with respect to
/// the logits of `q`: `q − p`.
pub(crate) fn divergence_of_logs(log_q: Tensor<2>, log_p: Tensor<2>) -> Rows {
    let (q, p) = (log_q.clone().exp(), log_p.clone().exp());
    // A class that p masks adds q: there the ratio is infinite or NaN, and does not matter.
    let is_out = p.clone().equal_elem(0.0);
    let r = (log_q - log_p).mask_fill(is_out, 1.0);
    Rows {
        value: sum(addends(&p, &q, r)),
        gradient: q - p,
    }
}

/// `KL(q ‖ p)` per row, and its gradient with respect to `z_s`: `q · (r − Σ q·r) / τ` with
/// `r = log q − log p`.
pub(crate) fn reverse_divergence(
    student: &Tensor<2>,
    teacher: &Tensor<2>,
    temperature: f64,
) -> Rows {
    let [q, p] = Softened::both(student, teacher, temperature);
    let r = q.log - p.log;
    Rows {
        value: sum(addends(&q.p, &p.p, -r.clone())),
        gradient: through_softmax(q.p, r) / temperature,
    }
}

/// `(KL(p ‖ q) + KL(q ‖ p)) / 2` per row, and its gradient with respect to `z_s`.
///
/// Both together are `Σ (q − p)·(log q − log p)`, in which no addend is negative.
pub(crate) fn symmetric_divergence(
    student: &Tensor<2>,
    teacher: &Tensor<2>,
    temperature: f64,
) -> Rows {
    let [q, p] = Softened::both(student, teacher, temperature);
    let r = q.log.clone() - p.log.clone();
    let value = (q.p.clone() - p.p.clone()) * r.clone();
    let gradient = cross_entropy_gradient(&q, p.p) + through_softmax(q.p, r);
    Rows {
        value: sum(value) / 2.0,
        gradient: gradient / (2.0 * temperature),
    }
}

/// `β·KL(p ‖ m) + (1 − β)·KL(q ‖ m)` per row with `m = β·p + (1 − β)·q`, for `0 < β < 1`, and its
/// gradient with respect to `z_s`: `(1 − β) · q · (u − Σ q·u) / τ` with `u = log q − log m`.
pub(crate) fn mixture_divergence(
    student: &Tensor<2>,
    teacher: &Tensor<2>,
    temperature: f64,
    beta: f64,
) -> Rows {
    let [q, p] = Softened::both(student, teacher, temperature);
    let r = q.log - p.log;
    // Seen from the larger of p and q, m is 1 − w·(1 − e^−|r|) of it, w the weight of the smaller
    // one. So log m needs no exponential that overflows and loses no digits where p and q are close.
    // It is at least log(1 − w), which rounding would turn into −∞ where w is nearly 1.
    let fall = r.clone().abs().neg().exp() - 1.0;
    let teacher_is_larger = r.clone().lower_elem(0.0);
    let below_larger = (fall.clone() * beta)
        .mask_where(teacher_is_larger, fall * (1.0 - beta))
        .log1p()
        .clamp_min(beta.min(1.0 - beta).ln());
    let above_p = below_larger.clone() + r.clone().clamp_min(0.0);
    let above_q = below_larger + r.neg().clamp_min(0.0);

    let m = p.p.clone() * beta + q.p.clone() * (1.0 - beta);
    let from_p = addends(&p.p, &m, above_p) * beta;
    let from_q = addends(&q.p, &m, above_q.clone()) * (1.0 - beta);
    Rows {
        value: sum(from_p + from_q),
        gradient: through_softmax(q.p, -above_q) * ((1.0 - beta) / temperature),
    }
}

/// `½ Σ |p − q|` per row, and its gradient with respect to `z_s`: `q · (s − Σ q·s) / 2τ` with
/// `s = sign(q − p)`, zero where they are equal.
pub(crate) fn total_variation(student: &Tensor<2>, teacher: &Tensor<2>, temperature: f64) -> Rows {
    let [q, p] = Softened::both(student, teacher, temperature).map(|side| side.p);
    let difference = q.clone() - p;
    Rows {
        value: sum(difference.clone().abs()) / 2.0,
        gradient: through_softmax(q, difference.sign()) / (2.0 * temperature),
    }
}

/// `−Σ p·log q` per row, and its gradient with respect to `z_s`, which is that of the divergence.
pub(crate) fn soft_cross_entropy(
    student: &Tensor<2>,
    teacher: &Tensor<2>,
    temperature: f64,
) -> Rows {
    let [q, Softened { p, .. }] = Softened::both(student, teacher, temperature);
    Rows {
        value: -sum(p.clone() * q.log.clone()),
        gradient: cross_entropy_gradient(&q, p) / temperature,
    }
}

/// What each class adds to `KL(a ‖ b)`, with `r = log b − log a`: `b − a − a·r`.
///
/// The sum is the divergence, since both distributions sum to one, but unlike `−a·r` no addend is
/// ever negative: equal rows give exactly zero, and at high temperatures, where the divergence is a
/// tiny remainder of large addends, no digits cancel.
fn addends(a: &Tensor<2>, b: &Tensor<2>, r: Tensor<2>) -> Tensor<2> {
    let is_near = r.clone().abs().lower_elem(0.25);
    let near = a.clone() * exp_beyond_first_order(r.clone());
    let far = b.clone() - a.clone() - a.clone() * r;
    far.mask_where(is_near, near)
}

/// The gradient of `−Σ p·log q` at `z_s`, times τ: `q − p`.
///
/// A class that the student masks is a constant. The teacher's probability of it must not lower all
/// the others, so `q` is scaled down by that much.
fn cross_entropy_gradient(q: &Softened, p: Tensor<2>) -> Tensor<2> {
    let lost = p.clone().mask_fill(q.masked.clone().bool_not(), 0.0);
    q.p.clone() * (lost.sum_dim(1).neg() + 1.0) - p
}

/// The gradient at `z_s`, times τ, of what has the gradient `g` at `q`: `q · (g − Σ q·g)`.
fn through_softmax(q: Tensor<2>, g: Tensor<2>) -> Tensor<2> {
    let mean = (q.clone() * g.clone()).sum_dim(1);
    q * (g - mean)
}

fn sum(addends: Tensor<2>) -> Tensor<1> {
    addends.sum_dim(1).squeeze_dim(1)
}

/// `e^r − 1 − r` for small `r`, by its series: at `|r| = 0.25` what is left out is below 2e-8 of it.
fn exp_beyond_first_order(r: Tensor<2>) -> Tensor<2> {
    let mut series = r.clone() / 7.0 + 1.0;
    for n in (3..7).rev() {
        series = series * r.clone() / n as f64 + 1.0;
    }
    r.powi_scalar(2) / 2.0 * series
}

/// `Σ (z_s − z_t)²` per row without the classes that either side masks, and its gradient.
pub(crate) fn squared_error(student: &Tensor<2>, teacher: &Tensor<2>) -> Rows {
    let left_out = masked_classes(student).bool_or(masked_classes(teacher));
    let apart = (student.clone() - teacher.clone()).mask_fill(left_out, 0.0);
    Rows {
        value: sum(apart.clone() * apart.clone()),
        gradient: apart * 2.0,
    }
}

/// `1 − cos(z_s, z_t)` per row, and its gradient with respect to `z_s`. A class that either side
/// masks is left out.
///
/// It is half the squared distance between the unit vectors, a sum in which no addend is negative.
/// A row without a direction on either side is at a distance of one and has no gradient.
pub(crate) fn cosine_distance(student: &Tensor<2>, teacher: &Tensor<2>, is_centred: bool) -> Rows {
    let left_out = masked_classes(student).bool_or(masked_classes(teacher));
    let s = Direction::new(student, &left_out, is_centred);
    let t = Direction::new(teacher, &left_out, is_centred);
    let no_angle = s.is_missing.bool_or(t.is_missing);
    let apart = s.unit.clone() - t.unit;
    let value = (apart.clone() * apart.clone()).sum_dim(1) / 2.0;
    let gradient = (apart - s.unit * value.clone()) / s.length;
    Rows {
        value: value.mask_fill(no_angle.clone(), 1.0).squeeze_dim(1),
        gradient: mask_rows(gradient, &no_angle.squeeze_dim(1)),
    }
}

/// A row as a unit vector and its length.
struct Direction {
    /// `[N, C]`
    unit: Tensor<2>,
    /// `[N, 1]`, never zero.
    length: Tensor<2>,
    /// `[N, 1]`: the row is zero, or all that is left of it is rounding.
    is_missing: Tensor<2, Bool>,
}

impl Direction {
    fn new(logits: &Tensor<2>, left_out: &Tensor<2, Bool>, is_centred: bool) -> Self {
        let z = logits.clone().mask_fill(left_out.clone(), 0.0);
        // A direction does not depend on the size, and squares of large logits may overflow.
        let size = z.clone().max_abs_dim(1);
        let is_zero = size.clone().equal_elem(0.0);
        let size = size.mask_fill(is_zero, 1.0);
        let mut x = z / size.clone();
        if is_centred {
            let count = left_out.clone().bool_not().float().cast(x.dtype());
            let mean = x.clone().sum_dim(1) / count.sum_dim(1).clamp_min(1.0);
            x = (x - mean).mask_fill(left_out.clone(), 0.0);
        }
        let square = x.clone() * x.clone();
        let is_missing = square.clone().mean_dim(1).lower_elem(1e-12);
        let norm = square.sum_dim(1).mask_fill(is_missing.clone(), 1.0).sqrt();
        Self {
            unit: x / norm.clone(),
            length: norm * size,
            is_missing,
        }
    }
}

/// Cross-entropy per row between smoothed one-hot targets and `softmax(z_s)`, and its gradient.
///
/// The target distribution is `(1 − ε)·onehot(y) + ε/C`. Masked rows may carry any label,
/// such as an ignore index.
pub(crate) fn cross_entropy(
    student: &Tensor<2>,
    labels: &Tensor<1, Int>,
    smoothing: f64,
    mask: Option<&Tensor<1, Bool>>,
) -> Rows {
    let [_, classes] = student.dims();
    let labels = valid_labels(labels, mask);
    let log_q = log_softmax(student.clone(), 1);
    let hard = -log_q.clone().gather(1, labels.clone().unsqueeze_dim(1));
    let hard: Tensor<1> = hard.squeeze_dim(1);
    let one_hot = at_labels(&labels, classes, None);
    let one_hot = one_hot.float().cast(student.dtype());
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
/// Where `wrt` is in half precision, the rows are those of `wrt` in [`single`] precision.
/// Where it is outside autodiff the value is returned unchanged. Masked rows give zero and
/// receive zero, whatever they hold.
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
    let wrt = single(wrt.clone());
    let not_finite = wrt.clone().is_finite().bool_not();
    let product = wrt.mask_fill(not_finite, 0.0) * gradient;
    let product: Tensor<1> = product.sum_dim(1).squeeze_dim(1);
    let at_start = product.clone().without_autodiff();
    product - at_start + value
}
