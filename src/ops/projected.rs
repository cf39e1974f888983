//! Closed forms at an output layer, a chunk of rows at a time, so that the logits of all rows are never
//! in memory.
//!
//! Liger Kernel's fused linear losses work in the same way (Hsu et al., 2024, arXiv:2410.10989).

use std::ops::Range;

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor};

use crate::data::head::Logits;
use crate::data::output_layer::OutputLayer;
use crate::data::precision::single;
use crate::ops::closed_form::{ClosedForm, Teacher};
use crate::ops::comparison::{Comparison, add_product, with_known_gradient};
use crate::ops::formula::Formula;
use crate::ops::sparse::SparseTeacher;
use crate::ops::vectors::normalised;

/// How many logits a chunk has, of each side: 128 MiB in single precision.
const LOGITS_PER_CHUNK: usize = 1 << 25;

/// One of the losses at an output layer.
#[derive(Debug, Clone)]
pub(crate) struct ProjectedTerm {
    pub form: ClosedForm,
    /// `[rows]`
    pub labels: Option<Tensor<1, Int>>,
    /// `[rows]`
    pub weights: Option<Tensor<1>>,
    /// The weight of the loss in the sum of all.
    pub factor: f64,
}

/// The losses at an output layer.
pub(crate) struct ProjectedValue {
    /// Σ factor · value, `[1]`, with gradients towards hidden states, weight and bias.
    pub total: Tensor<1>,
    /// The value of each, `[1]`, constants.
    pub values: Vec<Tensor<1>>,
}

/// A student's output layer and the teacher it is compared with.
///
/// Each side's logits are computed once for all losses, and nothing is computed twice to save memory.
/// Value and gradients come together, since the logits are gone afterwards: the backward pass only
/// hands them on. Gradients are not computed for what is not tracked. A chunk costs one pass over the
/// weight's gradient, so very small chunks are slow.
pub(crate) struct Projected<'a> {
    student: &'a OutputLayer,
    teacher: Option<&'a Logits>,
    rows_per_chunk: usize,
}

impl<'a> Projected<'a> {
    pub fn new(student: &'a OutputLayer, teacher: Option<&'a Logits>) -> Self {
        let [_, vocabulary] = student.shape();
        Self {
            student,
            teacher,
            rows_per_chunk: (LOGITS_PER_CHUNK / vocabulary.max(1)).max(1),
        }
    }

    /// The same in chunks of another number of rows.
    #[cfg(test)]
    pub fn with_rows_per_chunk(self, rows_per_chunk: usize) -> Self {
        Self {
            rows_per_chunk,
            ..self
        }
    }

    /// Runs all terms in one pass over the rows.
    ///
    /// # Panics
    ///
    /// Panics if the shapes do not fit together, or a term needs a teacher or labels and there are none.
    pub fn run(&self, terms: &[ProjectedTerm]) -> ProjectedValue {
        let (mut pass, kept) = self.pass(terms);
        let count = pass.student.shape()[0];
        for first in (0..count).step_by(self.rows_per_chunk) {
            pass.chunk(first..count.min(first + self.rows_per_chunk));
        }
        self.attached(pass, kept)
    }

