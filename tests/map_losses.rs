//! Losses on feature maps in a training: their modules learn, are checkpointed, and are gone in the end.

mod common;

use burn::backend::Dispatch;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::optim::AdamConfig;
use burn::tensor::activation::relu;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use burn_distill::loss::{
    ActivationBoundary, ChannelWise, FactorTransfer, Fsp, Mgd, Overhaul, ReviewKd, Vid,
};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distilled, Distiller, FitConfig, Objective, Outputs,
    ProgressMode,
};

/// Convolutions of 8×8 and 4×4 positions between a stem and a head of three channels.
#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    low: Conv2d,
    high: Conv2d,
    head: Conv2d,
}

impl Net {
    fn new(low: usize, high: usize, device: &Device) -> Self {
        let conv = |from: usize, to: usize, stride: usize| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        Self {
            stem: conv(1, 3, 1),
            low: conv(3, low, 1),
            high: conv(low, high, 2),
            head: conv(high, 3, 1),
        }
    }
}

impl Distillable<Tensor<4>> for Net {
    fn outputs(&self, images: Tensor<4>) -> Outputs {
        let stem = self.stem.forward(images);
        let low = self.low.forward(relu(stem.clone()));
        let high = self.high.forward(relu(low.clone()));
        let head = self.head.forward(relu(high.clone()));
        let logits: Tensor<2> = head.clone().flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2);
        Outputs::new(logits)
            .with_feature("stem", stem)
            .with_feature("low", low)
            .with_feature("high", high)
            .with_feature("head", head)
    }
}

