//! A depthwise-separable network learns images from a convolutional one.
//!
//! ```text
//! cargo run --release --example cnn
//! ```
//!
//! The teacher has ordinary convolutions with batch norm. The student replaces each by one filter per
//! channel and a mixture of channels, and is narrower. It sees a tenth of the teacher's images, and
//! learns from two things: the teacher's predictions, and its last feature maps. Those have more
//! channels than the student's, so a 1×1 convolution between them is trained with it, and dropped.
//!
//! On the digits that come with the repository, 10,000 for the teacher and 1,000 of them for the
//! student, it ends with
//!
//! ```text
//!                                   teacher    labels only      distilled
//! -----------------------------------------------------------------------
//! accuracy                          98.75 %        94.55 %        97.00 %
//! agreement with teacher                  -        94.65 %        97.05 %
//! KL(teacher || student)                  -         0.1559         0.0715
//! KL(student || teacher)                  -         0.2648         0.1047
//! cross-entropy                      0.0405         0.1850         0.1078
//! calibration error                  0.71 %         1.65 %         0.95 %
//! parameters                         61,402          5,962          5,962
//! file size                       249.38 kB       31.78 kB       31.78 kB
//!
//! gap recovered       58.33 %
//! compression         10.3 times fewer parameters
//! parameter distance  0.3512 over 1 of 37 tensors
//! measured on         2,000 samples of the validation set
//! ```
//!
//! and with times, which depend on the machine. `--data` has other images.

mod common;

use std::error::Error;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::AdamConfig;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_distill::loss::{HardLabel, Hint, SoftTarget};
use burn_distill::{
    Distillable, Distiller, FitConfig, Objective, Outputs, Schedule, train_supervised,
};
use clap::Parser;
use common::args::{Common, Output};
use common::images::ImageSet;

/// Channels of each stage.
const TEACHER: [usize; 4] = [16, 32, 64, 64];
const STUDENT: [usize; 4] = [12, 24, 48, 48];
/// Behind each of the first stages, images shrink to half their height and width.
const SHRINKING: usize = 2;

/// A depthwise-separable network learns images from a convolutional one.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: Output,
    /// `digits` come with the repository; `mnist`: what Burn's MnistDataset has downloaded;
    /// `cifar10`: CIFAR-10's binary files in ./cifar-10-batches-bin, or what Burn's CifarDataset has
    /// downloaded. Or a directory with MNIST's four files (gzipped or not), with CIFAR-10's binary
    /// files, or with `train` and `test`, in each a folder of PNG images per class, of one size.
    #[arg(
        long,
        default_value = "digits",
        value_name = "digits|mnist|cifar10|DIR"
    )]
    data: String,
    /// The teacher's passes over all training images.
    #[arg(long, default_value_t = 6)]
    teacher_epochs: usize,
    /// The student's passes over its images.
    #[arg(long, default_value_t = 40)]
    epochs: usize,
    /// The number of training images that the student sees.
    #[arg(long, default_value_t = 1000)]
    images: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::parse();
    let Common { seed, quick, .. } = args.common;
    let device = args.common.device()?;
    let mut set = ImageSet::open(&args.data)?;
    if quick {
        (args.teacher_epochs, args.epochs, args.images) = (1, 4, 256);
        set.train.truncate(1000);
        set.test.truncate(500);
    }
    // Each seed has its own images, as far as there are enough.
    let first = seed as usize * args.images % set.train.len();
    set.train.rotate_left(first);
    let count = args.images.min(set.train.len());
    let (train, few, test) = (
        set.data(&set.train),
        set.data(&set.train[..count]),
        set.data(&set.test),
    );
    let recipe = |epochs, rate| {
        FitConfig::new(epochs)
            .with_batch_size(if quick { 16 } else { 64 })
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), rate)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(seed)
    };

    let [channels, height, width] = set.shape;
    println!(
        "Images {channels}x{height}x{width} of {} classes.",
        set.classes
    );
    println!("Teacher {TEACHER:?} on {} of them ...", train.len());
    device.seed(seed);
    let teacher = Cnn::new(Stage::ordinary, channels, &TEACHER, set.classes, &device);
    let config = recipe(args.teacher_epochs, 5e-3).with_label("teacher");
    let labels = Objective::new().with(HardLabel::new(), 1);
    let teacher = train_supervised(
        device.clone(),
        teacher,
        &labels,
        &config,
        train,
        test.clone(),
    )?;

    println!("Student {STUDENT:?} on {count} of them, from labels and from the teacher ...");
    let student = Cnn::new(Stage::separable, channels, &STUDENT, set.classes, &device);
    let config = recipe(args.epochs, 1e-2)
        .with_label("student")
        .with_baseline(true);
    let distilled = Distiller::on(device, teacher.model, student)
        .with(SoftTarget::new(4), 1)
        .with(Hint::new("maps", "maps"), 1)
        .fit(&config, few, test)?;
    println!("\n{}", distilled.report);
    args.output.save(&distilled.report)
}

