//! Samples of a row in place of all its logits.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::data::key::Key;

/// Draws classes from `softmax(z / τ)` with replacement, and appends the distinct ones, ascending, and how
/// often each came less one.
///
/// The draws depend on the sample, its view and seed and the row alone, so a recording that was taken up
/// again equals one that was not interrupted.
pub(crate) fn draw(
    logits: &[f32],
    draws: usize,
    temperature: f64,
    mut random: Random,
    classes: &mut Vec<u32>,
    counts: &mut Vec<u32>,
) {
    classes.clear();
    counts.clear();
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most) / temperature;
    let weight = |z: &f32| (f64::from(*z) / temperature - most).exp();
    // Added up in the same order twice, so that the last sum is the total to the last bit.
    let total: f64 = logits.iter().map(weight).sum();
    let mut points: Vec<f64> = (0..draws).map(|_| random.next() * total).collect();
    points.sort_by(f64::total_cmp);
    let mut points = points.into_iter().peekable();
    let mut sum = 0.0;
    for (class, z) in logits.iter().enumerate() {
        sum += weight(z);
        let mut count = 0;
        while points.next_if(|point| *point < sum).is_some() {
            count += 1;
        }
        if count > 0 {
            classes.push(class as u32);
            counts.push(count - 1);
        }
        if points.peek().is_none() {
            break;
        }
    }
}

/// Random numbers of one row.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(key: Key, seed: u64, row: usize) -> Self {
        let mut bytes = key.id.0.to_le_bytes().to_vec();
        bytes.extend(key.view.to_le_bytes());
        bytes.extend((row as u64).to_le_bytes());
        Self(xxh3_64_with_seed(&bytes, seed))
    }

    /// Evenly from 0 to below 1, in steps of 2⁻⁵³. SplitMix64 (Steele et al., 2014).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
#[path = "../tests/reduce.rs"]
mod tests;
