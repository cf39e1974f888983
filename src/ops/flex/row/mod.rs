//! One row of logits: its value and its gradient, while it is in the cache.
//!
//! A row is read from memory once, into a scratch of single precision, and its gradient is written
//! once. Maxima come first, then exponentials and their sums, then value and gradient together;
//! every exponential is taken once.

mod sparse;
mod squares;

use std::mem::MaybeUninit;

use pulp::Simd;

use crate::ops::flex::choice::Choice;
use crate::ops::flex::lanes::{addend, exp, fma, log_1p};
use crate::ops::flex::out::{More, Nothing, OfStudent, Out, constant, constants};
use crate::ops::flex::side::{Logit, Side};
use crate::ops::formula::Formula;

/// Where the teacher's logits are.
#[derive(Clone, Copy)]
pub(crate) enum Teacher<'a, T> {
    /// The formula does not read them.
    None,
    At(&'a [T]),
    /// In single precision, where the gradient goes.
    InGradient,
}

/// The row of a sparse teacher.
#[derive(Clone, Copy)]
pub(crate) struct SparseRow<'a> {
    pub indices: &'a [usize],
    pub log_p: &'a [f32],
    pub log_tail: f32,
}

/// A row, what it is compared with, and its weight.
pub(crate) struct Row<'a, T> {
    pub student: &'a [T],
    pub teacher: Teacher<'a, T>,
    pub sparse: Option<SparseRow<'a>>,
    /// Used where the formula has labels.
    pub label: usize,
    /// Factor of value and gradient. A row of weight zero is not read.
    pub weight: f32,
    /// Where the gradient goes; empty where it is unused.
    pub gradient: &'a mut [MaybeUninit<f32>],
}

/// How many numbers of scratch a row of this many classes needs.
pub(crate) fn scratch_len(classes: usize, lanes: usize) -> usize {
    4 * classes.next_multiple_of(lanes)
}

/// The value of a row, and its gradient with respect to the student's logits, both times the row's
/// weight.
///
/// The gradient, unless it is unused, is written as a whole in every case. A row of weight zero gives
/// zeros without being read; one that holds NaN or +∞ on a side that the formula reads gives NaN
/// throughout; a squared error, which has no softmax, gives what follows from it. The
/// scratch is that of [`scratch_len`]; it may hold anything.
#[inline(always)]
pub(crate) fn row<S: Simd, T: Logit>(
    simd: S,
    formula: Formula,
    row: Row<'_, T>,
    scratch: &mut [f32],
) -> f32 {
    if row.weight == 0.0 {
        return constant(row.gradient, 0.0, 0.0);
    }
    let (scratch, _) = S::as_mut_simd_f32s(scratch);
    let vectors = row.student.len().div_ceil(S::F32_LANES);
    let mut parts = scratch.chunks_exact_mut(vectors);
    let mut part = || parts.next().expect("a scratch of four parts");
    if formula == Formula::SquaredError {
        return squares::squared_error(simd, row, part(), part());
    }
    let factor = (1.0 / formula.temperature()) as f32;
    let student = Side::read(simd, row.student, factor, part(), part());
    let teacher = match row.teacher {
        Teacher::None => None,
        Teacher::At(teacher) => Some(Side::read(simd, teacher, factor, part(), part())),
        Teacher::InGradient => {
            // SAFETY: the logits are there until the gradient is written, after they are read.
            let teacher = unsafe { row.gradient.assume_init_ref() };
            Some(Side::read(simd, teacher, factor, part(), part()))
        }
    };
    let (Ok(student), Ok(teacher)) = (student, teacher.transpose()) else {
        return constant(row.gradient, f32::NAN, f32::NAN);
    };
    let work = Work {
        simd,
        student,
        weight: row.weight,
        // The derivative of z / τ.
        grad_scale: row.weight * factor,
        gradient: row.gradient,
    };
    match (formula, teacher) {
        (Formula::HardLabel { smoothing }, _) => work.hard_label(row.label, smoothing as f32),
        (Formula::Divergence { .. }, Some(teacher)) => work.divergence(teacher),
        (Formula::Reverse { .. }, Some(teacher)) => work.reverse(teacher),
        (Formula::Mixture { beta, .. }, Some(teacher)) => work.mixture(teacher, beta as f32),
        (Formula::Decoupled { alpha, beta, .. }, Some(teacher)) => {
            work.decoupled(teacher, row.label, [alpha as f32, beta as f32])
        }
        (Formula::Sparse { has_tail, .. }, _) => {
            let sparse = row.sparse.expect("a sparse formula has a sparse teacher");
            work.sparse(sparse, has_tail, part(), part())
        }
        (Formula::SquaredError, _) => unreachable!("it has no softmax and returns above"),
        (_, None) => unreachable!("a formula with a teacher has its row"),
    }
}

/// What all formulas have in common.
struct Work<'a, S: Simd> {
    simd: S,
    student: Side<'a, S>,
    weight: f32,
    grad_scale: f32,
    gradient: &'a mut [MaybeUninit<f32>],
}

