use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Result, Side};
use crate::loss::features::pair::{FeaturePair, check_mask};
use crate::loss::{Loss, LossContext};
use crate::ops::features::token_mask;
use crate::ops::maps::expect_maps;
use crate::ops::vectors::mean_rows;
use crate::ops::{divergence, single, with_gradient};

/// What an attention map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttentionInput {
    /// Attention probabilities: each row of keys sums to one.
    Probabilities,
    /// Scores, of which the softmax over the keys gives the probabilities. More accurate than
    /// these, and finite however sharp the attention.
    Scores,
}

/// How two attention maps are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttentionDistance {
    /// Mean squared error of the entries, as in TinyBERT, which takes the scores for it. The
    /// default.
    #[default]
    Mse,
    /// Divergence KL(teacher ‖ student) over the keys of each query, as in MiniLM and MobileBERT.
    Kl(AttentionInput),
}

/// Which heads are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttentionHeads {
    /// Each head with its counterpart; both sides have the same number. The default.
    #[default]
    Each,
    /// The mean over the heads of each side, whatever their number: of the entries for
    /// [`Mse`](AttentionDistance::Mse), of the probabilities for [`Kl`](AttentionDistance::Kl).
    Mean,
}

/// Attention maps of a transformer: how the student distributes its attention over the tokens.
///
/// Use it between transformers that see the same tokens, beside a loss on hidden states: for every
/// layer of the student (TinyBERT, MobileBERT) or for the last alone (MiniLM).
///
/// ```text
/// L(A_s, A_t) = 1/(N·H·T) Σ_n Σ_h Σ_i d(A_s, A_t)
///
/// d = 1/T Σ_j (A_s − A_t)²                           Mse
///     KL(p_t ‖ p_s) = Σ_j p_t · ln(p_t / p_s)        Kl
///
/// A_s, A_t   maps of student and teacher      N   samples      i   query, one of T
/// p_s, p_t   their probabilities              H   heads        j   key, one of T
/// ```
///
/// `Mse` is what TinyBERT and, without a mask, TextBrewer compute; `Kl` is MiniLM's and MobileBERT's.
/// As a term with a mask of tokens, a token that does not count is left out both as a query and as
/// a key: errors are averaged, and probabilities normalised, over the keys that count, and the mean
/// is over the queries that count.
///
/// Probabilities below 1e-12 are taken as 1e-12.
///
/// # Shapes
///
/// - student, teacher: `[N, H, T, T]`, queries before keys
/// - output: `[1]`
///
/// # Gradient
///
/// `∂L/∂A_s = 2 (A_s − A_t) / (N·H·T²)` for `Mse`, `(p_s − p_t) / (N·H·T)` for `Kl` of scores; none
/// towards the teacher.
///
/// # Panics
///
/// Panics if the shapes differ, the number of heads excepted for [`AttentionHeads::Mean`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{AttentionDistance, AttentionHeads, AttentionInput, attention_map};
///
/// let device = Device::flex();
/// let student = Tensor::<4>::from_floats([[[[0.5, 0.5], [0.5, 0.5]]]], &device);
/// let teacher = Tensor::<4>::from_floats([[[[1.0, 0.0], [0.5, 0.5]]]], &device);
///
/// let distance = AttentionDistance::Kl(AttentionInput::Probabilities);
/// let loss = attention_map(student, teacher, distance, AttentionHeads::Each);
/// // The first query gives ln 2, the second 0.
/// assert!((loss.into_scalar::<f32>() - 2f32.ln() / 2.0).abs() < 1e-6);
/// ```
///
/// # References
///
/// Jiao et al.: TinyBERT: Distilling BERT for Natural Language Understanding, 2019,
/// arXiv:1909.10351, eq. 7. Wang et al.: MiniLM: Deep Self-Attention Distillation for Task-Agnostic
/// Compression of Pre-Trained Transformers, 2020, arXiv:2002.10957, section 3.1. Sun et al.:
/// MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices, 2020, arXiv:2004.02984, section 3.4.
#[must_use]
pub fn attention_map(
    student: Tensor<4>,
    teacher: Tensor<4>,
    distance: AttentionDistance,
    heads: AttentionHeads,
) -> Tensor<1> {
    attention_map_no_reduction(student, teacher, distance, heads).mean()
}

