//! From all logits of a row to the part of them that is kept.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::data::key::Key;

/// The most likely classes of a row.
#[derive(Debug, Default)]
pub(crate) struct Top {
    pub(crate) classes: Vec<u32>,
    pub(crate) log_probs: Vec<f32>,
    pub(crate) log_rest: f32,
    order: Vec<u32>,
}

/// The largest of `z / τ` and the logarithm of the sum of exponentials below it.
fn normaliser(logits: &[f32], temperature: f64) -> (f64, f64) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most) / temperature;
    let sum: f64 = logits
        .iter()
        .map(|z| (f64::from(*z) / temperature - most).exp())
        .sum();
    (most, sum.ln())
}

impl Top {
    /// Takes the `k` largest of a row that has a finite one; of equal logits those of lower classes.
    pub(crate) fn take(&mut self, logits: &[f32], k: usize, temperature: f64) {
        self.order.clear();
        self.order.extend(0..logits.len() as u32);
        if k < logits.len() {
            self.order.select_nth_unstable_by(k - 1, |a, b| {
                let (left, right) = (logits[*a as usize], logits[*b as usize]);
                right.total_cmp(&left).then(a.cmp(b))
            });
        }
        let (most, log_sum) = normaliser(logits, temperature);
        let log_prob =
            |class: &u32| f64::from(logits[*class as usize]) / temperature - most - log_sum;
        let (kept, rest) = self.order.split_at(k);
        self.classes.clear();
        self.classes.extend_from_slice(kept);
        self.log_probs.clear();
        self.log_probs
            .extend(kept.iter().map(|c| log_prob(c) as f32));
        // The smaller of the two sums is the precise one.
        let rest: f64 = rest.iter().map(|c| log_prob(c).exp()).sum();
        self.log_rest = if rest < 0.5 {
            rest.ln() as f32
        } else {
            let kept: f64 = kept.iter().map(|c| log_prob(c).exp()).sum();
            (-kept).ln_1p() as f32
        };
    }
}

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
    let (most, _) = normaliser(logits, temperature);
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
