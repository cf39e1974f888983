//! Training on recorded outputs, against training with the live teacher.
#![cfg(feature = "flex")]

mod common;

use burn::data::dataset::InMemDataset;
use burn::data::dataset::transform::{PartialDataset, ShuffledDataset};
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_distill::knowledge::{
    FeaturePrecision, LogitsFormat, RecordOptions, SampleId, Store, ValuePrecision, record,
};
use burn_distill::loss::{
    HardLabel, Hint, LogitMse, LossContext, SoftTarget, SparseSoftTarget, loss_fn,
};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, Error, FitConfig, Head, Objective, Outputs,
    ProgressMode, Recorded, Result,
};
use common::net::{
    Net, Point, classes, initialized, inputs, labelled, largest_difference, named, numbers, points,
};
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

fn config() -> FitConfig {
    FitConfig::new(3)
        .with_batch_size(16)
        .with_seed(7)
        .with_progress(ProgressMode::Silent)
}

/// With batches as large as those of the training: the last bits of a model's outputs depend on it.
fn options() -> RecordOptions {
    RecordOptions::new(device())
        .with_batch_size(16)
        .with_progress(ProgressMode::Silent)
}

fn recorded(data: &DistillData<Tensor<2>>, options: &RecordOptions) -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (teacher, _) = nets();
    record(&teacher, data, directory.path(), options).unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

#[test]
fn a_student_of_recorded_outputs_is_that_of_the_teacher_bit_for_bit() {
    let _seeded = common::seeded();
    let (train, valid) = (named(points(50)), named(points(20)));
    let options = options().with_feature("hidden", FeaturePrecision::F32);
    let (_train, train_store) = recorded(&train, &options);
    let (_valid, valid_store) = recorded(&valid, &options);
    let objective = Objective::new()
        .with(SoftTarget::new(2), 0.5)
        .with(Hint::new("hidden", "hidden"), 0.5);
    let (teacher, student) = nets();
    let online = Distiller::on(device(), teacher.clone(), student.clone())
        .with_objective(objective.clone())
        .fit(&config(), train.clone(), valid.clone())
        .unwrap();

    let both = Recorded::new(&train_store).and(&valid_store).unwrap();
    let offline = Distiller::on(device(), both, student.clone())
        .with_objective(objective.clone())
        .fit(&config(), train.clone(), valid.clone())
        .unwrap();
    assert_eq!(numbers(&online.student), numbers(&offline.student));
    assert_eq!(
        online.report.distilled.agreement,
        offline.report.distilled.agreement
    );
    let accuracy = |teacher: Option<burn_distill::report::ModelReport>| teacher.unwrap().accuracy;
    assert_eq!(
        accuracy(online.report.teacher),
        accuracy(offline.report.teacher)
    );

    // The outputs come with the data, the teacher is there, and is not asked.
    let beside = Distiller::on(device(), teacher, student)
        .with_objective(objective)
        .fit(
            &config(),
            train.with_knowledge(&train_store),
            valid.with_knowledge(&valid_store),
        )
        .unwrap();
    assert_eq!(numbers(&online.student), numbers(&beside.student));
}

#[test]
fn few_classes_teach_sparse_soft_targets_what_the_teacher_would() {
    let _seeded = common::seeded();
    let train = named(points(40));
    let top_k = LogitsFormat::TopK {
        k: 2,
        temperature: 1.0,
        precision: ValuePrecision::F32,
    };
    let (_directory, store) = recorded(&train, &options().with_logits(top_k));
    // Adam makes more of rounding where a gradient is next to nothing.
    let config = config().with_optimizer(SgdConfig::new().init(), 0.1);
    let (teacher, student) = nets();
    let online = Distiller::on(device(), teacher, student.clone())
        .with(SparseSoftTarget::new(2), 1)
        .fit(&config, train.clone(), None)
        .unwrap();
    let offline = |objective: Objective| {
        let distilled = Distiller::on(device(), Recorded::new(&store), student.clone())
            .with_objective(objective)
            .fit(&config, train.clone(), None);
        numbers(&distilled.unwrap().student)
    };
    let sparse = offline(Objective::new().with(SparseSoftTarget::new(2), 1));
    // The tail probability is subtracted from 1 on one side and added up on the other.
    let difference = largest_difference(&numbers(&online.student), &sparse);
    assert!(difference < 1e-4, "{difference}");
    // Plain soft targets see a top-k teacher as it is.
    let plain = offline(Objective::new().with(SoftTarget::new(1), 1));
    assert_eq!(plain, sparse);
}

