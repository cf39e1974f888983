//! The three trainings that are timed: their models, one batch of each, and one step.

use burn::module::Module;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor};
use burn_distill::Distillable;
use burn_distill::loss::{hard_label, soft_target};

use super::nets::{Cnn, Mlp, Transformer};
use super::{TEMPERATURE, classes, normal};

/// So small that the students stay what they are, however often they are trained.
pub const LEARNING_RATE: f64 = 1e-5;

/// Samples in a batch of vectors or images.
pub const BATCH: usize = 128;
pub const CLASSES: usize = 10;
pub const TEACHER: [usize; 4] = [784, 1200, 1200, CLASSES];
pub const STUDENT: [usize; 3] = [784, 800, CLASSES];

/// Sequences in a batch, words in a sequence, words there are.
pub const SEQUENCES: usize = 16;
pub const POSITIONS: usize = 64;
pub const WORDS: usize = 8192;

pub type Optimizer = (&'static str, fn() -> ModuleOptimizer);

pub const OPTIMIZERS: [Optimizer; 2] = [
    ("sgd", || {
        let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
        SgdConfig::new().with_momentum(Some(momentum)).init()
    }),
    ("adam", || AdamConfig::new().with_epsilon(1e-8).init()),
];

/// Both models and one batch.
pub struct Case<I, T, S> {
    /// In inference mode, outside autodiff.
    pub teacher: T,
    pub student: S,
    pub input: I,
    pub labels: Tensor<1, Int>,
}

impl<I, T, S> Case<I, T, S>
where
    I: Module,
    T: Distillable<I>,
    S: Distillable<I>,
{
    pub fn new(teacher: T, student: S, input: I, labels: Tensor<1, Int>) -> Self {
        Self {
            teacher: teacher.valid(),
            student,
            input,
            labels,
        }
    }
}

/// A teacher's logits as constants.
pub fn taught<I: Module, T: Distillable<I>>(teacher: &T, input: &I) -> Tensor<2> {
    teacher.outputs(input.valid()).logits().without_autodiff()
}

/// One step as it stands in a loop written by hand: half soft targets, half labels.
pub fn step<I, T, S>(
    teacher: &T,
    student: S,
    optimizer: &mut ModuleOptimizer,
    (input, labels): (I, Tensor<1, Int>),
) -> (S, Tensor<1>)
where
    I: Module,
    T: Distillable<I>,
    S: Distillable<I>,
{
    let taught = taught(teacher, &input);
    let logits = student.outputs(input).logits();
    let soft = soft_target(logits.clone(), taught, TEMPERATURE).mean();
    let loss = soft * 0.5 + hard_label(logits, labels, 0.0).mean() * 0.5;
    let gradients = GradientsParams::from_grads(loss.backward(), &student);
    (optimizer.step(LEARNING_RATE, student, gradients), loss)
}

/// The perceptrons.
pub fn mlp(device: &Device) -> Case<Tensor<2>, Mlp, Mlp> {
    let (teacher, student) = (Mlp::new(&TEACHER, device), Mlp::new(&STUDENT, device));
    let images = normal([BATCH, TEACHER[0]], 1.0, device);
    Case::new(teacher, student, images, classes([BATCH], CLASSES, device))
}

/// The convolutional networks.
pub fn cnn(device: &Device) -> Case<Tensor<4>, Cnn, Cnn> {
    let teacher = Cnn::new(&[32, 64, 128], CLASSES, device);
    let student = Cnn::new(&[16, 32], CLASSES, device);
    let images = normal([BATCH, 1, 28, 28], 1.0, device);
    Case::new(teacher, student, images, classes([BATCH], CLASSES, device))
}

/// The transformers.
pub fn transformer(device: &Device) -> Case<Tensor<2, Int>, Transformer, Transformer> {
    let teacher = Transformer::new([WORDS, POSITIONS, 512], 6, 8, device);
    let student = Transformer::new([WORDS, POSITIONS, 256], 3, 4, device);
    let words = classes([SEQUENCES, POSITIONS], WORDS, device);
    let labels = classes([SEQUENCES * POSITIONS], WORDS, device);
    Case::new(teacher, student, words, labels)
}
