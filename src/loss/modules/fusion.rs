//! Attention-based fusion: a level of the student with what came from the deeper ones.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};

use crate::data::targets::Weights;
use crate::loss::modules::conv_norm::ConvNorm;

/// What [`ReviewKd`](crate::loss::ReviewKd) trains: for each level a 1×1 convolution into the
/// common width, the attention between it and what came from the deeper levels, and a 3×3
/// convolution to the teacher's width. Batch norm follows the first and the last.
#[derive(Module, Debug)]
pub(crate) struct ReviewKdFusion {
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
    pub fn new(levels: &[[usize; 2]], width: usize, device: &Device) -> Self {
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
    pub fn forward(
        &self,
        maps: Vec<Tensor<4>>,
        sizes: Vec<[usize; 2]>,
        weights: Option<&Weights>,
    ) -> Vec<Tensor<4>> {
        let mut deeper = None;
        let mut fused = Vec::with_capacity(maps.len());
        for ((level, map), size) in self.levels.iter().zip(maps).zip(sizes).rev() {
            let both = resized(level.fuse(map, deeper, weights), size);
            fused.push(level.leave.forward(both.clone(), weights));
            deeper = Some(both);
        }
        fused.reverse();
        fused
    }

    /// The common width.
    #[cfg(test)]
    pub fn width(&self) -> usize {
        self.levels[0].enter.channels()[1]
    }
}

impl Level {
    fn fuse(
        &self,
        map: Tensor<4>,
        deeper: Option<Tensor<4>>,
        weights: Option<&Weights>,
    ) -> Tensor<4> {
        let map = self.enter.forward(map, weights);
        let (Some(attention), Some(deeper)) = (&self.attention, deeper) else {
            return map;
        };
        let deeper = resized(deeper, [map.dims()[2], map.dims()[3]]);
        let both = Tensor::cat(vec![map.clone(), deeper.clone()], 1);
        let shares = sigmoid(attention.forward(both));
        map * shares.clone().narrow(1, 0, 1) + deeper * shares.narrow(1, 1, 1)
    }
}

/// Maps of another size, every position a copy of its nearest.
fn resized(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    match [x.dims()[2], x.dims()[3]] == size {
        true => x,
        false => interpolate(
            x,
            InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size),
        ),
    }
}
