//! One row of logits per cube, whose units share its classes.
//!
//! A row is read from memory a few times and stays in the cache: for its maxima, for the sums of
//! its exponentials, for value and gradient. Between them the units add up their parts.
//!
//! Not every GPU has infinities and NaN, so nothing here is compared with one, and all that a class at
//! −∞ takes part in is finite. All control flow around barriers depends on
//! nothing but the size of the cube.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::ops::LOG_OF_ZERO;
use crate::ops::cube::functions::{addend, exp_less_one, log_one_more, softplus};
use crate::ops::cube::sums::{Four, together};

/// Which formula the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Divergence,
    Reverse,
    Mixture,
    HardLabel,
    Decoupled,
}

impl Kind {
    pub fn has_teacher(self) -> bool {
        self != Self::HardLabel
    }

    pub fn has_labels(self) -> bool {
        matches!(self, Self::HardLabel | Self::Decoupled)
    }

    /// The gradient needs a mean over the classes first.
    fn has_mean(self) -> bool {
        matches!(self, Self::Reverse | Self::Mixture)
    }
}

/// The numbers of a formula. Those it does not have are not read.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Numbers {
    /// One over the temperature.
    factor: f32,
    /// Or the smoothing of labels.
    alpha: f32,
    beta: f32,
    /// As an argument: not every GPU has a literal for it.
    infinity: f32,
    /// Likewise.
    nan: f32,
}

/// The lowest finite number: a logit that is not above it masks its class.
pub(crate) const LOWEST: f32 = f32::MIN;

/// The exponent of a masked class in a sum of exponentials: `e^−87` is tiny but a normal number.
const LEAST_EXPONENT: f32 = -87.0;

const LOG_OF_NOTHING: f32 = LOG_OF_ZERO as f32;

/// A logit over the temperature.
#[cube]
fn logit<F: Float>(logits: &[F], i: usize, factor: f32) -> f32 {
    f32::cast_from(logits[i]) * factor
}

/// The maximum, and zero where all classes are masked.
#[cube]
fn or_zero(max: f32) -> f32 {
    select(max <= LOWEST, 0.0, max)
}

/// One side of a row: its logits less their maximum, and what makes probabilities of them.
#[derive(CubeType, Clone, Copy)]
struct Side {
    max: f32,
    /// The logarithm of the sum of the exponentials.
    log_sum: f32,
    /// One over that sum.
    scale: f32,
}

#[cube]
fn side(max: f32, sum: f32) -> Side {
    Side {
        max,
        log_sum: sum.ln(),
        scale: 1.0 / sum,
    }
}

/// A class of one side.
#[derive(CubeType, Clone, Copy)]
struct Class {
    /// The logit less the maximum; where the class is masked, the logarithm that stands for that of zero.
    a: f32,
    /// Its probability.
    p: f32,
    is_out: bool,
}

#[cube]
fn class<F: Float>(logits: &[F], i: usize, factor: f32, side: &Side) -> Class {
    let z = logit(logits, i, factor);
    let is_out = z <= LOWEST;
    let a = z - side.max;
    Class {
        a: select(is_out, side.log_sum + LOG_OF_NOTHING, a),
        p: exponential(a, is_out) * side.scale,
        is_out,
    }
}

#[cube]
fn exponential(a: f32, is_out: bool) -> f32 {
    select(is_out, LEAST_EXPONENT.runtime(), a).exp()
}

/// The label against all other classes.
#[derive(CubeType, Clone, Copy)]
struct Choice {
    label: f32,
    log_label: f32,
    others: f32,
    log_others: f32,
}

/// From the label's logit and the side without it.
#[cube]
fn choice(label: f32, side: &Side) -> Choice {
    let is_out = label <= LOWEST;
    let distance = select(is_out, 0.0, label) - side.max - side.log_sum;
    let log_label = select(is_out, LOG_OF_NOTHING.runtime(), -softplus(-distance));
    let log_others = select(is_out, 0.0, -softplus(distance));
    Choice {
        label: log_label.exp(),
        log_label,
        others: log_others.exp(),
        log_others,
    }
}

/// `log q − log m` and what the class adds to the value, with `m = β·p + (1 − β)·q`.
#[derive(CubeType, Clone, Copy)]
struct Mixed {
    u: f32,
    value: f32,
}

