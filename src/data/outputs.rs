//! What a model gives to be distilled: its logits, and features by name.

use std::sync::Arc;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{DType, Device, Tensor};

use crate::data::top_k::TopK;
use crate::error::Result;
use crate::ops::single;

/// A module that can be a teacher or a student.
///
/// One method: input in, [`Outputs`] out. `I` is the type of the input, yours to choose; teacher
/// and student of one distillation share it. No hooks, no layer names to look up: what a loss may
/// see is what the module says. A teacher that is no module at all is a [closure](crate::teacher_fn).
///
/// # Example
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::relu};
/// use burn_distill::{Distillable, Outputs};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     hidden: Linear,
///     head: Linear,
/// }
///
/// impl Distillable<Tensor<2>> for Net {
///     fn outputs(&self, images: Tensor<2>) -> Outputs {
///         let hidden = relu(self.hidden.forward(images));
///         Outputs::new(self.head.forward(hidden.clone())).with_feature("hidden", hidden)
///     }
/// }
///
/// let device = Device::flex();
/// let net = Net {
///     hidden: LinearConfig::new(784, 32).init(&device),
///     head: LinearConfig::new(32, 10).init(&device),
/// };
/// let outputs = net.outputs(Tensor::zeros([4, 784], &device));
/// assert_eq!(outputs.logits.dims(), [4, 10]);
/// ```
pub trait Distillable<I>: Module + ModuleDisplay + 'static {
    /// Runs the model on a batch.
    fn outputs(&self, input: I) -> Outputs;

    /// What the module says as a teacher, outside autodiff. By default it runs on the input; one that
    /// was [recorded](crate::Recorded) looks at what the batch brings along instead.
    ///
    /// # Errors
    ///
    /// What keeps it from answering. By default there is nothing.
    fn teach(&self, input: &I, _recalled: Option<&Recalled>) -> Result<Outputs>
    where
        I: Module,
    {
        Ok(self.outputs(input.valid()))
    }
}

/// What a recorded teacher said of the samples of a batch.
#[derive(Debug, Clone)]
pub struct Recalled {
    pub(crate) outputs: Result<Outputs>,
    /// The fingerprint of the teacher.
    pub(crate) teacher: Arc<str>,
}

/// What a model says about a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outputs {
    /// Unnormalised log-probabilities, `[rows, classes]`, or plain outputs of a regression.
    pub logits: Tensor<2>,
    features: Vec<(String, Feature)>,
    top_k: Option<TopK>,
}

impl Outputs {
    /// Outputs with logits of rank 2, `[N, classes]`, or of any higher rank with the classes on
    /// the last axis, such as `[N, tokens, vocabulary]`, whose leading axes are flattened to rows.
    ///
    /// # Panics
    ///
    /// Panics if `logits` has rank 1.
    pub fn new<const D: usize>(logits: Tensor<D>) -> Self {
        assert!(D >= 2, "logits have a row and a class axis, got rank {D}");
        Self {
            logits: logits.flatten(0, D - 2),
            features: Vec::new(),
            top_k: None,
        }
    }

    /// Adds the classes that are all that is known of the logits, for
    /// [losses that ask for no more](crate::loss::SparseSoftTarget).
    #[must_use]
    pub fn with_top_k(mut self, top_k: TopK) -> Self {
        self.top_k = Some(top_k);
        self
    }

    /// The classes that are all that is known of the logits, where it is so.
    pub fn top_k(&self) -> Option<&TopK> {
        self.top_k.as_ref()
    }

    /// Adds an intermediate feature of rank 2, 3 or 4 under a name that losses refer to. A second
    /// feature of the same name replaces the first.
    #[must_use]
    pub fn with_feature(mut self, name: impl Into<String>, feature: impl Into<Feature>) -> Self {
        let name = name.into();
        self.features.retain(|(other, _)| *other != name);
        self.features.push((name, feature.into()));
        self
    }

    /// The feature of this name.
    pub fn feature(&self, name: &str) -> Option<&Feature> {
        let found = self.features.iter().find(|(other, _)| other == name);
        found.map(|(_, feature)| feature)
    }

