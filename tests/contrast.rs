//! What contrastive distillation remembers, over a whole training.

mod common;

use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use burn_distill::loss::Crd;
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, FitConfig, Outputs, ProgressMode,
};

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    head: Linear,
}

impl Net {
    fn new(hidden: usize) -> Self {
        let layer = |from, to| LinearConfig::new(from, to).init(&Device::flex());
        Self {
            hidden: layer(4, hidden),
            head: layer(hidden, 3),
        }
    }
}

impl Distillable<Tensor<2>> for Net {
    fn outputs(&self, x: Tensor<2>) -> Outputs {
        let hidden = self.hidden.forward(x).tanh();
        Outputs::new(self.head.forward(hidden.clone())).with_feature("hidden", hidden)
    }
}

/// Inputs without labels.
fn points(count: usize) -> DistillData<Tensor<2>> {
    let points: Vec<[f32; 4]> = (0..count)
        .map(|i| [1, 3, 5, 7].map(|k| (i * k % 8) as f32))
        .collect();
    DistillData::from_fn(
        InMemDataset::new(points),
        |items: Vec<[f32; 4]>, device: &Device| {
            let data = TensorData::new(items.concat(), [items.len(), 4]);
            DistillBatch::new(Tensor::<2>::from_data(data, device))
        },
    )
}

/// Memories, Z and the draws of negatives come back with a checkpoint.
#[test]
fn a_training_that_resumes_becomes_the_undisturbed_one() {
    let _seeded = common::seeded();
    let device = Device::flex();
    device.seed(3);
    let (teacher, student) = (Net::new(6), Net::new(4));
    let directory = tempfile::tempdir().unwrap();
    let fit = |epochs| {
        let config = FitConfig::new(3)
            .with_batch_size(8)
            .with_checkpoints_kept(directory.path(), 3)
            .with_resume(true)
            .with_progress(ProgressMode::Silent);
        let crd = Crd::new("hidden", "hidden").with_width(5).with_negatives(7);
        let distiller = Distiller::on(Device::flex(), teacher.clone(), student.clone());
        let distilled = distiller
            .with(crd, 1.0)
            .fit(&config, points(20), points(9))
            .unwrap();
        // Whatever the run before left is forgotten, but for the first epoch.
        for epoch in epochs {
            for part in ["model", "optim", "scheduler"] {
                let file = format!("checkpoint/{part}-{epoch}.bpk");
                std::fs::remove_file(directory.path().join(file)).unwrap();
            }
        }
        let weight = distilled.student.hidden.weight.val().into_data();
        (
            weight.iter::<f32>().collect::<Vec<_>>(),
            distilled.report.training.resumed_from,
        )
    };
    let (undisturbed, from) = fit(2..=3);
    assert_eq!(from, None);
    device.seed(99);
    let (resumed, from) = fit(2..=3);
    assert_eq!(from, Some(1));
    assert_eq!(resumed, undisturbed);
}
