use proptest::prelude::*;

use super::*;

fn floats() -> impl Strategy<Value = Vec<f32>> {
    // More than a block.
    prop::collection::vec(-6e4f32..6e4, 0..2100)
}

proptest! {
    #[test]
    fn single_precision_is_exact(values in floats()) {
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        write_f32(&values, &mut bytes);
        read_f32(&bytes, &mut back);
        prop_assert_eq!(back, values);
    }

    #[test]
    fn half_precision_rounds_to_nearest(values in floats()) {
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        prop_assert!(write_f16(&values, &mut bytes));
        read_f16(&bytes, &mut back);
        prop_assert_eq!(back.len(), values.len());
        for (back, exact) in back.iter().zip(&values) {
            let allowed = (exact.abs() / 2048.0).max(2f32.powi(-25));
            prop_assert!((back - exact).abs() <= allowed, "{back} {exact}");
        }
    }

    #[test]
    fn the_upper_half_rounds_to_nearest(values in floats()) {
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        prop_assert!(write_bf16(&values, &mut bytes));
        read_bf16(&bytes, &mut back);
        prop_assert_eq!(back.len(), values.len());
        for (back, exact) in back.iter().zip(&values) {
            // Eight significant bits: half a unit of the last is 2^-9 of the power of two below.
            prop_assert!((back - exact).abs() <= exact.abs() / 256.0, "{back} {exact}");
        }
    }

    #[test]
    fn a_byte_is_off_by_a_254th_of_the_largest(values in floats(), vector in 1usize..9) {
        let whole = values.len() / vector * vector;
        let (mut bytes, mut scales, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for vector in values[..whole].chunks(vector) {
            write_i8(vector, &mut bytes, &mut scales);
        }
        read_i8(&bytes, &scales, vector, &mut back);
        prop_assert_eq!(back.len(), whole);
        for (back, exact) in back.chunks(vector).zip(values.chunks(vector)) {
            let largest = exact.iter().fold(0f32, |most, v| most.max(v.abs()));
            for (back, exact) in back.iter().zip(exact) {
                // And the rounding of the scale itself.
                prop_assert!((back - exact).abs() <= largest / 254.0 * 1.000_02, "{back} {exact}");
            }
        }
    }
}

#[test]
fn what_is_too_large_for_half_precision_is_told() {
    let mut out = Vec::new();
    // The largest is 65504; what rounds to 65536 does not fit.
    assert!(write_f16(&[65_504.0, -65_519.0], &mut out));
    assert!(!write_f16(&[65_520.0], &mut out));
    assert!(write_bf16(&[3.38e38], &mut out));
    assert!(!write_bf16(&[f32::MAX], &mut out));
    // A class that is ruled out stays so.
    assert!(write_f16(&[f32::NEG_INFINITY], &mut out));
}

#[test]
fn zeros_have_no_scale_and_come_back() {
    let (mut bytes, mut scales, mut back) = (Vec::new(), Vec::new(), Vec::new());
    write_i8(&[0.0, -0.0, 0.0], &mut bytes, &mut scales);
    // So small that its scale is not a number above zero.
    write_i8(&[1e-45, 0.0, 0.0], &mut bytes, &mut scales);
    read_i8(&bytes, &scales, 3, &mut back);
    assert_eq!(back, [0.0; 6]);
}