/// Shows a closure what a training sees.
fn seen(
    teacher: Recorded,
    data: DistillData<Tensor<2>>,
    then: impl Fn(&LossContext<'_>) + Send + Sync + 'static,
) -> Result<()> {
    let looks = loss_fn("looks", move |context: &LossContext<'_>| {
        then(context);
        context.logits().sum() * 0.0
    });
    let (_, student) = nets();
    Distiller::on(device(), teacher, student)
        .with(looks, 1)
        .fit(
            &FitConfig::new(1).with_progress(ProgressMode::Silent),
            data,
            None,
        )
        .map(|_| ())
}

/// Fails unless the teacher's logits of a batch of points are the live teacher's.
fn is_the_live_teachers(points: Vec<Point>) -> impl Fn(&LossContext<'_>) + Send + Sync + 'static {
    let (teacher, _) = nets();
    let teacher = teacher.valid();
    move |context: &LossContext<'_>| {
        let batch: Vec<Point> = context.indices.iter().map(|i| points[*i].clone()).collect();
        let expected = teacher.outputs(inputs(&batch, &device())).logits();
        context
            .teacher_logits()
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Default::default());
    }
}

#[test]
fn subsets_and_other_orders_find_their_own() {
    let _seeded = common::seeded();
    let (_directory, store) = recorded(&named(points(30)), &options());
    let shuffled = ShuffledDataset::new(InMemDataset::new(points(30)), 3);
    let part = PartialDataset::new(shuffled, 5, 17);
    let part: Vec<Point> = burn::data::dataset::Dataset::iter(&part)
        .map(std::result::Result::unwrap)
        .collect();
    let teacher = Recorded::new(&store);
    let is_right = is_the_live_teachers(part.clone());
    seen(teacher, named(part), is_right).unwrap();
}

#[test]
fn what_was_not_recorded_is_refused() {
    let _seeded = common::seeded();
    let (_directory, store) = recorded(&named(points(10)), &options());
    let fit = |data: DistillData<Tensor<2>>| {
        let (_, student) = nets();
        Distiller::on(device(), Recorded::new(&store), student)
            .with(SoftTarget::new(2), 1)
            .fit(&config(), data, None)
            .map(|_| ())
    };
    let error = fit(named(points(20))).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not among the 10 recorded in"),
        "{error}"
    );
    // Without names of their own samples go by their index, which another sample may have as its id.
    let unnamed = labelled(points(10));
    for data in [unnamed.clone(), unnamed.with_knowledge(&store)] {
        let error = fit(data).unwrap_err();
        assert!(matches!(error, Error::NoKnowledge), "{error}");
    }

    let other = tempfile::tempdir().unwrap();
    device().seed(99);
    let teacher = Net::new(32, 0.0, &device());
    record(&teacher, &named(points(10)), other.path(), &options()).unwrap();
    let other = Store::open(other.path()).unwrap();
    let error = Recorded::new(&store).and(&other).unwrap_err();
    assert!(matches!(error, Error::OtherTeacher { .. }), "{error}");
    let error = fit(named(points(10)).with_knowledge(&other)).unwrap_err();
    assert!(matches!(error, Error::OtherTeacher { .. }), "{error}");

    let (_, student) = nets();
    let error = Distiller::on(device(), Recorded::new(&store), student)
        .with(Hint::new("hidden", "hidden"), 1)
        .fit(&config(), named(points(10)), None)
        .unwrap_err();
    assert!(matches!(error, Error::MissingFeature { .. }), "{error}");
}

#[test]
fn samples_that_go_by_their_index_are_not_recorded() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let (teacher, _) = nets();
    let error = record(&teacher, &labelled(points(4)), directory.path(), &options()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the names of the samples to record is their index, expected \
         `DistillData::builder(dataset).by_content()`, or `.with_ids(..)`"
    );
}

