//! Training on recorded knowledge, against training with the teacher there.
#![cfg(feature = "flex")]

#[path = "common/net.rs"]
#[allow(dead_code)]
mod net;

use burn::backend::Flex;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::transform::{PartialDataset, ShuffledDataset};
use burn::data::dataset::{Dataset, InMemDataset};
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_distill::knowledge::{
    FeaturePrecision, KnowledgeBatcher, KnowledgeDataset, LogitsFormat, RecordOptions, Samples,
    Store, ValuePrecision, record,
};
use burn_distill::loss::{HardLabelConfig, HintConfig, SoftTargetConfig, SparseSoftTargetConfig};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, Error, FitConfig, Outputs, ProgressMode,
    Recorded, batch_fn,
};
use net::{Net, Point, initialized, points};
use tempfile::TempDir;

fn device() -> Device {
    Device::flex()
}

/// The teacher and the student, always the same.
fn nets() -> (Net, Net) {
    device().seed(1);
    (
        initialized(Net::new(32, 0.0, &device())),
        initialized(Net::new(5, 0.1, &device())),
    )
}

fn batcher() -> impl Batcher<Point, DistillBatch<Tensor<2>>> + Clone + 'static {
    batch_fn(|points: Vec<Point>, device: &Device| {
        DistillBatch::new(net::inputs(&points, device)).with_classes(net::classes(&points, device))
    })
}

fn config() -> FitConfig {
    FitConfig::new(3)
        .with_batch_size(16)
        .with_seed(7)
        .with_progress(ProgressMode::Silent)
}

fn options() -> RecordOptions {
    RecordOptions::new(device())
        .with_batch_size(10)
        .with_progress(ProgressMode::Silent)
}

fn samples(count: usize) -> Samples<Point> {
    Samples::new(InMemDataset::new(points(count)))
}

fn recorded(samples: &Samples<Point>, options: &RecordOptions) -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (teacher, _) = nets();
    record(&teacher, samples, &batcher(), directory.path(), options).unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn data(samples: &Samples<Point>, store: &Store) -> DistillData<Tensor<2>> {
    DistillData::new(
        samples.with_knowledge(store),
        KnowledgeBatcher::new(batcher()),
    )
}

#[test]
fn a_student_of_recorded_logits_is_that_of_the_teacher_bit_for_bit() {
    let (train, valid) = (samples(50), samples(20));
    let options = options().with_feature("hidden", FeaturePrecision::F32);
    let (_train, train_store) = recorded(&train, &options);
    let (_valid, valid_store) = recorded(&valid, &options);
    let (teacher, student) = nets();
    let online = Distiller::<Flex, _, _>::new(Default::default(), teacher, student)
        .with(SoftTargetConfig::new(2.0), 0.5)
        .with(HintConfig::new("hidden", "hidden"), 0.5)
        .fit(
            &config(),
            net::labelled(points(50)),
            net::labelled(points(20)),
        )
        .unwrap();

    let (_, student) = nets();
    let teacher = Recorded::new(&train_store);
    let offline = Distiller::<Flex, _, _>::new(Default::default(), teacher, student)
        .with(SoftTargetConfig::new(2.0), 0.5)
        .with(HintConfig::new("hidden", "hidden"), 0.5)
        .fit(
            &config(),
            data(&train, &train_store),
            data(&valid, &valid_store),
        )
        .unwrap();
    assert_eq!(
        net::numbers(&online.student),
        net::numbers(&offline.student)
    );
    assert_eq!(
        online.report.distilled.agreement,
        offline.report.distilled.agreement
    );
    let accuracy = |teacher: Option<burn_distill::report::ModelReport>| teacher.unwrap().accuracy;
    assert_eq!(
        accuracy(online.report.teacher),
        accuracy(offline.report.teacher)
    );
}