/// A convolution, batch norm and ReLU.
#[derive(Module, Debug)]
struct Layer {
    convolution: Conv2d,
    norm: BatchNorm,
}

impl Layer {
    fn new(channels: [usize; 2], side: usize, groups: usize, device: &Device) -> Self {
        let around = side / 2;
        let padding = PaddingConfig2d::Explicit(around, around, around, around);
        let convolution = Conv2dConfig::new(channels, [side, side])
            .with_padding(padding)
            .with_groups(groups)
            // The shift of the batch norm takes its place.
            .with_bias(false);
        Self {
            convolution: convolution.init(device),
            norm: BatchNormConfig::new(channels[1]).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.norm.forward(self.convolution.forward(x)))
    }
}

/// Layers at one height and width.
#[derive(Module, Debug)]
struct Stage {
    layers: Vec<Layer>,
}

impl Stage {
    /// All channels through all filters at once.
    fn ordinary(from: usize, to: usize, device: &Device) -> Self {
        Self {
            layers: vec![Layer::new([from, to], 3, 1, device)],
        }
    }

    /// One filter per channel, then a mixture of channels: fewer parameters, nearly as good.
    fn separable(from: usize, to: usize, device: &Device) -> Self {
        let depthwise = Layer::new([from, from], 3, from, device);
        let pointwise = Layer::new([from, to], 1, 1, device);
        Self {
            layers: vec![depthwise, pointwise],
        }
    }
}

/// Stages, pooling behind the first of them, and a linear head on the mean of the last maps.
#[derive(Module, Debug)]
struct Cnn {
    stages: Vec<Stage>,
    pool: MaxPool2d,
    head: Linear,
}

impl Cnn {
    fn new(
        stage: fn(usize, usize, &Device) -> Stage,
        inputs: usize,
        channels: &[usize],
        classes: usize,
        device: &Device,
    ) -> Self {
        // Separate filters have nothing to mix in the first stage: both networks begin alike.
        let mut stages = vec![Stage::ordinary(inputs, channels[0], device)];
        let pairs = channels.windows(2);
        stages.extend(pairs.map(|pair| stage(pair[0], pair[1], device)));
        Self {
            stages,
            pool: MaxPool2dConfig::new([2, 2]).init(),
            head: LinearConfig::new(channels[channels.len() - 1], classes).init(device),
        }
    }
}

impl Distillable<Tensor<4>> for Cnn {
    fn outputs(&self, images: Tensor<4>) -> Outputs {
        let mut x = images;
        for (i, stage) in self.stages.iter().enumerate() {
            for layer in &stage.layers {
                x = layer.forward(x);
            }
            if i < SHRINKING {
                x = self.pool.forward(x);
            }
        }
        let means = x.clone().flatten::<3>(2, 3).mean_dim(2).squeeze_dim::<2>(2);
        Outputs::new(self.head.forward(means)).with_feature("maps", x)
    }
}