impl<'a, S: Simd> Work<'a, S> {
    #[inline(always)]
    fn hard_label(mut self, label: usize, smoothing: f32) -> f32 {
        let simd = self.simd;
        self.student.exponentiate(simd);
        let s = &self.student;
        let is_masked = s.masked.contains(&label);
        let of_label = if is_masked {
            f32::INFINITY
        } else {
            s.log_sum - s.get(label)
        };
        let mut value = of_label * (1.0 - smoothing);
        let each = smoothing / s.classes as f32;
        if smoothing > 0.0 {
            // In double precision: it runs over all classes, whatever the order.
            let logits: &[f32] = bytemuck::cast_slice(s.a);
            let sum: f64 = logits[..s.classes].iter().map(|&a| f64::from(a)).sum();
            let mean = (sum / s.classes as f64) as f32;
            let others = if s.masked.is_empty() {
                s.log_sum - mean
            } else {
                f32::INFINITY
            };
            value += others * smoothing;
        }
        if !self.gradient.is_empty() {
            let scale = simd.splat_f32s(s.scale * self.weight);
            let each = simd.splat_f32s(-each * self.weight);
            let mut out = Out::<S>::new(self.gradient);
            for (i, &e) in s.e.iter().enumerate() {
                out.put(i, fma(simd, e, scale, each));
            }
            let at_label = s.probability(label) - (1.0 - smoothing) - smoothing / s.classes as f32;
            self.gradient[label].write(at_label * self.weight);
            constants(self.gradient, &s.masked);
        }
        value * self.weight
    }

    #[inline(always)]
    fn divergence(mut self, mut teacher: Side<'_, S>) -> f32 {
        let simd = self.simd;
        self.student.exponentiate(simd);
        teacher.exponentiate(simd);
        let value = self.soft(&teacher, self.grad_scale, Nothing);
        self.fix_masked(&teacher, self.grad_scale);
        value * self.weight
    }

    /// `KL(p ‖ q)`. The gradient is `grad_scale · (q − p)` and `more`.
    #[inline(always)]
    fn soft(&mut self, teacher: &Side<'_, S>, grad_scale: f32, more: impl More<S>) -> f32 {
        let simd = self.simd;
        let (s, t) = (&self.student, teacher);
        let (s_scale, t_scale) = (simd.splat_f32s(s.scale), simd.splat_f32s(t.scale));
        let offset = simd.splat_f32s(s.log_sum - t.log_sum);
        let grad_scale = simd.splat_f32s(grad_scale);
        let has_gradient = !self.gradient.is_empty();
        let mut out = Out::<S>::new(self.gradient);
        let mut value = simd.splat_f32s(0.0);
        let sides = s.a.iter().zip(s.e.iter()).zip(t.a.iter().zip(t.e.iter()));
        for (i, ((&s_a, &s_e), (&t_a, &t_e))) in sides.enumerate() {
            let r = simd.sub_f32s(simd.sub_f32s(s_a, t_a), offset);
            let p = simd.mul_f32s(t_e, t_scale);
            let rest = simd.sub_f32s(simd.mul_f32s(s_e, s_scale), p);
            value = simd.add_f32s(value, addend(simd, p, rest, r));
            if has_gradient {
                out.put(i, more.add(simd, s_e, simd.mul_f32s(rest, grad_scale)));
            }
        }
        simd.reduce_sum_f32s(value)
    }

    /// A class that the student masks is a constant. The teacher's probability of it must not lower all
    /// the others.
    #[inline(always)]
    fn fix_masked(&mut self, teacher: &Side<'_, S>, grad_scale: f32) {
        if self.student.masked.is_empty() || self.gradient.is_empty() {
            return;
        }
        let lost: f32 = self
            .student
            .masked
            .iter()
            .map(|&c| teacher.probability(c))
            .sum();
        for (c, g) in self.gradient.iter_mut().enumerate() {
            // SAFETY: the gradient has been written as a whole.
            let before = unsafe { g.assume_init() };
            g.write(before - lost * self.student.probability(c) * grad_scale);
        }
        constants(self.gradient, &self.student.masked);
    }

    #[inline(always)]
    fn reverse(mut self, mut teacher: Side<'_, S>) -> f32 {
        let simd = self.simd;
        self.student.exponentiate(simd);
        teacher.exponentiate(simd);
        let (s, t) = (&mut self.student, &mut teacher);
        let (s_scale, t_scale) = (simd.splat_f32s(s.scale), simd.splat_f32s(t.scale));
        let offset = simd.splat_f32s(s.log_sum - t.log_sum);
        let zero = simd.splat_f32s(0.0);
        let (mut value, mut mean) = (zero, zero);
        let sides =
            s.a.iter_mut()
                .zip(s.e.iter_mut())
                .zip(t.a.iter().zip(t.e.iter()));
        for ((s_a, s_e), (&t_a, &t_e)) in sides {
            let r = simd.sub_f32s(simd.sub_f32s(*s_a, t_a), offset);
            let p = simd.mul_f32s(t_e, t_scale);
            let q = simd.mul_f32s(*s_e, s_scale);
            let to_p = addend(simd, q, simd.sub_f32s(p, q), simd.sub_f32s(zero, r));
            value = simd.add_f32s(value, to_p);
            mean = fma(simd, q, r, mean);
            (*s_a, *s_e) = (r, q);
        }
        self.through_softmax(simd.reduce_sum_f32s(mean), 1.0);
        simd.reduce_sum_f32s(value) * self.weight
    }