#[test]
fn few_classes_teach_sparse_soft_targets_what_the_teacher_would() {
    let train = samples(40);
    let top_k = LogitsFormat::TopK {
        k: 2,
        temperature: 1.0,
        precision: ValuePrecision::F32,
    };
    let (_directory, store) = recorded(&train, &options().with_logits(top_k));
    let fit = |loss: SparseSoftTargetConfig, data: DistillData<Tensor<2>>, is_recorded: bool| {
        let (teacher, student) = nets();
        // Adam makes more of rounding where a gradient is next to nothing.
        let config = config().with_optimizer(SgdConfig::new().init(), 0.1);
        let distilled = match is_recorded {
            true => {
                Distiller::<Flex, _, _>::new(Default::default(), Recorded::new(&store), student)
                    .with(loss, 1.0)
                    .fit(&config, data, None)
                    .map(|it| it.student)
            }
            false => Distiller::<Flex, _, _>::new(Default::default(), teacher, student)
                .with(loss, 1.0)
                .fit(&config, data, None)
                .map(|it| it.student),
        };
        net::numbers(&distilled.unwrap())
    };
    let online = fit(
        SparseSoftTargetConfig::new(2),
        net::labelled(points(40)),
        false,
    );
    let offline = fit(SparseSoftTargetConfig::new(2), data(&train, &store), true);
    // What is left over is subtracted from 1 on one side and added up on the other.
    let difference = net::largest_difference(&online, &offline);
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn subsets_and_other_orders_find_their_own() {
    let all = samples(30);
    let (_directory, store) = recorded(&all, &options());
    let shuffled = ShuffledDataset::new(InMemDataset::new(points(30)), 3);
    let part = PartialDataset::new(shuffled, 5, 17);
    let part: Vec<Point> = part.iter().map(Result::unwrap).collect();
    let (teacher, _) = nets();
    let expected = teacher.outputs(net::inputs(&part, &device())).logits;
    let known = InMemDataset::new(part).with_knowledge(&store);
    let batch = DistillData::new(known, KnowledgeBatcher::new(batcher()))
        .batch((0..12).collect(), &device())
        .unwrap();
    let recalled = Recorded::new(&store).teach(&batch.input, batch.recalled.as_ref());
    let found = recalled.unwrap().logits;
    found
        .into_data()
        .assert_approx_eq::<f32>(&expected.into_data(), Default::default());
}

#[test]
fn what_was_not_recorded_is_refused() {
    let (_directory, store) = recorded(&samples(10), &options());
    let fit = |data: DistillData<Tensor<2>>, store: &Store| {
        let (_, student) = nets();
        Distiller::<Flex, _, _>::new(Default::default(), Recorded::new(store), student)
            .with(SoftTargetConfig::new(2.0), 1.0)
            .fit(&config(), data, None)
            .map(|_| ())
    };
    let error = fit(data(&samples(20), &store), &store).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not among the 10 recorded in"),
        "{error}"
    );
    let error = fit(net::labelled(points(10)), &store).unwrap_err();
    assert!(matches!(error, Error::NoKnowledge), "{error}");

    let other = tempfile::tempdir().unwrap();
    device().seed(99);
    let teacher = Net::new(32, 0.0, &device());
    record(&teacher, &samples(10), &batcher(), other.path(), &options()).unwrap();
    let other = Store::open(other.path()).unwrap();
    let error = fit(data(&samples(10), &other), &store).unwrap_err();
    assert!(matches!(error, Error::OtherTeacher { .. }), "{error}");

    let (_, student) = nets();
    let error = Distiller::<Flex, _, _>::new(Default::default(), Recorded::new(&store), student)
        .with(HintConfig::new("hidden", "hidden"), 1.0)
        .fit(&config(), data(&samples(10), &store), None)
        .unwrap_err();
    assert!(matches!(error, Error::MissingFeature { .. }), "{error}");
}

#[test]
fn a_recording_goes_on_and_refuses_what_has_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let run = |teacher: &Net, count, options: &RecordOptions| {
        record(
            teacher,
            &samples(count),
            &batcher(),
            directory.path(),
            options,
        )
    };
    let mut small = options();
    small.writer.shard_bytes = 100;
    assert_eq!(run(&teacher, 30, &small).unwrap().resumed, 0);
    // Finished and the same: nothing is left to do.
    assert_eq!(run(&teacher, 30, &small).unwrap().resumed, 30);
    for error in [
        run(&student, 30, &small).unwrap_err(),
        run(&teacher, 31, &small).unwrap_err(),
        run(&teacher, 29, &small).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, Error::KnowledgeMismatch { .. }), "{text}");
    }
}

#[test]
fn views_are_made_again_from_their_seeds() {
    let shifted = |seed| {
        samples(6).with_views(3, seed, |mut point: Point, seed| {
            point.input[0] += (seed % 1000) as f32 / 1000.0;
            point
        })
    };
    let (views, others) = (shifted(1), shifted(2));
    let (_directory, store) = recorded(&views, &options());
    assert_eq!((views.len(), store.len()), (18, 18));
    let items: Vec<Point> = (0..18).map(|i| views.get(i).unwrap().item).collect();
    let (teacher, _) = nets();
    let expected = teacher.outputs(net::inputs(&items, &device())).logits;
    let batch = data(&views, &store)
        .batch((0..18).collect(), &device())
        .unwrap();
    let recalled = Recorded::new(&store).teach(&batch.input, batch.recalled.as_ref());
    let found = recalled.unwrap().logits.into_data();
    found.assert_approx_eq::<f32>(&expected.into_data(), Default::default());

    let error = data(&others, &store).batch(vec![4], &device()).unwrap_err();
    assert!(error.to_string().contains("the seed of sample"), "{error}");
}

