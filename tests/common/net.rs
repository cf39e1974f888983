//! A small network with everything that behaves otherwise in training: dropout and batch norm.

use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_distill::{DistillBatch, DistillData, Distillable, Outputs};

pub const INPUTS: usize = 6;
pub const CLASSES: usize = 3;

#[derive(Module, Debug)]
pub struct Net {
    first: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    head: Linear,
}

impl Net {
    pub fn new(hidden: usize, dropout: f64, device: &Device) -> Self {
        Self {
            first: LinearConfig::new(INPUTS, hidden).init(device),
            norm: BatchNormConfig::new(hidden).init(device),
            dropout: DropoutConfig::new(dropout).init(),
            head: LinearConfig::new(hidden, CLASSES).init(device),
        }
    }
}

impl Distillable<Tensor<2>> for Net {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let hidden = self.norm.forward(self.first.forward(input)).tanh();
        let logits = self.head.forward(self.dropout.forward(hidden.clone()));
        Outputs::new(logits).with_feature("hidden", hidden)
    }
}

/// All bytes of a module's parameters and running statistics.
pub fn bytes<M: Module>(module: &M) -> Vec<u8> {
    module.clone().into_record().into_bytes().unwrap().to_vec()
}

/// A module whose weights are drawn now rather than when they are first used.
pub fn initialized<M: Module>(module: M) -> M {
    numbers(&module);
    module
}

/// All numbers of a module's parameters, in the order of a visit.
pub fn numbers<M: Module>(module: &M) -> Vec<f32> {
    struct Numbers(Vec<f32>);
    impl burn::module::ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut numbers = Numbers(Vec::new());
    module.visit(&mut numbers);
    numbers.0
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

/// A point and its class.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Point {
    pub input: [f32; INPUTS],
    pub class: i64,
}

/// Points of a lattice that looks random, of the class in which their first three numbers are
/// largest.
pub fn points(count: usize) -> Vec<Point> {
    let point = |i: usize| {
        let input =
            std::array::from_fn(|k| ((i * 37 + k * 101 + i * k * 13) % 97) as f32 / 48.0 - 1.0);
        let best = (0..CLASSES).max_by(|a, b| f32::total_cmp(&input[*a], &input[*b]));
        Point {
            input,
            class: best.unwrap() as i64,
        }
    };
    (0..count).map(point).collect()
}

pub fn inputs(points: &[Point], device: &Device) -> Tensor<2> {
    let data: Vec<f32> = points.iter().flat_map(|p| p.input).collect();
    Tensor::from_data(TensorData::new(data, [points.len(), INPUTS]), device)
}

pub fn classes(points: &[Point], device: &Device) -> Tensor<1, Int> {
    let classes: Vec<i64> = points.iter().map(|p| p.class).collect();
    Tensor::from_data(classes.as_slice(), device)
}

pub fn labelled(points: Vec<Point>) -> DistillData<Tensor<2>> {
    DistillData::from_fn(InMemDataset::new(points), |points: Vec<Point>, device| {
        DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
    })
}

pub fn unlabelled(points: Vec<Point>) -> DistillData<Tensor<2>> {
    DistillData::from_fn(InMemDataset::new(points), |points: Vec<Point>, device| {
        DistillBatch::new(inputs(&points, device))
    })
}

/// Labelled points of which those of class 2 are invalid.
pub fn masked(points: Vec<Point>) -> DistillData<Tensor<2>> {
    DistillData::from_fn(InMemDataset::new(points), |points: Vec<Point>, device| {
        let mask: Vec<bool> = points.iter().map(|p| p.class != 2).collect();
        DistillBatch::new(inputs(&points, device))
            .with_classes(classes(&points, device))
            .with_mask(Tensor::<1, Bool>::from_data(mask.as_slice(), device))
    })
}

/// Labelled points that are named by their content, so that recorded outputs find them.
pub fn named(points: Vec<Point>) -> DistillData<Tensor<2>> {
    DistillData::builder(InMemDataset::new(points))
        .by_content()
        .batched(|points: Vec<Point>, device: &Device| {
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        })
}
