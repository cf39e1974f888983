//! Attention-based fusion: a level of the student with what came from the deeper ones.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Bool, Device, Tensor};

use crate::loss::modules::conv_norm::ConvNorm;

/// What [`ReviewKd`](super::ReviewKd) trains along: for each level a 1×1 convolution into the
/// common width, the attention between it and what came from the deeper levels, and a 3×3
/// convolution to the teacher's width. Batch norm follows the first and the last.
#[derive(Module, Debug)]
pub struct ReviewKdFusion {
    /// From shallow to deep.
    levels: Vec<Level>,
}

#[derive(Module, Debug)]
struct Level {
    enter: ConvNorm,
    /// Two maps of weights between 0 and 1 from both inputs; none at the deepest level.
    attention: Option<Conv2d>,
    leave: ConvNorm,
}

impl ReviewKdFusion {
    /// Levels from the student's width to the teacher's, from shallow to deep.
    pub(crate) fn new(levels: &[[usize; 2]], width: usize, device: &Device) -> Self {
        let level = |(i, [student, teacher]): (usize, &[usize; 2])| Level {
            enter: ConvNorm::new([*student, width], 1, device),
            attention: (i + 1 < levels.len())
                .then(|| Conv2dConfig::new([2 * width, 2], [1, 1]).init(device)),
            leave: ConvNorm::new([width, *teacher], 3, device),
        };
        Self {
            levels: levels.iter().enumerate().map(level).collect(),
        }
    }

    /// The student's maps, from shallow to deep, fused and in the teacher's widths and `sizes`.
    pub(crate) fn forward(
        &self,
        maps: Vec<Tensor<4>>,
        sizes: Vec<[usize; 2]>,
        mask: Option<&Tensor<1, Bool>>,
    ) -> Vec<Tensor<4>> {
        let mut deeper = None;
        let mut fused = Vec::with_capacity(maps.len());
        for ((level, map), size) in self.levels.iter().zip(maps).zip(sizes).rev() {
            let both = resized(level.fuse(map, deeper, mask), size);
            fused.push(level.leave.forward(both.clone(), mask));
            deeper = Some(both);
        }
        fused.reverse();
        fused
    }

    pub(crate) fn describe(&self) -> String {
        let width = self.levels[0].enter.channels()[1];
        format!("fusion of {} levels in {width} channels", self.levels.len())
    }
}

impl Level {
    fn fuse(
        &self,
        map: Tensor<4>,
        deeper: Option<Tensor<4>>,
        mask: Option<&Tensor<1, Bool>>,
    ) -> Tensor<4> {
        let map = self.enter.forward(map, mask);
        let (Some(attention), Some(deeper)) = (&self.attention, deeper) else {
            return map;
        };
        let deeper = resized(deeper, [map.dims()[2], map.dims()[3]]);
        let both = Tensor::cat(vec![map.clone(), deeper.clone()], 1);
        let weights = sigmoid(attention.forward(both));
        map * weights.clone().narrow(1, 0, 1) + deeper * weights.narrow(1, 1, 1)
    }
}

/// Maps of another size, every place a copy of its nearest.
fn resized(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    match [x.dims()[2], x.dims()[3]] == size {
        true => x,
        false => interpolate(
            x,
            InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size),
        ),
    }
}
