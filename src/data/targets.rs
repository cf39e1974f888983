//! Targets and weights: what is known of the rows of each head.

use std::sync::Arc;

use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Bool, DType, Int, Tensor, TensorReadError};

/// The true answers for the rows of one head.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target {
    /// One class per row, `[rows]`, from `0` to `C - 1`; below 0: no label for this row.
    Class(Tensor<1, Int>),
    /// Yes (1) or no (0) for each label of a row, `[rows, L]`.
    Binary(Tensor<2>),
    /// Real values per row, `[rows, V]`.
    Value(Tensor<2>),
}

/// The kind of a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetKind {
    /// One class per row.
    Class,
    /// Yes or no for each label of a row.
    Binary,
    /// Real values per row.
    Value,
}

impl std::fmt::Display for TargetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Class => "class targets",
            Self::Binary => "binary targets",
            Self::Value => "real-valued targets",
        })
    }
}

impl Target {
    /// The kind of the target.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Class(_) => TargetKind::Class,
            Self::Binary(_) => TargetKind::Binary,
            Self::Value(_) => TargetKind::Value,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Class(x) => x.dims()[0],
            Self::Binary(x) | Self::Value(x) => x.dims()[0],
        }
    }

    /// The labels, where the target is of classes.
    pub fn classes(&self) -> Option<&Tensor<1, Int>> {
        match self {
            Self::Class(labels) => Some(labels),
            _ => None,
        }
    }

    fn without_autodiff(self) -> Self {
        match self {
            Self::Class(x) => Self::Class(x.without_autodiff()),
            Self::Binary(x) => Self::Binary(x.without_autodiff()),
            Self::Value(x) => Self::Value(x.without_autodiff()),
        }
    }
}

/// One weight per row, at least 0; a mask is weights of 0 and 1.
///
/// Weights keep the axes they are given with, `[N]`, `[N, T]` or `[N, H, W]`, so that they meet features
/// at any resolution: those of tokens a vector per sample, those of pixels a smaller map.
///
/// # Example
///
/// ```
/// use burn::tensor::{Bool, Device, Tensor};
/// use burn_distill::{Targets, Weights};
///
/// let mask = Tensor::<2, Bool>::from_data([[true, true], [true, false]], &Device::flex());
/// let targets = Targets::new().with_weights(&mask); // of two sequences of two tokens
/// assert_eq!(Weights::from(mask).axes(), [2, 2]);
/// ```
#[derive(Debug, Clone)]
pub struct Weights {
    /// `[rows]`, `f32`, outside autodiff.
    pub(crate) values: Tensor<1>,
    axes: Vec<usize>,
}

impl<const D: usize> From<Tensor<D>> for Weights {
    fn from(weights: Tensor<D>) -> Self {
        Self {
            axes: weights.dims().to_vec(),
            values: weights
                .flatten(0, D - 1)
                .without_autodiff()
                .cast(DType::F32),
        }
    }
}

impl<const D: usize> From<Tensor<D, Bool>> for Weights {
    fn from(mask: Tensor<D, Bool>) -> Self {
        let axes = mask.dims().to_vec();
        let mask: Tensor<1, Bool> = mask.flatten(0, D - 1).without_autodiff();
        Self {
            values: from_bool(mask),
            axes,
        }
    }
}

impl<const D: usize> From<&Tensor<D>> for Weights {
    fn from(weights: &Tensor<D>) -> Self {
        weights.clone().into()
    }
}

impl<const D: usize> From<&Tensor<D, Bool>> for Weights {
    fn from(mask: &Tensor<D, Bool>) -> Self {
        mask.clone().into()
    }
}

impl Weights {
    /// The weights, `[rows]`, in `f32`.
    pub fn values(&self) -> &Tensor<1> {
        &self.values
    }

    /// The axes of the rows, such as `[N, T]`.
    pub fn axes(&self) -> &[usize] {
        &self.axes
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.dims()[0]
    }

    /// One weight per sample, `[samples]`: the largest of its rows, so that a sample is valid if any of
    /// its rows is.
    ///
    /// # Panics
    ///
    /// Panics if the number of rows is no multiple of `samples`.
    pub(crate) fn by_sample(&self, samples: usize) -> Tensor<1> {
        let rows = self.rows();
        if rows == samples {
            return self.values.clone();
        }
        assert!(
            rows.is_multiple_of(samples.max(1)),
            "weights of {rows} rows do not belong to {samples} samples"
        );
        let by_sample: Tensor<2> = self.values.clone().reshape([samples, rows / samples]);
        by_sample.max_dim(1).squeeze_dim(1)
    }

