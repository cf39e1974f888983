//! A language model: Burn's transformer encoder under a causal mask.

use burn::module::Module;
use burn::nn::activation::ActivationConfig;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    Embedding, EmbeddingConfig, Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor};
use burn_distill::{Distillable, OutputLayer, Outputs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::pairs::{END, Pairs};

/// The sizes of a model.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub vocabulary: usize,
    /// The length of the longest sequence that it can read.
    pub positions: usize,
    pub layers: usize,
    pub width: usize,
}

/// Predicts the next token from those before it.
#[derive(Module, Debug)]
pub struct Transformer {
    tokens: Embedding,
    positions: Embedding,
    encoder: TransformerEncoder,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    pub fn new(size: Size, dropout: f64, device: &Device) -> Self {
        let Size {
            vocabulary,
            positions,
            layers,
            width,
        } = size;
        let embedding = |entries| {
            let small = Initializer::Normal {
                mean: 0.0,
                std: 0.1,
            };
            let config = EmbeddingConfig::new(entries, width).with_initializer(small);
            config.init(device)
        };
        // Layer norm first needs no careful warm-up; ReLU is much faster than GELU on a CPU.
        let encoder = TransformerEncoderConfig::new(width, 4 * width, 4, layers)
            .with_norm_first(true)
            .with_activation(ActivationConfig::Relu)
            .with_dropout(dropout);
        Self {
            tokens: embedding(vocabulary),
            positions: embedding(positions),
            encoder: encoder.init(device),
            norm: LayerNormConfig::new(width).init(device),
            head: LinearConfig::new(width, vocabulary)
                .with_bias(false)
                .init(device),
        }
    }

    /// The input of the output layer, `[batch, tokens, width]`.
    fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, len] = tokens.dims();
        let device = tokens.device();
        let positions = Tensor::<1, Int>::arange(0..len as i64, &device).unsqueeze();
        let x = self.tokens.forward(tokens) + self.positions.forward(positions);
        // No token sees those behind it, and padding is behind all others: no mask of its own.
        let causal = generate_autoregressive_mask(batch, len, &device);
        let x = TransformerEncoderInput::new(x).mask_attn(causal);
        self.norm.forward(self.encoder.forward(x))
    }

    /// Continues a text to the end of the verse, or by `most` tokens, sampled from its predictions, a
    /// little sharpened. The same seed draws the same numbers for every model.
    pub fn continued(&self, prompt: &str, most: usize, pairs: &Pairs, seed: u64) -> String {
        let device = self.head.weight.device();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tokens = vec![END];
        tokens.extend(pairs.encode(prompt));
        let first = tokens.len();
        while tokens.len() < first + most {
            let ints: Vec<i32> = tokens.iter().map(|token| i32::from(*token)).collect();
            let input = Tensor::<1, Int>::from_data(ints.as_slice(), &device).unsqueeze();
            let logits = self.outputs(input).logits();
            let last = logits.slice(tokens.len() - 1..tokens.len());
            let mut left: f32 = rng.random();
            let data = softmax(last / 0.6, 1).into_data();
            let drawn = data.iter::<f32>().position(|probability| {
                left -= probability;
                left < 0.0
            });
            // Rounding may leave a little over: then it is the end.
            match drawn.map_or(END, |token| token as u16) {
                END => break,
                token => tokens.push(token),
            }
        }
        pairs.decode(&tokens[first..])
    }
}

impl Distillable<Tensor<2, Int>> for Transformer {
    fn outputs(&self, tokens: Tensor<2, Int>) -> Outputs {
        // Hidden states and output layer instead of the logits of all tokens, which the losses and the
        // measurements then make a chunk at a time.
        Outputs::new(OutputLayer::linear(self.hidden(tokens), &self.head))
    }
}
