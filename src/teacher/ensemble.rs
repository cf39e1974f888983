//! Several teachers that teach as one.

use std::sync::Arc;

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::head::Head;
use crate::data::outputs::Outputs;
use crate::data::precision::single;
use crate::error::{Error, Result};
use crate::teacher::any::AnyTeacher;
use crate::teacher::{Teacher, TeacherBatch, TeacherInfo};

/// How the outputs of several teachers become one.
///
/// ```text
/// Probabilities   z = log Σ_k w_k · softmax(z_k)                 their mean, the usual choice
/// Logits          z = Σ_k w_k · z_k                              their geometric mean
/// Agreement       z = log Σ_k a_k · softmax(z_k)                 a teacher is weighted, row by row,
///                 a_k ∝ w_k · exp(−KL(p_k ‖ p̄))                  by its agreement with the rest
///
/// z_k, p_k   logits and probabilities of teacher k     w_k   its weight, Σ w_k = 1
/// p̄          Σ_k w_k · p_k
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Combine {
    /// The weighted mean of probabilities.
    #[default]
    Probabilities,
    /// The weighted mean of logits.
    Logits,
    /// The mean of probabilities, weighted by how far each teacher agrees with all of them.
    Agreement,
}

/// Several teachers that teach as one.
///
/// It combines the heads of the first teacher with the heads of the same name of all others: categorical
/// heads as [`Combine`] says, binary heads by the mean of their probabilities (or of their logits),
/// continuous ones by their mean. The features of teacher `k` keep their names with `k.` before them:
/// `0.hidden`, `1.hidden`. Teachers of different types stand in one list as
/// [`AnyTeacher`](crate::AnyTeacher).
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::{Combine, Ensemble, Teacher, TeacherBatch, teacher_fn};
///
/// // Probabilities [3/4, 1/4] and [1/4, 3/4], whatever the input.
/// let ln3 = 3f32.ln();
/// let constant = |logits: [f32; 2]| teacher_fn("constant", move |_: Tensor<2>| vec![logits]);
/// let teachers = vec![constant([ln3, 0.0]), constant([0.0, ln3])];
/// let ensemble = Ensemble::new(teachers, Combine::Probabilities)?.with_weights(&[3.0, 1.0])?;
///
/// let input = Tensor::<2>::zeros([1, 1], &Device::flex());
/// let outputs = ensemble.ask(&TeacherBatch::new(&input))?;
/// let p = burn::tensor::activation::softmax(outputs.logits(), 1).into_data();
/// // 3/4 · 3/4 + 1/4 · 1/4
/// assert!((p.iter::<f64>().next().unwrap() - 0.625).abs() < 1e-6);
/// # Ok::<(), burn_distill::Error>(())
/// ```
///
/// # References
///
/// Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531,
/// section 2 (both means).
#[derive(Debug, Clone)]
pub struct Ensemble<T> {
    teachers: Vec<T>,
    weights: Vec<f64>,
    combine: Combine,
}

impl<T> Ensemble<T> {
    /// Teachers of the same weight.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if there is no teacher.
    pub fn new(teachers: Vec<T>, combine: Combine) -> Result<Self> {
        if teachers.is_empty() {
            return Err(Error::invalid(
                "ensemble.teachers",
                0,
                "at least one teacher",
            ));
        }
        let weights = vec![1.0 / teachers.len() as f64; teachers.len()];
        Ok(Self {
            teachers,
            weights,
            combine,
        })
    }

    /// Sets the weight of each teacher; they are divided by their sum.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if there is not one weight per teacher, or one is negative, or
    /// all are zero.
    pub fn with_weights(mut self, weights: &[f64]) -> Result<Self> {
        let sum: f64 = weights.iter().sum();
        let valid = weights.iter().all(|w| w.is_finite() && *w >= 0.0) && sum > 0.0;
        if !valid || weights.len() != self.teachers.len() {
            return Err(Error::invalid(
                "ensemble.weights",
                format!("{weights:?} for {} teachers", self.teachers.len()),
                "a number of at least 0 for each teacher, not all of them 0",
            ));
        }
        self.weights = weights.iter().map(|w| w / sum).collect();
        Ok(self)
    }

    /// The teachers.
    pub fn teachers(&self) -> &[T] {
        &self.teachers
    }

