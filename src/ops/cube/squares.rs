//! Squared error: no softmax, one pass.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::ops::cube::row::LOWEST;
use crate::ops::cube::sums::{Four, together};

/// The value of every row, `weight · Σ (s − t)²`, and its gradient, without the classes that either
/// side masks.
#[cube(launch, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
pub(crate) fn squares<F: Float>(
    student: &[F],
    teacher: &[F],
    weights: &[f32],
    values: &mut [f32],
    gradient: &mut [f32],
    classes: usize,
    #[comptime] has_gradient: bool,
    #[comptime] units: usize,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    let first = row * classes;
    let is_there = row < values.len();
    let mut weight = 0.0f32;
    if is_there {
        weight = weights[row];
    }
    let end = select(is_there, classes, 0usize);
    let mut sum = 0.0f32;
    let mut c = UNIT_POS as usize;
    while c < end {
        let mut apart = 0.0f32;
        // A row of weight zero is not read.
        if weight != 0.0 {
            let s = f32::cast_from(student[first + c]);
            let t = f32::cast_from(teacher[first + c]);
            apart = select(s < LOWEST || t < LOWEST, 0.0, s - t);
        }
        sum += apart * apart;
        if comptime!(has_gradient) {
            gradient[first + c] = 2.0 * apart * weight;
        }
        c += units;
    }
    let found = together(
        Four {
            a: sum,
            b: 0.0,
            c: 0.0,
            d: 0.0,
        },
        false,
        units,
    );
    if is_there && UNIT_POS == 0 {
        values[row] = found.a * weight;
    }
}
