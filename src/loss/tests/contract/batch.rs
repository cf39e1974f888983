//! A batch in which every loss finds what it needs, and what a loss makes of it.

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::data::feature::Feature;
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::loss::context::LossContext;
use crate::loss::known::KnownLoss;
use crate::objective::Objective;

const CLASSES: usize = 5;
pub const CHANNELS: usize = 4;
/// The samples of a whole dataset.
const DATASET: usize = 16;

/// A tensor of a batch: its name, the axes of one sample.
const TENSORS: [(&str, &[usize]); 7] = [
    ("logits", &[CLASSES]),
    ("v", &[6]),
    ("m", &[CHANNELS, 4, 4]),
    ("m2", &[CHANNELS, 4, 4]),
    ("t", &[3, 6]),
    ("t2", &[3, 6]),
    ("a", &[2, 3, 3]),
];

/// The outputs of one side, sample by sample: the numbers of each tensor one after the other.
#[derive(Debug, Clone)]
pub struct Numbers(pub Vec<Vec<f32>>);

pub fn stride() -> usize {
    TENSORS
        .iter()
        .map(|(_, axes)| axes.iter().product::<usize>())
        .sum()
}

impl Numbers {
    /// Numbers from −2 to 2 that look random, always the same for one seed.
    pub fn new(samples: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 * 4.0 - 2.0
        };
        Self(
            (0..samples)
                .map(|_| (0..stride()).map(|_| next()).collect())
                .collect(),
        )
    }

    pub fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        let row = |row: &Vec<f32>| row.iter().map(|x| f(*x)).collect();
        Self(self.0.iter().map(row).collect())
    }

    /// The same with another number added to the logits of each sample.
    pub fn shifted(&self) -> Self {
        let mut shifted = self.clone();
        for (n, row) in shifted.0.iter_mut().enumerate() {
            row[..CLASSES].iter_mut().for_each(|x| *x += 3.0 + n as f32);
        }
        shifted
    }

    pub fn ordered(&self, order: &[usize]) -> Self {
        Self(order.iter().map(|n| self.0[*n].clone()).collect())
    }

    /// The tensors, in order: rank 2, 3 or 4.
    fn tensors(&self, device: &Device, dtype: DType) -> Vec<Feature> {
        let mut start = 0;
        let tensors = TENSORS.iter().map(|(_, axes)| {
            let size: usize = axes.iter().product();
            let numbers = self.0.iter().flat_map(|row| &row[start..start + size]);
            let numbers: Vec<f32> = numbers.copied().collect();
            start += size;
            let shape: Vec<usize> = [self.0.len()].iter().chain(*axes).copied().collect();
            let data = TensorData::new(numbers, shape);
            let options = (device, dtype);
            match axes.len() {
                1 => Feature::from(Tensor::<2>::from_data(data, options)),
                2 => Feature::from(Tensor::<3>::from_data(data, options)),
                _ => Feature::from(Tensor::<4>::from_data(data, options)),
            }
        });
        tensors.collect()
    }
}

fn with_gradient(feature: Feature) -> Feature {
    match feature {
        Feature::Rank2(x) => x.require_grad().into(),
        Feature::Rank3(x) => x.require_grad().into(),
        Feature::Rank4(x) => x.require_grad().into(),
    }
}

/// The gradient of a leaf, sample by sample.
fn gradient(feature: &Feature, gradients: &burn::tensor::Gradients) -> Option<Vec<f32>> {
    let data = match feature {
        Feature::Rank2(x) => x.grad(gradients).map(Tensor::into_data),
        Feature::Rank3(x) => x.grad(gradients).map(Tensor::into_data),
        Feature::Rank4(x) => x.grad(gradients).map(Tensor::into_data),
    };
    Some(data?.iter::<f32>().collect())
}

fn outputs(tensors: &[Feature]) -> Outputs {
    let Feature::Rank2(logits) = &tensors[0] else {
        unreachable!("logits have two axes")
    };
    let named = TENSORS.iter().zip(tensors).skip(1);
    named.fold(Outputs::new(logits.clone()), |outputs, ((name, _), x)| {
        outputs.with_feature(name, x.clone())
    })
}

/// A batch as a loss sees it.
#[derive(Debug, Clone)]
pub struct Batch {
    pub student: Numbers,
    pub teacher: Numbers,
    pub labels: Vec<i64>,
    pub weights: Option<Vec<f32>>,
    pub dtype: DType,
    /// From 0 to 1, of the training.
    pub progress: f64,
}

/// Value and gradient of a loss.
#[derive(Debug)]
pub struct Seen {
    pub value: f32,
    /// `[samples][numbers]`
    pub gradient: Vec<Vec<f32>>,
    pub teacher_has_gradient: bool,
}

/// Device generators are shared by all tests of the process.
fn seeded() -> MutexGuard<'static, ()> {
    static SEEDED: Mutex<()> = Mutex::new(());
    SEEDED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Batch {
    pub fn new() -> Self {
        Self {
            student: Numbers::new(6, 3),
            teacher: Numbers::new(6, 5),
            labels: vec![2, 0, 3, 1, 4, 2],
            weights: None,
            dtype: DType::F32,
            progress: 0.0,
        }
    }

    pub fn seen(&self, loss: &KnownLoss) -> Seen {
        let _guard = seeded();
        let device = Device::flex();
        device.seed(7);
        let samples = self.student.0.len();
        let leaves = |numbers: &Numbers| -> Vec<Feature> {
            let tensors = numbers.tensors(&device.clone().autodiff(), self.dtype);
            tensors.into_iter().map(with_gradient).collect()
        };
        let (ours, theirs) = (leaves(&self.student), leaves(&self.teacher));
        let (student, teacher) = (outputs(&ours), outputs(&theirs));
        let labels = Tensor::<1, Int>::from_data(&self.labels[..], &device);
        let mut targets = Targets::new().with_classes(labels);
        if let Some(weights) = &self.weights {
            targets = targets.with_weights(Tensor::<1>::from_data(&weights[..], &device));
        }
        let indices: Vec<usize> = (0..samples).collect();
        let context = LossContext::new(&student, &teacher)
            .with_targets(&targets)
            .with_indices(&indices, DATASET)
            .at(self.progress);
        let objective = Objective::new().with(loss.clone(), 1);
        objective
            .check(&context)
            .unwrap_or_else(|error| panic!("{loss:?}: {error}"));
        let modules = objective.modules(&context, &device);
        // The same numbers are drawn in every step, however many a module took to begin with.
        device.seed(11);
        let value = objective.forward(&context, &modules).total;
        let gradients = value.backward();
        let mut per_sample = vec![Vec::new(); samples];
        for (leaf, (_, axes)) in ours.iter().zip(TENSORS) {
            let size: usize = axes.iter().product();
            let numbers = gradient(leaf, &gradients).unwrap_or_else(|| vec![0.0; size * samples]);
            for (row, part) in per_sample.iter_mut().zip(numbers.chunks(size)) {
                row.extend_from_slice(part);
            }
        }
        Seen {
            value: value.into_scalar(),
            gradient: per_sample,
            teacher_has_gradient: theirs
                .iter()
                .any(|leaf| gradient(leaf, &gradients).is_some()),
        }
    }
}