    /// One value per row of a term, `[rows]`, a constant: not multiplied by its weight or the factor of
    /// the term, but 0 where the weight is 0.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn per_row(&self, term: &ProjectedTerm) -> Tensor<1> {
        let (pass, kept) = self.pass(std::slice::from_ref(term));
        let count = pass.student.shape()[0];
        let [term] = &pass.terms[..] else {
            unreachable!("a pass has the terms that it is made of");
        };
        let mut values = vec![Tensor::zeros([0], (&pass.device, pass.dtype))];
        for first in (0..count).step_by(self.rows_per_chunk) {
            let rows = first..count.min(first + self.rows_per_chunk);
            let logits = pass.student.slice(rows.clone()).logits();
            let teacher = pass.teacher_logits(&rows);
            values.push(term.compare(&rows, &logits, teacher, |it| it.per_row()));
        }
        let values = Tensor::cat(values, 0);
        match kept {
            Some(kept) => {
                let all = [self.student.shape()[0]];
                let all = Tensor::zeros(all, (&pass.device, values.dtype()));
                all.select_assign(0, kept, values, IndexingUpdateOp::Add)
            }
            None => values,
        }
    }

    /// Everything as constants, without the rows that no term needs; the numbers of those kept, unless
    /// that is all of them.
    fn pass(&self, terms: &[ProjectedTerm]) -> (Pass, Option<Tensor<1, Int>>) {
        self.check(terms);
        let student = self.student.clone().without_autodiff().in_single();
        let (device, dtype) = (student.hidden().device(), student.weight().dtype());
        let rows = student.shape()[0];
        let running = |term| Running::new(term, self.teacher, rows, (&device, dtype));
        let terms: Vec<_> = terms.iter().map(running).collect();
        let wants_logits = terms.iter().any(|term| term.wants_logits);
        let teacher = self.teacher.filter(|_| wants_logits);
        let kept = kept_rows(&terms, rows, &device);
        let count = kept.as_ref().map_or(rows, |kept| kept.dims()[0]);
        let mut pass = Pass {
            sums: Sums::zero(self.student, count, (&device, dtype)),
            teacher: teacher.cloned().map(constant),
            student,
            terms,
            device,
            dtype,
        };
        if let Some(kept) = &kept {
            pass.select(kept);
        }
        (pass, kept)
    }

    fn check(&self, terms: &[ProjectedTerm]) {
        let [rows, classes] = self.student.shape();
        if let Some(teacher) = self.teacher {
            assert_eq!(
                [rows, classes],
                teacher.shape(),
                "student and teacher logits have one shape"
            );
        }
        for term in terms {
            for (what, len) in [
                ("labels", term.labels.as_ref().map(|x| x.dims()[0])),
                ("weights", term.weights.as_ref().map(|x| x.dims()[0])),
            ] {
                assert_eq!(
                    rows,
                    len.unwrap_or(rows),
                    "student logits and {what} have the same number of rows"
                );
            }
        }
    }

    /// Puts the gradients into the graph.
    fn attached(&self, pass: Pass, kept: Option<Tensor<1, Int>>) -> ProjectedValue {
        let Pass {
            sums,
            terms,
            device,
            dtype,
            ..
        } = pass;
        let zero = Tensor::<1>::zeros([1], (&device, dtype));
        let weighted = terms.iter().filter(|t| t.factor != 0.0);
        let total = weighted
            .map(|t| t.value.clone() * t.factor)
            .fold(zero.clone(), |sum, value| sum + value);
        // The value comes along with the first of the gradients.
        let mut parts = vec![total];
        let mut value = || parts.pop().unwrap_or_else(|| zero.clone());
        let mut attached = Vec::new();
        if let Some(mut gradient) = sums.hidden {
            let hidden = self.student.hidden();
            if let Some(kept) = kept {
                let all = Tensor::zeros(hidden.dims(), (&device, dtype));
                gradient = all.select_assign(0, kept, gradient, IndexingUpdateOp::Add);
            }
            attached.push(with_known_gradient(hidden, value(), gradient));
        }
        if let Some(gradient) = sums.weight {
            attached.push(with_known_gradient(
                self.student.weight(),
                value(),
                gradient,
            ));
        }
        if let (Some(bias), Some(gradient)) = (self.student.bias(), sums.bias) {
            attached.push(with_known_gradient(bias, value(), gradient));
        }
        let total = attached.into_iter().reduce(|a, b| a + b);
        ProjectedValue {
            total: total.unwrap_or_else(value),
            values: terms.into_iter().map(|t| t.value).collect(),
        }
    }
}

/// One pass over the rows: constants, and the sums over all chunks.
struct Pass {
    student: OutputLayer,
    /// `None` where no term needs the teacher's logits.
    teacher: Option<Logits>,
    terms: Vec<Running>,
    sums: Sums,
    device: Device,
    /// The type of logits, values and sums: single precision, or double where the weight is.
    dtype: DType,
}