    fn combined(&self, logits: Vec<Tensor<2>>) -> Tensor<2> {
        let weighted = logits.iter().zip(&self.weights);
        match self.combine {
            Combine::Logits => sum(weighted.map(|(z, w)| z.clone() * *w)),
            Combine::Probabilities => self.mean(&logits).log(),
            Combine::Agreement => {
                let log_mean = self.mean(&logits).log();
                let trust = weighted.map(|(z, w)| {
                    let log_p = log_softmax(z.clone(), 1);
                    let kl = log_p.clone().exp() * (log_p - log_mean.clone());
                    kl.sum_dim(1).neg().exp() * *w
                });
                let trust: Vec<Tensor<2>> = trust.collect();
                let total = sum(trust.iter().cloned());
                let fractions = trust.into_iter().map(|trust| trust / total.clone());
                let weighted = fractions.zip(&logits);
                sum(weighted.map(|(fraction, z)| softmax(z.clone(), 1) * fraction)).log()
            }
        }
    }

    /// The heads of one name of all teachers as one.
    fn combined_head(&self, heads: &[&Head]) -> Head {
        let tensors = || {
            heads
                .iter()
                .map(|head| single(head.tensor()))
                .collect::<Vec<_>>()
        };
        let weighted_mean = |tensors: &[Tensor<2>]| {
            let weighted = tensors.iter().zip(&self.weights);
            sum(weighted.map(|(x, weight)| x.clone() * *weight))
        };
        match heads[0] {
            Head::Categorical(_) => Head::from(self.combined(tensors())),
            Head::Binary(_) if self.combine == Combine::Logits => {
                Head::Binary(weighted_mean(&tensors()))
            }
            Head::Binary(_) => {
                let p: Vec<_> = tensors().into_iter().map(sigmoid).collect();
                let smallest = f64::from(f32::EPSILON);
                let p = weighted_mean(&p).clamp(smallest, 1.0 - smallest);
                Head::Binary(p.clone().log() - p.neg().add_scalar(1.0).log())
            }
            Head::Continuous(_) => Head::Continuous(weighted_mean(&tensors())),
        }
    }

    fn combined_outputs(&self, all: &[Outputs]) -> Result<Outputs> {
        let mut combined = Outputs::features_only();
        for (name, first) in all[0].heads() {
            let found = all.iter().enumerate().map(|(k, outputs)| {
                let head = outputs.head(name);
                let fits = head.filter(|h| h.kind() == first.kind() && h.shape() == first.shape());
                fits.ok_or_else(|| Error::ShapeMismatch {
                    what: format!(
                        "head {name:?} of teacher {k} of an ensemble and the first teacher's"
                    ),
                    student: head.map(|head| head.shape().to_vec()).unwrap_or_default(),
                    teacher: first.shape().to_vec(),
                })
            });
            let heads: Vec<&Head> = found.collect::<Result<_>>()?;
            combined = combined.with_head(name, self.combined_head(&heads));
        }
        for (k, outputs) in all.iter().enumerate() {
            for (name, feature) in outputs.features() {
                combined = combined.with_feature(format!("{k}.{name}"), feature.clone());
            }
        }
        Ok(combined)
    }

    fn mean(&self, logits: &[Tensor<2>]) -> Tensor<2> {
        let weighted = logits.iter().zip(&self.weights);
        // Where every teacher masks a class, the smallest probability stands for none.
        sum(weighted.map(|(z, w)| softmax(z.clone(), 1) * *w)).clamp_min(f32::MIN_POSITIVE)
    }
}

fn sum(tensors: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    tensors
        .reduce(|sum, tensor| sum + tensor)
        .expect("an ensemble has a teacher")
}

impl<J: 'static, T: Teacher<J>> Teacher<J> for Ensemble<T> {
    fn ask(&self, batch: &TeacherBatch<'_, J>) -> Result<Outputs> {
        let all = self.teachers.iter().map(|teacher| teacher.ask(batch));
        self.combined_outputs(&all.collect::<Result<Vec<_>>>()?)
    }

    fn on(&self, device: &Device) -> Arc<dyn Teacher<J>> {
        let teachers = self.teachers.iter();
        Arc::new(Ensemble {
            teachers: teachers.map(|t| AnyTeacher::shared(t.on(device))).collect(),
            weights: self.weights.clone(),
            combine: self.combine,
        })
    }

    fn info(&self) -> TeacherInfo {
        let all: Vec<_> = self.teachers.iter().map(Teacher::info).collect();
        let digests: Option<Vec<String>> = all.iter().map(TeacherInfo::digest).collect();
        TeacherInfo {
            fingerprint: digests.map(|digests| {
                let parts = digests.join(" ");
                format!(
                    "ensemble of {parts} by {:?} {:?}",
                    self.combine, self.weights
                )
            }),
            wants_full_batches: all.iter().any(|info| info.wants_full_batches),
            is_remote: all.iter().any(|info| info.is_remote),
            module: None,
        }
    }
}
