//! Functions that a GPU lacks, or has with fewer digits.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// What a class adds to `KL(a ‖ b)` with `r = log b − log a` and `rest = b − a`: `b − a − a·r`, by
/// its series where that would cancel. Never negative.
#[cube]
pub(crate) fn addend(a: f32, rest: f32, r: f32) -> f32 {
    // At |r| = 0.25 what is left out is below 2e-8 of it.
    let mut series = r / 7.0f32 + 1.0f32;
    series = series * r / 6.0f32 + 1.0f32;
    series = series * r / 5.0f32 + 1.0f32;
    series = series * r / 4.0f32 + 1.0f32;
    series = series * r / 3.0f32 + 1.0f32;
    series *= 0.5f32;
    let near = a * series * r * r;
    select(r.abs() < 0.25, near, rest - a * r)
}

/// `e^x − 1` for `x ≤ 0`, without cancellation near zero.
#[cube]
pub(crate) fn exp_less_one(x: f32) -> f32 {
    let mut series = x / 9.0f32 + 1.0f32;
    series = series * x / 8.0f32 + 1.0f32;
    series = series * x / 7.0f32 + 1.0f32;
    series = series * x / 6.0f32 + 1.0f32;
    series = series * x / 5.0f32 + 1.0f32;
    series = series * x / 4.0f32 + 1.0f32;
    series = series * x / 3.0f32 + 1.0f32;
    series = series * x / 2.0f32 + 1.0f32;
    select(x > -0.5f32, series * x, x.exp() - 1.0f32)
}

/// `log(1 + x)` for `−1 < x ≤ 1`. A GPU's own may be off by a part of the distance to 1.
#[cube]
pub(crate) fn log_one_more(x: f32) -> f32 {
    // 2 · artanh(t), |t| ≤ ⅓.
    let t = x / (x + 2.0f32);
    let t2 = t * t;
    let mut series = t2 / 15.0f32 + comptime!(1.0f32 / 13.0f32);
    series = series * t2 + comptime!(1.0f32 / 11.0f32);
    series = series * t2 + comptime!(1.0f32 / 9.0f32);
    series = series * t2 + comptime!(1.0f32 / 7.0f32);
    series = series * t2 + comptime!(1.0f32 / 5.0f32);
    series = series * t2 + comptime!(1.0f32 / 3.0f32);
    series = series * t2 + 1.0f32;
    select(x > -0.5f32, 2.0f32 * t * series, (x + 1.0f32).ln())
}

/// `log(1 + e^x)`
#[cube]
pub(crate) fn softplus(x: f32) -> f32 {
    max(x, 0.0) + log_one_more((-x.abs()).exp())
}
