//! The outputs of a model for one batch: heads and features, both by name.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use crate::data::feature::Feature;
use crate::data::head::Head;

/// The name of the head that [`Outputs::new`] and [`Outputs::binary`] make.
pub(crate) const LOGITS: &str = "logits";
/// The name of the head that [`Outputs::values`] makes.
pub(crate) const VALUES: &str = "values";

/// What a model gives for a batch: heads (what it predicts) and features (what it computed on the
/// way), both by name.
///
/// Most models have one head and are done with [`Outputs::new`]. A term of an objective looks at the
/// first head unless it [names another](crate::Term::on).
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::{Head, Outputs};
///
/// let device = Device::flex();
/// let outputs = Outputs::new(Tensor::<2>::zeros([4, 10], &device))
///     .with_head("box", Head::Continuous(Tensor::zeros([4, 6], &device)))
///     .with_feature("hidden", Tensor::<2>::zeros([4, 32], &device));
/// assert_eq!(outputs.logits().dims(), [4, 10]);
/// assert_eq!(outputs.head_names(), ["logits", "box"]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    heads: Vec<(Arc<str>, Head)>,
    features: Vec<(Arc<str>, Feature)>,
}

impl Outputs {
    /// One categorical head, named `logits`: a tensor of rank 2, `[N, classes]`, or of any higher rank
    /// with the classes on the last axis, such as `[N, tokens, vocabulary]`, whose leading axes are
    /// flattened to rows; or an [`OutputLayer`](crate::OutputLayer), or a [`TopK`](crate::TopK).
    ///
    /// Logits of images, `[N, C, H, W]`, go through [`Outputs::images`].
    ///
    /// # Panics
    ///
    /// Panics if a tensor has rank 1.
    pub fn new(logits: impl Into<Head>) -> Self {
        Self::features_only().with_head(LOGITS, logits)
    }

    /// One categorical head per pixel, named `logits`, of logits `[N, C, H, W]`. The rows are the
    /// pixels, image by image, line by line, so targets and masks are `[N, H, W]`.
    pub fn images(logits: Tensor<4>) -> Self {
        Self::new(logits.permute([0, 2, 3, 1]))
    }

    /// One binary head, named `logits`: `L` independent yes-or-no logits per row, `[rows, L]`.
    pub fn binary(logits: Tensor<2>) -> Self {
        Self::features_only().with_head(LOGITS, Head::Binary(logits))
    }

    /// One continuous head, named `values`: real values per row, `[rows, V]`.
    pub fn values(values: Tensor<2>) -> Self {
        Self::features_only().with_head(VALUES, Head::Continuous(values))
    }

    /// No head: a model that is distilled by its features alone.
    pub fn features_only() -> Self {
        Self::default()
    }

    /// Adds a head under a name that terms refer to. A second head of the same name replaces the
    /// first.
    #[must_use]
    pub fn with_head(mut self, name: impl AsRef<str>, head: impl Into<Head>) -> Self {
        insert(&mut self.heads, name.as_ref(), head.into());
        self
    }

    /// Adds an intermediate feature of rank 2, 3 or 4 under a name that losses refer to. A second
    /// feature of the same name replaces the first.
    #[must_use]
    pub fn with_feature(mut self, name: impl AsRef<str>, feature: impl Into<Feature>) -> Self {
        insert(&mut self.features, name.as_ref(), feature.into());
        self
    }

    /// The head of this name.
    pub fn head(&self, name: &str) -> Option<&Head> {
        find(&self.heads, name)
    }

    /// All heads with their names, the first one first.
    pub fn heads(&self) -> impl Iterator<Item = (&str, &Head)> {
        self.heads.iter().map(|(name, head)| (name.as_ref(), head))
    }

    /// The names of all heads, in the order in which they were added.
    pub fn head_names(&self) -> Vec<String> {
        self.heads
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    /// The first head with its name, where there is one.
    pub fn first_head(&self) -> Option<(&str, &Head)> {
        self.heads().next()
    }

    /// The logits, labels or values of the first head as a tensor, `[rows, width]`; see
    /// [`Head::tensor`].
    ///
    /// # Panics
    ///
    /// Panics if there is no head.
    pub fn logits(&self) -> Tensor<2> {
        let (_, head) = self.first_head().expect("the outputs have a head");
        head.tensor()
    }

    /// The feature of this name.
    pub fn feature(&self, name: &str) -> Option<&Feature> {
        find(&self.features, name)
    }

    /// The names of all features, in the order in which they were added.
    pub fn feature_names(&self) -> Vec<String> {
        (self.features.iter())
            .map(|(name, _)| name.to_string())
            .collect()
    }

    /// All features with their names.
    pub fn features(&self) -> impl Iterator<Item = (&str, &Feature)> {
        self.features.iter().map(|(n, f)| (n.as_ref(), f))
    }

    /// Whether any head or feature is in half precision.
    pub(crate) fn is_half(&self) -> bool {
        let half = |dtype| matches!(dtype, DType::F16 | DType::BF16);
        let mut features = self.features.iter();
        self.heads.iter().any(|(_, head)| head.is_half())
            || features.any(|(_, feature)| half(feature.dtype()))
    }

    /// The outputs in single precision, or `None` where nothing of them is in
    /// half.
    pub(crate) fn in_single(&self) -> Option<Self> {
        self.is_half()
            .then(|| self.clone().map(Head::in_single, Feature::in_single))
    }

    pub(crate) fn without_autodiff(self) -> Self {
        self.map(Head::without_autodiff, Feature::without_autodiff)
    }

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        self.map(|head| head.moved_to(device), |f| f.moved_to(device))
    }

    /// The outputs with every head and every feature changed.
    pub(crate) fn map(
        self,
        head: impl Fn(Head) -> Head,
        feature: impl Fn(Feature) -> Feature,
    ) -> Self {
        let (heads, features) = (self.heads.into_iter(), self.features.into_iter());
        Self {
            heads: heads.map(|(name, h)| (name, head(h))).collect(),
            features: features.map(|(name, f)| (name, feature(f))).collect(),
        }
    }
}

fn find<'a, T>(all: &'a [(Arc<str>, T)], name: &str) -> Option<&'a T> {
    let found = all.iter().find(|(other, _)| other.as_ref() == name);
    found.map(|(_, value)| value)
}

fn insert<T>(all: &mut Vec<(Arc<str>, T)>, name: &str, value: T) {
    match all.iter_mut().find(|(other, _)| other.as_ref() == name) {
        Some((_, old)) => *old = value,
        None => all.push((name.into(), value)),
    }
}
