pub(crate) mod head_loss;

use std::ops::Range;

use burn::nn::Linear;
use burn::tensor::{Bool, DType, IndexingUpdateOp, Int, Tensor};

use crate::data::top_k::TopK;
use crate::ops::comparison::{Comparison, add_product, with_known_gradient};
use crate::ops::{Rows, single};

pub use crate::loss::head::head_loss::HeadLoss;

/// How many logits a chunk has by default, of each side: 128 MiB in single precision.
const LOGITS_PER_CHUNK: usize = 1 << 25;

/// The end of a language model: the hidden states of its tokens, and the layer that makes logits
/// of them, `z = h·W + b`.
#[derive(Debug, Clone)]
pub struct Head {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
}

impl Head {
    /// Hidden states, `[N, D]` or of any higher rank such as `[batch, tokens, D]`, whose leading
    /// axes are flattened to rows, and a weight, `[D, V]`, as [`Linear`] has it. Where the head
    /// shares the weight of an embedding, `[V, D]`, that is `embedding.weight.val().transpose()`.
    ///
    /// # Panics
    ///
    /// Panics if `hidden` has rank 1.
    pub fn new<const R: usize>(hidden: Tensor<R>, weight: Tensor<2>) -> Self {
        assert!(
            R >= 2,
            "hidden states have a row and a feature axis, got rank {R}"
        );
        Self {
            hidden: hidden.flatten(0, R - 2),
            weight,
            bias: None,
        }
    }

    /// Hidden states with weight and bias of a [`Linear`].
    ///
    /// # Panics
    ///
    /// Panics if `hidden` has rank 1.
    pub fn linear<const R: usize>(hidden: Tensor<R>, layer: &Linear) -> Self {
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        Self {
            bias,
            ..Self::new(hidden, layer.weight.val())
        }
    }

    /// The same with a bias, `[V]`.
    #[must_use]
    pub fn with_bias(mut self, bias: Tensor<1>) -> Self {
        self.bias = Some(bias);
        self
    }

    fn without_autodiff(&self) -> Self {
        Self {
            hidden: self.hidden.clone().without_autodiff(),
            weight: self.weight.clone().without_autodiff(),
            bias: self.bias.clone().map(Tensor::without_autodiff),
        }
    }

    /// The head of the rows at these places.
    fn select(self, rows: &Tensor<1, Int>) -> Self {
        Self {
            hidden: self.hidden.select(0, rows.clone()),
            ..self
        }
    }

    fn logits(&self, rows: Range<usize>) -> Tensor<2> {
        let logits = self.hidden.clone().slice(rows).matmul(self.weight.clone());
        match &self.bias {
            Some(bias) => logits + bias.clone().unsqueeze(),
            None => logits,
        }
    }

    fn rows(&self) -> usize {
        self.hidden.dims()[0]
    }

    fn vocabulary(&self) -> usize {
        self.weight.dims()[1]
    }

    fn check(&self, side: &str) {
        let ([_, width], [inputs, vocabulary]) = (self.hidden.dims(), self.weight.dims());
        assert_eq!(
            width, inputs,
            "the {side}'s hidden states are as wide as its weight is high"
        );
        if let Some(bias) = &self.bias {
            let [len] = bias.dims();
            assert_eq!(
                len, vocabulary,
                "the {side}'s bias is as long as its weight is wide"
            );
        }
    }
}