/// Images without a pattern, of which every fifth is invalid.
fn images(count: usize) -> DistillData<Tensor<4>> {
    let pixel = |i: usize| (((i + 1) as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0) as f32;
    let items: Vec<(Vec<f32>, bool)> = (0..count)
        .map(|n| ((0..64).map(|i| pixel(64 * n + i)).collect(), n % 5 != 4))
        .collect();
    DistillData::from_fn(
        InMemDataset::new(items),
        |items: Vec<(Vec<f32>, bool)>, device| {
            let (images, mask): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let shape = [images.len(), 1, 8, 8];
            let images = Tensor::<4>::from_data(TensorData::new(images.concat(), shape), device);
            let mask = Tensor::<1, Bool>::from_data(mask.as_slice(), device);
            DistillBatch::new(images).with_mask(mask)
        },
    )
}

/// Every loss on feature maps, none of which hides anything at random.
fn objective() -> Objective {
    Objective::new()
        .with(Vid::new("low", "low"), 1.0)
        .with(Fsp::new(["stem", "head"], ["stem", "head"]), 1.0)
        .with(FactorTransfer::new("high", "high"), 1.0)
        .with(ActivationBoundary::new("low", "low"), 1.0)
        .with(Overhaul::new("high", "high", vec![-0.1; 8]), 1e-3)
        .with(ReviewKd::new(["low", "high"], ["low", "high"]), 1.0)
        .with(Mgd::new("high", "high").with_mask_ratio(0.0), 1.0)
        .with(ChannelWise::new("head", "head"), 1.0)
}

fn distiller(objective: &Objective) -> Distiller<Dispatch, Net, Net> {
    let device = Device::flex();
    device.seed(7);
    let (teacher, student) = (Net::new(6, 8, &device), Net::new(4, 5, &device));
    Distiller::on(device, teacher, student).with_objective(objective.clone())
}

fn config(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(10)
        .with_optimizer(AdamConfig::new().init(), 5e-3)
        .with_progress(ProgressMode::Silent)
}

fn fit(config: &FitConfig) -> Distilled<Net, Net> {
    distiller(&objective())
        .fit(config, images(40), images(20))
        .unwrap()
}

#[test]
fn every_term_falls_when_all_are_trained_together() {
    let _seeded = common::seeded();
    let distilled = fit(&config(40));
    let history = &distilled.report.training.history;
    for term in objective().terms() {
        let name = term.name();
        let (train, valid) = (&history.train[&name], &history.valid[&name]);
        let (first, last) = (train[0], train[39]);
        assert!(last < first, "{name}: {train:?}");
        // By now the running statistics of the modules, which validation uses, have arrived at those
        // of the batches.
        let apart = (valid[39] - last).abs();
        assert!(apart <= 0.25 * last, "{name}: {last} and {}", valid[39]);
    }
    let untrained = Net::new(4, 5, &Device::flex());
    assert_eq!(distilled.student.num_params(), untrained.num_params());
}

#[test]
fn what_losses_train_is_told_beforehand() {
    let _seeded = common::seeded();
    let (train, config) = (images(40), config(1));
    let preflight = distiller(&objective())
        .preflight(&config, &train, None)
        .unwrap();
    let parameters = |modules: &str| {
        let count = modules.strip_suffix(" parameters").unwrap();
        let (_, count) = count.rsplit_once(", ").unwrap();
        count.parse::<usize>().unwrap()
    };
    let found: Vec<_> = preflight
        .lines
        .iter()
        .map(|line| line.modules.as_deref().map(parameters))
        .collect();
    // In front of batch norm, which has four numbers per channel, a convolution has no bias.
    let conv_norm = |from: usize, to: usize, kernel: usize| from * to * kernel * kernel + 4 * to;
    let conv = |from: usize, to: usize, kernel: usize| from * to * kernel * kernel + to;
    let fusion = (conv_norm(4, 5, 1) + conv(10, 2, 1) + conv_norm(5, 6, 3))
        + (conv_norm(5, 5, 1) + conv_norm(5, 8, 3));
    assert_eq!(
        found,
        [
            Some(4 * 6 + 6 * 6 + 6 * 6 + 6),
            None,
            None,
            Some(conv_norm(5, 5, 3) + conv_norm(5, 8, 3) + conv_norm(8, 8, 3)),
            Some(conv(4, 6, 1)),
            Some(conv_norm(5, 8, 1)),
            // One fusion, for two pairs.
            Some(fusion),
            Some(fusion),
            Some(conv(5, 8, 1) + 2 * conv(8, 8, 3)),
            None,
        ]
    );
    let sum: usize = found.into_iter().flatten().sum();
    assert_eq!(preflight.auxiliary_parameters, sum - fusion);
}

#[test]
fn a_resumed_training_goes_on_with_the_same_modules() {
    let _seeded = common::seeded();
    let straight = fit(&config(4));
    let directory = tempfile::tempdir().unwrap();
    fit(&config(2).with_checkpoints(directory.path()));
    let resumed = fit(&config(4)
        .with_checkpoints(directory.path())
        .with_resume(true));
    assert_eq!(resumed.report.training.resumed_from, Some(2));

    // Modules that started anew would show in every term that has some.
    let (straight, resumed) = (
        straight.report.training.history,
        resumed.report.training.history,
    );
    for (straight, resumed) in [
        (straight.train, resumed.train),
        (straight.valid, resumed.valid),
    ] {
        for (name, straight) in &straight {
            for (a, b) in straight[2..].iter().zip(&resumed[name]) {
                assert!(
                    (a - b).abs() <= 1e-4 * a.abs().max(1e-3),
                    "{name}: {a} is not {b}"
                );
            }
        }
    }
}

#[test]
fn a_masked_generation_differs_from_step_to_step() {
    let _seeded = common::seeded();
    let objective = Objective::new().with(Mgd::new("high", "high").with_mask_ratio(0.5), 1.0);
    // Nothing is learnt at this rate, so that only the positions drawn make a difference.
    let config = config(3).with_optimizer(AdamConfig::new().init(), 1e-12);
    let distilled = distiller(&objective)
        .fit(&config, images(40), None)
        .unwrap();
    let course = &distilled.report.training.history.train["mgd_high"];
    assert!(
        course[0] != course[1] && course[1] != course[2],
        "{course:?}"
    );
}
