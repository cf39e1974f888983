// What the blocks of guide.md share: a small network, points in four clusters, and a quick training.

pub use burn::backend::Flex;
pub use burn::data::dataset::InMemDataset;
pub use burn::module::Module;
pub use burn::nn::{Linear, LinearConfig};
pub use burn::optim::AdamConfig;
pub use burn::tensor::activation::relu;
pub use burn::tensor::{Device, Tensor, TensorData};
pub use burn_distill::*;

/// Two numbers in, four classes out.
#[derive(Module, Debug)]
pub struct Net {
    first: Linear,
    head: Linear,
}

impl Net {
    pub fn new(hidden: usize) -> Self {
        let device = Device::flex();
        Self {
            first: LinearConfig::new(2, hidden).init(&device),
            head: LinearConfig::new(hidden, 4).init(&device),
        }
    }
}

impl Distillable<Tensor<2>> for Net {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        let hidden = relu(self.first.forward(input));
        Outputs::new(self.head.forward(hidden.clone())).with_feature("hidden", hidden)
    }
}

/// A point, and the corner of the square that it is nearest to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Point {
    pub place: [f32; 2],
    pub corner: i64,
}

/// Points of a spiral around the middle.
pub fn points(count: usize) -> InMemDataset<Point> {
    let point = |i: usize| {
        let (turn, far) = (i as f32 * 2.4, 0.2 + (i % 17) as f32 / 17.0);
        let place = [far * turn.cos(), far * turn.sin()];
        let corner = i64::from(place[0] > 0.0) + 2 * i64::from(place[1] > 0.0);
        Point { place, corner }
    };
    InMemDataset::new((0..count).map(point).collect())
}

/// A batch of them, with the corners as labels.
pub fn batch(points: Vec<Point>, device: &Device) -> DistillBatch<Tensor<2>> {
    let places: Vec<f32> = points.iter().flat_map(|point| point.place).collect();
    let corners: Vec<i64> = points.iter().map(|point| point.corner).collect();
    let places = TensorData::new(places, [points.len(), 2]);
    DistillBatch::new(Tensor::<2>::from_data(places, device))
        .with_classes(Tensor::<1, _>::from_data(corners.as_slice(), device))
}

pub fn data(count: usize) -> DistillData<Tensor<2>> {
    DistillData::from_fn(points(count), batch)
}

/// Few epochs that say nothing.
pub fn config() -> FitConfig {
    FitConfig::new(5)
        .with_batch_size(32)
        .with_optimizer(AdamConfig::new().init(), 0.02)
        .with_progress(ProgressMode::Silent)
}
