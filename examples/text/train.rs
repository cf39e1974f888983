//! The training loop. One of our own, because the chunked head takes hidden states, not logits.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Device;
use burn_distill::Schedule;
use burn_distill::loss::{ChunkedHead, HeadLoss};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::corpus::Verses;
use crate::model::Transformer;

/// Verses per step.
const BATCH: usize = 16;
/// Rows, which are tokens, whose logits are in memory at a time.
const ROWS_PER_CHUNK: usize = 512;

/// How to train.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub loss: HeadLoss,
    pub epochs: usize,
    pub learning_rate: f64,
    pub seed: u64,
}

/// Trains a model under what is compared at its output, with a dot for each epoch.
pub fn train(
    model: Transformer,
    teacher: Option<&Transformer>,
    verses: &Verses,
    recipe: &Recipe,
    device: &Device,
) -> Result<Transformer, Box<dyn Error>> {
    let mut model = model.train();
    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.01)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    let schedule = Schedule::cosine(1.0, 0.0).warm_up(0.05);
    let mut rng = StdRng::seed_from_u64(recipe.seed);
    let data = verses.data();
    let start = Instant::now();
    let mut mean = 0.0;
    for epoch in 0..recipe.epochs {
        let batches = batches(verses, &mut rng);
        let mut losses = 0.0;
        for (step, indices) in batches.iter().enumerate() {
            let batch = data.batch(indices.clone(), device)?;
            let labels = batch.targets.classes().expect("every token has a next one");
            let mask = batch.mask.expect("verses differ in length");
            // The student's pass is recorded for the gradients, the teacher's is not.
            let mut head = ChunkedHead::new(model.head(batch.input.clone().autodiff()))
                .with_labels(labels.clone())
                .with_mask(mask)
                .with_rows_per_chunk(ROWS_PER_CHUNK);
            if let Some(teacher) = teacher {
                head = head.with_teacher(teacher.head(batch.input));
            }
            let loss = head.forward(recipe.loss);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let done = epoch as f64 + (step + 1) as f64 / batches.len() as f64;
            let rate = recipe.learning_rate * schedule.at(done / recipe.epochs as f64);
            model = optimizer.step(rate, model, gradients);
            losses += loss.into_scalar::<f64>();
        }
        mean = losses / batches.len() as f64;
        print!(".");
        std::io::stdout().flush()?;
    }
    println!(" loss {mean:.3}, {:.0} s", start.elapsed().as_secs_f64());
    Ok(model.valid())
}

/// An epoch's batches, in random order, of verses that are about as long as each other: so there
/// is little padding to compute.
fn batches(verses: &Verses, rng: &mut StdRng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..verses.tokens.len()).collect();
    order.shuffle(rng);
    let mut batches = Vec::new();
    for some in order.chunks_mut(BATCH * 16) {
        some.sort_by_key(|verse| verses.tokens[*verse].len());
        batches.extend(some.chunks(BATCH).map(<[usize]>::to_vec));
    }
    batches.shuffle(rng);
    batches
}
