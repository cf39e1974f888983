//! Contrastive representation distillation.

use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Bool, Device, Distribution, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::error::{Error, Result, Side, check};
use crate::loss::context::LossContext;
use crate::loss::features::pair::{Common, FeaturePair};
use crate::loss::loss::{Loss, Needs};
use crate::loss::modules::LossModules;
use crate::loss::modules::contrast::{Contrast, CrdMemory, index_tensor};
use crate::loss::value::LossValue;
use crate::ops::features::vectors;
use crate::ops::vectors::{mean_rows, or_one};
use crate::ops::{Rows, single, with_gradient};
use crate::schedule::Schedule;

/// Contrastive representation distillation: the student's embedding of a sample shall be close to
/// the teacher's embedding of that sample and far from those of others.
///
/// It carries over how the teacher's representation tells samples apart rather than its numbers,
/// and is strong where the architectures of student and teacher differ. It costs two memories of
/// all training samples. Use the features before the classifier, and soft targets beside it; the
/// authors give it a weight of 0.8.
///
/// ```text
/// L(f_s, f_t) = (1/N) Σ_n ℓ(f_s; m_t) + ℓ(f_t; m_s)
///
/// ℓ(f; m) = −ln( o_0 / (o_0 + c) ) − Σ_k ln( c / (o_k + c) ),   o_k = exp(⟨m_k, f⟩ / τ) / Z
///
/// f_s, f_t   embeddings of student and teacher, unit vectors      N   samples, weighted if there are
///                                                                     weights
/// m_s, m_t   memories of both; m_0 of the sample itself, m_1 … m_K of others
/// M   samples in memory      c = K / M      τ   temperature      Z   normaliser, a constant
/// ```
///
/// RepDistiller and mdistiller compute the same; as there, 1e-7 is added to the `c` of each
/// denominator. Without normalisers in `memory`, Z is estimated from all rows of the batch. The value
/// is not 0 where student and teacher agree.
///
/// # Shapes
///
/// - student, teacher: `[N, D]`, rows of norm 1
/// - memory: `[M, D]` each
/// - candidates: `[N, K + 1]`, rows of the memories, each sample's own first
/// - output: one value per sample, `[N]`, and their mean, `[1]`
///
/// # Gradient
///
/// With `o` of one side, `∂ℓ/∂f = ( −c/(o_0 + c) · m_0 + Σ_k o_k/(o_k + c) · m_k ) / τ`. It goes to
/// both embeddings, since the teacher's is trained too; the memories are constants.
///
/// # Panics
///
/// Panics if the shapes do not fit or there is no other candidate than the sample itself.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::loss::{CrdMemory, crd};
///
/// let device = Device::flex();
/// let embeddings = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
/// let memory = CrdMemory::new(embeddings.clone(), embeddings.clone());
/// let candidates = Tensor::<2, Int>::from_ints([[0, 1], [1, 0]], &device);
///
/// let (student, teacher) = (embeddings.clone(), embeddings);
/// let right = crd(student.clone(), teacher.clone(), &memory, candidates.clone(), 0.1).mean();
/// let swapped = crd(student.clone(), teacher.clone(), &memory, candidates.flip([1]), 0.1).mean();
/// assert!(right.into_scalar::<f32>() < swapped.into_scalar::<f32>());
///
/// // After the step, the memories move towards the new embeddings of the batch.
/// let memory = memory.updated(&[0, 1], student, teacher, 0.5);
/// assert_eq!(memory.student.dims(), [2, 2]);
/// ```
///
/// # References
///
/// Tian, Krishnan, Isola: Contrastive Representation Distillation, 2019, arXiv:1910.10699, section 3.
pub fn crd(
    student: Tensor<2>,
    teacher: Tensor<2>,
    memory: &CrdMemory,
    candidates: Tensor<2, Int>,
    temperature: f64,
) -> LossValue {
    let [samples, _] = memory.student.dims();
    let scores = Scores::new(&student, &teacher, memory, &candidates, temperature);
    let normalisers = match &memory.normalisers {
        Some(normalisers) => normalisers.clone(),
        None => scores.normalisers(samples, None),
    };
    LossValue::composed(scores.values(normalisers, samples, None))
}

