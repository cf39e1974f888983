//! What the two models see at once: inputs, targets if there are any, and which samples count.

use burn::tensor::{Bool, Device, Int, Tensor};

use crate::data::outputs::Recalled;

/// The right answers of a batch, where they are known.
///
/// Distillation needs none: the teacher's outputs are the answers. Only the terms that say so
/// ([hard labels](crate::loss::HardLabel)) read them, and the metrics that compare with the truth.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Targets {
    /// No targets.
    #[default]
    None,
    /// One class index per row of the logits, from `0` to `C - 1`.
    Classes(Tensor<1, Int>),
    /// Real values per row of the logits, `[rows, values]`: regression targets.
    Values(Tensor<2>),
}

impl Targets {
    /// What the targets are, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Targets::None => "no targets",
            Targets::Classes(_) => "class targets",
            Targets::Values(_) => "real-valued targets",
        }
    }

    /// The class indices, where the targets are classes.
    pub fn classes(&self) -> Option<&Tensor<1, Int>> {
        match self {
            Targets::Classes(classes) => Some(classes),
            _ => None,
        }
    }

    /// The real values, where the targets are real-valued.
    pub fn values(&self) -> Option<&Tensor<2>> {
        match self {
            Targets::Values(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn device(&self) -> Option<Device> {
        match self {
            Targets::None => None,
            Targets::Classes(t) => Some(t.device()),
            Targets::Values(t) => Some(t.device()),
        }
    }

    pub(crate) fn without_autodiff(self) -> Self {
        match self {
            Targets::None => Targets::None,
            Targets::Classes(t) => Targets::Classes(t.without_autodiff()),
            Targets::Values(t) => Targets::Values(t.without_autodiff()),
        }
    }
}

/// One batch for teacher and student.
///
/// A *row* is what one line of the logits stands for: a sample of a classifier, or a token of a
/// sequence whose outputs are flattened to `[samples · tokens, vocabulary]`. Targets and mask have
/// one entry per row.
///
/// `I` is the input type of the models. It is cloned once per step (teacher and student each take
/// one) and moves between devices, which is what Burn's `Module` trait describes: tensors, numbers
/// and strings are modules, and so are tuples, vectors and options of modules; for a type of your
/// own derive `Module`.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::DistillBatch;
///
/// let device = Device::flex();
/// let images = Tensor::<2>::zeros([3, 784], &device);
/// let labels = Tensor::<1, burn::tensor::Int>::from_ints([5, 0, 4], &device);
/// let batch = DistillBatch::new(images).with_classes(labels);
/// assert_eq!(batch.targets.kind(), "class targets");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DistillBatch<I> {
    /// The input of both models.
    pub input: I,
    /// The right answers, where they are known.
    pub targets: Targets,
    /// `true` for each row that counts; all rows count where there is no mask.
    pub mask: Option<Tensor<1, Bool>>,
    /// The place of each sample in its dataset, filled in by [`DistillData`](crate::DistillData).
    pub indices: Vec<usize>,
    /// What a recorded teacher said of these samples.
    pub recalled: Option<Recalled>,
}

impl<I> DistillBatch<I> {
    /// A batch of inputs without targets, in which every row counts.
    pub fn new(input: I) -> Self {
        Self {
            input,
            targets: Targets::None,
            mask: None,
            indices: Vec::new(),
            recalled: None,
        }
    }

    /// Sets class indices as the targets, one per row: `[N]`, or `[N, T]` for sequences.
    #[must_use]
    pub fn with_classes<const D: usize>(mut self, classes: Tensor<D, Int>) -> Self {
        self.targets = Targets::Classes(classes.flatten(0, D - 1));
        self
    }

    /// Sets real values as the targets, `[N, values]`.
    #[must_use]
    pub fn with_values(mut self, values: Tensor<2>) -> Self {
        self.targets = Targets::Values(values);
        self
    }

    /// Sets which rows count: `[N]`, or `[N, T]` for sequences. A row that does not count
    /// contributes neither to a loss, nor to a gradient, nor to a metric.
    #[must_use]
    pub fn with_mask<const D: usize>(mut self, mask: Tensor<D, Bool>) -> Self {
        self.mask = Some(mask.flatten(0, D - 1));
        self
    }
}
