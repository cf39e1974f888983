use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataset::InMemDataset;
use burn::tensor::Bool;
use tempfile::TempDir;

use super::*;
use crate::data::batch::DistillBatch;
use crate::data::head::Logits;
use crate::data::key::SampleId;
use crate::knowledge::format::header::{FeaturePrecision, LogitsPrecision, ValuePrecision};
use crate::knowledge::options::RecordOptions;
use crate::knowledge::record::{Recording, record};
use crate::progress::ProgressMode;
use crate::teacher::closure::teacher_fn;

type Data = DistillData<Tensor<2>>;

fn device() -> Device {
    Device::flex()
}

/// Numbers that are their own ids, as a batch of one column.
fn data(
    ids: std::ops::Range<u32>,
    finish: fn(DistillBatch<Tensor<2>>) -> DistillBatch<Tensor<2>>,
) -> Data {
    DistillData::builder(InMemDataset::new(ids.collect()))
        .with_ids(|id: &u32| SampleId(u128::from(*id)))
        .batched(move |ids: Vec<u32>, device: &Device| {
            finish(DistillBatch::new(column(&ids, device)))
        })
}

fn plain(ids: std::ops::Range<u32>) -> Data {
    data(ids, |batch| batch)
}

fn column(ids: &[u32], device: &Device) -> Tensor<2> {
    let numbers: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
    Tensor::<1>::from_data(&numbers[..], device).unsqueeze_dim(1)
}

/// Three logits of each number.
fn logits(x: &Tensor<2>) -> Tensor<2> {
    Tensor::cat(vec![x.clone(), x.clone() * -0.5 + 1.0, x.clone().sin()], 1)
}

fn options() -> RecordOptions {
    RecordOptions::new(device())
        .with_batch_size(3)
        .with_progress(ProgressMode::Silent)
}

fn top_2(temperature: f64) -> RecordOptions {
    options().with_logits(LogitsFormat::TopK {
        k: 2,
        temperature,
        precision: ValuePrecision::F32,
    })
}

fn recorded(
    teacher: &impl Teacher<Tensor<2>>,
    data: &Data,
    options: &RecordOptions,
) -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    record(teacher, data, directory.path(), options).unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

/// All outputs of a recorded teacher for the data, in one batch.
fn read(teacher: &Recorded, data: &Data) -> Result<Outputs> {
    let batch = data
        .read("recorded", (0..data.len()).collect(), &device(), true)
        .unwrap();
    let teacher: Arc<dyn Teacher<Tensor<2>>> = teacher.on(&device());
    teacher.ask(&TeacherBatch::of(&batch, data.scope()))
}

fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