/// The normalisers that one batch gives, `[2]`, to be kept for those that follow: `ln Z` for the
/// student's and for the teacher's embeddings, where Z is `M` times the mean of `exp(⟨m, f⟩ / τ)`
/// over all candidates.
///
/// # Panics
///
/// Panics if the shapes do not fit.
#[must_use]
pub fn crd_normalisers(
    student: Tensor<2>,
    teacher: Tensor<2>,
    memory: &CrdMemory,
    candidates: Tensor<2, Int>,
    temperature: f64,
) -> Tensor<1> {
    let [samples, _] = memory.student.dims();
    let scores = Scores::new(&student, &teacher, memory, &candidates, temperature);
    scores.normalisers(samples, None)
}

/// `⟨m, f⟩ / τ` of every candidate, `[N, K + 1]`, each sample's own first.
struct Scores {
    student: Tensor<2>,
    teacher: Tensor<2>,
}

impl Scores {
    fn new(
        student: &Tensor<2>,
        teacher: &Tensor<2>,
        memory: &CrdMemory,
        candidates: &Tensor<2, Int>,
        temperature: f64,
    ) -> Self {
        Self {
            student: products(student, &memory.teacher, candidates) / temperature,
            teacher: products(teacher, &memory.student, candidates) / temperature,
        }
    }

    /// `ln Z` of both sides, `[2]`, where the mean is weighted.
    fn normalisers(&self, samples: usize, weights: Option<&Tensor<1>>) -> Tensor<1> {
        let side = |scores: &Tensor<2>| {
            let scores = scores.clone().without_autodiff();
            let [rows, candidates] = scores.dims();
            let highest = scores.clone().max_dim(1);
            let sums = (scores - highest.clone()).exp().sum_dim(1).log() + highest;
            // The logarithm of each row's sum; those of valid rows are added up.
            let sums: Tensor<1> = sums.squeeze_dim(1);
            let ratio = (samples as f64 / candidates as f64).ln();
            let total = |sums: Tensor<1>| {
                let highest = sums.clone().max();
                (sums - highest.clone()).exp().sum().log() + highest
            };
            match weights {
                Some(weights) => {
                    let weights = weights.clone().cast(sums.dtype());
                    let ignored = weights.clone().equal_elem(0.0);
                    let weighted = sums + weights.clone().mask_fill(ignored.clone(), 1.0).log();
                    let sum = or_one(weights.sum());
                    total(weighted.mask_fill(ignored, -1e30)) - sum.log() + ratio
                }
                None => total(sums) - (rows as f64).ln() + ratio,
            }
        };
        Tensor::cat(vec![side(&self.student), side(&self.teacher)], 0)
    }

    /// Both sides' values, `[N]`.
    fn values(
        self,
        normalisers: Tensor<1>,
        samples: usize,
        mask: Option<&Tensor<1, Bool>>,
    ) -> Tensor<1> {
        let [student, teacher] = [0, 1].map(|side| normalisers.clone().narrow(0, side, 1));
        contrast(self.student, student, samples, mask)
            + contrast(self.teacher, teacher, samples, mask)
    }
}

/// The products of each embedding with its candidates, `[N, K + 1]`.
fn products(embeddings: &Tensor<2>, memory: &Tensor<2>, candidates: &Tensor<2, Int>) -> Tensor<2> {
    let ([rows, picked], [samples, width]) = (candidates.dims(), memory.dims());
    // The products with all samples take less room than a copy of the candidates, unless there are
    // very many samples.
    if samples <= picked * width {
        let products = embeddings.clone().matmul(memory.clone().transpose());
        return products.gather(1, candidates.clone());
    }
    let copy = memory
        .clone()
        .select(0, candidates.clone().flatten::<1>(0, 1));
    let copy = copy.reshape([rows, picked, width]);
    copy.matmul(embeddings.clone().unsqueeze_dim::<3>(2))
        .squeeze_dim(2)
}

/// ℓ of each sample, `[N]`.
///
/// With `t = ln o − ln c` the two kinds of addends are `ln(1 + e^−t)` and `ln(1 + e^t)`: nothing
/// overflows, whatever the temperature.
fn contrast(
    scores: Tensor<2>,
    normaliser: Tensor<1>,
    samples: usize,
    mask: Option<&Tensor<1, Bool>>,
) -> Tensor<1> {
    let (scores, normaliser) = (single(scores), single(normaliser));
    let [_, candidates] = scores.dims();
    let negatives = candidates - 1;
    assert!(
        negatives > 0,
        "there is at least one candidate beside the sample itself"
    );
    let noise = negatives as f64 / samples as f64;
    let bound = noise + 1e-7;

    let plain = scores.clone().without_autodiff();
    let sign = Tensor::<2>::ones([1, candidates], &plain.device()).cast(plain.dtype());
    let sign = sign.slice_fill([0..1, 0..1], -1.0);
    let t = (plain - normaliser.unsqueeze_dim(1) - bound.ln()) * sign.clone();
    let addends = relu(t.clone()) + (-t.clone().abs()).exp().log1p();
    let constant = negatives as f64 * (noise / bound).ln();
    let rows = Rows {
        value: addends.sum_dim(1).squeeze_dim::<1>(1) - constant,
        gradient: sigmoid(t) * sign,
    };
    with_gradient(rows, &scores, mask)
}

