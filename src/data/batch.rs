//! One batch: the inputs of both models, and what is known of its rows.

use burn::tensor::{Bool, Int, Tensor};

use crate::data::key::Name;
use crate::data::targets::{Targets, Weights};

/// One batch for teacher and student.
///
/// A *row* is what one line of a head stands for: a sample of a classifier, a token of a sequence, a
/// pixel of an image. Targets, masks and weights have one entry per row; those that are set here are of
/// the first head, those of other heads go through [`with_head`](Self::with_head).
///
/// `I` is the input of the student, `J` that of the teacher, the same unless a batch has a
/// [`with_teacher_input`](Self::with_teacher_input). Inputs move between devices, which is what Burn's
/// `Module` trait describes: tensors, numbers and strings are modules, and so are tuples, vectors and
/// options of modules; for a type of your own derive `Module`.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::DistillBatch;
///
/// let device = Device::flex();
/// let images = Tensor::<2>::zeros([3, 784], &device);
/// let labels = Tensor::<1, Int>::from_ints([5, 0, 4], &device);
/// let batch = DistillBatch::new(images).with_classes(labels);
/// assert!(batch.targets.target("").is_some());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DistillBatch<I, J = I> {
    /// The input of the student.
    pub input: I,
    /// The input of the teacher.
    pub teacher_input: J,
    /// What is known of the rows: targets and weights, for each head.
    pub targets: Targets,
    /// The index of each sample in its dataset, filled in by [`DistillData`](crate::DistillData).
    pub indices: Vec<usize>,
    /// The name of each sample, where something goes by it.
    pub(crate) names: Vec<Name>,
}

impl<I: Clone> DistillBatch<I> {
    /// A batch that teacher and student see alike, without targets, every row of weight 1.
    pub fn new(input: I) -> Self {
        Self {
            teacher_input: input.clone(),
            input,
            targets: Targets::new(),
            indices: Vec::new(),
            names: Vec::new(),
        }
    }
}

impl<I, J> DistillBatch<I, J> {
    /// The index of the sample that a row belongs to, of `rows` rows.
    pub(crate) fn sample_of(&self, row: usize, rows: usize) -> usize {
        let per_sample = rows / self.indices.len().max(1);
        let sample = self.indices.get(row / per_sample.max(1));
        sample.copied().unwrap_or(row)
    }

    /// Sets an input of its own for the teacher: another resolution, other tokens, privileged text.
    #[must_use]
    pub fn with_teacher_input<K>(self, teacher_input: K) -> DistillBatch<I, K> {
        DistillBatch {
            input: self.input,
            teacher_input,
            targets: self.targets,
            indices: self.indices,
            names: self.names,
        }
    }

    /// Sets one class per row as the target: `[N]`, `[N, T]` for sequences, `[N, H, W]` for images. A
    /// label below 0 means that the row has none.
    #[must_use]
    pub fn with_classes<const D: usize>(mut self, classes: Tensor<D, Int>) -> Self {
        self.targets = self.targets.with_classes(classes);
        self
    }

    /// Sets yes (1) or no (0) for each label of each row, `[rows, L]`.
    #[must_use]
    pub fn with_binary(mut self, labels: Tensor<2>) -> Self {
        self.targets = self.targets.with_binary(labels);
        self
    }

    /// Sets real values as the targets, `[rows, V]`.
    #[must_use]
    pub fn with_values(mut self, values: Tensor<2>) -> Self {
        self.targets = self.targets.with_values(values);
        self
    }

    /// Sets which rows are valid: `[N]`, `[N, T]` for sequences, `[N, H, W]` for images. An invalid row
    /// contributes neither to a loss, nor to a gradient, nor to a metric.
    #[must_use]
    pub fn with_mask<const D: usize>(mut self, mask: Tensor<D, Bool>) -> Self {
        self.targets = self.targets.with_mask(mask);
        self
    }

    /// Sets the weight of each row, at least 0, with the axes of a [mask](Self::with_mask). Means over
    /// rows are `Σ w·v / Σ w`.
    #[must_use]
    pub fn with_weights(mut self, weights: impl Into<Weights>) -> Self {
        self.targets = self.targets.with_weights(weights);
        self
    }

    /// Sets targets and weights for the head of this name.
    #[must_use]
    pub fn with_head(mut self, name: impl AsRef<str>, targets: Targets) -> Self {
        self.targets = self.targets.with_head(name, targets);
        self
    }
}
