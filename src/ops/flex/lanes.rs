//! Single-precision functions on as many lanes as the processor has.
//!
//! Every function takes the instruction set as a value, so that the caller chooses it once at run
//! time, and is inlined into code compiled for that set.

use pulp::Simd;

/// `a · b + c`.
#[inline(always)]
pub(crate) fn fma<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(a, b, c)
}

/// A polynomial, highest power first, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd>(simd: S, x: S::f32s, coefficients: &[f32]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = fma(simd, sum, x, simd.splat_f32s(c));
    }
    sum
}

/// What [`exp`] raises its argument to: below, the result would not be a normal number.
const LEAST_EXPONENT: f32 = -87.0;

/// `1.5 · 2²³`: added to a number of moderate size, it leaves the nearest integer in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// `e^x` for `x ≤ 88`; at least `e^−87`, which is tiny but not zero.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = simd.max_f32s(x, simd.splat_f32s(LEAST_EXPONENT));
    let rounded = fma(
        simd,
        x,
        simd.splat_f32s(std::f32::consts::LOG2_E),
        simd.splat_f32s(ROUNDER),
    );
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUNDER));
    // n · ln 2 in two parts, the first exact, so that the difference loses no digits.
    let f = fma(simd, n, simd.splat_f32s(-355.0 / 512.0), x);
    let f = fma(simd, n, simd.splat_f32s(2.121_944_4e-4), f);
    // A minimax polynomial for |f| ≤ ln 2 / 2, off by at most 3e-9 of the result, and exact at zero.
    let series = polynomial(
        simd,
        f,
        &[
            1.381_446_8e-3,
            8.368_781e-3,
            4.166_839_3e-2,
            1.666_652e-1,
            4.999_999_4e-1,
            1.0,
            1.0,
        ],
    );
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(series), exponent))
}

/// `log(1 + x)` for `−1 < x ≤ 0`.
#[inline(always)]
pub(crate) fn log_1p<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let u = simd.add_f32s(one, x);
    // u = m · 2^n with √½ ≤ m < √2.
    let bits = simd.transmute_u32s_f32s(u);
    let shifted = simd.sub_u32s(
        bits,
        simd.splat_u32s(std::f32::consts::FRAC_1_SQRT_2.to_bits()),
    );
    let exponent = simd.and_u32s(shifted, simd.splat_u32s(0xff80_0000));
    let m = simd.transmute_f32s_u32s(simd.sub_u32s(bits, exponent));
    // The exponent is between −126 and 0: made a number through the bits of a float.
    let minus_n = simd.wrapping_dyn_shr_u32s(
        simd.sub_u32s(simd.splat_u32s(0), exponent),
        simd.splat_u32s(23),
    );
    let minus_n =
        simd.transmute_f32s_u32s(simd.add_u32s(minus_n, simd.splat_u32s(ROUNDER.to_bits())));
    let minus_n = simd.sub_f32s(minus_n, simd.splat_f32s(ROUNDER));
    // log m = 2 · artanh(t) with t = (m − 1) / (m + 1), |t| ≤ 0.172.
    let t = simd.div_f32s(simd.sub_f32s(m, one), simd.add_f32s(m, one));
    let t2 = simd.mul_f32s(t, t);
    let series = polynomial(simd, t2, &[2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0]);
    let log = fma(
        simd,
        minus_n,
        simd.splat_f32s(-std::f32::consts::LN_2),
        simd.mul_f32s(t, series),
    );
    // Near 1, u has lost digits of x: log(1 + x) = log u · x / (u − 1) has them back.
    let lost = simd.sub_f32s(u, one);
    let is_tiny = simd.equal_f32s(lost, simd.splat_f32s(0.0));
    let safe = simd.select_f32s(is_tiny, one, lost);
    let scaled = simd.div_f32s(simd.mul_f32s(log, x), safe);
    simd.select_f32s(is_tiny, x, scaled)
}

/// What a class adds to `KL(a ‖ b)` with `r = log b − log a` and `rest = b − a`: `b − a − a·r`,
/// by its series where that would cancel. Never negative.
#[inline(always)]
pub(crate) fn addend<S: Simd>(simd: S, a: S::f32s, rest: S::f32s, r: S::f32s) -> S::f32s {
    let far = simd.negate_mul_add_e_f32s(a, r, rest);
    // e^r − 1 − r; at |r| = 0.25 what is left out is below 2e-8 of it.
    let series = polynomial(
        simd,
        r,
        &[
            1.0 / 5040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
        ],
    );
    let near = simd.mul_f32s(simd.mul_f32s(a, series), simd.mul_f32s(r, r));
    let is_near = simd.less_than_f32s(simd.abs_f32s(r), simd.splat_f32s(0.25));
    simd.select_f32s(is_near, near, far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Each<'a, F>(&'a [f32], F);

    trait Function {
        fn call<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s;
    }

    impl<F: Function> WithSimd for Each<'_, F> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let mut out = Vec::new();
            for chunk in self.0.chunks(S::F32_LANES) {
                let y = self.1.call(simd, simd.partial_load_f32s(chunk));
                let mut result = vec![0.0; chunk.len()];
                simd.partial_store_f32s(&mut result, y);
                out.extend(result);
            }
            out
        }
    }

    /// The largest relative error against double precision, on every instruction set there is.
    fn worst<F: Function + Copy>(xs: &[f32], f: F, exact: fn(f64) -> f64) -> f64 {
        [
            Arch::new().dispatch(Each(xs, f)),
            Each(xs, f).with_simd(pulp::Scalar::new()),
        ]
        .iter()
        .flat_map(|ys| xs.iter().zip(ys))
        .map(|(&x, &y)| {
            let exact = exact(f64::from(x));
            ((f64::from(y) - exact) / exact).abs()
        })
        .fold(0.0, f64::max)
    }

    #[derive(Clone, Copy)]
    struct Exp;
    impl Function for Exp {
        fn call<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            exp(simd, x)
        }
    }

    #[derive(Clone, Copy)]
    struct Log1p;
    impl Function for Log1p {
        fn call<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            log_1p(simd, x)
        }
    }

    #[test]
    fn exp_is_right_to_three_units_in_the_last_place() {
        let xs: Vec<f32> = (0..=87_000).map(|i| -(i as f32) / 1000.0).collect();
        assert!(worst(&xs, Exp, f64::exp) < 3.0 * 1.2e-7);
        assert_eq!(
            Arch::new().dispatch(Each(&[f32::NEG_INFINITY, -1e30, 0.0], Exp))[2],
            1.0
        );
    }

    #[test]
    fn exp_of_minus_infinity_is_tiny_but_positive() {
        for y in Arch::new().dispatch(Each(&[f32::NEG_INFINITY, -1e30, -88.0], Exp)) {
            assert!(y > 0.0 && y < 2e-38, "{y}");
        }
    }

    #[test]
    fn log_1p_is_right_from_next_to_minus_one_to_next_to_zero() {
        let far = (1..1000).map(|i| -(i as f32) / 1000.0);
        let near = (1..30).map(|i| -(10f32.powi(-i)));
        let xs: Vec<f32> = far.chain(near).collect();
        assert!(worst(&xs, Log1p, f64::ln_1p) < 4.0 * 1.2e-7);
    }
}