    #[inline(always)]
    fn mixture(mut self, mut teacher: Side<'_, S>, beta: f32) -> f32 {
        let simd = self.simd;
        self.student.exponentiate(simd);
        teacher.exponentiate(simd);
        let (s, t) = (&mut self.student, &mut teacher);
        let (s_scale, t_scale) = (simd.splat_f32s(s.scale), simd.splat_f32s(t.scale));
        let offset = simd.splat_f32s(s.log_sum - t.log_sum);
        let (of_p, of_q) = (simd.splat_f32s(beta), simd.splat_f32s(1.0 - beta));
        let least = beta.min(1.0 - beta);
        let (least, least_log) = (simd.splat_f32s(least - 1.0), simd.splat_f32s(least.ln()));
        let zero = simd.splat_f32s(0.0);
        let (mut value, mut mean) = (zero, zero);
        let sides =
            s.a.iter_mut()
                .zip(s.e.iter_mut())
                .zip(t.a.iter().zip(t.e.iter()));
        for ((s_a, s_e), (&t_a, &t_e)) in sides {
            let r = simd.sub_f32s(simd.sub_f32s(*s_a, t_a), offset);
            let minus_r = simd.sub_f32s(zero, r);
            let p = simd.mul_f32s(t_e, t_scale);
            let q = simd.mul_f32s(*s_e, s_scale);
            // As in the composed form: m seen from the larger of p and q.
            let fall = exp(simd, simd.min_f32s(r, minus_r));
            let fall = simd.sub_f32s(fall, simd.splat_f32s(1.0));
            let fraction = simd.select_f32s(simd.less_than_f32s(r, zero), of_q, of_p);
            let fall = simd.max_f32s(simd.mul_f32s(fall, fraction), least);
            let below = simd.max_f32s(log_1p(simd, fall), least_log);
            let above_p = simd.add_f32s(below, simd.max_f32s(r, zero));
            let above_q = simd.add_f32s(below, simd.max_f32s(minus_r, zero));
            let m = fma(simd, p, of_p, simd.mul_f32s(q, of_q));
            let from_p = addend(simd, p, simd.sub_f32s(m, p), above_p);
            let from_q = addend(simd, q, simd.sub_f32s(m, q), above_q);
            value = fma(simd, from_p, of_p, fma(simd, from_q, of_q, value));
            let u = simd.sub_f32s(zero, above_q);
            mean = fma(simd, q, u, mean);
            (*s_a, *s_e) = (u, q);
        }
        self.through_softmax(simd.reduce_sum_f32s(mean), 1.0 - beta);
        simd.reduce_sum_f32s(value) * self.weight
    }

    /// Writes `factor · q · (u − mean)`, with `u` and `q` where the student's logits and their
    /// exponentials were.
    #[inline(always)]
    fn through_softmax(&mut self, mean: f32, factor: f32) {
        if self.gradient.is_empty() {
            return;
        }
        let simd = self.simd;
        let mean = simd.splat_f32s(mean);
        let grad_scale = simd.splat_f32s(self.grad_scale * factor);
        let mut out = Out::<S>::new(self.gradient);
        for (i, (&u, &q)) in self.student.a.iter().zip(self.student.e.iter()).enumerate() {
            let g = simd.mul_f32s(q, simd.sub_f32s(u, mean));
            out.put(i, simd.mul_f32s(g, grad_scale));
        }
        constants(self.gradient, &self.student.masked);
    }

    #[inline(always)]
    fn decoupled(mut self, mut teacher: Side<'_, S>, label: usize, [alpha, beta]: [f32; 2]) -> f32 {
        let simd = self.simd;
        // A teacher that masks all but the label has no distribution over the others.
        let others_out = teacher.masked.iter().filter(|&&c| c != label).count();
        let beta = match others_out + 1 == teacher.classes {
            true => 0.0,
            false => beta,
        };
        let q = Choice::new(simd, &mut self.student, label);
        let p = Choice::new(simd, &mut teacher, label);
        let target = p.divergence_to(&q);
        let of_label = (q.label - p.label) as f32 * alpha * self.grad_scale;
        let scale = simd.splat_f32s(-of_label * self.student.scale);
        let non_target = self.soft(&teacher, self.grad_scale * beta, OfStudent(scale));
        if !self.gradient.is_empty() {
            self.fix_masked(&teacher, self.grad_scale * beta);
            let is_constant = self.student.masked.contains(&label);
            self.gradient[label].write(if is_constant { 0.0 } else { of_label });
        }
        (target as f32 * alpha + non_target * beta) * self.weight
    }
}