#[cube]
fn mixed(p: f32, q: f32, r: f32, beta: f32) -> Mixed {
    // As in the composed form: m seen from the larger of p and q.
    let rest = 1.0 - beta;
    let least = min(beta, rest);
    let fraction = select(r < 0.0, rest, beta);
    let fall = max(exp_less_one(-r.abs()) * fraction, least - 1.0);
    let below = max(log_one_more(fall), least.ln());
    let above_p = below + max(r, 0.0);
    let above_q = below + max(-r, 0.0);
    let m = p * beta + q * rest;
    Mixed {
        u: -above_q,
        value: addend(p, m - p, above_p) * beta + addend(q, m - q, above_q) * rest,
    }
}

/// The value of every row and, where `has_gradient`, its gradient at the student.
#[cube(launch, address_type = "dynamic")]
// What is decided when the kernel is compiled has its own `if`.
#[allow(clippy::collapsible_if, clippy::too_many_arguments)]
pub(crate) fn rows<F: Float>(
    student: &[F],
    // Read only where the kind has a teacher.
    teacher: &[F],
    // Read only where the kind has labels.
    labels: &[i32],
    weights: &[f32],
    values: &mut [f32],
    gradient: &mut [f32],
    classes: usize,
    numbers: Numbers,
    #[comptime] kind: Kind,
    #[comptime] has_gradient: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: ElemType,
) {
    let unit = UNIT_POS as usize;
    let row = CUBE_POS;
    let first = row * classes;
    let is_there = row < values.len();
    let mut weight = 0.0f32;
    if is_there {
        weight = weights[row];
    }
    let is_valid = weight != 0.0;
    // A row of weight zero is taken to have no classes.
    let end = select(is_valid, classes, 0usize);
    let factor = numbers.factor;

    let mut label = classes;
    let mut s_label = 0.0f32;
    let mut t_label = 0.0f32;
    if comptime!(kind.has_labels()) {
        if is_valid {
            let found = labels[row];
            if found >= 0 {
                label = min(u32::cast_from(found) as usize, classes);
            }
        }
        if label < end {
            s_label = logit(student, first + label, factor);
            if comptime!(kind.has_teacher()) {
                t_label = logit(teacher, first + label, factor);
            }
        }
    }
    // The class that is left out of the sums.
    let apart = if comptime!(kind == Kind::Decoupled) {
        label
    } else {
        classes
    };

    let mut s_max = f32::new(LOWEST);
    let mut t_max = f32::new(LOWEST);
    let mut c = unit;
    while c < end {
        if c != apart {
            s_max = max(s_max, logit(student, first + c, factor));
            if comptime!(kind.has_teacher()) {
                t_max = max(t_max, logit(teacher, first + c, factor));
            }
        }
        c += units;
    }
    let maxima = together(
        Four {
            a: s_max,
            b: t_max,
            c: 0.0,
            d: 0.0,
        },
        true,
        units,
    );
    let mut s_max = maxima.a;
    let mut t_max = maxima.b;
    // Where all the others are masked, they are as far below the label as a number can be.
    if comptime!(kind != Kind::Decoupled) {
        s_max = or_zero(s_max);
        t_max = or_zero(t_max);
    }

    // The teacher's probability of classes that the student masks, before it is scaled; or, for labels
    // alone, the number of these classes.
    let mut lost = 0.0f32;
    // The sum of logits, for labels alone.
    let mut plain = 0.0f32;
    let mut s_sum = 0.0f32;
    let mut t_sum = 0.0f32;
    let mut c = unit;
    while c < end {
        if c != apart {
            let z = logit(student, first + c, factor);
            let is_out = z <= LOWEST;
            let a = z - s_max;
            s_sum += exponential(a, is_out);
            if comptime!(kind.has_teacher()) {
                let z = logit(teacher, first + c, factor);
                let e = exponential(z - t_max, z <= LOWEST);
                t_sum += e;
                lost += select(is_out, e, 0.0);
            }
            if comptime!(kind == Kind::HardLabel) {
                plain += select(is_out, 0.0, a);
                lost += select(is_out, 1.0, 0.0);
            }
        }
        c += units;
    }
    let sums = together(
        Four {
            a: s_sum,
            b: t_sum,
            c: lost,
            d: plain,
        },
        false,
        units,
    );
    let s = side(s_max, sums.a);
    let t = side(t_max, sums.b);
    let offset = s.log_sum - t.log_sum;
    let lost = sums.c * t.scale;
    let is_label_out = s_label <= LOWEST;

    let mut value = 0.0f32;
    let mut mean = 0.0f32;
    // Of the label against the others.
    let mut of_label = 0.0f32;
    let mut hard = 0.0f32;

    if comptime!(kind == Kind::HardLabel) {
        let each = numbers.alpha / f32::cast_from(classes as u32);
        let of_hard = select(
            is_label_out,
            numbers.infinity,
            s.log_sum - (s_label - s.max),
        );
        hard = of_hard * (1.0 - numbers.alpha);
        if numbers.alpha > 0.0 {
            let mean = sums.d / f32::cast_from(classes as u32);
            let of_others = select(sums.c > 0.0, numbers.infinity, s.log_sum - mean);
            hard += of_others * numbers.alpha;
        }
        if comptime!(has_gradient) {
            let mut c = unit;
            while c < end {
                let q = class(student, first + c, factor, &s);
                let mut g = q.p - each;
                if c == label {
                    g -= 1.0 - numbers.alpha;
                }
                gradient[first + c] = select(q.is_out, 0.0, g * weight);
                c += units;
            }
        }
    }
    if comptime!(kind == Kind::Decoupled) {
        let q = choice(s_label, &s);
        let p = choice(t_label, &t);
        of_label = (q.label - p.label) * numbers.alpha;
        let of_choice = addend(p.label, q.label - p.label, q.log_label - p.log_label)
            + addend(p.others, q.others - p.others, q.log_others - p.log_others);
        hard = of_choice * numbers.alpha;
    }
    // The factor of the divergence of the classes, in the value and, over τ, in the gradient.
    let soft = if comptime!(kind == Kind::Decoupled) {
        // A teacher that masks all the others does not compare them.
        select(t_max <= LOWEST, 0.0, numbers.beta)
    } else {
        1.0f32.runtime()
    };
    let grad_scale = weight * factor;

    if comptime!(kind.has_teacher()) {
        let mut c = unit;
        while c < end {
            let q = class(student, first + c, factor, &s);
            let p = class(teacher, first + c, factor, &t);
            let r = q.a - p.a - offset;
            if comptime!(kind == Kind::Reverse) {
                value += addend(q.p, p.p - q.p, -r);
                mean += q.p * r;
            } else if comptime!(kind == Kind::Mixture) {
                let at = mixed(p.p, q.p, r, numbers.beta);
                value += at.value;
                mean += q.p * at.u;
            } else {
                let rest = q.p - p.p;
                if c != apart {
                    value += addend(p.p, rest, r);
                }
                if comptime!(has_gradient) {
                    // A class that the student masks is a constant. The teacher's probability of it
                    // must not lower all the others.
                    let mut g = (rest - lost * q.p) * soft * grad_scale;
                    if comptime!(kind == Kind::Decoupled) {
                        g = select(
                            c == label,
                            of_label * grad_scale,
                            g - of_label * grad_scale * q.p,
                        );
                    }
                    gradient[first + c] = select(q.is_out, 0.0, g);
                }
            }
            c += units;
        }
        let found = together(
            Four {
                a: value,
                b: mean,
                c: 0.0,
                d: 0.0,
            },
            false,
            units,
        );
        value = found.a;
        mean = found.b;
    }
    if comptime!(kind.has_mean() && has_gradient) {
        let mut c = unit;
        while c < end {
            let q = class(student, first + c, factor, &s);
            let p = class(teacher, first + c, factor, &t);
            let r = q.a - p.a - offset;
            let g = if comptime!(kind == Kind::Mixture) {
                let at = mixed(p.p, q.p, r, numbers.beta);
                q.p * (at.u - mean) * (1.0 - numbers.beta)
            } else {
                q.p * (r - mean)
            };
            gradient[first + c] = select(q.is_out, 0.0, g * grad_scale);
            c += units;
        }
    }

    if is_there {
        if unit == 0 {
            let mut of_row = (hard + soft * value) * weight;
            if comptime!(kind.has_labels()) {
                // A label out of range.
                of_row = select(label < classes, of_row, numbers.nan);
            }
            values[row] = select(is_valid, of_row, 0.0);
        }
        if comptime!(has_gradient) {
            if !is_valid {
                let mut c = unit;
                while c < classes {
                    gradient[first + c] = 0.0;
                    c += units;
                }
            }
        }
    }
}
