//! Trainable maps that bring a student's feature to the width of the teacher's.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Device;

use crate::Feature;

/// A linear map on the width of a feature: trained and checkpointed with the student, never part
/// of the student that is handed back.
///
/// | feature | projector | parameters |
/// |---|---|---|
/// | `[N, D]`, `[N, T, D]` | linear layer with bias | `D_s · D_t + D_t` |
/// | `[N, C, H, W]` | 1×1 convolution with bias | `C_s · C_t + C_t` |
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum Projector {
    /// For vectors and sequences of vectors.
    Linear(Linear),
    /// For feature maps.
    Conv1x1(Conv2d),
}

impl Projector {
    /// A projector for features of the shape of `student`, from its width to the width of
    /// `teacher`; `None` where the widths are equal.
    pub fn between(student: &Feature, teacher: &Feature, device: &Device) -> Option<Self> {
        let (from, to) = (student.width(), teacher.width());
        if from == to {
            return None;
        }
        Some(match student {
            Feature::Rank2(_) | Feature::Rank3(_) => {
                Self::Linear(LinearConfig::new(from, to).init(device))
            }
            Feature::Rank4(_) => Self::Conv1x1(Conv2dConfig::new([from, to], [1, 1]).init(device)),
        })
    }

    /// Projects a feature of the kind that this projector was made for.
    ///
    /// # Panics
    ///
    /// Panics if the feature has another rank or width.
    pub fn forward(&self, feature: Feature) -> Feature {
        match (self, feature) {
            (Self::Linear(linear), Feature::Rank2(x)) => linear.forward(x).into(),
            (Self::Linear(linear), Feature::Rank3(x)) => linear.forward(x).into(),
            (Self::Conv1x1(conv), Feature::Rank4(x)) => conv.forward(x).into(),
            (_, feature) => panic!(
                "{} cannot project a feature of shape {:?}",
                self.describe(),
                feature.shape()
            ),
        }
    }

    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::Linear(linear) => {
                let [from, to] = linear.weight.val().dims();
                format!("linear {from} -> {to}")
            }
            Self::Conv1x1(conv) => {
                let [to, from, _, _] = conv.weight.val().dims();
                format!("conv 1x1 {from} -> {to}")
            }
        }
    }
}
