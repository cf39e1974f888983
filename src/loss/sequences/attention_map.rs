//! Attention maps of transformers.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::targets::Weights;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::pair::FeaturePair;
use crate::loss::loss::{Loss, Needs};
use crate::loss::value::LossValue;
use crate::ops::maps::expect_maps;
use crate::ops::vectors::mean_rows;
use crate::ops::{divergence, single, with_gradient};

/// How two attention maps are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttentionDistance {
    /// Mean squared error of the entries, as in TinyBERT, which takes the scores for it. The
    /// default.
    #[default]
    Mse,
    /// Divergence KL(teacher ‖ student) over the keys of each query, as in MiniLM and MobileBERT. The maps
    /// hold scores, of which the softmax over the keys gives the probabilities: more accurate than these,
    /// and finite however sharp the attention.
    KlOfScores,
    /// The same, where the maps hold probabilities: each row of keys sums to one.
    KlOfProbabilities,
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
    /// [`Mse`](AttentionDistance::Mse), else of the probabilities.
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
///     KL(p_t ‖ p_s) = Σ_j p_t · ln(p_t / p_s)        KlOfScores, KlOfProbabilities
///
/// A_s, A_t   maps of student and teacher      N   samples      i   query, one of T
/// p_s, p_t   their probabilities              H   heads        j   key, one of T
/// ```
///
/// `Mse` is what TinyBERT and, without a mask, TextBrewer compute; the divergence is MiniLM's and MobileBERT's.
/// As a term with weights of tokens these weight queries and keys: errors are averaged, and
/// probabilities normalised, `p_j = w_j p_j / Σ w p`, over keys of weight `w_j`, and the mean is the
/// weighted one over queries. A masked token is left out as both.
///
/// Probabilities below 1e-12 are taken as 1e-12.
///
/// # Shapes
///
/// - student, teacher: `[N, H, T, T]`, queries before keys
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// `∂L/∂A_s = 2 (A_s − A_t) / (N·H·T²)` for `Mse`, `(p_s − p_t) / (N·H·T)` for `KlOfScores`; none
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
/// use burn_distill::loss::{AttentionDistance, AttentionHeads, attention_map};
///
/// let device = Device::flex();
/// let student = Tensor::<4>::from_floats([[[[0.5, 0.5], [0.5, 0.5]]]], &device);
/// let teacher = Tensor::<4>::from_floats([[[[1.0, 0.0], [0.5, 0.5]]]], &device);
///
/// let distance = AttentionDistance::KlOfProbabilities;
/// let loss = attention_map(student, teacher, distance, AttentionHeads::Each).mean();
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
pub fn attention_map(
    student: Tensor<4>,
    teacher: Tensor<4>,
    distance: AttentionDistance,
    heads: AttentionHeads,
) -> LossValue {
    let [samples, _, queries, _] = student.dims();
    let rows = per_query(student, teacher, distance, heads, None);
    let rows = rows.reshape([samples, queries]);
    LossValue::composed(rows.mean_dim(1).squeeze_dim(1))
}

/// Stands for a key that gets no attention. Finite, since a row of nothing else must not give NaN.
const NO_SCORE: f64 = -1e30;
/// The least probability: the logarithm of zero has no gradient.
const LEAST: f64 = 1e-12;

