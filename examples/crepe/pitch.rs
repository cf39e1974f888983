//! From 360 binary logits to a pitch, and how good it is.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::LossContext;
use burn_distill::{Distillable, Target};

use crate::model::Crepe;
use crate::sounds::{self, Frame};

/// The number of pitches that the network knows, 20 cents apart.
pub const BINS: usize = 360;
const CENTS_PER_BIN: f64 = 20.0;
/// Of the lowest pitch, above 10 hertz.
const LOWEST: f64 = 1_997.379_408_437_619;
/// A pitch is right within these cents.
const RIGHT: f64 = 50.0;

pub fn cents(frequency: f64) -> f64 {
    1200.0 * (frequency / 10.0).log2()
}

fn cents_of_bin(bin: usize) -> f64 {
    LOWEST + CENTS_PER_BIN * bin as f64
}

/// The probabilities of a network that is certain of this pitch: a bump of 25 cents around it, as CREPE's own
/// labels are; zeros where there is no pitch.
pub fn label(pitch: Option<f64>) -> Vec<f32> {
    let bump = |bin| {
        let off = pitch.map(|pitch| cents_of_bin(bin) - cents(pitch));
        off.map_or(0.0, |off| (-off * off / (2.0 * 25.0 * 25.0)).exp() as f32)
    };
    (0..BINS).map(bump).collect()
}

/// The pitch in cents: the mean of the nine bins around the strongest, by their strength.
fn decode(probabilities: &[f32]) -> f64 {
    let strongest = (0..BINS).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let strongest = strongest.expect("there are bins");
    let around = strongest.saturating_sub(4)..(strongest + 5).min(BINS);
    let weight = |bin: usize| f64::from(probabilities[bin]);
    let sum: f64 = around.clone().map(weight).sum();
    around
        .map(|bin| weight(bin) * cents_of_bin(bin))
        .sum::<f64>()
        / sum
}

/// The divergence of independent binary predictions, `Σ p log(p/q) + (1−p) log((1−p)/(1−q))`, of each row: the
/// student's `q` are given by their logits, the teacher's `p` as they are.
fn divergence(student: Tensor<2>, p: Tensor<2>) -> Tensor<1> {
    // −log q = softplus(−z), −log(1 − q) = softplus(z) = softplus(−z) + z; the rest is the teacher's entropy.
    let softplus = student.clone().abs().neg().exp().log1p() + student.clone().clamp_min(0.0);
    let cross = softplus - student * p.clone();
    let tiny = 1e-12;
    let log = |x: Tensor<2>| x.clamp_min(tiny).log();
    let not_p = p.clone().neg() + 1.0;
    let entropy = p.clone() * log(p) + not_p.clone() * log(not_p);
    (cross + entropy).sum_dim(1).squeeze_dim(1)
}

/// The student's divergence from its teacher.
pub fn from_teacher(context: &LossContext<'_>) -> Tensor<1> {
    let p = sigmoid(context.teacher_logits());
    context.mean(divergence(context.logits(), p))
}

/// The student's divergence from the labels.
pub fn from_labels(context: &LossContext<'_>) -> Tensor<1> {
    let Some(Target::Binary(labels)) = context.target() else {
        panic!("the objective checks that the batches have binary targets");
    };
    context.mean(divergence(context.logits(), labels.clone()))
}

/// How good the pitches of a network are.
#[derive(Debug)]
pub struct Scores {
    /// Of the sounds that have a pitch, the fraction whose pitch is within 50 cents.
    pub right: f64,
    /// The median distance from the pitch, in cents.
    pub median: f64,
    /// The fraction of the teacher's pitches that are within 50 cents, of the same sounds.
    pub agreement: f64,
}

/// The pitch of each frame as a network hears it, in cents.
#[derive(Debug)]
pub struct Pitches(Vec<f64>);

impl Pitches {
    pub fn of(network: &Crepe, frames: &[Frame], device: &Device) -> Self {
        let some = |frames: &[Frame]| {
            let logits = network.outputs(sounds::batch(frames, device)).logits();
            let probabilities: Vec<f32> = sigmoid(logits).into_data().iter().collect();
            probabilities.chunks(BINS).map(decode).collect::<Vec<f64>>()
        };
        Self(frames.chunks(32).flat_map(some).collect())
    }

    pub fn scores(&self, teacher: &Self, frames: &[Frame]) -> Scores {
        let all = self.0.iter().zip(&teacher.0).zip(frames);
        let (mut distances, apart): (Vec<f64>, Vec<f64>) = all
            .filter_map(|((ours, theirs), frame)| {
                let truth = cents(frame.pitch?);
                Some(((ours - truth).abs(), (ours - theirs).abs()))
            })
            .unzip();
        let within = |x: &[f64]| x.iter().filter(|x| **x <= RIGHT).count() as f64 / x.len() as f64;
        distances.sort_by(f64::total_cmp);
        Scores {
            right: within(&distances),
            median: distances[distances.len() / 2],
            agreement: within(&apart),
        }
    }
}
