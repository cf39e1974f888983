//! A teacher of whom only some classes are known.

use pulp::Simd;

use crate::ops::LOG_OF_ZERO;
use crate::ops::flex::lanes::{addend, exp};
use crate::ops::flex::out::{Out, constants};
use crate::ops::flex::row::{Known, Work};
use crate::ops::flex::side::NEXT_TO_NOTHING;
use crate::ops::known::{LEAST_MASS, surplus};

impl<S: Simd> Work<'_, S> {
    /// `KL(p ‖ q)` and its gradient, with `p` known at a few classes. In the rooms, as in
    /// [`Side`](super::Side), a logarithm becomes its exponential.
    #[inline(always)]
    pub(crate) fn known(
        mut self,
        known: Known<'_>,
        has_rest: bool,
        q_room: &mut [S::f32s],
        p_room: &mut [S::f32s],
    ) -> f32 {
        let simd = self.simd;
        let classes = self.student.classes;
        let vectors = known.indices.len().div_ceil(S::F32_LANES);
        let (q_room, p_room) = (&mut q_room[..vectors], &mut p_room[..vectors]);
        let mut count = 0;
        {
            let logits: &mut [f32] = bytemuck::cast_slice_mut(q_room);
            logits.fill(f32::NEG_INFINITY);
            for (j, &c) in known.there() {
                assert!(c < classes, "a class is out of range: there are {classes}");
                logits[j] = self.student.get(c) - self.student.max;
                count += 1;
            }
            for (_, &c) in known.there() {
                self.student.set(c, f32::NEG_INFINITY);
            }
        }
        self.student.exponentiate(simd);
        let others = 1.0 / self.student.scale;
        let mut sum = simd.splat_f32s(0.0);
        for &a in q_room.iter() {
            sum = simd.add_f32s(sum, exp(simd, a));
        }
        let sum = others + simd.reduce_sum_f32s(sum);
        let log_sum = sum.ln();
        let is_out = |c: &usize| self.student.ruled_out.contains(c);
        let max = {
            let logits: &mut [f32] = bytemuck::cast_slice_mut(q_room);
            let log_p: &mut [f32] = bytemuck::cast_slice_mut(p_room);
            if !self.student.ruled_out.is_empty() {
                for (j, _) in known.there().filter(|(_, c)| is_out(c)) {
                    logits[j] = LOG_OF_ZERO as f32 + log_sum;
                }
            }
            // Gaps are next to nothing on both sides.
            let max = logits.iter().fold(f32::MIN, |max, &a| max.max(a));
            for a in logits.iter_mut().filter(|a| **a == f32::NEG_INFINITY) {
                *a = max + NEXT_TO_NOTHING;
            }
            log_p.fill(NEXT_TO_NOTHING);
            known.there().for_each(|(j, _)| log_p[j] = known.log_p[j]);
            max
        };

        // Without a rest, q is brought to the sum 1 among the classes known. Rounding must not lift
        // what it sums to above 1, nor move it off 1 where all classes are known.
        let log_sum_known = match has_rest || count == classes {
            true => log_sum,
            false => {
                let most = simd.splat_f32s(max);
                let mut sum = simd.splat_f32s(0.0);
                for &a in q_room.iter() {
                    sum = simd.add_f32s(sum, exp(simd, simd.sub_f32s(a, most)));
                }
                (simd.reduce_sum_f32s(sum).ln() + max).min(log_sum)
            }
        };
        let log_mass_known = log_sum_known - log_sum;
        let offset = simd.splat_f32s(log_sum_known);
        let scale = simd.splat_f32s(log_mass_known.exp());
        let zero = simd.splat_f32s(0.0);
        let (mut value, mut p_sum) = (zero, zero);
        for (q, p) in q_room.iter_mut().zip(p_room.iter_mut()) {
            let log_q = simd.sub_f32s(*q, offset);
            let r = simd.sub_f32s(log_q, *p);
            let among = exp(simd, log_q);
            *p = exp(simd, *p);
            value = simd.add_f32s(value, addend(simd, *p, simd.sub_f32s(among, *p), r));
            p_sum = simd.add_f32s(p_sum, *p);
            *q = simd.mul_f32s(among, scale);
        }
        let mut value = simd.reduce_sum_f32s(value) - log_mass_known;
        // What p sums to, as far as its counterpart in q can still move.
        let mut moving = 1.0;
        let mut pull_others = 1.0;
        if has_rest {
            let log_mass = (others / sum).ln();
            let counts = log_mass > LEAST_MASS.ln() as f32;
            let log_mass = log_mass.max(LEAST_MASS.ln() as f32);
            let log_rest = known.log_rest.max(LEAST_MASS.ln() as f32);
            let (mass, rest) = (log_mass.exp(), log_rest.exp());
            value += addend_of_one(rest, mass - rest, log_mass - log_rest);
            let surplus = surplus(simd.reduce_sum_f32s(p_sum));
            value += surplus;
            moving += surplus;
            if counts {
                pull_others = -(log_rest - log_mass).exp();
            } else {
                moving -= rest;
                pull_others = 0.0;
            }
        }
        let q: &[f32] = bytemuck::cast_slice(q_room);
        let p: &[f32] = bytemuck::cast_slice(p_room);
        // A class that the student rules out is a constant, as in soft targets.
        let lost = known.there().filter(|(_, c)| is_out(c));
        moving -= lost.map(|(j, _)| p[j]).sum::<f32>();
        let of_others = match has_rest {
            true => moving + pull_others,
            false => moving,
        };

        if !self.gradient.is_empty() {
            let factor = simd.splat_f32s(of_others * self.pull / sum);
            let mut out = Out::<S>::new(self.gradient);
            for (i, &e) in self.student.e.iter().enumerate() {
                out.put(i, simd.mul_f32s(e, factor));
            }
            for (j, &c) in known.there() {
                self.gradient[c].write((q[j] * moving - p[j]) * self.pull);
            }
            constants(self.gradient, &self.student.ruled_out);
        }
        value * self.weight
    }
}

impl Known<'_> {
    /// The classes that are no gaps, with their places.
    fn there(&self) -> impl Iterator<Item = (usize, &usize)> {
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
