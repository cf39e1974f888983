//! Synthesised sounds, one frame each, with the pitch that they have.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::model::FRAME;

const RATE: f64 = 16_000.0;

/// One sine of a sound: `amplitude · sin(2π (frequency · t + glide · t² / 2) + phase)`, with `t` from the middle of
/// the frame.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Partial {
    pub frequency: f64,
    pub glide: f64,
    pub amplitude: f64,
    pub phase: f64,
}

/// One frame of sound.
#[derive(Debug, Clone, Serialize)]
pub struct Frame {
    pub samples: Vec<f32>,
    /// In hertz, in the middle of the frame; none of noise.
    pub pitch: Option<f64>,
}

/// The samples of a sum of sines.
pub fn sum(partials: &[Partial]) -> Vec<f64> {
    let sample = |n: usize| {
        let t = (n as f64 - (FRAME / 2) as f64) / RATE;
        let sine = |p: &Partial| {
            let turns = p.frequency * t + p.glide * t * t / 2.0;
            p.amplitude * (TAU * turns + p.phase).sin()
        };
        partials.iter().map(sine).sum()
    };
    (0..FRAME).map(sample).collect()
}

/// Mean 0 and standard deviation 1, which is all the preparation that CREPE asks for.
pub fn normalised(samples: &[f64]) -> Vec<f32> {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let square = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let deviation = (square / (n - 1.0)).sqrt().max(1e-10);
    let scaled = samples.iter().map(|x| ((x - mean) / deviation) as f32);
    scaled.collect()
}

/// Frames as a batch, `[N, 1024]`.
pub fn batch(frames: &[Frame], device: &Device) -> Tensor<2> {
    let samples: Vec<f32> = frames.iter().flat_map(|f| f.samples.clone()).collect();
    Tensor::from_data(TensorData::new(samples, [frames.len(), FRAME]), device)
}

/// Sounds to learn from: sines, harmonics and glides under some noise, and one in ten noise alone.
pub fn tones(count: usize, seed: u64) -> Vec<Frame> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rng = &mut rng;
    (0..count).map(|_| tone(rng)).collect()
}

fn tone(rng: &mut StdRng) -> Frame {
    if rng.random_bool(0.1) {
        return Frame {
            samples: normalised(&noise(rng)),
            pitch: None,
        };
    }
    let pitch = log_uniform(rng, 40.0, 1600.0);
    // Up to two semitones within the frame, half of the time.
    let glide = match rng.random_bool(0.5) {
        true => rng.random_range(-2.0..2.0) / 12.0 * pitch * RATE / FRAME as f64,
        false => 0.0,
    };
    let harmonics = match rng.random_bool(0.2) {
        true => 1,
        false => rng.random_range(2..30),
    };
    let decay = rng.random_range(0.3..2.0);
    let partials = (1..=harmonics).map(f64::from);
    let partials = partials.filter(|k| k * pitch < 7_500.0).map(|k| Partial {
        frequency: k * pitch,
        glide: k * glide,
        amplitude: k.powf(-decay) * rng.random_range(0.3..1.0),
        phase: rng.random_range(0.0..TAU),
    });
    let partials: Vec<Partial> = partials.collect();
    let level = log_uniform(rng, 0.01, 0.5);
    with_noise(sum(&partials), pitch, level, rng)
}

/// Sounds of another kind than [`tones`]: pulses of a voice through the resonances of a throat.
pub fn voices(count: usize, seed: u64) -> Vec<Frame> {
    let mut rng = StdRng::seed_from_u64(seed);
    let rng = &mut rng;
    (0..count).map(|_| voice(rng)).collect()
}

fn voice(rng: &mut StdRng) -> Frame {
    let pitch = log_uniform(rng, 80.0, 400.0);
    let formants = [
        (300.0, 900.0),
        (900.0, 2300.0),
        (2300.0, 3200.0),
        (3200.0, 4000.0),
    ];
    let formants =
        formants.map(|(low, high)| (rng.random_range(low..high), rng.random_range(60.0..150.0)));
    let partials = (1..=(7_500.0 / pitch) as usize).map(|k| {
        let frequency = k as f64 * pitch;
        let (mut amplitude, mut phase) = (1.0 / k as f64, 0.0);
        for (centre, width) in formants {
            // A resonance of second order at this frequency.
            let (real, imaginary) = (centre * centre - frequency * frequency, width * frequency);
            amplitude *= centre * centre / real.hypot(imaginary);
            phase -= imaginary.atan2(real);
        }
        Partial {
            frequency,
            glide: 0.0,
            amplitude,
            phase,
        }
    });
    let partials: Vec<Partial> = partials.collect();
    let level = log_uniform(rng, 0.01, 0.1);
    with_noise(sum(&partials), pitch, level, rng)
}

/// A frame of these samples under noise, `level` as strong as they are.
fn with_noise(samples: Vec<f64>, pitch: f64, level: f64, rng: &mut StdRng) -> Frame {
    let samples = normalised(&samples);
    let noisy = samples.iter().zip(noise(rng));
    let noisy: Vec<f64> = noisy
        .map(|(x, noise)| f64::from(*x) + level * noise)
        .collect();
    Frame {
        samples: normalised(&noisy),
        pitch: Some(pitch),
    }
}

/// Uniform noise of deviation 1.
fn noise(rng: &mut StdRng) -> Vec<f64> {
    let edge = 3f64.sqrt();
    (0..FRAME).map(|_| rng.random_range(-edge..edge)).collect()
}

fn log_uniform(rng: &mut StdRng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(rng.random_range(0.0..1.0))
}