/// A loss at the output of a language model, computed a chunk of rows at a time, so that the logits
/// of all tokens are never in memory.
///
/// With a vocabulary of 128,256 entries, the logits of 4,096 tokens are 2.1 GB in single precision,
/// and distillation needs three of that size: the student's, the teacher's and the gradient. Here
/// hidden states and the weights of both output layers go in, and loss and gradients of hidden
/// states, weight and bias come out; the three are made for some rows, used and dropped before the
/// next rows. Use it wherever the vocabulary is larger than the model is wide.
///
/// ```text
/// L = (1/N) Σ_n l(h_s·W_s + b_s, h_t·W_t + b_t, y)
///
/// h_s, h_t   hidden states of student and teacher, of a width each     l   a `HeadLoss`
/// W, b       weight and bias of their output layers                   N   rows that count
/// ```
///
/// It is the loss of the whole logits; only the order of its sums is another. The gradients are
/// computed with the value, since the logits are gone afterwards: the backward pass only hands them
/// on. They are not computed for what has no autodiff. So hand in `weight.val().without_autodiff()`
/// for a head that is not trained, which saves a third of the time. Where nothing has autodiff, as
/// in validation, there is a value alone.
///
/// Each side's logits are computed once, and nothing is computed twice to save memory. A chunk costs
/// one pass over the weight's gradient, so very small chunks are slow. By default a chunk has 2²⁵
/// logits a side, 128 MiB in single precision, which is 261 rows of 128,256. Rows that a mask leaves
/// out are not computed at all, whatever they hold.
///
/// Models in half precision keep their products in half, and have the rest, the gradient of the
/// weight included, in single; gradients arrive in the type of the model.
///
/// It is no term of an objective, as a model's [`Outputs`](crate::Outputs) are logits, the very
/// thing that is not there: it is for a loop of your own, as below.
///
/// # Shapes
///
/// - hidden states: `[N, D_s]` and `[N, D_t]`, or of a higher rank with as many rows
/// - weights: `[D_s, V]` and `[D_t, V]`; biases: `[V]`
/// - labels: `[N]`, from 0 to V − 1 in the rows that count; mask: `[N]`
/// - output: `[1]`
///
/// # Gradient
///
/// With `g` the gradient of the loss at the student's logits: `g·W_sᵀ` for the hidden states,
/// `h_sᵀ·g` for the weight, `Σ_n g` for the bias; none towards the teacher.
///
/// # Example
///
/// A step of a language model with a head of its own, and a teacher twice as wide:
///
/// ```
/// use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
/// use burn::module::Module;
/// use burn::optim::{GradientsParams, Optimizer, SgdConfig};
/// use burn::tensor::{Bool, Device, Int, Tensor};
/// use burn_distill::loss::{ChunkedHead, Head, HeadLoss};
///
/// #[derive(Module, Debug)]
/// struct Model {
///     trunk: Embedding, // stands for a transformer
///     head: Linear,
/// }
///
/// impl Model {
///     fn new(width: usize, device: &Device) -> Self {
///         Self {
///             trunk: EmbeddingConfig::new(50, width).init(device),
///             head: LinearConfig::new(width, 50).init(device),
///         }
///     }
///
///     /// Everything but the logits.
///     fn head(&self, tokens: Tensor<2, Int>) -> Head {
///         Head::linear(self.trunk.forward(tokens), &self.head)
///     }
/// }
///
/// let device = Device::flex();
/// let teacher = Model::new(16, &device);
/// let mut student = Model::new(8, &device.clone().autodiff());
/// let mut optimizer = SgdConfig::new().init();
///
/// let tokens = Tensor::<2, Int>::from_ints([[3, 14, 15, 9], [2, 6, 5, 0]], &device);
/// let next = Tensor::<1, Int>::from_ints([14, 15, 9, 26, 6, 5, 35, 0], &device);
/// let mask = Tensor::<1, Bool>::from_data(
///     [true, true, true, true, true, true, true, false],
///     &device,
/// );
/// let loss = HeadLoss::HardAndSoft { temperature: 2.0, alpha: 0.5 };
///
/// let mut values = Vec::new();
/// for _ in 0..20 {
///     let hidden = student.head(tokens.clone().autodiff());
///     let loss = ChunkedHead::new(hidden)
///         .with_teacher(teacher.head(tokens.clone()))
///         .with_labels(next.clone())
///         .with_mask(mask.clone())
///         .with_rows_per_chunk(4)
///         .forward(loss);
///     let gradients = GradientsParams::from_grads(loss.backward(), &student);
///     student = optimizer.step(1.0, student, gradients);
///     values.push(loss.into_scalar::<f32>());
/// }
/// assert!(values[19] < 0.8 * values[0]);
/// ```
///
/// # References
///
/// Hsu et al.: Liger Kernel: Efficient Triton Kernels for LLM Training, 2024, arXiv:2410.10989,
/// whose fused linear losses work in the same way.
#[derive(Debug, Clone)]
pub struct ChunkedHead {
    student: Head,
    teacher: Option<Head>,
    top_k: Option<TopK>,
    labels: Option<Tensor<1, Int>>,
    mask: Option<Tensor<1, Bool>>,
    rows_per_chunk: Option<usize>,
}

impl ChunkedHead {
    /// The student's head alone: no teacher, no labels, all rows count.
    pub fn new(student: Head) -> Self {
        Self {
            student,
            teacher: None,
            top_k: None,
            labels: None,
            mask: None,
            rows_per_chunk: None,
        }
    }

    /// The same with a teacher, which receives no gradient.
    #[must_use]
    pub fn with_teacher(mut self, teacher: Head) -> Self {
        self.teacher = Some(teacher);
        self
    }

    /// The same with what is known of a teacher's answers, `[N, k]`, such as a recording of them.
    #[must_use]
    pub fn with_top_k(mut self, top_k: TopK) -> Self {
        self.top_k = Some(top_k);
        self
    }