/// A term on its way through the chunks.
struct Running {
    formula: Formula,
    scale: f64,
    /// Whether it compares with the teacher's logits.
    wants_logits: bool,
    /// The teacher that it compares with instead.
    sparse: Option<SparseTeacher>,
    labels: Option<Tensor<1, Int>>,
    /// The weights over their sum; `None` where all are one.
    weights: Option<Tensor<1>>,
    /// One over the number of rows, the weight of each where all are one.
    even: f64,
    factor: f64,
    value: Tensor<1>,
}

impl Running {
    fn new(
        term: &ProjectedTerm,
        teacher: Option<&Logits>,
        rows: usize,
        options: (&Device, DType),
    ) -> Self {
        let (formula, teacher) = term.form.against(teacher);
        let weights = term.weights.clone().map(Tensor::without_autodiff);
        Self {
            formula,
            scale: term.form.scale,
            wants_logits: matches!(teacher, Teacher::Logits(_)),
            sparse: match teacher {
                Teacher::Sparse(sparse) => Some(sparse),
                _ => None,
            },
            labels: term.labels.clone().map(Tensor::without_autodiff),
            weights: weights.map(normalised),
            even: 1.0 / rows.max(1) as f64,
            factor: term.factor,
            value: Tensor::zeros([1], options),
        }
    }

    /// Keeps these rows alone.
    fn select(&mut self, rows: &Tensor<1, Int>) {
        self.weights = (self.weights.take()).map(|x| x.select(0, rows.clone()));
        self.labels = (self.labels.take()).map(|x| x.select(0, rows.clone()));
        self.sparse = self.sparse.take().map(|sparse| sparse.select(rows));
    }

    /// Hands the comparison of some rows on.
    fn compare<R>(
        &self,
        rows: &Range<usize>,
        student: &Tensor<2>,
        teacher: Option<Tensor<2>>,
        then: impl FnOnce(Comparison<'_>) -> R,
    ) -> R {
        let labels = self.labels.clone().map(|x| x.slice(rows.clone()));
        then(Comparison {
            formula: self.formula,
            scale: self.scale,
            student,
            teacher,
            sparse: self.sparse.as_ref().map(|x| x.slice(rows.clone())),
            labels: labels.as_ref(),
            weights: self.weights.clone().map(|x| x.slice(rows.clone())),
        })
    }

    /// The weights of some rows over the sum of all.
    fn fractions(&self, rows: &Range<usize>, device: &Device) -> Tensor<1> {
        match &self.weights {
            Some(weights) => weights.clone().slice(rows.clone()),
            None => Tensor::full([rows.len()], self.even, (device, DType::F32)),
        }
    }
}

/// Logits that have no gradient, the weight of a projection in single precision.
fn constant(logits: Logits) -> Logits {
    match logits {
        Logits::Dense(x) => Logits::Dense(x.without_autodiff()),
        Logits::Projected(layer) => Logits::Projected(layer.without_autodiff().in_single()),
        Logits::TopK(top_k) => Logits::TopK(top_k),
    }
}

/// The numbers of the rows whose weight is not zero for all terms, unless that is all of them. The
/// others are not computed at all, whatever they hold.
fn kept_rows(terms: &[Running], rows: usize, device: &Device) -> Option<Tensor<1, Int>> {
    // A term without weights needs every row.
    let weights = terms.iter().map(|term| term.weights.clone());
    let weights: Option<Vec<Tensor<1>>> = weights.collect();
    let sum = weights?.into_iter().reduce(|a, b| a + b)?;
    let kept: Vec<i32> = (0..)
        .zip(sum.into_data().iter::<f32>())
        .filter(|(_, weight)| *weight != 0.0)
        .map(|(row, _)| row)
        .collect();
    (kept.len() < rows).then(|| Tensor::from_data(kept.as_slice(), device))
}

impl Pass {
    /// Keeps these rows alone.
    fn select(&mut self, rows: &Tensor<1, Int>) {
        self.student = self.student.clone().select(rows);
        self.teacher = self.teacher.take().map(|teacher| teacher.select(rows));
        self.terms.iter_mut().for_each(|term| term.select(rows));
    }