    /// One weight per token, `[samples · tokens]`: as they are, or each sample's for all of its tokens.
    pub(crate) fn by_token(&self, samples: usize, tokens: usize) -> Tensor<1> {
        if self.rows() == samples * tokens {
            return self.values.clone();
        }
        let by_sample: Tensor<2> = self.by_sample(samples).unsqueeze_dim(1);
        by_sample
            .expand([samples, tokens])
            .reshape([samples * tokens])
    }

    /// One weight per position of maps of one size, `[samples, height, width]`: those of an image are
    /// averaged to that size, a sample's own is that of all its positions.
    pub(crate) fn by_position(&self, samples: usize, [height, width]: [usize; 2]) -> Tensor<3> {
        if let [n, h, w] = self.axes[..]
            && n == samples
        {
            let maps = self.values.clone().reshape([n, 1, h, w]);
            let maps = match [h, w] == [height, width] {
                true => maps,
                false => adaptive_avg_pool2d(maps, [height, width]),
            };
            return maps.squeeze_dim(1);
        }
        let by_token = self.by_token(samples, height * width);
        by_token.reshape([samples, height, width])
    }
}

/// The first label of a valid row that is not below `classes`, after its row. It reads the labels
/// back, whatever integers they are.
pub(crate) fn too_large(
    labels: &Tensor<1, Int>,
    weights: Option<&Tensor<1>>,
    classes: usize,
) -> Result<Option<(usize, i64)>, TensorReadError> {
    let labels = labels.clone().without_autodiff().try_into_data()?;
    let mut large = (labels.iter::<i64>().enumerate())
        .filter(|(_, label)| *label >= classes as i64)
        .peekable();
    // Weights are read only where there is something to ask.
    let Some(weights) = weights.filter(|_| large.peek().is_some()) else {
        return Ok(large.next());
    };
    let weights: Vec<f32> = weights.clone().try_into_data()?.iter().collect();
    let is_valid = |(row, _): &(usize, i64)| weights.get(*row).is_none_or(|weight| *weight != 0.0);
    Ok(large.find(is_valid))
}

/// 1 where true, in `f32` whatever the device's default type is.
pub(crate) fn from_bool<const D: usize>(mask: Tensor<D, Bool>) -> Tensor<D> {
    let device = mask.device();
    let zeros = Tensor::<D>::zeros(mask.shape(), (&device, DType::F32));
    zeros.mask_fill(mask, 1.0)
}

/// What is known of the rows of a batch: targets and weights, for each head.
///
/// Distillation needs no targets: the teacher's outputs are what is learned. Losses on labels read
/// them, and the metrics that compare with the truth. A row of weight 0 contributes neither to a loss,
/// nor to a gradient, nor to a metric, whatever it holds.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_distill::Targets;
///
/// let device = Device::flex();
/// let boxes = Targets::new().with_values(Tensor::zeros([3, 4], &device));
/// let targets = Targets::new()
///     .with_classes(Tensor::<1, Int>::from_ints([5, -1, 4], &device)) // -1: no label
///     .with_head("box", boxes);
/// assert!(targets.target("box").is_some());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Targets {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    /// `None` stands for the first head, whatever its name.
    head: Option<Arc<str>>,
    target: Option<Target>,
    weights: Option<Weights>,
}

impl Targets {
    /// Nothing known: no targets, every row of weight 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one class per row of the first head: `[N]`, `[N, T]` for sequences, `[N, H, W]` for images.
    /// A label below 0 means that the row has none.
    #[must_use]
    pub fn with_classes<const D: usize>(mut self, classes: Tensor<D, Int>) -> Self {
        self.first().target = Some(Target::Class(classes.flatten(0, D - 1)));
        self
    }

    /// Sets yes (1) or no (0) for each label of each row of the first head, `[rows, L]`.
    #[must_use]
    pub fn with_binary(mut self, labels: Tensor<2>) -> Self {
        self.first().target = Some(Target::Binary(labels));
        self
    }

    /// Sets real values for each row of the first head, `[rows, V]`.
    #[must_use]
    pub fn with_values(mut self, values: Tensor<2>) -> Self {
        self.first().target = Some(Target::Value(values));
        self
    }