/// One value per query, `[N · T]`; zero for queries of weight zero.
fn per_query(
    student: Tensor<4>,
    teacher: Tensor<4>,
    distance: AttentionDistance,
    heads: AttentionHeads,
    tokens: Option<&Tokens>,
) -> Tensor<1> {
    let (student, teacher) = (single(student), single(teacher));
    let clean = |map: Tensor<4>| match tokens {
        Some(tokens) => map.clone().mask_fill(tokens.ignored_pairs(map.dims()), 0.0),
        None => map,
    };
    let (student, teacher) = (clean(student), clean(teacher.without_autodiff()));
    match distance {
        AttentionDistance::Mse => {
            let (student, teacher) = (pooled(student, heads), pooled(teacher, heads));
            assert_one_shape(&student, &teacher);
            let difference = student - teacher;
            let squares = difference.clone() * difference;
            let errors = match tokens {
                Some(tokens) => tokens.mean_over_keys(squares),
                None => squares.mean_dim(3),
            };
            errors.mean_dim(1).flatten(0, 3)
        }
        AttentionDistance::KlOfScores | AttentionDistance::KlOfProbabilities => {
            let has_scores = distance == AttentionDistance::KlOfScores;
            let student = logits(student, has_scores, heads, tokens);
            let teacher = logits(teacher, has_scores, heads, tokens);
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

/// Logits whose softmax is the attention over the keys, as these are weighted.
fn logits(
    map: Tensor<4>,
    has_scores: bool,
    heads: AttentionHeads,
    tokens: Option<&Tokens>,
) -> Tensor<4> {
    let weighted = |map: Tensor<4>| match tokens {
        Some(tokens) => tokens.without_keys(map + tokens.log_keys()),
        None => map,
    };
    let log = |map: Tensor<4>| map.clamp_min(LEAST).log();
    match (has_scores, heads) {
        (true, AttentionHeads::Each) => weighted(map),
        (false, AttentionHeads::Each) => weighted(log(map)),
        (true, AttentionHeads::Mean) => {
            let mean = log(softmax(weighted(map), 3).mean_dim(1));
            match tokens {
                Some(tokens) => tokens.without_keys(mean),
                None => mean,
            }
        }
        (false, AttentionHeads::Mean) => weighted(log(map.mean_dim(1))),
    }
}

/// The weights of the tokens of a map, as queries and as keys.
struct Tokens {
    /// `[N · queries]`
    queries: Tensor<1>,
    /// `[N, 1, 1, keys]`
    keys: Tensor<4>,
}

impl Tokens {
    /// For maps `[N, H, queries, keys]`.
    fn new(weights: &Weights, [samples, _, queries, keys]: [usize; 4]) -> Self {
        let of_keys = weights.by_token(samples, keys);
        Self {
            queries: weights.by_token(samples, queries),
            keys: of_keys.reshape([samples, 1, 1, keys]),
        }
    }

    fn ignored_keys(&self) -> Tensor<4, Bool> {
        self.keys.clone().equal_elem(0.0)
    }

    /// Where the query or the key has weight zero.
    fn ignored_pairs(&self, shape: [usize; 4]) -> Tensor<4, Bool> {
        let [samples, _, queries, _] = shape;
        let ignored = self.queries.clone().equal_elem(0.0);
        let ignored: Tensor<4, Bool> = ignored.reshape([samples, 1, queries, 1]);
        let keys = self.ignored_keys().expand(shape);
        ignored.expand(shape).bool_or(keys)
    }

    /// No attention to keys of weight zero.
    fn without_keys(&self, map: Tensor<4>) -> Tensor<4> {
        let ignored = self.ignored_keys().expand(map.dims());
        map.mask_fill(ignored, NO_SCORE)
    }

    /// The logarithm of the weights of the keys, 0 where these are zero.
    fn log_keys(&self) -> Tensor<4> {
        self.keys.clone().mask_fill(self.ignored_keys(), 1.0).log()
    }

    /// The weighted mean over keys, `[N, H, queries, 1]`.
    fn mean_over_keys(&self, values: Tensor<4>) -> Tensor<4> {
        let keys = self.keys.clone().cast(values.dtype());
        let sum = keys.clone().sum_dim(3);
        let none = sum.clone().equal_elem(0.0);
        (values * keys).sum_dim(3) / sum.mask_fill(none, 1.0)
    }
}

/// Attention maps as a term of an objective; see [`attention_map`](fn@attention_map) for the
/// formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives, of a map `[N, H, T, T]` |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives, of a map `[N, H, T, T]` |
/// | `distance` | `mse` | `mse`, `kl_of_scores`, `kl_of_probabilities` | how the maps are compared |
/// | `heads` | `each` | `each`, `mean` | head by head, or the mean over the heads of each side |
///
/// # Example
///
/// ```
/// use burn_distill::loss::{AttentionDistance, AttentionMap};
///
/// let distance = AttentionDistance::KlOfScores;
/// let loss = AttentionMap::new("attention3", "attention12").with_distance(distance);
/// assert_eq!(loss.distance, distance);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AttentionMap {
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

impl AttentionMap {
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

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("attention_map", &self.student, &self.teacher)
    }
}

impl Loss for AttentionMap {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("attention_map")
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let pair = self.pair();
        pair.check_ranks(context, &[4], "[N, heads, T, T]")?;
        let (student, teacher) = pair.find(context)?;
        let (s, t) = (student.shape(), teacher.shape());
        let heads_fit = s[1] == t[1] || self.heads == AttentionHeads::Mean;
        match s[0] == t[0] && s[2..] == t[2..] && heads_fit {
            true => Ok(()),
            false => Err(pair.mismatch(s, t)),
        }
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let (student, teacher) = self.pair().features(context);
        let (student, teacher) = (expect_maps(&student), expect_maps(&teacher));
        let weights = context.weights();
        let tokens = weights.map(|weights| Tokens::new(weights, student.dims()));
        let tokens = tokens.as_ref();
        let rows = per_query(student, teacher, self.distance, self.heads, tokens);
        mean_rows(rows, tokens.map(|tokens| &tokens.queries))
    }
}

#[cfg(test)]
#[path = "../tests/attention_map.rs"]
mod tests;
