use super::*;
use crate::data::key::SampleId;

fn random(seed: u64) -> Random {
    Random::new(Key::new(SampleId(1)), seed, 0)
}

#[test]
fn draws_estimate_the_distribution_without_bias() {
    let logits = [0.0, 2.0, f32::NEG_INFINITY, 1.0, -3.0];
    let weights = logits.map(|z| (f64::from(z) / 1.5).exp());
    let sum: f64 = weights.iter().sum();
    let (draws, rows) = (12, 4000);
    let mut mean = [0.0; 5];
    let (mut classes, mut counts) = (Vec::new(), Vec::new());
    for seed in 0..rows {
        draw(&logits, draws, 1.5, random(seed), &mut classes, &mut counts);
        assert!(classes.is_sorted_by(|a, b| a < b));
        assert_eq!(counts.iter().map(|c| c + 1).sum::<u32>(), draws as u32);
        for (class, count) in classes.iter().zip(&counts) {
            mean[*class as usize] += f64::from(count + 1) / (draws as u64 * rows) as f64;
        }
    }
    for (mean, weight) in mean.iter().zip(weights) {
        let p = weight / sum;
        // Five standard deviations of a share of 48,000 draws.
        let deviation = (p * (1.0 - p) / 48_000.0).sqrt();
        assert!((mean - p).abs() <= 5.0 * deviation, "{mean} {p}");
    }
    assert_eq!(mean[2], 0.0, "what is ruled out is never drawn");
}

#[test]
fn the_same_sample_draws_the_same_and_others_do_not() {
    let logits: Vec<f32> = (0..1000).map(|n| (n % 7) as f32).collect();
    let drawn = |random| {
        let (mut classes, mut counts) = (Vec::new(), Vec::new());
        draw(&logits, 50, 1.0, random, &mut classes, &mut counts);
        (classes, counts)
    };
    let key = Key::new(SampleId(1));
    let first = drawn(Random::new(key, 5, 0));
    assert_eq!(first, drawn(Random::new(key, 5, 0)));
    assert_ne!(first, drawn(Random::new(key, 6, 0)), "seed");
    assert_ne!(first, drawn(Random::new(key, 5, 1)), "row");
    assert_ne!(first, drawn(Random::new(key.with_view(1), 5, 0)), "view");
    assert_ne!(first, drawn(Random::new(Key::new(SampleId(2)), 5, 0)), "id");
}
