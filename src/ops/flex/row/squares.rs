//! Squared error: no softmax, one pass.

use pulp::Simd;

use crate::ops::flex::lanes::fma;
use crate::ops::flex::out::Out;
use crate::ops::flex::row::{Row, Teacher};
use crate::ops::flex::side::Logit;

/// `weight · Σ (s − t)²`, and its gradient, `2 · weight · (s − t)`, without the classes that either
/// side masks.
#[inline(always)]
pub(crate) fn squared_error<S: Simd, T: Logit>(
    simd: S,
    row: Row<'_, T>,
    s_scratch: &mut [S::f32s],
    t_scratch: &mut [S::f32s],
) -> f32 {
    let s = vectors::<S, T>(row.student, s_scratch);
    let t = match row.teacher {
        Teacher::At(teacher) => vectors::<S, T>(teacher, t_scratch),
        Teacher::InGradient => {
            // SAFETY: the logits are there until the gradient is written over them, vector by vector,
            // each after it has been copied.
            let teacher: &[f32] = unsafe { row.gradient.assume_init_ref() };
            let scratch: &mut [f32] = bytemuck::cast_slice_mut(t_scratch);
            scratch[..teacher.len()].copy_from_slice(teacher);
            scratch[teacher.len()..].fill(0.0);
            &[]
        }
        Teacher::None => unreachable!("squared error has a teacher"),
    };
    let (out_of, zero) = (simd.splat_f32s(f32::NEG_INFINITY), simd.splat_f32s(0.0));
    let grad_scale = simd.splat_f32s(2.0 * row.weight);
    let has_gradient = !row.gradient.is_empty();
    let mut out = Out::<S>::new(row.gradient);
    let mut sums = [zero; 2];
    for (i, (s_last, t_last)) in s_scratch.iter().zip(t_scratch.iter()).enumerate() {
        let s = *s.get(i).unwrap_or(s_last);
        let t = *t.get(i).unwrap_or(t_last);
        let is_out = simd.or_m32s(simd.equal_f32s(s, out_of), simd.equal_f32s(t, out_of));
        let apart = simd.select_f32s(is_out, zero, simd.sub_f32s(s, t));
        sums[i % 2] = fma(simd, apart, apart, sums[i % 2]);
        if has_gradient {
            out.put(i, simd.mul_f32s(apart, grad_scale));
        }
    }
    simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1])) * row.weight
}

/// The vectors of a row that can be read in place; the rest is copied into the scratch, with zeros after
/// it.
#[inline(always)]
fn vectors<'a, S: Simd, T: Logit>(row: &'a [T], scratch: &mut [S::f32s]) -> &'a [S::f32s] {
    let (whole, rest) = T::vectors::<S>(row);
    let read = row.len() - rest.len();
    let numbers: &mut [f32] = bytemuck::cast_slice_mut(scratch);
    T::read(rest, &mut numbers[read..row.len()]);
    numbers[row.len()..].fill(0.0);
    whole
}