    /// The same with the true classes, `[N]`.
    #[must_use]
    pub fn with_labels(mut self, labels: Tensor<1, Int>) -> Self {
        self.labels = Some(labels);
        self
    }

    /// The same where only some rows count, `[N]`.
    #[must_use]
    pub fn with_mask(mut self, mask: Tensor<1, Bool>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// The same with so many rows at a time instead of as many as make 2²⁵ logits.
    #[must_use]
    pub fn with_rows_per_chunk(mut self, rows: usize) -> Self {
        self.rows_per_chunk = Some(rows);
        self
    }

    /// The loss, the mean over the rows that count; 0 where none does.
    ///
    /// # Panics
    ///
    /// Panics if the shapes do not fit together, if the loss needs a teacher or labels and there
    /// are none, if `beta` of [`HeadLoss::JensenShannon`] is not in [0, 1], or if a chunk is to have
    /// no rows.
    #[must_use]
    pub fn forward(&self, loss: HeadLoss) -> Tensor<1> {
        self.check(loss);
        let mut constants = self.constants(loss);
        let rows = constants.choose_rows();
        let sums = constants.sums(loss, Sums::zero(&self.student, constants.rows()));

        let Head {
            hidden,
            weight,
            bias,
        } = &self.student;
        // The value comes along with one of the terms.
        let zero = sums.value.zeros_like();
        let mut terms = Vec::new();
        if let Some(mut gradient) = sums.hidden {
            if let Some(rows) = rows {
                let everywhere = zeros(hidden.dims(), &gradient);
                gradient = everywhere.select_assign(0, rows, gradient, IndexingUpdateOp::Add);
            }
            terms.push(with_known_gradient(hidden, zero.clone(), gradient));
        }
        if let Some(gradient) = sums.weight {
            terms.push(with_known_gradient(weight, zero.clone(), gradient));
        }
        if let (Some(bias), Some(gradient)) = (bias, sums.bias) {
            terms.push(with_known_gradient(bias, zero, gradient));
        }
        let terms = terms.into_iter().reduce(|a, b| a + b);
        match terms {
            Some(terms) => terms + sums.value.autodiff(),
            None => sums.value,
        }
    }

    fn rows(&self) -> usize {
        self.student.rows()
    }

    /// All of it outside of autodiff, without what the loss does not look at.
    fn constants(&self, loss: HeadLoss) -> Self {
        let teacher = self.teacher.as_ref().filter(|_| loss.needs_teacher());
        let labels = self.labels.clone().filter(|_| loss.needs_labels());
        Self {
            student: self.student.without_autodiff(),
            teacher: teacher.map(Head::without_autodiff),
            top_k: self.top_k.clone(),
            labels: labels.map(Tensor::without_autodiff),
            mask: self.mask.clone().map(Tensor::without_autodiff),
            rows_per_chunk: self.rows_per_chunk,
        }
    }

    /// Leaves out the rows that do not count, and says which are left, unless that is all of them.
    fn choose_rows(&mut self) -> Option<Tensor<1, Int>> {
        let mask = self.mask.take()?;
        let counts = mask.into_data();
        let rows: Vec<i32> = (0..)
            .zip(counts.iter::<bool>())
            .filter(|(_, c)| *c)
            .map(|(n, _)| n)
            .collect();
        if rows.len() == self.rows() {
            return None;
        }
        let rows = Tensor::from_data(rows.as_slice(), &self.student.hidden.device());
        self.student = self.student.clone().select(&rows);
        self.teacher = self.teacher.take().map(|teacher| teacher.select(&rows));
        self.top_k = self.top_k.take().map(|top_k| top_k.select(&rows));
        self.labels = self
            .labels
            .take()
            .map(|labels| labels.select(0, rows.clone()));
        Some(rows)
    }

    /// Value and gradients, chunk by chunk, of constants without a mask.
    fn sums(&self, loss: HeadLoss, mut sums: Sums) -> Sums {
        let (formula, scale) = loss.formula();
        let (count, chunk) = (self.rows(), self.chunk());
        // Rows have a weight of one until their gradients are added up in single precision: none
        // is lost because it is small.
        let share = 1.0 / count.max(1) as f64;
        let known = self.top_k.as_ref().and_then(|top_k| loss.known(top_k));
        for first in (0..count).step_by(chunk) {
            let rows = first..count.min(first + chunk);
            let logits = self.student.logits(rows.clone());
            let labels = self.labels.clone().map(|labels| labels.slice(rows.clone()));
            let teacher = self.teacher.as_ref();
            let comparison = Comparison {
                formula,
                scale,
                student: &logits,
                teacher: teacher.map(|teacher| teacher.logits(rows.clone())),
                known: known.as_ref().map(|known| known.slice(rows.clone())),
                labels: labels.as_ref(),
                mask: None,
            };
            if !sums.has_gradients() {
                sums.value = sums.value + comparison.per_row().sum() * share;
                continue;
            }
            let ones = Tensor::ones([rows.len()], (&logits.device(), DType::F32));
            let Rows { value, gradient } = comparison.weighted(&ones);
            drop(logits);
            sums.value = sums.value + value.sum() * share;
            sums.add_gradients(&self.student, rows, gradient, share);
        }
        sums
    }

    fn chunk(&self) -> usize {
        let by_default = || (LOGITS_PER_CHUNK / self.student.vocabulary().max(1)).max(1);
        self.rows_per_chunk.unwrap_or_else(by_default)
    }

    fn check(&self, loss: HeadLoss) {
        let mut lengths = vec![];
        self.student.check("student");
        assert_ne!(self.rows_per_chunk, Some(0), "a chunk has at least one row");
        if loss.needs_teacher() {
            let teacher = self.teacher.as_ref();
            let teacher = teacher.unwrap_or_else(|| panic!("{loss:?} needs a teacher"));
            teacher.check("teacher");
            assert_eq!(
                self.student.vocabulary(),
                teacher.vocabulary(),
                "student and teacher have one vocabulary"
            );
            lengths.push(("the teacher's hidden states", teacher.rows()));
        }
        if let HeadLoss::SparseSoftTarget { .. } = loss {
            let top_k = self.top_k.as_ref();
            let top_k = top_k.unwrap_or_else(|| panic!("{loss:?} needs the classes known"));
            lengths.push(("the classes known", top_k.indices.dims()[0]));
        }
        if loss.needs_labels() {
            let labels = self.labels.as_ref();
            let labels = labels.unwrap_or_else(|| panic!("{loss:?} needs labels"));
            lengths.push(("labels", labels.dims()[0]));
        }
        lengths.extend(self.mask.as_ref().map(|mask| ("mask", mask.dims()[0])));
        for (what, len) in lengths {
            assert_eq!(
                self.rows(),
                len,
                "the student's hidden states and {what} have the same number of rows"
            );
        }
    }
}

/// What chunks add up to; gradients of what has autodiff, in single precision.
struct Sums {
    value: Tensor<1>,
    /// `[rows, D]`
    hidden: Option<Tensor<2>>,
    /// `[D, V]`
    weight: Option<Tensor<2>>,
    /// `[V]`
    bias: Option<Tensor<1>>,
}

impl Sums {
    fn zero(student: &Head, rows: usize) -> Self {
        let Head {
            hidden,
            weight,
            bias,
        } = student;
        let [width, vocabulary] = weight.dims();
        let like = single(hidden.clone().without_autodiff());
        let bias = bias.as_ref().filter(|bias| bias.is_autodiff());
        Self {
            value: zeros([1], &like),
            hidden: hidden.is_autodiff().then(|| zeros([rows, width], &like)),
            weight: (weight.is_autodiff()).then(|| zeros([width, vocabulary], &like)),
            bias: bias.map(|_| zeros([vocabulary], &like)),
        }
    }

