//! One side of a row: its logits in single precision, and what makes probabilities of them.

use burn::tensor::{bf16, f16};
use pulp::Simd;

use crate::ops::LOG_OF_ZERO;
use crate::ops::flex::lanes::{exp, fma};

/// A type that logits are stored in.
pub(crate) trait Logit: Copy + Send + Sync + burn::tensor::Element + bytemuck::Pod {
    /// The row in single precision.
    fn read(row: &[Self], out: &mut [f32]);

    /// What vectors can be read of the row as it is, and the rest of it.
    fn vectors<S: Simd>(row: &[Self]) -> (&[S::f32s], &[Self]) {
        (&[], row)
    }
}

impl Logit for f32 {
    fn read(row: &[Self], out: &mut [f32]) {
        out.copy_from_slice(row);
    }

    #[inline(always)]
    fn vectors<S: Simd>(row: &[Self]) -> (&[S::f32s], &[Self]) {
        S::as_simd_f32s(row)
    }
}

impl Logit for f16 {
    fn read(row: &[Self], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(row) {
            *out = x.to_f32();
        }
    }
}

impl Logit for bf16 {
    fn read(row: &[Self], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(row) {
            *out = x.to_f32();
        }
    }
}

/// One side of a row.
pub(crate) struct Side<'a, S: Simd> {
    /// The logits over τ; from [`Side::exponentiate`] on, less their maximum. What stands for
    /// nothing, a class ruled out or left out and the lanes past the last class, is at −∞ before
    /// and at a finite number after.
    pub a: &'a mut [S::f32s],
    /// The exponentials of `a`, never zero: `e^−87` is as good.
    pub e: &'a mut [S::f32s],
    pub classes: usize,
    pub max: f32,
    /// The logarithm of the sum of the exponentials.
    pub log_sum: f32,
    /// One over that sum.
    pub scale: f32,
    /// The classes at −∞.
    pub ruled_out: Vec<usize>,
}

/// A row with a number that is none, or infinite.
pub(crate) struct NotANumber;

impl<'a, S: Simd> Side<'a, S> {
    #[inline(always)]
    pub fn read<T: Logit>(
        simd: S,
        row: &[T],
        factor: f32,
        a: &'a mut [S::f32s],
        e: &'a mut [S::f32s],
    ) -> Result<Self, NotANumber> {
        let classes = row.len();
        let (whole, rest) = T::vectors::<S>(row);
        let read = classes - rest.len();
        let numbers: &mut [f32] = bytemuck::cast_slice_mut(a);
        T::read(rest, &mut numbers[read..classes]);
        // What fills the last lanes does not change the maximum.
        if let Some(&first) = numbers[read..classes].first() {
            numbers[classes..].fill(first);
        }

        let factor = simd.splat_f32s(factor);
        let zero = simd.splat_f32s(0.0);
        let mut max = simd.splat_f32s(f32::NEG_INFINITY);
        // Stays zero unless some x is infinite or no number.
        let mut check = zero;
        for (i, out) in a.iter_mut().enumerate() {
            let x = simd.mul_f32s(*whole.get(i).unwrap_or(&*out), factor);
            max = simd.max_f32s(max, x);
            check = fma(simd, x, zero, check);
            *out = x;
        }
        let mut side = Self {
            a,
            e,
            classes,
            max: simd.reduce_max_f32s(max),
            log_sum: 0.0,
            scale: 0.0,
            ruled_out: Vec::new(),
        };
        if simd.reduce_sum_f32s(check) != 0.0 {
            side.rule_out()?;
        }
        Ok(side)
    }

    /// Finds the classes at −∞.
    #[cold]
    fn rule_out(&mut self) -> Result<(), NotANumber> {
        let mut max = f32::NEG_INFINITY;
        for c in 0..self.classes {
            let x = self.get(c);
            if x == f32::NEG_INFINITY {
                self.ruled_out.push(c);
            } else if !x.is_finite() {
                return Err(NotANumber);
            }
            max = max.max(x);
        }
        self.max = if max.is_finite() { max } else { 0.0 };
        Ok(())
    }

    /// Leaves a class out of the sums, and the maximum.
    #[inline(always)]
    pub fn leave_out(&mut self, simd: S, class: usize) {
        let was_max = self.get(class) == self.max;
        self.set(class, f32::NEG_INFINITY);
        if was_max {
            self.fill_last_lanes(f32::NEG_INFINITY);
            let mut max = simd.splat_f32s(f32::MIN);
            for &x in self.a.iter() {
                max = simd.max_f32s(max, x);
            }
            self.max = simd.reduce_max_f32s(max);
        }
    }

    /// Takes the exponentials and sums them up.
    #[inline(always)]
    pub fn exponentiate(&mut self, simd: S) {
        self.fill_last_lanes(f32::NEG_INFINITY);
        let max = simd.splat_f32s(self.max);
        let mut sums = [simd.splat_f32s(0.0); 2];
        for (i, (a, e)) in self.a.iter_mut().zip(self.e.iter_mut()).enumerate() {
            *a = simd.sub_f32s(*a, max);
            *e = exp(simd, *a);
            sums[i % 2] = simd.add_f32s(sums[i % 2], *e);
        }
        let sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
        self.log_sum = sum.ln();
        self.scale = 1.0 / sum;
        self.make_finite();
    }

    /// Puts finite numbers where `a` stands for nothing, since differences of two sides are taken:
    /// one with the logarithm that a probability of zero counts as where a class is ruled out.
    fn make_finite(&mut self) {
        self.fill_last_lanes(NEXT_TO_NOTHING);
        self.set_ruled_out(LOG_OF_ZERO as f32 + self.log_sum);
    }

    /// `e^(factor · a)` into `out`, after [`Side::exponentiate`]; their sum.
    #[inline(always)]
    pub fn exponentials(&mut self, simd: S, factor: f32, out: &mut [S::f32s]) -> f32 {
        // Back to −∞: a finite number times a small factor would be more than nothing.
        self.fill_last_lanes(f32::NEG_INFINITY);
        self.set_ruled_out(f32::NEG_INFINITY);
        let factor = simd.splat_f32s(factor);
        let mut sum = simd.splat_f32s(0.0);
        for (e, &a) in out.iter_mut().zip(self.a.iter()) {
            *e = exp(simd, simd.mul_f32s(a, factor));
            sum = simd.add_f32s(sum, *e);
        }
        self.make_finite();
        simd.reduce_sum_f32s(sum)
    }

    pub fn get(&self, class: usize) -> f32 {
        bytemuck::cast_slice::<S::f32s, f32>(self.a)[class]
    }

    pub fn set(&mut self, class: usize, x: f32) {
        bytemuck::cast_slice_mut::<S::f32s, f32>(self.a)[class] = x;
    }

    fn set_ruled_out(&mut self, x: f32) {
        for i in 0..self.ruled_out.len() {
            self.set(self.ruled_out[i], x);
        }
    }

    fn fill_last_lanes(&mut self, x: f32) {
        bytemuck::cast_slice_mut::<S::f32s, f32>(self.a)[self.classes..].fill(x);
    }

    /// The probability of a class.
    pub fn probability(&self, class: usize) -> f32 {
        bytemuck::cast_slice::<S::f32s, f32>(self.e)[class] * self.scale
    }
}

/// A logarithm of what is nothing next to 1.
pub(crate) const NEXT_TO_NOTHING: f32 = -100.0;