/// [`attention_map`] with one value per sample, `[N]`, instead of their mean.
///
/// # Panics
///
/// Panics if the shapes differ, the number of heads excepted for [`AttentionHeads::Mean`].
#[must_use]
pub fn attention_map_no_reduction(
    student: Tensor<4>,
    teacher: Tensor<4>,
    distance: AttentionDistance,
    heads: AttentionHeads,
) -> Tensor<1> {
    let [samples, _, queries, _] = student.dims();
    let rows = per_query(student, teacher, distance, heads, None);
    rows.reshape([samples, queries]).mean_dim(1).squeeze_dim(1)
}

/// Stands for a key that gets no attention. Finite, since a row of nothing else must not give NaN.
const NO_SCORE: f64 = -1e30;
/// The least probability: the logarithm of zero has no gradient.
const LEAST: f64 = 1e-12;

/// One value per query, `[N · T]`; zero for queries that do not count.
fn per_query(
    student: Tensor<4>,
    teacher: Tensor<4>,
    distance: AttentionDistance,
    heads: AttentionHeads,
    mask: Option<&Tensor<1, Bool>>,
) -> Tensor<1> {
    let (student, teacher) = (single(student), single(teacher));
    let ignored = mask.map(|mask| Ignored::new(mask, &student));
    let clean = |map: Tensor<4>| match &ignored {
        Some(ignored) => map.clone().mask_fill(ignored.pairs(map.dims()), 0.0),
        None => map,
    };
    let (student, teacher) = (clean(student), clean(teacher.without_autodiff()));
    match distance {
        AttentionDistance::Mse => {
            let (student, teacher) = (pooled(student, heads), pooled(teacher, heads));
            assert_one_shape(&student, &teacher);
            let difference = student - teacher;
            let squares = (difference.clone() * difference).sum_dim(3);
            let keys = squares.dims()[2];
            let errors = match &ignored {
                Some(ignored) => {
                    let count = ignored.keys_that_count().cast(squares.dtype());
                    squares / count
                }
                None => squares / keys as f64,
            };
            errors.mean_dim(1).flatten(0, 3)
        }
        AttentionDistance::Kl(input) => {
            let student = logits(student, input, heads, ignored.as_ref());
            let teacher = logits(teacher, input, heads, ignored.as_ref());
            assert_one_shape(&student, &teacher);
            let [samples, heads, queries, _] = student.dims();
            let student: Tensor<2> = student.flatten(0, 2);
            let plain = student.clone().without_autodiff();
            let rows = divergence(&plain, &teacher.flatten(0, 2), 1.0);
            with_gradient(rows, &student, None)
                .reshape([samples, heads, queries])
                .mean_dim(1)
                .flatten(0, 2)
        }
    }
}

fn assert_one_shape(student: &Tensor<4>, teacher: &Tensor<4>) {
    assert_eq!(
        student.dims(),
        teacher.dims(),
        "student and teacher attention maps have one shape"
    );
}

fn pooled(map: Tensor<4>, heads: AttentionHeads) -> Tensor<4> {
    match heads {
        AttentionHeads::Each => map,
        AttentionHeads::Mean => map.mean_dim(1),
    }
}

/// Logits whose softmax is the attention over the keys that count.
fn logits(
    map: Tensor<4>,
    input: AttentionInput,
    heads: AttentionHeads,
    ignored: Option<&Ignored>,
) -> Tensor<4> {
    let without_keys = |map: Tensor<4>| match ignored {
        Some(ignored) => map.clone().mask_fill(ignored.keys(map.dims()), NO_SCORE),
        None => map,
    };
    let log = |map: Tensor<4>| map.clamp_min(LEAST).log();
    match (input, heads) {
        (AttentionInput::Scores, AttentionHeads::Each) => without_keys(map),
        (AttentionInput::Probabilities, AttentionHeads::Each) => without_keys(log(map)),
        (AttentionInput::Scores, AttentionHeads::Mean) => {
            let probabilities = softmax(without_keys(map), 3);
            without_keys(log(probabilities.mean_dim(1)))
        }
        (AttentionInput::Probabilities, AttentionHeads::Mean) => without_keys(log(map.mean_dim(1))),
    }
}

/// The tokens that do not count.
struct Ignored {
    /// `[N, T]`
    tokens: Tensor<2, Bool>,
}