    /// The names of all features, in the order in which they were added.
    pub fn feature_names(&self) -> Vec<String> {
        self.features.iter().map(|(name, _)| name.clone()).collect()
    }

    /// All features with their names.
    pub fn features(&self) -> impl Iterator<Item = (&str, &Feature)> {
        self.features.iter().map(|(n, f)| (n.as_str(), f))
    }

    /// The outputs in [single precision](single), or `None` where nothing of them is in half.
    pub(crate) fn in_single(&self) -> Option<Self> {
        let is_half = |dtype| matches!(dtype, DType::F16 | DType::BF16);
        let mut features = self.features.iter();
        let found = is_half(self.logits.dtype()) || features.any(|(_, f)| is_half(f.dtype()));
        found.then(|| Self {
            logits: single(self.logits.clone()),
            features: (self.features.iter())
                .map(|(name, feature)| (name.clone(), feature.clone().in_single()))
                .collect(),
            top_k: self.top_k.clone(),
        })
    }

    pub(crate) fn without_autodiff(self) -> Self {
        let features = self.features.into_iter();
        Self {
            logits: self.logits.without_autodiff(),
            features: features.map(|(n, f)| (n, f.without_autodiff())).collect(),
            top_k: self.top_k,
        }
    }

    pub(crate) fn moved_to(self, device: &Device) -> Self {
        let features = self.features.into_iter();
        Self {
            logits: self.logits.to_device(device),
            features: features.map(|(n, f)| (n, f.moved_to(device))).collect(),
            top_k: self.top_k.map(|top_k| top_k.moved_to(device)),
        }
    }
}

/// An intermediate output of a model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Feature {
    /// `[N, D]`: one vector per sample.
    Rank2(Tensor<2>),
    /// `[N, T, D]`: one vector per token.
    Rank3(Tensor<3>),
    /// `[N, C, H, W]`: feature maps of a convolution.
    Rank4(Tensor<4>),
}

impl Feature {
    /// The shape.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Feature::Rank2(t) => t.dims().to_vec(),
            Feature::Rank3(t) => t.dims().to_vec(),
            Feature::Rank4(t) => t.dims().to_vec(),
        }
    }

    /// The width: the axis that a projector changes, `D` of `[N, D]` and `[N, T, D]`, `C` of
    /// `[N, C, H, W]`.
    pub fn width(&self) -> usize {
        match self {
            Feature::Rank2(t) => t.dims()[1],
            Feature::Rank3(t) => t.dims()[2],
            Feature::Rank4(t) => t.dims()[1],
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Feature::Rank2(t) => t.dtype(),
            Feature::Rank3(t) => t.dtype(),
            Feature::Rank4(t) => t.dtype(),
        }
    }

    fn in_single(self) -> Self {
        match self {
            Feature::Rank2(t) => Feature::Rank2(single(t)),
            Feature::Rank3(t) => Feature::Rank3(single(t)),
            Feature::Rank4(t) => Feature::Rank4(single(t)),
        }
    }

    pub(crate) fn without_autodiff(self) -> Self {
        match self {
            Feature::Rank2(t) => Feature::Rank2(t.without_autodiff()),
            Feature::Rank3(t) => Feature::Rank3(t.without_autodiff()),
            Feature::Rank4(t) => Feature::Rank4(t.without_autodiff()),
        }
    }

    fn moved_to(self, device: &Device) -> Self {
        match self {
            Feature::Rank2(t) => Feature::Rank2(t.to_device(device)),
            Feature::Rank3(t) => Feature::Rank3(t.to_device(device)),
            Feature::Rank4(t) => Feature::Rank4(t.to_device(device)),
        }
    }
}

impl From<Tensor<2>> for Feature {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Rank2(tensor)
    }
}

impl From<Tensor<3>> for Feature {
    fn from(tensor: Tensor<3>) -> Self {
        Self::Rank3(tensor)
    }
}

impl From<Tensor<4>> for Feature {
    fn from(tensor: Tensor<4>) -> Self {
        Self::Rank4(tensor)
    }
}