    /// Sets which rows of the first head are valid: `[N]`, `[N, T]` for sequences, `[N, H, W]` for
    /// images. It is weights of 0 and 1.
    #[must_use]
    pub fn with_mask<const D: usize>(mut self, mask: Tensor<D, Bool>) -> Self {
        self.first().weights = Some(mask.into());
        self
    }

    /// Sets the weight of each row of the first head, at least 0, with the axes of a
    /// [mask](Self::with_mask). A mean over rows is `Σ w·v / Σ w`.
    #[must_use]
    pub fn with_weights(mut self, weights: impl Into<Weights>) -> Self {
        self.first().weights = Some(weights.into());
        self
    }

    /// Sets targets and weights of the head of this name: those that `targets` has for its first.
    #[must_use]
    pub fn with_head(mut self, name: impl AsRef<str>, targets: Targets) -> Self {
        let name = name.as_ref();
        self.entries.retain(|e| e.head.as_deref() != Some(name));
        let own = targets.entries.into_iter().find(|e| e.head.is_none());
        self.entries.push(Entry {
            head: Some(name.into()),
            ..own.unwrap_or_default()
        });
        self
    }

    fn first(&mut self) -> &mut Entry {
        let at = self.entries.iter().position(|entry| entry.head.is_none());
        let at = at.unwrap_or_else(|| {
            self.entries.push(Entry::default());
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    /// The target that was set for the head of this name, or for the first head where the name is
    /// empty.
    pub fn target(&self, head: &str) -> Option<&Target> {
        self.entry(head, head.is_empty())?.target.as_ref()
    }

    /// What is known of a head, which may be the first of its model.
    fn entry(&self, head: &str, is_first: bool) -> Option<&Entry> {
        let named = |e: &&Entry| e.head.as_deref() == Some(head);
        let unnamed = |e: &&Entry| is_first && e.head.is_none();
        let mut entries = self.entries.iter();
        let found = entries.clone().find(named);
        found.or_else(|| entries.find(unnamed))
    }

    pub(crate) fn target_of(&self, head: &str, is_first: bool) -> Option<&Target> {
        self.entry(head, is_first)?.target.as_ref()
    }

    pub(crate) fn weights_of(&self, head: &str, is_first: bool) -> Option<&Weights> {
        self.entry(head, is_first)?.weights.as_ref()
    }

    /// The weights of the first head, which also mask features.
    pub(crate) fn first_weights(&self) -> Option<&Weights> {
        let unnamed = self.entries.iter().find(|entry| entry.head.is_none());
        unnamed?.weights.as_ref()
    }

    /// The names of the heads that something was set for by name.
    pub(crate) fn named_heads(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter_map(|entry| entry.head.as_deref())
    }

    pub(crate) fn without_autodiff(self) -> Self {
        let entries = self.entries.into_iter().map(|entry| Entry {
            target: entry.target.map(Target::without_autodiff),
            ..entry
        });
        Self {
            entries: entries.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    fn weights<const D: usize>(numbers: &[f32], dims: [usize; D]) -> Weights {
        let data = burn::tensor::TensorData::new(numbers.to_vec(), dims);
        Tensor::<D>::from_data(data, &Device::flex()).into()
    }

    #[test]
    fn a_mask_is_weights_of_zero_and_one() {
        let mask = Tensor::<2, Bool>::from_data([[true, false], [true, true]], &Device::flex());
        let found = Weights::from(&mask);
        assert_eq!((found.axes(), found.rows()), (&[2, 2][..], 4));
        assert_eq!(found.values().dtype(), DType::F32);
        assert_eq!(numbers(found.values().clone()), [1.0, 0.0, 1.0, 1.0]);
        let halves = Tensor::<1>::from_floats([0.5, 2.0], &Device::flex().autodiff());
        let found = Weights::from(halves.require_grad().cast(DType::F16));
        assert!(!found.values().is_autodiff());
        assert_eq!(numbers(found.values().clone()), [0.5, 2.0]);
    }

    #[test]
    fn a_sample_has_the_largest_weight_of_its_rows() {
        let tokens = weights(&[0.0, 0.5, 0.25, 0.0, 0.0, 0.0], [2, 3]);
        assert_eq!(numbers(tokens.by_sample(2)), [0.5, 0.0]);
        // As many rows as samples: as they are.
        let each = numbers(tokens.by_sample(6));
        assert_eq!(each, [0.0, 0.5, 0.25, 0.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic(expected = "weights of 3 rows do not belong to 2 samples")]
    fn rows_that_samples_cannot_share_are_refused() {
        let _ = weights(&[1.0; 3], [3]).by_sample(2);
    }

    #[test]
    fn tokens_have_their_own_weight_or_that_of_their_sample() {
        let tokens = weights(&[0.0, 0.5, 1.0, 2.0], [2, 2]);
        assert_eq!(numbers(tokens.by_token(2, 2)), [0.0, 0.5, 1.0, 2.0]);
        let samples = weights(&[0.5, 0.0], [2]);
        let found = numbers(samples.by_token(2, 3));
        assert_eq!(found, [0.5, 0.5, 0.5, 0.0, 0.0, 0.0]);
        // Another number of tokens than the feature has.
        let found = numbers(tokens.by_token(2, 3));
        assert_eq!(found, [0.5, 0.5, 0.5, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn positions_have_the_mean_weight_of_their_pixels() {
        let image = [[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 3.0]];
        let image = weights(&image.concat(), [1, 2, 4]);
        let same = image.by_position(1, [2, 4]);
        assert_eq!(same.dims(), [1, 2, 4]);
        assert_eq!(numbers(same), numbers(image.values().clone()));
        assert_eq!(numbers(image.by_position(1, [1, 2])), [0.25, 1.5]);
        assert_eq!(numbers(image.by_position(1, [1, 1])), [0.875]);
        // A finer map has the weight of the pixel that each position lies in.
        let finer = image.by_position(1, [4, 8]);
        assert_eq!(
            numbers(finer.clone().slice([0..1, 0..1, 0..8])),
            [1., 1., 0., 0., 1., 1., 1., 1.]
        );
        assert_eq!(
            numbers(finer.slice([0..1, 3..4, 0..8])),
            [0., 0., 0., 0., 1., 1., 3., 3.]
        );
    }

    #[test]
    fn positions_without_pixels_have_the_weight_of_their_token_or_sample() {
        let samples = weights(&[0.5, 0.0], [2]);
        let found = samples.by_position(2, [1, 2]);
        assert_eq!(found.dims(), [2, 1, 2]);
        assert_eq!(numbers(found), [0.5, 0.5, 0.0, 0.0]);
        let tokens = weights(&[1.0, 0.0, 0.0, 2.0], [1, 4]);
        assert_eq!(numbers(tokens.by_position(1, [2, 2])), [1.0, 0.0, 0.0, 2.0]);
    }

    fn classes(first: i32) -> Tensor<1, Int> {
        Tensor::from_ints([first], &Device::flex())
    }

    fn first_class(target: Option<&Target>) -> Option<i64> {
        let labels = target?.classes()?.clone();
        labels.into_data().iter::<i64>().next()
    }

    #[test]
    fn what_has_no_name_belongs_to_the_first_head() {
        let targets = Targets::new()
            .with_classes(classes(1))
            .with_head("edge", Targets::new().with_classes(classes(2)));
        assert_eq!(first_class(targets.target("")), Some(1));
        assert_eq!(first_class(targets.target("edge")), Some(2));
        assert!(targets.target("logits").is_none());
        // An objective knows which head is the first.
        assert_eq!(first_class(targets.target_of("logits", true)), Some(1));
        assert!(targets.target_of("logits", false).is_none());
        // What is set by name wins, also for the first.
        assert_eq!(first_class(targets.target_of("edge", true)), Some(2));
        assert_eq!(targets.named_heads().collect::<Vec<_>>(), ["edge"]);
    }

    #[test]
    fn weights_are_looked_up_like_targets() {
        let mask = Tensor::<1, Bool>::from_data([false], &Device::flex());
        let named = Targets::new().with_weights(weights(&[2.0], [1]));
        let targets = Targets::new().with_mask(mask).with_head("edge", named);
        let of = |head: &str, is_first| {
            let found = targets.weights_of(head, is_first);
            found.map(|weights| numbers(weights.values().clone()))
        };
        assert_eq!(of("logits", true), Some(vec![0.0]));
        assert_eq!(of("edge", false), Some(vec![2.0]));
        assert_eq!(of("logits", false), None);
    }

    #[test]
    fn setting_again_replaces() {
        let named = |class| Targets::new().with_classes(classes(class));
        let targets = named(1).with_classes(classes(3));
        let targets = targets
            .with_head("edge", named(4))
            .with_head("edge", named(5));
        assert_eq!(first_class(targets.target("")), Some(3));
        assert_eq!(first_class(targets.target("edge")), Some(5));
        assert_eq!(targets.named_heads().count(), 1);
    }
}