#[test]
fn a_teacher_that_fails_is_not_asked_again_for_what_it_said() {
    let calls = Arc::new(AtomicUsize::new(0));
    let asked = calls.clone();
    let teacher = teacher_fn("a service", move |x: Tensor<2>| {
        // The third batch is refused, once.
        match asked.fetch_add(1, Ordering::Relaxed) {
            2 => Err(std::io::Error::other("it is gone")),
            _ => Ok(Outputs::new(logits(&x))),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let record = || record(&teacher, &plain(0..9), directory.path(), &options());
    let error = record().unwrap_err().to_string();
    assert!(error.contains("it is gone"), "{error}");
    let recording = record().unwrap();
    assert_eq!((recording.samples, recording.resumed), (9, 6));
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[test]
fn a_model_of_features_alone_is_recorded_by_them() {
    let teacher = teacher_fn("doubles", |x: Tensor<2>| {
        Outputs::features_only().with_feature("double", x * 2.0)
    });
    let data = plain(0..5);
    let options = options().with_feature("double", FeaturePrecision::F32);
    let (_directory, store) = recorded(&teacher, &data, &options);
    let outputs = read(&Recorded::new(&store), &data).unwrap();
    assert_eq!(outputs.heads().count(), 0);
    let Some(Feature::Rank2(double)) = outputs.feature("double") else {
        panic!("{outputs:?}")
    };
    assert_eq!(numbers(double.clone()), [0.0, 2.0, 4.0, 6.0, 8.0]);
}

#[test]
fn heads_come_back_in_their_order() {
    let teacher = teacher_fn("two heads", |x: Tensor<2>| {
        Outputs::features_only()
            .with_head("tags", Head::Binary(x.clone() + 0.5))
            .with_head("class", logits(&x))
            .with_head("size", Head::Continuous(x))
    });
    let data = plain(0..5);
    let (_directory, store) = recorded(&teacher, &data, &options());
    let outputs = read(&Recorded::new(&store), &data).unwrap();
    assert_eq!(outputs.head_names(), ["tags", "class", "size"]);
    let input = column(&[0, 1, 2, 3, 4], &device());
    let head = |name| numbers(outputs.head(name).unwrap().tensor());
    assert_eq!(head("tags"), [0.5, 1.5, 2.5, 3.5, 4.5]);
    assert_eq!(head("class"), numbers(logits(&input)));
    assert_eq!(head("size"), [0.0, 1.0, 2.0, 3.0, 4.0]);

    let binary = teacher_fn("binary", |x: Tensor<2>| Outputs::binary(x));
    let (_directory, store) = recorded(&binary, &data, &options());
    let outputs = read(&Recorded::new(&store), &data).unwrap();
    assert!(matches!(
        outputs.first_head(),
        Some((LOGITS, Head::Binary(_)))
    ));
}

/// Two of four classes; of even numbers the second names the first again, without probability.
fn top_k(x: Tensor<2>) -> Outputs {
    let device = x.device();
    let rows: Vec<f32> = numbers(x);
    let is_even = |x: &f32| x % 2.0 == 0.0;
    let indices: Vec<i32> = rows
        .iter()
        .flat_map(|x| [3, if is_even(x) { 3 } else { 1 }])
        .collect();
    let log_probs: Vec<f32> = rows
        .iter()
        .flat_map(|x| [-0.5, if is_even(x) { f32::NEG_INFINITY } else { -1.5 }])
        .collect();
    let shape = [rows.len(), 2];
    Outputs::new(
        TopK::new(
            Tensor::<2, Int>::from_data(TensorData::new(indices, shape), &device),
            Tensor::<2>::from_data(TensorData::new(log_probs, shape), &device),
            4,
        )
        .at_temperature(2.0),
    )
}

#[test]
fn the_top_k_of_a_teacher_are_recorded_as_they_are() {
    let teacher = teacher_fn("top 2 of 4", top_k);
    let data = plain(0..4);
    let (_directory, store) = recorded(&teacher, &data, &top_2(2.0));
    let outputs = read(&Recorded::new(&store), &data).unwrap();
    let Some(Logits::TopK(found)) = outputs.first_head().unwrap().1.logits() else {
        panic!("{outputs:?}")
    };
    assert_eq!((found.classes, found.temperature), (4, 2.0));
    let dense = |top_k: &TopK| -> Vec<f32> {
        let probabilities = numbers(top_k.log_probs.clone().exp());
        let classes: Vec<i32> = top_k.indices.clone().into_data().iter().collect();
        let mut rows = vec![0.0; 4 * 4];
        for (slot, (class, p)) in classes.iter().zip(probabilities).enumerate() {
            rows[slot / found.log_probs.dims()[1] * 4 + *class as usize] += p;
        }
        rows
    };
    let given = top_k(column(&[0, 1, 2, 3], &device()));
    let Some(Logits::TopK(given)) = given.first_head().unwrap().1.logits() else {
        panic!("{given:?}")
    };
    for (found, given) in dense(found).iter().zip(dense(given)) {
        assert!((found - given).abs() < 1e-6, "{found} {given}");
    }

    let dense = options().with_logits(LogitsFormat::Dense {
        precision: LogitsPrecision::F32,
    });
    for other in [dense, top_2(1.0)] {
        let directory = tempfile::tempdir().unwrap();
        let error = record(&teacher, &data, directory.path(), &other).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("its top 2 at temperature 2"), "{text}");
    }
}

#[test]
fn one_batch_may_lie_in_two_stores() {
    let teacher = teacher_fn("logits", |x: Tensor<2>| logits(&x));
    let (_a, a) = recorded(&teacher, &plain(0..3), &options());
    let (_b, b) = recorded(&teacher, &plain(3..5), &options());
    let both = Recorded::new(&a).and(&b).unwrap();
    let outputs = read(&both, &plain(0..5)).unwrap();
    let expected = logits(&column(&[0, 1, 2, 3, 4], &device()));
    assert_eq!(numbers(outputs.logits()), numbers(expected));

    let error = read(&both, &plain(0..6)).unwrap_err();
    assert!(matches!(error, Error::NotRecorded { .. }), "{error}");

    let (_c, other_form) = recorded(&teacher, &plain(5..6), &top_2(1.0));
    let error = read(&both.and(&other_form).unwrap(), &plain(4..6)).unwrap_err();
    assert!(error.to_string().contains("logits as"), "{error}");
}

#[test]
fn data_of_fewer_views_share_a_store() {
    let teacher = teacher_fn("logits", |x: Tensor<2>| logits(&x));
    let views = |count| {
        DistillData::builder(InMemDataset::new((0..4u32).collect()))
            .with_ids(|id: &u32| SampleId(u128::from(*id)))
            .with_views(count, 1, |id, _seed| id)
            .batched(|ids: Vec<u32>, device: &Device| DistillBatch::new(column(&ids, device)))
    };
    let (directory, store) = recorded(&teacher, &views(3), &options());
    assert_eq!(store.len(), 12);
    let grown = record(&teacher, &plain(10..12), directory.path(), &options());
    let Recording {
        samples, resumed, ..
    } = grown.unwrap();
    assert_eq!((samples, resumed), (2, 0));
    assert_eq!(Store::open(directory.path()).unwrap().len(), 14);

    let error = record(&teacher, &views(5), directory.path(), &options()).unwrap_err();
    assert!(error.to_string().contains("the number of views"), "{error}");
}

/// Sequences of two tokens, of which those of number 1 are masked, all of them.
fn masked(batch: DistillBatch<Tensor<2>>) -> DistillBatch<Tensor<2>> {
    let mask: Tensor<2, Bool> = batch.input.clone().not_equal_elem(1.0).repeat_dim(1, 2);
    batch.with_mask(mask)
}

#[test]
fn a_sequence_may_be_masked_as_a_whole() {
    let teacher = teacher_fn("two tokens", |x: Tensor<2>| {
        let tokens: Tensor<2> = Tensor::cat(vec![x.clone(), x + 0.5], 1);
        let rows = tokens.dims()[0] * 2;
        Outputs::new(logits(&tokens.reshape([rows, 1])))
    });
    let data = data(0..3, masked);
    let (_directory, store) = recorded(&teacher, &data, &options());
    let outputs = read(&Recorded::new(&store), &data).unwrap();
    let tokens = Tensor::<2>::from_data([[0.0f32], [0.5], [1.0], [1.5], [2.0], [2.5]], &device());
    let valid = Tensor::<2>::from_data([[1.0f32], [1.0], [0.0], [0.0], [1.0], [1.0]], &device());
    assert_eq!(
        numbers(outputs.logits() * valid.clone()),
        numbers(logits(&tokens) * valid)
    );
}

#[test]
fn weights_of_tokens_leave_a_head_of_samples_as_it_is() {
    let teacher = teacher_fn("logits", |x: Tensor<2>| logits(&x));
    let data = data(0..3, masked);
    let (_directory, store) = recorded(&teacher, &data, &options());
    let outputs = read(&Recorded::new(&store), &data).unwrap();
    assert_eq!(
        numbers(outputs.logits()),
        numbers(logits(&column(&[0, 1, 2], &device())))
    );
}

/// A teacher that nothing tells from another.
#[derive(Debug, Clone)]
struct Nameless;

impl Teacher<Tensor<2>> for Nameless {
    fn ask(&self, batch: &TeacherBatch<'_, Tensor<2>>) -> Result<Outputs> {
        Ok(Outputs::new(logits(batch.input)))
    }

    fn on(&self, _device: &Device) -> Arc<dyn Teacher<Tensor<2>>> {
        Arc::new(self.clone())
    }

    fn info(&self) -> TeacherInfo {
        TeacherInfo::default()
    }
}

#[test]
fn a_teacher_without_a_name_is_not_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let error = record(&Nameless, &plain(0..2), directory.path(), &options()).unwrap_err();
    assert!(error.to_string().contains("TeacherInfo::named"), "{error}");
}