impl Ignored {
    /// From a mask of all tokens, `[N · T]`.
    fn new(mask: &Tensor<1, Bool>, map: &Tensor<4>) -> Self {
        let [samples, _, tokens, _] = map.dims();
        Self {
            tokens: mask.clone().bool_not().reshape([samples, tokens]),
        }
    }

    fn keys(&self, shape: [usize; 4]) -> Tensor<4, Bool> {
        let [samples, _, _, tokens] = shape;
        let keys = self.tokens.clone().reshape([samples, 1, 1, tokens]);
        keys.expand(shape)
    }

    fn pairs(&self, shape: [usize; 4]) -> Tensor<4, Bool> {
        let [samples, _, tokens, _] = shape;
        let queries = self.tokens.clone().reshape([samples, 1, tokens, 1]);
        queries.expand(shape).bool_or(self.keys(shape))
    }

    /// `[N, 1, 1, 1]`, at least 1.
    fn keys_that_count(&self) -> Tensor<4> {
        let count = self.tokens.clone().bool_not().int().sum_dim(1).float();
        count.clamp_min(1.0).unsqueeze_dims(&[2, 3])
    }
}

/// Config of [`AttentionMap`].
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives, of a map `[N, H, T, T]` |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives, of a map `[N, H, T, T]` |
/// | `distance` | `mse` | `mse`, `{ kl = "scores" }`, `{ kl = "probabilities" }` | how the maps are compared |
/// | `heads` | `each` | `each`, `mean` | head by head, or the mean over the heads of each side |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{AttentionDistance, AttentionInput, AttentionMapConfig};
///
/// let config = AttentionMapConfig::new("attention3", "attention12")
///     .with_distance(AttentionDistance::Kl(AttentionInput::Scores));
/// assert!(config.init().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AttentionMapConfig {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// How the maps are compared.
    #[serde(default)]
    pub distance: AttentionDistance,
    /// Which heads are compared.
    #[serde(default)]
    pub heads: AttentionHeads,
}

impl AttentionMapConfig {
    /// Compares the student's attention map of one name with the teacher's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            distance: AttentionDistance::default(),
            heads: AttentionHeads::default(),
        }
    }

    /// Sets how the maps are compared.
    #[must_use]
    pub fn with_distance(mut self, distance: AttentionDistance) -> Self {
        self.distance = distance;
        self
    }

    /// Sets which heads are compared.
    #[must_use]
    pub fn with_heads(mut self, heads: AttentionHeads) -> Self {
        self.heads = heads;
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) if a name is empty. Whether the
    /// models have such features shows only when they run, in the check before training.
    pub fn init(&self) -> Result<AttentionMap> {
        Ok(AttentionMap {
            pair: FeaturePair::new("attention_map", &self.student, &self.teacher)?,
            distance: self.distance,
            heads: self.heads,
        })
    }
}

/// Attention maps as a term of an objective; see [`attention_map`](fn@attention_map) for the
/// formula.
#[derive(Debug, Clone)]
pub struct AttentionMap {
    pair: FeaturePair,
    distance: AttentionDistance,
    heads: AttentionHeads,
}

impl Loss for AttentionMap {
    fn name(&self) -> String {
        self.pair.name()
    }

    fn feature_pairs(&self) -> Vec<(String, String)> {
        vec![self.pair.names()]
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair.check_ranks(context, &[4], "[N, heads, T, T]")?;
        let (student, teacher) = self.pair.find(context)?;
        let (s, t) = (student.shape(), teacher.shape());
        let heads_fit = s[1] == t[1] || self.heads == AttentionHeads::Mean;
        if s[0] != t[0] || s[2..] != t[2..] || !heads_fit {
            return Err(self.pair.mismatch(s, t));
        }
        if s[2] != s[3] && context.mask.is_some() {
            let expected = "as many queries as keys, since there is a mask";
            return Err(self.pair.unsuited(Side::Student, s, expected));
        }
        check_mask(context, s[0], s[2])
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair.features(context);
        let (student, teacher) = (expect_maps(&student), expect_maps(&teacher));
        let [samples, _, tokens, _] = student.dims();
        let mask = token_mask(context.mask, samples, tokens);
        let rows = per_query(student, teacher, self.distance, self.heads, mask.as_ref());
        mean_rows(rows, mask.as_ref())
    }
}

#[cfg(test)]
#[path = "../tests/attention_map.rs"]
mod tests;
