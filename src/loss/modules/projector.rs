//! Trainable maps that bring a student's feature to the width of the teacher's.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::loss::modules::conv_norm::ConvNorm;

/// Which map stands between a feature of the student and one of the teacher.
///
/// | regressor | feature | map | parameters |
/// |---|---|---|---|
/// | `auto` | any | where the widths differ `linear` or `conv1x1`, whichever fits; else none | |
/// | `linear` | `[N, D]`, `[N, T, D]` | linear layer with bias | `D_s · D_t + D_t` |
/// | `conv1x1` | `[N, C, H, W]` | 1×1 convolution with bias | `C_s · C_t + C_t` |
/// | `conv_bn_relu` | `[N, C, H, W]` | 1×1 convolution, batch normalisation, ReLU | `C_s · C_t + 2 C_t` |
/// | `mlp` | `[N, D]`, `[N, T, D]` | linear layer, ReLU, linear layer | `D_s · D_t + D_t² + 2 D_t` |
///
/// All but `auto` are there even where the widths are equal. `conv_bn_relu` is what RepDistiller
/// and mdistiller train with the student, for maps of one size; it never gives a negative number, so
/// the teacher's feature should be one after a ReLU. It normalises by weighted statistics of the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Regressor {
    /// A linear map, and only where the widths differ. The default.
    #[default]
    Auto,
    /// A linear layer on vectors.
    Linear,
    /// A 1×1 convolution on feature maps.
    Conv1x1,
    /// A 1×1 convolution, batch normalisation and ReLU on feature maps.
    ConvBnRelu,
    /// Two linear layers with a ReLU in between on vectors, as wide inside as the teacher's feature.
    Mlp,
}

impl Regressor {
    /// The ranks of the features that it maps, and their description.
    pub(crate) fn ranks(self) -> (&'static [usize], &'static str) {
        match self {
            Self::Auto => (&[2, 3, 4], "a feature of rank 2, 3 or 4"),
            Self::Linear => (&[2, 3], "[N, D] or [N, T, D] for a linear regressor"),
            Self::Mlp => (&[2, 3], "[N, D] or [N, T, D] for an mlp regressor"),
            Self::Conv1x1 => (&[4], "[N, C, H, W] for a conv1x1 regressor"),
            Self::ConvBnRelu => (&[4], "[N, C, H, W] for a conv_bn_relu regressor"),
        }
    }
}

/// A map on the width of a feature: trained and checkpointed with the student, never part of the
/// student that is handed back. [`Regressor`] says which there are.
// A term has one of them, or none: there is nothing that a box would make smaller.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub(crate) enum Projector {
    /// For vectors and sequences of vectors.
    Linear(Linear),
    /// For feature maps.
    Conv1x1(Conv2d),
    /// For feature maps, not linear.
    ConvBnRelu(ConvBnRelu),
    /// For vectors and sequences of vectors, not linear.
    Mlp(Mlp),
}

impl Projector {
    /// A projector for features of the shape of `student`, from its width to the width of
    /// `teacher`; `None` where the widths are equal.
    pub fn between(student: &Feature, teacher: &Feature, device: &Device) -> Option<Self> {
        Self::of(Regressor::Auto, student, teacher, device)
    }

    /// The projector that a [`Regressor`] names, for features of the shape of `student`, from its
    /// width to the width of `teacher`; `None` for [`Regressor::Auto`] where the widths are equal.
    ///
    /// A projector for features of another rank can be made, but not used.
    pub fn of(
        regressor: Regressor,
        student: &Feature,
        teacher: &Feature,
        device: &Device,
    ) -> Option<Self> {
        let (from, to) = (student.width(), teacher.width());
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let conv = || Conv2dConfig::new([from, to], [1, 1]);
        Some(match regressor {
            Regressor::Auto if from == to => return None,
            Regressor::Auto => match student {
                Feature::Rank2(_) | Feature::Rank3(_) => Self::Linear(linear(from, to)),
                Feature::Rank4(_) => Self::Conv1x1(conv().init(device)),
            },
            Regressor::Linear => Self::Linear(linear(from, to)),
            Regressor::Conv1x1 => Self::Conv1x1(conv().init(device)),
            Regressor::ConvBnRelu => Self::ConvBnRelu(ConvBnRelu {
                layer: ConvNorm::new([from, to], 1, device),
            }),
            Regressor::Mlp => Self::Mlp(Mlp {
                hidden: linear(from, to),
                output: linear(to, to),
            }),
        })
    }

    /// Projects a feature of the kind that this projector was made for.
    ///
    /// # Panics
    ///
    /// Panics if the feature has another rank or width.
    pub fn forward(&self, feature: Feature) -> Feature {
        self.forward_weighted(feature, None)
    }

    /// [`forward`](Self::forward), where statistics of the batch are weighted. The feature is to be
    /// finite where the weight is zero.
    pub fn forward_weighted(&self, feature: Feature, weights: Option<&Weights>) -> Feature {
        match (self, feature) {
            (Self::Linear(linear), Feature::Rank2(x)) => linear.forward(x).into(),
            (Self::Linear(linear), Feature::Rank3(x)) => linear.forward(x).into(),
            (Self::Conv1x1(conv), Feature::Rank4(x)) => conv.forward(x).into(),
            (Self::ConvBnRelu(block), Feature::Rank4(x)) => block.forward(x, weights).into(),
            (Self::Mlp(mlp), Feature::Rank2(x)) => mlp.forward(x).into(),
            (Self::Mlp(mlp), Feature::Rank3(x)) => mlp.forward(x).into(),
            (_, feature) => panic!(
                "{} cannot project a feature of shape {:?}",
                self.describe(),
                feature.shape()
            ),
        }
    }

    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        let rows = |linear: &Linear| linear.weight.val().dims();
        let kernel = |conv: &Conv2d| conv.weight.val().dims();
        match self {
            Self::Linear(linear) => {
                let [from, to] = rows(linear);
                format!("linear {from} -> {to}")
            }
            Self::Conv1x1(conv) => {
                let [to, from, _, _] = kernel(conv);
                format!("conv 1x1 {from} -> {to}")
            }
            Self::ConvBnRelu(block) => {
                let [from, to] = block.layer.channels();
                format!("conv 1x1, batch norm, relu {from} -> {to}")
            }
            Self::Mlp(mlp) => {
                let ([from, inside], [_, to]) = (rows(&mlp.hidden), rows(&mlp.output));
                format!("mlp {from} -> {inside} -> {to}")
            }
        }
    }
}

/// A 1×1 convolution without bias, batch normalisation and ReLU.
#[derive(Module, Debug)]
pub(crate) struct ConvBnRelu {
    layer: ConvNorm,
}

impl ConvBnRelu {
    /// `[N, C_t, H, W]` from `[N, C_s, H, W]`.
    fn forward(&self, x: Tensor<4>, weights: Option<&Weights>) -> Tensor<4> {
        relu(self.layer.forward(x, weights))
    }
}

/// Two linear layers with a ReLU in between.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    hidden: Linear,
    output: Linear,
}

impl Mlp {
    /// `[.., D_t]` from `[.., D_s]`.
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.output.forward(relu(self.hidden.forward(x)))
    }
}