    fn has_gradients(&self) -> bool {
        self.hidden.is_some() || self.weight.is_some() || self.bias.is_some()
    }

    /// Adds what the gradient of some rows' logits comes to, times a factor.
    fn add_gradients(
        &mut self,
        student: &Head,
        rows: Range<usize>,
        gradient: Tensor<2>,
        factor: f64,
    ) {
        if let Some(sum) = self.bias.take() {
            let of_chunk: Tensor<1> = gradient.clone().sum_dim(0).squeeze_dim(0);
            self.bias = Some(sum + of_chunk * factor);
        }
        if let Some(sum) = self.weight.take() {
            let inputs = single(student.hidden.clone().slice(rows.clone())) * factor;
            self.weight = Some(add_product(sum, inputs.transpose(), gradient.clone()));
        }
        if let Some(all) = self.hidden.take() {
            let weight = student.weight.clone();
            let of_rows = single(gradient.cast(weight.dtype()).matmul(weight.transpose()));
            self.hidden = Some(all.slice_assign(rows, of_rows * factor));
        }
    }
}

fn zeros<const D: usize>(dims: [usize; D], like: &Tensor<2>) -> Tensor<D> {
    Tensor::zeros(dims, (&like.device(), like.dtype()))
}

#[cfg(test)]
#[path = "../tests/chunked_head.rs"]
mod tests;
