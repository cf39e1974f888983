//! One side of a row: its logits in single precision, and what makes probabilities of them.

use burn::tensor::{bf16, f16};
use pulp::Simd;

use crate::ops::LOG_OF_ZERO;
use crate::ops::flex::lanes::{exp, fma};

/// A type that logits are stored in.
pub(crate) trait Logit: Copy + Send + Sync + burn::tensor::Element + bytemuck::Pod {
    /// The row in single precision.
    fn read(row: &[Self], out: &mut [f32]);

    /// The vectors that can be read in place, and the rest of the row.
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
    /// The logits over τ; from [`Side::exponentiate`] on, less their maximum. Masked classes,
    /// those left out, and the lanes past the last class are at −∞ before and at a finite number after.
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
    pub masked: Vec<usize>,
}

/// A row that holds NaN or +∞.
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
        // Stays zero unless some x is infinite or NaN.
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
            masked: Vec::new(),
        };
        if simd.reduce_sum_f32s(check) != 0.0 {
            side.find_masked()?;
        }
        Ok(side)
    }

    /// Finds the classes at −∞.
    #[cold]
    fn find_masked(&mut self) -> Result<(), NotANumber> {
        let mut max = f32::NEG_INFINITY;
        for c in 0..self.classes {
            let x = self.get(c);
            if x == f32::NEG_INFINITY {
                self.masked.push(c);
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

    /// Puts finite numbers where `a` is at −∞, since differences of two sides are taken: that of
    /// [`LOG_OF_ZERO`] where a class is masked.
    fn make_finite(&mut self) {
        self.fill_last_lanes(NEXT_TO_NOTHING);
        self.set_masked(LOG_OF_ZERO as f32 + self.log_sum);
    }

    pub fn get(&self, class: usize) -> f32 {
        bytemuck::cast_slice::<S::f32s, f32>(self.a)[class]
    }

    pub fn set(&mut self, class: usize, x: f32) {
        bytemuck::cast_slice_mut::<S::f32s, f32>(self.a)[class] = x;
    }

    fn set_masked(&mut self, x: f32) {
        for i in 0..self.masked.len() {
            self.set(self.masked[i], x);
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

/// The logarithm of a number that is negligible next to 1.
pub(crate) const NEXT_TO_NOTHING: f32 = -100.0;
