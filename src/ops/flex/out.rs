//! Where a gradient goes, and what is written there.

use std::mem::MaybeUninit;

use pulp::Simd;

use crate::ops::flex::lanes::fma;

/// Where a gradient goes, a vector at a time.
pub(crate) struct Out<'a, S: Simd> {
    whole: &'a mut [MaybeUninit<S::f32s>],
    last: &'a mut [MaybeUninit<f32>],
}

impl<'a, S: Simd> Out<'a, S> {
    #[inline(always)]
    pub fn new(row: &'a mut [MaybeUninit<f32>]) -> Self {
        let (whole, last) = S::as_uninit_mut_simd_f32s(row);
        Self { whole, last }
    }

    #[inline(always)]
    pub fn put(&mut self, i: usize, x: S::f32s) {
        match self.whole.get_mut(i) {
            Some(out) => {
                out.write(x);
            }
            None => {
                let x = [x];
                let numbers: &[f32] = bytemuck::cast_slice(&x);
                for (out, &x) in self.last.iter_mut().zip(numbers) {
                    out.write(x);
                }
            }
        }
    }
}

/// Fills the gradient with one number and hands the value on.
pub(crate) fn constant(gradient: &mut [MaybeUninit<f32>], x: f32, value: f32) -> f32 {
    for out in gradient {
        out.write(x);
    }
    value
}

/// No gradient at these classes.
pub(crate) fn constants(gradient: &mut [MaybeUninit<f32>], classes: &[usize]) {
    for &c in classes {
        gradient[c].write(0.0);
    }
}

/// What is added to the gradient of soft targets. A trait rather than a closure, because a closure is
/// not always inlined, and is then compiled without the instruction set.
pub(crate) trait More<S: Simd> {
    /// The sum of `g` and the addition, where the student's exponentials are `e`.
    fn add(&self, simd: S, e: S::f32s, g: S::f32s) -> S::f32s;
}

pub(crate) struct Nothing;

impl<S: Simd> More<S> for Nothing {
    #[inline(always)]
    fn add(&self, _: S, _: S::f32s, g: S::f32s) -> S::f32s {
        g
    }
}

/// The student's exponentials, times a factor.
pub(crate) struct OfStudent<S: Simd>(pub S::f32s);

impl<S: Simd> More<S> for OfStudent<S> {
    #[inline(always)]
    fn add(&self, simd: S, e: S::f32s, g: S::f32s) -> S::f32s {
        fma(simd, e, self.0, g)
    }
}