    /// The teacher's logits of some rows.
    fn teacher_logits(&self, rows: &Range<usize>) -> Option<Tensor<2>> {
        let teacher = self.teacher.as_ref();
        teacher.map(|teacher| teacher.slice(rows.clone()).dense())
    }

    /// Value and gradients of some rows.
    fn chunk(&mut self, rows: Range<usize>) {
        let student = self.student.slice(rows.clone());
        let logits = student.logits();
        let has_gradients = self.sums.has_gradients();
        // Computed once for all terms, and passed to the last by value, whose gradient may reuse
        // its buffer.
        let mut teacher = self.teacher_logits(&rows);
        let last = self.terms.iter().rposition(|term| term.wants_logits);
        let mut gradient: Option<Tensor<2>> = None;
        for (index, term) in self.terms.iter_mut().enumerate() {
            let teacher = match term.wants_logits {
                true if Some(index) == last => teacher.take(),
                true => teacher.clone(),
                false => None,
            };
            let fractions = term.fractions(&rows, &self.device);
            if !has_gradients || term.factor == 0.0 {
                let values = term.compare(&rows, &logits, teacher, |it| it.per_row());
                let values = values.clone() * fractions.cast(values.dtype());
                term.value = term.value.clone() + values.sum();
                continue;
            }
            let weights = fractions * term.factor;
            let found = term.compare(&rows, &logits, teacher, |it| it.weighted(&weights));
            term.value = term.value.clone() + found.value.sum() / term.factor;
            gradient = Some(match gradient {
                Some(sum) => sum + found.gradient,
                None => found.gradient,
            });
        }
        if let Some(gradient) = gradient {
            let gradient = student.through_finish(gradient, &logits);
            drop(logits);
            self.sums.add(&student, rows, gradient);
        }
    }
}

/// The sums of the chunks' gradients, for what is tracked. A frozen tensor is not, though it is on an
/// autodiff device.
struct Sums {
    /// `[rows, D]`
    hidden: Option<Tensor<2>>,
    /// `[D, V]`
    weight: Option<Tensor<2>>,
    /// `[V]`
    bias: Option<Tensor<1>>,
}

impl Sums {
    /// Room for the gradients of `rows` rows.
    fn zero(student: &OutputLayer, rows: usize, options: (&Device, DType)) -> Self {
        let [width, vocabulary] = student.weight().dims();
        let bias = student.bias().filter(|bias| bias.is_tracked());
        let hidden = student.hidden().is_tracked();
        let weight = student.weight().is_tracked();
        Self {
            hidden: hidden.then(|| Tensor::zeros([rows, width], options)),
            weight: weight.then(|| Tensor::zeros([width, vocabulary], options)),
            bias: bias.map(|_| Tensor::zeros([vocabulary], options)),
        }
    }

    fn has_gradients(&self) -> bool {
        self.hidden.is_some() || self.weight.is_some() || self.bias.is_some()
    }

    /// Adds the gradients of some rows, from that at their `h·W + b`.
    fn add(&mut self, student: &OutputLayer, rows: Range<usize>, gradient: Tensor<2>) {
        if let Some(sum) = self.bias.take() {
            let of_chunk: Tensor<1> = gradient.clone().sum_dim(0).squeeze_dim(0);
            self.bias = Some(sum + of_chunk);
        }
        if let Some(sum) = self.weight.take() {
            let inputs = single(student.hidden().clone()).transpose();
            self.weight = Some(add_product(sum, inputs, gradient.clone()));
        }
        if let Some(all) = self.hidden.take() {
            let of_rows = gradient.matmul(student.weight().clone().transpose());
            self.hidden = Some(all.slice_assign(rows, of_rows));
        }
    }
}

#[cfg(all(test, feature = "flex"))]
#[path = "tests/projected/mod.rs"]
mod tests;
