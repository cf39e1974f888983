//! Losses on features in a whole training, from a config file.

mod common;

use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::AdamConfig;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, FitConfig, Objective, Outputs, ProgressMode,
};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    hidden: Linear,
    head: Linear,
}

impl Net {
    fn new(channels: usize, width: usize, device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([1, channels], [3, 3]).init(device),
            hidden: LinearConfig::new(channels * 16, width).init(device),
            head: LinearConfig::new(width, 3).init(device),
        }
    }
}

impl Distillable<Tensor<4>> for Net {
    fn outputs(&self, images: Tensor<4>) -> Outputs {
        let maps = relu(self.conv.forward(images));
        let [samples, channels, height, wide] = maps.dims();
        let hidden = relu(self.hidden.forward(maps.clone().flatten::<2>(1, 3)));
        let tokens: Tensor<3> = maps.clone().reshape([samples, channels, height * wide]);
        Outputs::new(self.head.forward(hidden.clone()))
            .with_feature("maps", maps)
            .with_feature("tokens", tokens.swap_dims(1, 2))
            .with_feature("hidden", hidden)
    }
}

const OBJECTIVE: &str = r#"
    terms = [
        { loss = { hint = { student = "maps", teacher = "maps", regressor = "conv_bn_relu" } } },
        { loss = { hint = { student = "hidden", teacher = "hidden", regressor = "mlp" } } },
        { loss = { attention_transfer = { student = "maps", teacher = "maps" } } },
        { loss = { nst = { student = "maps", teacher = "maps", kernel = "gaussian" } } },
        { loss = { similarity_preserving = { student = "hidden", teacher = "hidden" } } },
        { loss = { pkt = { student = "hidden", teacher = "hidden" } }, weight = 100 },
        { loss = { rkd = { student = "hidden", teacher = "hidden", angle_weight = 1, distance_weight = 1 } } },
        { loss = { correlation_congruence = { student = "hidden", teacher = "hidden" } } },
        { loss = { mmd = { student = "hidden", teacher = "hidden" } } },
        { loss = { gram_mse = { student = ["tokens", "tokens"], teacher = ["tokens", "tokens"] } } },
    ]
"#;

fn data(masked: bool) -> DistillData<Tensor<4>> {
    let images: Vec<[f32; 36]> = (0..60u32)
        .map(|i| std::array::from_fn(|k| ((i * 7 + k as u32 * (i % 5 + 1)) % 11) as f32 / 11.0))
        .collect();
    let images: Vec<(usize, [f32; 36])> = images.into_iter().enumerate().collect();
    let batch = move |items: Vec<(usize, [f32; 36])>, device: &Device| {
        let (places, mut images): (Vec<usize>, Vec<[f32; 36]>) = items.into_iter().unzip();
        let valid: Vec<bool> = places.iter().map(|place| place % 4 != 1).collect();
        if masked {
            // Whatever they hold.
            let invalid = images.iter_mut().zip(&valid).filter(|(_, valid)| !**valid);
            invalid.for_each(|(image, _)| image.fill(1e4));
        }
        let shape = [images.len(), 1, 6, 6];
        let images = TensorData::new(images.concat(), shape);
        let batch = DistillBatch::new(Tensor::<4>::from_data(images, device));
        match masked {
            true => batch.with_mask::<1>(Tensor::from_data(valid.as_slice(), device)),
            false => batch,
        }
    };
    DistillData::from_fn(InMemDataset::new(images), batch)
}

#[test]
fn every_term_falls_when_it_is_trained() {
    let _seeded = common::seeded();
    let device = Device::flex();
    let objective = Objective::from_toml(OBJECTIVE).unwrap();
    for masked in [false, true] {
        for term in objective.terms() {
            device.seed(7);
            let (teacher, student) = (Net::new(6, 16, &device), Net::new(2, 5, &device));
            let before = student.num_params();
            let config = FitConfig::new(10)
                .with_batch_size(20)
                .with_optimizer(AdamConfig::new().init(), 1e-2)
                .with_progress(ProgressMode::Silent);
            let alone = Objective::new().with(term.clone(), term.weight().clone());
            let distilled = Distiller::on(device.clone(), teacher, student)
                .with_objective(alone)
                .fit(&config, data(masked), data(masked))
                .unwrap();
            assert_eq!(distilled.student.num_params(), before);
            let values = &distilled.report.training.history.train["loss"];
            let (first, last) = (values[0], values[9]);
            assert!(last < first, "{term:?}: from {first} to {last}");
        }
    }
}
