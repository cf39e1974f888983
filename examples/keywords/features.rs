//! From sound to what the networks hear: noise added, then the energy of 32 bands over time.

use std::f32::consts::PI;

use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clips::{Clip, RATE};

/// Samples in a frame, and from one frame to the next.
const FRAME: usize = 256;
const STEP: usize = 128;
/// Frequency bands, and frames in time: 0.8 seconds.
pub const BANDS: usize = 32;
pub const FRAMES: usize = 48;
/// Samples that the frames cover.
const SAMPLES: usize = FRAME + (FRAMES - 1) * STEP;

/// What is heard of a clip: the logarithm of the energy, band by band from below.
#[derive(Debug, Clone)]
pub struct Heard {
    pub energies: Vec<f32>,
    pub class: usize,
}

/// Whether voices are as in the clips, or as of other people, for training on more of them.
#[derive(Debug, Clone, Copy)]
pub enum Voices {
    AsTheyAre,
    Varied,
}

/// How far the noise is below the speech, in decibels.
pub const NOISES: [f32; 4] = [f32::INFINITY, 20.0, 10.0, 5.0];

/// Listens to each clip a number of times, each time in the next of the noises.
pub fn listen(
    clips: &[Clip],
    times: usize,
    voices: Voices,
    seed: u64,
    device: &Device,
) -> Vec<Heard> {
    let mut rng = StdRng::seed_from_u64(seed);
    let ears = Ears::new(device);
    let mut takes = Vec::with_capacity(clips.len() * times);
    for (index, clip) in clips.iter().enumerate() {
        takes.extend((index..index + times).map(|noise| (clip, NOISES[noise % NOISES.len()])));
    }
    let mut heard = Vec::with_capacity(takes.len());
    for takes in takes.chunks(256) {
        let sound = |(clip, noise): &(&Clip, f32)| take(clip, *noise, voices, &mut rng);
        let sounds: Vec<f32> = takes.iter().flat_map(sound).collect();
        let sounds = TensorData::new(sounds, [takes.len(), SAMPLES]);
        let energies = ears.hear(Tensor::from_data(sounds, device)).into_data();
        let energies: Vec<f32> = energies.iter::<f32>().collect();
        let energies = energies.chunks_exact(BANDS * FRAMES).map(<[f32]>::to_vec);
        let classes = takes.iter().map(|(clip, _)| clip.class);
        heard.extend(
            energies
                .zip(classes)
                .map(|(energies, class)| Heard { energies, class }),
        );
    }
    heard
}

/// 0.8 seconds with the clip in it, and noise of a colour of its own.
fn take(clip: &Clip, decibels: f32, voices: Voices, rng: &mut StdRng) -> Vec<f32> {
    let mut sound = vec![0.0; SAMPLES];
    let speech = match voices {
        Voices::AsTheyAre => clip.sound.clone(),
        Voices::Varied => at_speed(&clip.sound, rng.random_range(0.8..1.25)),
    };
    // Of a longer clip, its middle.
    let skipped = speech.len().saturating_sub(SAMPLES) / 2;
    let speech = &speech[skipped..speech.len().min(skipped + SAMPLES)];
    let start = rng.random_range(0..=SAMPLES - speech.len());
    sound[start..start + speech.len()].copy_from_slice(speech);

    // The nearer to one, the more of the noise is low.
    let colour = rng.random_range(0.0..0.95);
    let mut last = 0.0;
    let noise = || {
        last = colour * last + rng.random_range(-1.0..1.0);
        last
    };
    let noise: Vec<f32> = std::iter::repeat_with(noise).take(SAMPLES).collect();
    let power = |sound: &[f32]| sound.iter().map(|x| x * x).sum::<f32>() / sound.len() as f32;
    let ratio = 10f32.powf(-decibels / 10.0);
    let gain = (power(speech) * ratio / power(&noise)).sqrt();
    sound
        .iter_mut()
        .zip(noise)
        .for_each(|(x, noise)| *x += gain * noise);
    sound
}

/// A sound played faster or slower, which also moves its pitch and what tells a large mouth from a
/// small one.
fn at_speed(sound: &[f32], speed: f32) -> Vec<f32> {
    let length = (sound.len() as f32 / speed) as usize;
    let between = |n: usize| {
        let position = n as f32 * speed;
        let before = (position as usize).min(sound.len() - 2);
        let part = position - before as f32;
        sound[before] * (1.0 - part) + sound[before + 1] * part
    };
    (0..length).map(between).collect()
}

/// The two matrices between a frame of sound and its bands.
struct Ears {
    /// A windowed Fourier transform, `[FRAME, 2 (FRAME / 2 + 1)]`: cosines, then sines. At this
    /// size a matrix does as well as a fast transform.
    waves: Tensor<2>,
    /// Overlapping triangles, evenly spaced on the mel scale, `[FRAME / 2 + 1, BANDS]`.
    triangles: Tensor<2>,
}

impl Ears {
    fn new(device: &Device) -> Self {
        let bins = FRAME / 2 + 1;
        let mut waves = Vec::with_capacity(FRAME * bins * 2);
        for n in 0..FRAME {
            let turn = 2.0 * PI * n as f32 / FRAME as f32;
            let window = 0.5 - 0.5 * turn.cos();
            // Without its whole turns, an angle keeps its digits.
            let angle = |k: usize| 2.0 * PI * ((n * k) % FRAME) as f32 / FRAME as f32;
            waves.extend((0..bins).map(|k| window * angle(k).cos()));
            waves.extend((0..bins).map(|k| window * angle(k).sin()));
        }

        let mel = |hertz: f32| 2595.0 * (1.0 + hertz / 700.0).log10();
        let (low, high) = (mel(60.0), mel(3800.0));
        let width = (high - low) / (BANDS + 1) as f32;
        let mut triangles = Vec::with_capacity(bins * BANDS);
        for k in 0..bins {
            let pitch = mel((k * RATE) as f32 / FRAME as f32);
            let centre = |band: usize| low + width * (band + 1) as f32;
            let height = |band| (1.0 - (pitch - centre(band)).abs() / width).max(0.0);
            triangles.extend((0..BANDS).map(height));
        }
        let matrix =
            |numbers, shape: [usize; 2]| Tensor::from_data(TensorData::new(numbers, shape), device);
        Self {
            waves: matrix(waves, [FRAME, 2 * bins]),
            triangles: matrix(triangles, [bins, BANDS]),
        }
    }

    /// From sounds `[N, SAMPLES]` to energies `[N, BANDS, FRAMES]`, each with mean zero and
    /// variance one, so that the loudness of a voice does not matter.
    fn hear(&self, sounds: Tensor<2>) -> Tensor<3> {
        let [clips, _] = sounds.dims();
        let bins = FRAME / 2 + 1;
        let frames: Tensor<3> = sounds.unfold(1, FRAME, STEP);
        let spectrum = frames
            .reshape([clips * FRAMES, FRAME])
            .matmul(self.waves.clone());
        let power = spectrum.clone() * spectrum;
        let power = power.clone().narrow(1, 0, bins) + power.narrow(1, bins, bins);
        // The floor is far below speech: what is quieter is silence.
        let energies = (power.matmul(self.triangles.clone()) + 1e-4).log();
        let energies = energies.reshape([clips, FRAMES * BANDS]);
        let energies = energies.clone() - energies.mean_dim(1);
        let deviation = (energies.clone() * energies.clone()).mean_dim(1).sqrt();
        (energies / deviation)
            .reshape([clips, FRAMES, BANDS])
            .swap_dims(1, 2)
    }
}
