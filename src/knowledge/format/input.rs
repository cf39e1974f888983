//! A teacher's input in a few numbers: what a batcher that changed is found by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The shape of an input and three sums over its numbers.
///
/// The sums are compared with a tolerance: another device rounds otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputSummary {
    shape: Vec<usize>,
    sum: f64,
    /// With weights that depend on the position, so that numbers in another order show.
    weighted: f64,
    /// Of magnitudes.
    magnitude: f64,
}

/// What rounding may change, of the sum of magnitudes: numbers in `f32` that took a few operations.
const TOLERANCE: f64 = 1e-5;

impl InputSummary {
    pub fn new(shape: &[usize], numbers: impl Iterator<Item = f64>) -> Self {
        let mut summary = Self {
            shape: shape.to_vec(),
            sum: 0.0,
            weighted: 0.0,
            magnitude: 0.0,
        };
        // A file has no word for what is not finite.
        let finite = numbers.map(|x| if x.is_finite() { x } else { 0.0 });
        for (at, x) in finite.enumerate() {
            // Fractions of the golden ratio lie evenly in [0, 1), and those of neighbours far apart.
            let weight = (at as f64 * 0.618_033_988_749_895).fract();
            summary.sum += x;
            summary.weighted += x * weight;
            summary.magnitude += x.abs();
        }
        summary
    }

    pub fn is_like(&self, other: &Self) -> bool {
        let room = TOLERANCE * self.magnitude.max(other.magnitude);
        let close = |a: f64, b: f64| (a - b).abs() <= room;
        self.shape == other.shape
            && close(self.sum, other.sum)
            && close(self.weighted, other.weighted)
            && close(self.magnitude, other.magnitude)
    }
}

impl fmt::Display for InputSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shape {:?}, sum {}", self.shape, self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[f64]) -> InputSummary {
        InputSummary::new(&[1, numbers.len()], numbers.iter().copied())
    }

    #[test]
    fn rounding_does_not_show_and_a_change_does() {
        let numbers = [0.25, -1.5, 3.0, 0.125];
        let plain = of(&numbers);
        let map = |f: fn(f64) -> f64| of(&numbers.map(f));
        assert!(plain.is_like(&map(|x| x * (1.0 + 1e-6))));
        assert!(!plain.is_like(&map(|x| x * 1.001)), "another scale");
        assert!(!plain.is_like(&map(|x| x + 0.001)), "another mean");
        assert!(!plain.is_like(&map(|x| -x)), "another sign");
        assert!(
            !plain.is_like(&of(&[-1.5, 0.25, 3.0, 0.125])),
            "another order"
        );
        let column = InputSummary::new(&[4, 1], numbers.into_iter());
        assert!(!plain.is_like(&column), "another shape");
        assert!(of(&[0.0]).is_like(&of(&[0.0])));
        let masked = of(&[1.0, f64::NEG_INFINITY]);
        assert!(masked.is_like(&masked) && !masked.is_like(&of(&[2.0, f64::NEG_INFINITY])));
    }
}