/// Contrastive distillation as a term of an objective; see [`crd`](fn@crd) for the formula.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `student` | required | a feature of the student | the name its `outputs` gives; of any rank, flattened |
/// | `teacher` | required | a feature of the teacher | the name its `outputs` gives; of any rank, flattened |
/// | `width` | 128 | at least 1 | `D`, the width of the embeddings |
/// | `negatives` | 16384 | at least 1 | `K`, other samples per sample; at most all others are drawn |
/// | `temperature` | 0.07 | greater than 0, may follow a [`Schedule`] | `τ`, which products of embeddings are divided by |
/// | `momentum` | 0.5 | [0, 1) | fraction of the old entry in a new one of the memory |
///
/// Its [modules](Loss::modules) are a linear embedding of each side and the memories: random rows at
/// first, checkpointed, changed by training steps alone, which are those whose student is on an
/// autodiff device. Z is estimated by the first of these and kept.
///
/// Negatives are drawn uniformly among all other samples, with replacement, by the device's own
/// generator: nothing has to be read back from a device or sent there, and since every epoch of a
/// training seeds that generator, a training that resumes draws what an undisturbed one draws.
///
/// Outside training the samples are not those in memory: then the other side's embedding of the
/// same sample stands in for the one in memory, and negatives come from the whole memory. Several
/// devices share the memories and update them in no fixed order.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{Crd, Loss};
///
/// let loss = Crd::new("pooled", "pooled").with_negatives(4096);
/// assert_eq!((loss.width, loss.momentum), (128, 0.5));
/// assert!(loss.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Crd {
    /// The student's feature.
    pub student: String,
    /// The teacher's feature.
    pub teacher: String,
    /// The width of the embeddings.
    #[serde(default = "width")]
    pub width: usize,
    /// Other samples that each sample is contrasted with.
    #[serde(default = "negatives")]
    pub negatives: usize,
    /// Products of embeddings are divided by it.
    #[serde(default = "temperature")]
    pub temperature: Schedule,
    /// The fraction of the old entry in a new one of the memory.
    #[serde(default = "momentum")]
    pub momentum: f64,
}

fn width() -> usize {
    128
}

fn negatives() -> usize {
    16384
}

fn temperature() -> Schedule {
    0.07.into()
}

fn momentum() -> f64 {
    0.5
}

impl Crd {
    /// Contrasts the student's feature of one name with the teacher's of another.
    pub fn new(student: impl Into<String>, teacher: impl Into<String>) -> Self {
        Self {
            student: student.into(),
            teacher: teacher.into(),
            width: width(),
            negatives: negatives(),
            temperature: temperature(),
            momentum: momentum(),
        }
    }

    /// Sets the width of the embeddings.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// Sets how many other samples each sample is contrasted with.
    #[must_use]
    pub fn with_negatives(mut self, negatives: usize) -> Self {
        self.negatives = negatives;
        self
    }

    /// Sets what products of embeddings are divided by.
    #[must_use]
    pub fn with_temperature(mut self, temperature: impl Into<Schedule>) -> Self {
        self.temperature = temperature.into();
        self
    }

    /// Sets the fraction of the old entry in a new one of the memory.
    #[must_use]
    pub fn with_momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    fn pair(&self) -> FeaturePair {
        FeaturePair::new("crd", &self.student, &self.teacher)
    }

    /// Random rows of a memory, `[N, K]`, none of them a sample's own.
    fn draw(
        &self,
        own: Option<&Tensor<1, Int>>,
        rows: usize,
        memory: &Tensor<2>,
    ) -> Tensor<2, Int> {
        let [samples, _] = memory.dims();
        let count = self.negatives.min(samples - 1);
        let others = samples - usize::from(own.is_some());
        let range = Distribution::Uniform(0.0, others as f64);
        let drawn = Tensor::<2, Int>::random([rows, count], range, &memory.device());
        // Single precision may round a draw up to the end of its range.
        let drawn = drawn.clamp_max(others as i64 - 1);
        match own {
            Some(own) => {
                let own = own.clone().unsqueeze_dim::<2>(1).expand([rows, count]);
                let beyond = drawn.clone().greater_equal(own);
                drawn + beyond.int()
            }
            None => drawn,
        }
    }