#[test]
fn a_recording_goes_on_grows_and_refuses_what_has_changed() {
    let _seeded = common::seeded();
    let directory = tempfile::tempdir().unwrap();
    let (teacher, student) = nets();
    let run = |teacher: &Net, data: &DistillData<Tensor<2>>, options: &RecordOptions| {
        let recording = record(teacher, data, directory.path(), options)?;
        Ok::<_, Error>((recording.samples, recording.resumed))
    };
    let small = options().with_shard_bytes(100);
    assert_eq!(run(&teacher, &named(points(30)), &small).unwrap(), (30, 0));
    // Finished and the same: nothing is left to do.
    assert_eq!(run(&teacher, &named(points(30)), &small).unwrap(), (30, 30));
    // Fewer samples, and more: a store grows.
    assert_eq!(run(&teacher, &named(points(20)), &small).unwrap(), (20, 20));
    assert_eq!(run(&teacher, &named(points(35)), &small).unwrap(), (35, 30));
    assert_eq!(Store::open(directory.path()).unwrap().len(), 35);

    // Also where nothing can be written: no process can hold this directory.
    let lock = directory.path().join(".lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    assert_eq!(run(&teacher, &named(points(35)), &small).unwrap(), (35, 35));
    let error = run(&teacher, &named(points(36)), &small).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    std::fs::remove_dir(&lock).unwrap();

    let other = small.clone().with_feature("hidden", FeaturePrecision::F32);
    for error in [
        run(&student, &named(points(30)), &small).unwrap_err(),
        run(&teacher, &named(points(30)), &other).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, Error::KnowledgeMismatch { .. }), "{text}");
    }

    // The same names and another input: the code that makes batches has changed.
    let scaled = DistillData::builder(InMemDataset::new(points(30)))
        .by_content()
        .batched(|points: Vec<Point>, device: &Device| {
            DistillBatch::new(inputs(&points, device) * 2.0)
        });
    let error = run(&teacher, &scaled, &small).unwrap_err();
    assert!(matches!(error, Error::KnowledgeMismatch { .. }), "{error}");
}

#[test]
fn ids_of_ones_own_name_samples_as_well() {
    let _seeded = common::seeded();
    let data = DistillData::builder(InMemDataset::new(points(12)))
        .with_ids(|point: &Point| SampleId(u128::from(point.input[0].to_bits())))
        .batched(|points: Vec<Point>, device: &Device| {
            DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
        });
    let (_directory, store) = recorded(&data, &options());
    let is_right = is_the_live_teachers(points(12));
    seen(Recorded::new(&store), data, is_right).unwrap();
}