/// A class for each word, from the words themselves.
#[derive(Module, Debug)]
struct Words {
    words: Embedding,
    head: Linear,
}

impl Distillable<Tensor<2, Int>> for Words {
    fn outputs(&self, words: Tensor<2, Int>) -> Outputs {
        let states = self.words.forward(words);
        Outputs::new(self.head.forward(states.clone())).with_feature("states", states)
    }
}

#[test]
fn sequences_of_any_length_come_back_where_their_mask_says() {
    let device = device();
    device.seed(5);
    let teacher = Words {
        words: EmbeddingConfig::new(20, 4).init(&device),
        head: LinearConfig::new(4, 20).init(&device),
    };
    // As long as the longest of a batch, the rest of the others masked.
    let batcher = batch_fn(|texts: Vec<Vec<i64>>, device: &Device| {
        let longest = texts.iter().map(Vec::len).max().unwrap();
        let word = |text: &Vec<i64>, t: usize| text.get(t).copied().unwrap_or(0);
        let all = |text: &Vec<i64>| (0..longest).map(|t| word(text, t)).collect::<Vec<_>>();
        let words: Vec<i64> = texts.iter().flat_map(all).collect();
        let mask = |text: &Vec<i64>| (0..longest).map(|t| t < text.len()).collect::<Vec<_>>();
        let mask: Vec<bool> = texts.iter().flat_map(mask).collect();
        let dims = [texts.len(), longest];
        let words = Tensor::<2, Int>::from_data(TensorData::new(words, dims), device);
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(mask, dims), device);
        DistillBatch::new(words).with_mask(mask)
    });
    let texts: Vec<Vec<i64>> = (0..9i64)
        .map(|n| (0..=n % 4).map(|t| (n * 7 + t * 3) % 20).collect())
        .collect();
    let samples = Samples::new(InMemDataset::new(texts));
    let directory = tempfile::tempdir().unwrap();
    let options = options()
        .with_feature("states", FeaturePrecision::F32)
        .with_batch_size(4);
    record(&teacher, &samples, &batcher, directory.path(), &options).unwrap();
    let store = Store::open(directory.path()).unwrap();
    let data = DistillData::new(
        samples.with_knowledge(&store),
        KnowledgeBatcher::new(batcher),
    );
    // Together with other sequences than when they were recorded.
    for batch in [vec![8, 0, 3, 5], vec![4, 0], vec![1, 2, 7]] {
        let batch = data.batch(batch, &device).unwrap();
        let expected = teacher.outputs(batch.input.clone());
        let recalled = Recorded::new(&store).teach(&batch.input, batch.recalled.as_ref());
        let found = recalled.unwrap();
        let counts = batch.mask.unwrap();
        let counted = |x: Tensor<2>| {
            let width = x.dims()[1];
            let mask: Tensor<2, Bool> = counts.clone().unsqueeze_dim(1);
            x.mask_fill(mask.expand([counts.dims()[0], width]).bool_not(), 0.0)
                .into_data()
        };
        let states = |outputs: &Outputs| match outputs.feature("states") {
            Some(burn_distill::Feature::Rank3(states)) => states.clone().flatten(0, 1),
            other => panic!("{other:?}"),
        };
        let tolerance = Default::default();
        counted(found.logits.clone())
            .assert_approx_eq::<f32>(&counted(expected.logits.clone()), tolerance);
        counted(states(&found)).assert_approx_eq::<f32>(&counted(states(&expected)), tolerance);
    }
}

#[test]
fn labels_and_a_baseline_go_with_recorded_knowledge() {
    let train = samples(40);
    let (_directory, store) = recorded(&train, &options());
    let (_, student) = nets();
    let distilled =
        Distiller::<Flex, _, _>::new(Default::default(), Recorded::new(&store), student)
            .with(SoftTargetConfig::new(2.0), 0.9)
            .with(HardLabelConfig::new(), 0.1)
            .fit(&config().with_baseline(true), data(&train, &store), None)
            .unwrap();
    assert!(distilled.report.labels_alone.unwrap().agreement.is_some());
}