    /// The scores of a batch against the memories. Without indices, the samples are not in there.
    fn scores(
        &self,
        student: &Tensor<2>,
        teacher: &Tensor<2>,
        memory: &CrdMemory,
        indices: Option<&[usize]>,
        temperature: f64,
    ) -> Scores {
        let [rows, _] = student.dims();
        let own = indices.map(|indices| index_tensor(indices, &memory.student.device()));
        let negatives = self.draw(own.as_ref(), rows, &memory.student);
        match own {
            Some(own) => {
                let candidates = Tensor::cat(vec![own.unsqueeze_dim(1), negatives], 1);
                Scores::new(student, teacher, memory, &candidates, temperature)
            }
            None => {
                let own = (student.clone() * teacher.clone()).sum_dim(1) / temperature;
                let other = Scores::new(student, teacher, memory, &negatives, temperature);
                Scores {
                    student: Tensor::cat(vec![own.clone(), other.student], 1),
                    teacher: Tensor::cat(vec![own, other.teacher], 1),
                }
            }
        }
    }
}

impl Loss for Crd {
    fn name(&self) -> String {
        self.pair().name()
    }

    fn needs(&self) -> Needs {
        self.pair().needs().with_indices()
    }

    fn validate(&self) -> Result<()> {
        self.pair().validate("crd")?;
        for (name, value) in [("width", self.width), ("negatives", self.negatives)] {
            if value == 0 {
                let expected = "a whole number of at least 1";
                return Err(Error::invalid(format!("crd.{name}"), value, expected));
            }
        }
        self.temperature.check_positive("crd.temperature")?;
        let is_valid = (0.0..1.0).contains(&self.momentum);
        check(
            "crd.momentum",
            self.momentum,
            is_valid,
            "a number in [0, 1)",
        )
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.pair().check(context, Common::Samples)?;
        let (student, _) = self.pair().find(context)?;
        let shape = student.shape();
        if context.indices.len() != shape[0] {
            let expected = "a row for each sample of the batch";
            return Err(self.pair().shape_error(Side::Student, shape, expected));
        }
        if context.samples < 2 {
            return Err(Error::invalid(
                format!("the number of samples for term {:?}", self.name()),
                context.samples,
                "at least 2, to contrast one with another",
            ));
        }
        Ok(())
    }

    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let (student, teacher) = self.pair().features(context);
        let width = |feature: &Feature| feature.shape()[1..].iter().product();
        let (student, teacher) = (width(&student), width(&teacher));
        let contrast = Contrast::new(student, teacher, self.width, context.samples, device);
        Some(LossModules::new(contrast))
    }

    /// # Panics
    ///
    /// Panics without the modules that [`modules`](Loss::modules) makes.
    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        let modules = context
            .modules
            .expect("contrastive distillation has modules");
        let contrast: &Contrast = modules.get();
        let (student, teacher) = self.pair().features(context);
        let (student, teacher, samples) = vectors(student, teacher, context.weights());
        let weights = samples.weights();
        let mask = weights.map(|weights| weights.clone().equal_elem(0.0).bool_not());

        let is_training = student.is_autodiff();
        let (student, teacher) = contrast.embed(student, teacher);
        let _turn = is_training.then(|| contrast.turn());
        let memory = contrast.read(&student.device());
        let [total, _] = memory.student.dims();
        let temperature = self.temperature.at(context.progress);
        let indices = is_training.then_some(context.indices);
        let scores = self.scores(&student, &teacher, &memory, indices, temperature);
        let normalisers = contrast.normalisers_or(scores.normalisers(total, weights));
        let values = scores.values(normalisers.clone(), total, mask.as_ref());
        if is_training {
            let moved = memory.with_normalisers(normalisers).moved(
                context.indices,
                mask.as_ref(),
                student,
                teacher,
                self.momentum,
            );
            contrast.write(moved, mask.as_ref());
        }
        mean_rows(values, weights)
    }
}

#[cfg(test)]
#[path = "../tests/crd.rs"]
mod tests;