#[test]
fn views_are_made_again_from_their_seeds() {
    let _seeded = common::seeded();
    let shift = |mut point: Point, seed: u64| {
        point.input[0] += (seed % 1000) as f32 / 1000.0;
        point
    };
    let shifted = move |seed| {
        DistillData::builder(InMemDataset::new(points(6)))
            .by_content()
            .with_views(3, seed, shift)
            .batched(|points: Vec<Point>, device: &Device| {
                DistillBatch::new(inputs(&points, device))
            })
    };
    let views = shifted(1);
    let (_directory, store) = recorded(&views, &options());
    assert_eq!((views.len(), store.len()), (18, 18));
    // The teacher saw the views that the student sees.
    let (teacher, student) = nets();
    let fit = |data| {
        let distilled = Distiller::on(device(), teacher.clone(), student.clone())
            .with(SoftTarget::new(2), 1)
            .fit(&config(), data, None);
        numbers(&distilled.unwrap().student)
    };
    assert_eq!(fit(views.clone()), fit(views.with_knowledge(&store)));

    let error = seen(Recorded::new(&store), shifted(2), |_| {}).unwrap_err();
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

/// Sequences as long as the longest of a batch, the rest of the others masked.
fn texts() -> DistillData<Tensor<2, Int>> {
    let texts: Vec<Vec<i64>> = (0..9i64)
        .map(|n| (0..=n % 4).map(|t| (n * 7 + t * 3) % 20).collect())
        .collect();
    DistillData::builder(InMemDataset::new(texts))
        .by_content()
        .batched(|texts: Vec<Vec<i64>>, device: &Device| {
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
        })
}

#[test]
fn sequences_of_any_length_come_back_where_their_mask_says() {
    let _seeded = common::seeded();
    let device = device();
    device.seed(5);
    let words = |width| {
        initialized(Words {
            words: EmbeddingConfig::new(20, width).init(&device),
            head: LinearConfig::new(width, 20).init(&device),
        })
    };
    let (teacher, student) = (words(4), words(3));
    let directory = tempfile::tempdir().unwrap();
    let options = options()
        .with_feature("states", FeaturePrecision::F32)
        .with_batch_size(4);
    record(&teacher, &texts(), directory.path(), &options).unwrap();
    let store = Store::open(directory.path()).unwrap();
    // Together with other sequences than when they were recorded.
    let config = config()
        .with_batch_size(3)
        .with_optimizer(SgdConfig::new().init(), 0.1);
    let objective = Objective::new()
        .with(SoftTarget::new(2), 1)
        .with(Hint::new("states", "states"), 1);
    let online = Distiller::on(device.clone(), teacher, student.clone())
        .with_objective(objective.clone())
        .fit(&config, texts(), None)
        .unwrap();
    let offline = Distiller::on(device.clone(), Recorded::new(&store), student)
        .with_objective(objective)
        .fit(&config, texts(), None)
        .unwrap();
    let difference = largest_difference(&numbers(&online.student), &numbers(&offline.student));
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn heads_of_every_kind_are_recorded() {
    let _seeded = common::seeded();
    let model = |seed| {
        device().seed(seed);
        let linear: Linear = LinearConfig::new(common::net::INPUTS, 7).init(&device());
        burn_distill::adapt(initialized(linear), |linear: &Linear, x: Tensor<2>| {
            let x = linear.forward(x);
            Outputs::new(x.clone().narrow(1, 0, 3))
                .with_head("tags", Head::Binary(x.clone().narrow(1, 3, 2)))
                .with_head("box", Head::Continuous(x.narrow(1, 5, 2)))
        })
    };
    let tags = || {
        loss_fn("tags", |context: &LossContext<'_>| {
            let error = context.logits() - context.teacher_logits();
            context.mean((error.clone() * error).sum_dim(1).squeeze_dim(1))
        })
    };
    let data = named(points(20));
    let directory = tempfile::tempdir().unwrap();
    record(&model(1), &data, directory.path(), &options()).unwrap();
    let store = Store::open(directory.path()).unwrap();
    let objective = || {
        Objective::new()
            .with(SoftTarget::new(2), 1)
            .with(burn_distill::Term::new(tags()).on("tags"), 1)
            .with(LogitMse::new().on("box"), 1)
    };
    let online = Distiller::on(device(), model(1), model(2))
        .with_objective(objective())
        .fit(&config(), data.clone(), None)
        .unwrap();
    let offline = Distiller::on(device(), Recorded::new(&store), model(2))
        .with_objective(objective())
        .fit(&config(), data, None)
        .unwrap();
    assert_eq!(numbers(&online.student), numbers(&offline.student));
}

#[test]
fn labels_and_a_baseline_go_with_recorded_outputs() {
    let _seeded = common::seeded();
    let train = named(points(40));
    let (_directory, store) = recorded(&train, &options());
    let (_, student) = nets();
    let distilled = Distiller::on(device(), Recorded::new(&store), student)
        .with(SoftTarget::new(2), 0.9)
        .with(HardLabel::new(), 0.1)
        .fit(&config().with_baseline(true), train, None)
        .unwrap();
    assert!(distilled.report.baseline.unwrap().agreement.is_some());
}

#[test]
fn several_stores_serve_one_batch() {
    let _seeded = common::seeded();
    let all = points(50);
    let (first, second) = all.split_at(21);
    let options = options().with_feature("hidden", FeaturePrecision::F32);
    let (_first, first) = recorded(&named(first.to_vec()), &options);
    let (_second, second) = recorded(&named(second.to_vec()), &options);
    let (teacher, student) = nets();
    let fit = |data: DistillData<Tensor<2>>| {
        let distilled = Distiller::on(device(), teacher.clone(), student.clone())
            .with(SoftTarget::new(2), 1)
            .fit(&config(), data, None)
            .unwrap();
        (
            numbers(&distilled.student),
            distilled.report.distilled.kl_teacher_student,
        )
    };
    let both = named(all.clone())
        .with_knowledge(&first)
        .with_knowledge(&second);
    assert_eq!(fit(both), fit(named(all)));
}
