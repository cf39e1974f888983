//! Output layers, teachers and terms, and both ways to their value.

use burn::tensor::TensorData;
use burn::tensor::activation::log_softmax;

use super::super::*;
use crate::data::top_k::{MissingProbability, TopK};
use crate::ops::closed_form::labelled;
use crate::ops::row_loss::RowLoss;

pub(super) const ROWS: usize = 11;
pub(super) const VOCABULARY: usize = 13;
/// The number of classes of a top-k teacher.
pub(super) const K: usize = 4;
pub(super) const TEMPERATURE: f64 = 2.0;
/// Chunks of one row, some that divide the rows and some that do not, and one for all.
pub(super) const CHUNKS: [usize; 4] = [1, 4, 11, 100];

/// Reproducible numbers between −1 and 1 without a pattern.
pub(super) fn noise<const D: usize>(dims: [usize; D], seed: u64) -> Tensor<D> {
    let number = |i: u64| {
        let mixed = (1_000_003 * seed + i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let count = dims.iter().product::<usize>() as u64;
    let numbers: Vec<f32> = (0..count).map(number).collect();
    Tensor::from_data(TensorData::new(numbers, dims), &Device::flex())
}

pub(super) fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// The tensors of an output layer, and what follows the product.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) hidden: Tensor<2>,
    pub(super) weight: Tensor<2>,
    pub(super) bias: Option<Tensor<1>>,
    pub(super) scale: f64,
    pub(super) soft_cap: Option<f64>,
}

impl Parts {
    pub(super) fn new(width: usize, seed: u64) -> Self {
        Self {
            hidden: noise([ROWS, width], seed) * 2.0,
            weight: noise([width, VOCABULARY], seed + 1),
            bias: None,
            scale: 1.0,
            soft_cap: None,
        }
    }

    pub(super) fn with_bias(self, seed: u64) -> Self {
        Self {
            bias: Some(noise([VOCABULARY], seed)),
            ..self
        }
    }

    /// With a scale and a cap that both matter.
    pub(super) fn finished(self) -> Self {
        Self {
            scale: 1.5,
            soft_cap: Some(2.5),
            ..self
        }
    }

    pub(super) fn layer(&self) -> OutputLayer {
        let layer = OutputLayer::new(self.hidden.clone(), self.weight.clone());
        let layer = layer.with_scale(self.scale);
        let layer = match &self.bias {
            Some(bias) => layer.with_bias(bias.clone()),
            None => layer,
        };
        match self.soft_cap {
            Some(cap) => layer.with_soft_cap(cap),
            None => layer,
        }
    }

    pub(super) fn cast(&self, dtype: DType) -> Self {
        Self {
            hidden: self.hidden.clone().cast(dtype),
            weight: self.weight.clone().cast(dtype),
            bias: self.bias.clone().map(|bias| bias.cast(dtype)),
            ..self.clone()
        }
    }

    /// Everything a leaf of the graph.
    pub(super) fn trained(&self) -> Self {
        self.trained_on(&Device::flex().autodiff())
    }

    pub(super) fn trained_on(&self, device: &Device) -> Self {
        fn leaf<const D: usize>(x: &Tensor<D>, device: &Device) -> Tensor<D> {
            let data = x.clone().into_data();
            Tensor::from_data(data, (device, x.dtype())).require_grad()
        }
        Self {
            hidden: leaf(&self.hidden, device),
            weight: leaf(&self.weight, device),
            bias: self.bias.as_ref().map(|bias| leaf(bias, device)),
            ..self.clone()
        }
    }
}

/// A value, and the gradients of hidden states, weight and bias.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found(pub(super) Vec<Vec<f32>>);

pub(super) fn backward(value: &Tensor<1>, parts: &Parts) -> Found {
    let gradients = value.backward();
    let hidden = parts.hidden.grad(&gradients).expect("hidden states learn");
    assert_eq!(hidden.dtype(), parts.hidden.dtype());
    let mut found = vec![
        numbers(value.clone()),
        numbers(hidden),
        numbers(parts.weight.grad(&gradients).expect("the weight learns")),
    ];
    let bias = parts.bias.as_ref();
    found.extend(bias.map(|bias| numbers(bias.grad(&gradients).expect("the bias learns"))));
    Found(found)
}

impl Found {
    /// Relative to the largest number of each tensor.
    #[track_caller]
    pub(super) fn assert_close(&self, expected: &Self, tolerance: f32, what: &str) {
        assert_eq!(self.0.len(), expected.0.len(), "{what}");
        for (at, (found, expected)) in self.0.iter().zip(&expected.0).enumerate() {
            assert_eq!(found.len(), expected.len(), "{what}");
            let size = expected.iter().fold(0.01f32, |size, x| size.max(x.abs()));
            for (f, e) in found.iter().zip(expected) {
                let is_close = (f - e).abs() <= tolerance * size;
                assert!(is_close, "{what}, tensor {at}: {f} is not {e}");
            }
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().flatten().all(|&x| x == 0.0)
    }
}

pub(super) fn forms() -> Vec<ClosedForm> {
    let temperature = TEMPERATURE;
    let formulas = [
        Formula::Divergence { temperature },
        Formula::Reverse { temperature },
        Formula::Mixture {
            temperature,
            beta: 0.3,
        },
        Formula::HardLabel { smoothing: 0.0 },
        Formula::HardLabel { smoothing: 0.1 },
        Formula::Decoupled {
            temperature,
            alpha: 0.7,
            beta: 3.0,
        },
        Formula::SquaredError,
    ];
    let mut forms: Vec<_> = (formulas.into_iter())
        .map(|formula| ClosedForm::new(formula, 1.5))
        .collect();
    forms.push(ClosedForm {
        missing: MissingProbability::Renormalize,
        ..forms[0]
    });
    forms
}

pub(super) fn soft() -> ClosedForm {
    forms()[0]
}

pub(super) fn hard() -> ClosedForm {
    forms()[3]
}

/// Every fifth row has none.
pub(super) fn labels() -> Tensor<1, Int> {
    let label = |n: usize| match n % 5 {
        2 => [-1, -100][n / 5 % 2],
        _ => (5 * n % VOCABULARY) as i32,
    };
    let labels: Vec<i32> = (0..ROWS).map(label).collect();
    Tensor::from_data(labels.as_slice(), &Device::flex())
}

pub(super) fn weights() -> Tensor<1> {
    let weights: Vec<f32> = (0..ROWS).map(|n| [1.0, 0.0, 0.25, 3.0][n % 4]).collect();
    Tensor::from_data(weights.as_slice(), &Device::flex())
}

/// The same teacher as logits, as an output layer, and as its top k.
pub(super) fn teachers() -> [Logits; 3] {
    let parts = Parts::new(5, 10).with_bias(12).finished();
    let logits = parts.layer().logits();
    let log_p = log_softmax(logits.clone() / TEMPERATURE, 1);
    let (log_p, indices) = log_p.topk_with_indices(K, 1);
    let top_k = TopK::new(indices, log_p, VOCABULARY).at_temperature(TEMPERATURE);
    [logits.into(), parts.layer().into(), top_k.into()]
}

pub(super) fn term(form: ClosedForm, weights: Option<Tensor<1>>, factor: f64) -> ProjectedTerm {
    let (labels, weights) = labelled(form.formula, Some(labels()), weights);
    ProjectedTerm {
        form,
        labels,
        weights,
        factor,
    }
}

pub(super) fn row_loss(
    form: ClosedForm,
    student: Logits,
    teacher: &Logits,
    weights: Option<Tensor<1>>,
) -> RowLoss {
    RowLoss {
        form,
        student,
        teacher: Some(teacher.clone()),
        labels: Some(labels()),
        weights,
    }
}

/// With the logits of all rows in memory.
pub(super) fn dense(
    form: ClosedForm,
    parts: &Parts,
    teacher: &Logits,
    weights: Option<Tensor<1>>,
) -> Found {
    let parts = parts.trained();
    let student = parts.layer().logits().into();
    backward(&row_loss(form, student, teacher, weights).mean(), &parts)
}

pub(super) fn projected(
    form: ClosedForm,
    parts: &Parts,
    teacher: &Logits,
    weights: Option<Tensor<1>>,
    chunk: usize,
) -> Found {
    let parts = parts.trained();
    let layer = parts.layer();
    let projected = Projected::new(&layer, Some(teacher)).with_rows_per_chunk(chunk);
    let value = projected.run(&[term(form, weights, 1.0)]);
    let found = backward(&value.total, &parts);
    let [of_term] = &value.values[..] else {
        panic!("one value per term");
    };
    assert_eq!(numbers(of_term.clone()), found.0[0]);
    found
}
