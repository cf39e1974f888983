use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};
use serde::{Deserialize, Serialize};

use crate::data::outputs::{Distillable, Outputs};
use crate::error::{Error, Result};

/// How several teachers' answers become one.
///
/// ```text
/// Probabilities   z = log Σ_k w_k · softmax(z_k)                 their mean, the usual choice
/// Logits          z = Σ_k w_k · z_k                              their geometric mean
/// Agreement       z = log Σ_k a_k · softmax(z_k)                 a teacher counts, sample by
///                 a_k ∝ w_k · exp(−KL(p_k ‖ p̄))                  sample, as it agrees with the rest
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
/// It is a module like any other: hand it to a [`Distiller`](crate::Distiller) as the teacher. The
/// features of teacher `k` keep their names with `k.` before them: `0.hidden`, `1.hidden`. Teachers
/// of different types are variants of one enum that derives `Module`.
///
/// # Example
///
/// ```
/// use burn::module::Module;
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::{Combine, Distillable, Ensemble, Outputs};
///
/// /// Answers with its bias, whatever the question.
/// #[derive(Module, Debug)]
/// struct Stubborn {
///     bias: [f64; 2],
/// }
///
/// impl Distillable<Tensor<2>> for Stubborn {
///     fn outputs(&self, x: Tensor<2>) -> Outputs {
///         Outputs::new(Tensor::<2>::from_floats([self.bias], &x.device()))
///     }
/// }
///
/// // Probabilities [3/4, 1/4] and [1/4, 3/4].
/// let ln3 = 3f64.ln();
/// let teachers = vec![Stubborn { bias: [ln3, 0.0] }, Stubborn { bias: [0.0, ln3] }];
/// let ensemble = Ensemble::new(teachers, Combine::Probabilities)?.with_weights(&[3.0, 1.0])?;
/// let outputs = ensemble.outputs(Tensor::zeros([1, 1], &Device::flex()));
/// let p = burn::tensor::activation::softmax(outputs.logits, 1).into_data();
/// // 3/4 · 3/4 + 1/4 · 1/4
/// assert!((p.iter::<f64>().next().unwrap() - 0.625).abs() < 1e-6);
/// # Ok::<(), burn_distill::Error>(())
/// ```
///
/// # References
///
/// Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531,
/// section 2 (both means).
#[derive(Module, Debug)]
pub struct Ensemble<T: Module + ModuleDisplay> {
    teachers: Vec<T>,
    #[module(skip)]
    weights: Vec<f64>,
    #[module(skip)]
    combine: Combine,
}

impl<T: Module + ModuleDisplay> Ensemble<T> {
    /// Teachers that count alike.
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

    /// Sets how much each teacher counts; the weights are divided by their sum.
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
                let trusts = weighted.map(|(z, w)| {
                    let log_p = log_softmax(z.clone(), 1);
                    let kl = log_p.clone().exp() * (log_p - log_mean.clone());
                    kl.sum_dim(1).neg().exp() * *w
                });
                let trusts: Vec<Tensor<2>> = trusts.collect();
                let total = sum(trusts.iter().cloned());
                let shares = trusts.into_iter().map(|trust| trust / total.clone());
                let parts = shares.zip(&logits);
                sum(parts.map(|(share, z)| softmax(z.clone(), 1) * share)).log()
            }
        }
    }

    fn mean(&self, logits: &[Tensor<2>]) -> Tensor<2> {
        let weighted = logits.iter().zip(&self.weights);
        // Where every teacher rules a class out, the smallest probability stands for none.
        sum(weighted.map(|(z, w)| softmax(z.clone(), 1) * *w)).clamp_min(f32::MIN_POSITIVE)
    }
}

fn sum(tensors: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    tensors
        .reduce(|sum, tensor| sum + tensor)
        .expect("an ensemble has a teacher")
}

impl<I: Clone, T: Distillable<I>> Distillable<I> for Ensemble<T> {
    fn outputs(&self, input: I) -> Outputs {
        let all: Vec<Outputs> = self
            .teachers
            .iter()
            .map(|t| t.outputs(input.clone()))
            .collect();
        let logits = all.iter().map(|outputs| outputs.logits.clone()).collect();
        let mut combined = Outputs::new(self.combined(logits));
        for (k, outputs) in all.iter().enumerate() {
            for (name, feature) in outputs.features() {
                combined = combined.with_feature(format!("{k}.{name}"), feature.clone());
            }
        }
        combined
    }
}
