//! A top-k teacher as a sparse distribution.

use pulp::Simd;

use crate::ops::LOG_OF_ZERO;
use crate::ops::flex::lanes::{addend, exp};
use crate::ops::flex::out::{Out, constants};
use crate::ops::flex::row::{SparseRow, Work};
use crate::ops::flex::side::NEXT_TO_NOTHING;
use crate::ops::sparse::{LEAST_TAIL, surplus};

impl<S: Simd> Work<'_, S> {
    /// `KL(p ‖ q)` and its gradient, with `p` given at a few classes. In the scratch, as in
    /// [`Side`](super::Side), a logarithm becomes its exponential.
    #[inline(always)]
    pub(crate) fn sparse(
        mut self,
        sparse: SparseRow<'_>,
        has_tail: bool,
        q_scratch: &mut [S::f32s],
        p_scratch: &mut [S::f32s],
    ) -> f32 {
        let simd = self.simd;
        let classes = self.student.classes;
        let vectors = sparse.indices.len().div_ceil(S::F32_LANES);
        let (q_scratch, p_scratch) = (&mut q_scratch[..vectors], &mut p_scratch[..vectors]);
        let mut count = 0;
        {
            let logits: &mut [f32] = bytemuck::cast_slice_mut(q_scratch);
            logits.fill(f32::NEG_INFINITY);
            for (j, &c) in sparse.entries() {
                assert!(c < classes, "a class is out of range: there are {classes}");
                logits[j] = self.student.get(c) - self.student.max;
                count += 1;
            }
            for (_, &c) in sparse.entries() {
                self.student.set(c, f32::NEG_INFINITY);
            }
        }
        self.student.exponentiate(simd);
        let others = 1.0 / self.student.scale;
        let mut sum = simd.splat_f32s(0.0);
        for &a in q_scratch.iter() {
            sum = simd.add_f32s(sum, exp(simd, a));
        }
        let sum = others + simd.reduce_sum_f32s(sum);
        let log_sum = sum.ln();
        let is_out = |c: &usize| self.student.masked.contains(c);
        let max = {
            let logits: &mut [f32] = bytemuck::cast_slice_mut(q_scratch);
            let log_p: &mut [f32] = bytemuck::cast_slice_mut(p_scratch);
            if !self.student.masked.is_empty() {
                for (j, _) in sparse.entries().filter(|(_, c)| is_out(c)) {
                    logits[j] = LOG_OF_ZERO as f32 + log_sum;
                }
            }
            // Gaps are negligible on both sides.
            let max = logits.iter().fold(f32::MIN, |max, &a| max.max(a));
            for a in logits.iter_mut().filter(|a| **a == f32::NEG_INFINITY) {
                *a = max + NEXT_TO_NOTHING;
            }
            log_p.fill(NEXT_TO_NOTHING);
            sparse
                .entries()
                .for_each(|(j, _)| log_p[j] = sparse.log_p[j]);
            max
        };

        // Without a tail, q is normalised over the top k. Rounding must not lift its sum above 1, nor move
        // it off 1 where the top k are all classes.
        let log_sum_top = match has_tail || count == classes {
            true => log_sum,
            false => {
                let most = simd.splat_f32s(max);
                let mut sum = simd.splat_f32s(0.0);
                for &a in q_scratch.iter() {
                    sum = simd.add_f32s(sum, exp(simd, simd.sub_f32s(a, most)));
                }
                (simd.reduce_sum_f32s(sum).ln() + max).min(log_sum)
            }
        };
        let log_mass_top = log_sum_top - log_sum;
        let offset = simd.splat_f32s(log_sum_top);
        let scale = simd.splat_f32s(log_mass_top.exp());
        let zero = simd.splat_f32s(0.0);
        let (mut value, mut p_sum) = (zero, zero);
        for (q, p) in q_scratch.iter_mut().zip(p_scratch.iter_mut()) {
            let log_q = simd.sub_f32s(*q, offset);
            let r = simd.sub_f32s(log_q, *p);
            let among = exp(simd, log_q);
            *p = exp(simd, *p);
            value = simd.add_f32s(value, addend(simd, *p, simd.sub_f32s(among, *p), r));
            p_sum = simd.add_f32s(p_sum, *p);
            *q = simd.mul_f32s(among, scale);
        }
        let mut value = simd.reduce_sum_f32s(value) - log_mass_top;
        // What p sums to, as far as its counterpart in q can still move.
        let mut moving = 1.0;
        let mut from_tail = 1.0;
        if has_tail {
            let log_q_tail = (others / sum).ln();
            let is_free = log_q_tail > LEAST_TAIL.ln() as f32;
            let log_q_tail = log_q_tail.max(LEAST_TAIL.ln() as f32);
            let log_tail = sparse.log_tail.max(LEAST_TAIL.ln() as f32);
            let (q_tail, p_tail) = (log_q_tail.exp(), log_tail.exp());
            value += addend_of_one(p_tail, q_tail - p_tail, log_q_tail - log_tail);
            let surplus = surplus(simd.reduce_sum_f32s(p_sum));
            value += surplus;
            moving += surplus;
            if is_free {
                from_tail = -(log_tail - log_q_tail).exp();
            } else {
                moving -= p_tail;
                from_tail = 0.0;
            }
        }
        let q: &[f32] = bytemuck::cast_slice(q_scratch);
        let p: &[f32] = bytemuck::cast_slice(p_scratch);
        // A class that the student masks is a constant, as in soft targets.
        let lost = sparse.entries().filter(|(_, c)| is_out(c));
        moving -= lost.map(|(j, _)| p[j]).sum::<f32>();
        let of_others = match has_tail {
            true => moving + from_tail,
            false => moving,
        };

        if !self.gradient.is_empty() {
            let factor = simd.splat_f32s(of_others * self.grad_scale / sum);
            let mut out = Out::<S>::new(self.gradient);
            for (i, &e) in self.student.e.iter().enumerate() {
                out.put(i, simd.mul_f32s(e, factor));
            }
            for (j, &c) in sparse.entries() {
                self.gradient[c].write((q[j] * moving - p[j]) * self.grad_scale);
            }
            constants(self.gradient, &self.student.masked);
        }
        value * self.weight
    }
}

impl SparseRow<'_> {
    /// The entries that are not gaps: their index and class.
    fn entries(&self) -> impl Iterator<Item = (usize, &usize)> {
        let all = self.indices.iter().enumerate();
        all.filter(|(j, _)| self.log_p[*j] != f32::NEG_INFINITY)
    }
}

/// [`addend`] of one class, in double precision.
fn addend_of_one(a: f32, rest: f32, r: f32) -> f32 {
    let (a, r) = (f64::from(a), f64::from(r));
    let near = a * (r.exp_m1() - r);
    let far = f64::from(rest) - a * r;
    (if r.abs() < 0.25 { near } else { far }) as f32
}
