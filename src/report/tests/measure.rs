use burn::data::dataset::InMemDataset;
use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};

use super::*;
use crate::data::batch::DistillBatch;
use crate::data::head::{Head, HeadKind};
use crate::data::output_layer::OutputLayer;
use crate::data::targets::Targets;
use crate::data::top_k::TopK;
use crate::metric::fidelity::{accuracy, agreement, kl_divergence};
use crate::report::model::HeadReport;
use crate::teacher::TeacherInfo;

type Rows = Vec<[f32; 3]>;
type Data = DistillData<Tensor<2>>;

/// A model whose heads are made of its input times a factor.
#[derive(Module, Debug)]
struct Scaled {
    factor: Param<Tensor<1>>,
    #[module(skip)]
    heads: fn(Tensor<2>) -> Outputs,
}

impl Scaled {
    fn new(factor: f32, heads: fn(Tensor<2>) -> Outputs) -> Self {
        Self {
            factor: Param::from_tensor(Tensor::from_floats([factor], &device())),
            heads,
        }
    }
}

impl Distillable<Tensor<2>> for Scaled {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        (self.heads)(input * self.factor.val().unsqueeze())
    }
}

fn device() -> Device {
    Device::flex()
}

fn rows() -> Rows {
    vec![
        [2.0, -1.0, 0.5],
        [-0.5, 1.0, 0.75],
        [0.25, -2.0, 3.0],
        [1.0, 0.5, -1.5],
        [-1.0, 0.5, 2.5],
    ]
}

fn tensor(rows: &[[f32; 3]]) -> Tensor<2> {
    Tensor::from_data(
        burn::tensor::TensorData::new(rows.concat(), [rows.len(), 3]),
        &device(),
    )
}

/// The rows with what `targets` knows of their indices.
fn data(targets: fn(DistillBatch<Tensor<2>>, Vec<usize>) -> DistillBatch<Tensor<2>>) -> Data {
    let items: Vec<(usize, [f32; 3])> = rows().into_iter().enumerate().collect();
    DistillData::from_fn(
        InMemDataset::new(items),
        move |items: Vec<_>, _: &Device| {
            let (indices, rows): (Vec<usize>, Rows) = items.into_iter().unzip();
            targets(DistillBatch::new(tensor(&rows)), indices)
        },
    )
}

const LABELS: [i32; 5] = [0, 2, -1, 1, 2];
const WEIGHTS: [f32; 5] = [1.0, 0.5, 2.0, 0.0, 3.0];

fn pick<T: Copy>(all: &[T], indices: &[usize]) -> Vec<T> {
    indices.iter().map(|index| all[*index]).collect()
}

fn labelled(batch: DistillBatch<Tensor<2>>, indices: Vec<usize>) -> DistillBatch<Tensor<2>> {
    let labels = Tensor::<1, Int>::from_data(pick(&LABELS, &indices).as_slice(), &device());
    let weights = Tensor::<1>::from_data(pick(&WEIGHTS, &indices).as_slice(), &device());
    batch.with_classes(labels).with_weights(weights)
}

fn pair<T: Teacher<Tensor<2>>>(student: &Scaled, teacher: T, data: &Data) -> Pair {
    let teacher: Arc<dyn Teacher<Tensor<2>>> = Arc::new(teacher);
    let policy = ClassPolicy::default();
    // Two batches, the last of them smaller.
    measure_pair(student, Some(&teacher), true, policy, data, 3, &device()).unwrap()
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.expect("it was measured");
    assert!((found - expected).abs() < 1e-5, "{found} {expected}");
}

fn plain(x: Tensor<2>) -> Outputs {
    Outputs::new(x)
}

fn projected(x: Tensor<2>) -> Outputs {
    let identity = Tensor::eye(3, &x.device());
    Outputs::new(OutputLayer::new(x, identity))
}

#[test]
fn a_classifier_has_the_weighted_numbers_of_all_its_batches() {
    let (student, teacher) = (Scaled::new(1.0, plain), Scaled::new(-0.5, plain));
    let found = pair(&student, teacher.clone(), &data(labelled));
    assert!(found.unmeasured.is_empty(), "{:?}", found.unmeasured);
    let labels = Tensor::<1, Int>::from_ints(LABELS, &device());
    let weights = Tensor::<1>::from_floats(WEIGHTS, &device()).into();
    let [ours, theirs] = [1.0, -0.5].map(|factor| tensor(&rows()) * factor);
    let report = &found.student;
    near(
        report.accuracy,
        accuracy(ours.clone(), labels.clone(), Some(&weights)),
    );
    near(
        report.agreement,
        agreement(ours.clone(), theirs.clone(), Some(&weights)),
    );
    let [forward, backward] = [
        kl_divergence(theirs.clone(), ours.clone(), Some(&weights)),
        kl_divergence(ours.clone(), theirs.clone(), Some(&weights)),
    ];
    near(report.kl_teacher_student, forward);
    near(report.kl_student_teacher, backward);
    near(report.perplexity, report.cross_entropy.unwrap().exp());
    assert_eq!(report.heads["logits"].rows, 4);
    // Rows 0, 1 and 4 have weight and label.
    let counted: usize = report.reliability.iter().map(|bin| bin.samples).sum();
    assert_eq!(counted, 3);

    let of_teacher = found.teacher.unwrap();
    near(
        of_teacher.accuracy,
        accuracy(theirs, labels, Some(&weights)),
    );
    assert_eq!(
        (of_teacher.agreement, of_teacher.parameters),
        (None, Some(1))
    );
    let comparison = found.comparison.unwrap();
    assert_eq!(comparison.confusion.iter().flatten().sum::<u64>(), 4);

    let alone = measure(&student, None, &data(labelled), 2, &device()).unwrap();
    near(alone.cross_entropy, report.cross_entropy.unwrap());
    let beside = measure(&student, Some(&teacher), &data(labelled), 2, &device()).unwrap();
    near(beside.agreement, report.agreement.unwrap());
    assert_eq!(alone.agreement, None);
}

#[test]
fn a_projected_head_has_the_numbers_of_its_logits() {
    let dense = pair(
        &Scaled::new(1.0, plain),
        Scaled::new(2.0, plain),
        &data(labelled),
    );
    let chunked = pair(
        &Scaled::new(1.0, projected),
        Scaled::new(2.0, projected),
        &data(labelled),
    );
    let numbers = |report: &ModelReport| {
        let head = report.heads["logits"].clone();
        [
            head.accuracy,
            head.cross_entropy,
            head.calibration_error,
            head.agreement,
            head.kl_teacher_student,
            head.kl_student_teacher,
        ]
    };
    for (a, b) in numbers(&dense.student)
        .iter()
        .zip(numbers(&chunked.student))
    {
        near(b, a.unwrap());
    }
    near(
        chunked.teacher.unwrap().cross_entropy,
        dense.teacher.unwrap().cross_entropy.unwrap(),
    );
}

#[test]
fn a_regression_has_errors_and_no_number_of_classes() {
    let values = |x| Outputs::values(x);
    let targets = |batch: DistillBatch<Tensor<2>>, _| {
        let targets = batch.input.clone() + 2.0;
        batch.with_values(targets)
    };
    let found = pair(
        &Scaled::new(1.0, values),
        Scaled::new(-1.0, values),
        &data(targets),
    );
    let square = rows()
        .concat()
        .iter()
        .map(|x| 4.0 * f64::from(x * x))
        .sum::<f64>()
        / 15.0;
    let head = &found.student.heads["values"];
    let expected = HeadReport {
        rows: 5,
        mean_squared_error: Some(4.0),
        error_to_teacher: head.error_to_teacher,
        ..HeadReport::new(HeadKind::Continuous)
    };
    assert_eq!(head, &expected);
    near(head.error_to_teacher, square);
    assert_eq!(found.student.mean_squared_error, Some(4.0));
    assert!(found.comparison.is_none() && found.unmeasured.is_empty());
    assert_eq!(found.teacher.unwrap().agreement, None);
}

#[test]
fn a_binary_head_is_measured_label_by_label() {
    let binary = |x| Outputs::binary(x);
    let targets = |batch: DistillBatch<Tensor<2>>, _| {
        let yes = crate::data::targets::from_bool(batch.input.clone().greater_elem(0.6));
        batch.with_binary(yes)
    };
    let found = pair(
        &Scaled::new(1.0, binary),
        Scaled::new(-2.0, binary),
        &data(targets),
    );
    let all = rows().concat();
    let of_rows = |number: &dyn Fn(f64) -> f64| {
        all.iter().map(|z| number(f64::from(*z))).sum::<f64>() / all.len() as f64
    };
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    let head = &found.student.heads["logits"];
    near(
        head.accuracy,
        of_rows(&|z| f64::from((z > 0.0) == (z > 0.6))),
    );
    near(head.exact_match, 1.0 / 5.0);
    near(
        head.cross_entropy,
        of_rows(&|z| -sigmoid(if z > 0.6 { z } else { -z }).ln()),
    );
    near(head.agreement, 0.0);
    let kl = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    near(
        head.kl_teacher_student,
        of_rows(&|z| kl(sigmoid(-2.0 * z), sigmoid(z))),
    );
    near(
        head.kl_student_teacher,
        of_rows(&|z| kl(sigmoid(z), sigmoid(-2.0 * z))),
    );
    assert_eq!((head.perplexity, head.calibration_error), (None, None));
    assert_eq!(found.teacher.unwrap().exact_match(), Some(0.0));
}

impl ModelReport {
    fn exact_match(&self) -> Option<f64> {
        self.main().exact_match
    }
}

#[test]
fn heads_are_reported_apart() {
    let heads = |x: Tensor<2>| {
        let position = Head::Continuous(x.clone());
        Outputs::new(x).with_head("a position", position)
    };
    let targets = |batch: DistillBatch<Tensor<2>>, indices: Vec<usize>| {
        let values = Targets::new().with_values(batch.input.clone() - 1.0);
        // Only the first sample has a position.
        let weights: Vec<f32> = indices
            .iter()
            .map(|at| f32::from(u8::from(*at == 0)))
            .collect();
        let weights = Tensor::<1>::from_data(weights.as_slice(), &device());
        labelled(batch, indices).with_head("a position", values.with_weights(weights))
    };
    let student = Scaled::new(1.0, heads);
    let found = pair(&student, Scaled::new(1.0, plain), &data(targets));
    let report = &found.student;
    assert_eq!(report.main_head.as_deref(), Some("logits"));
    assert_eq!(
        (report.agreement, report.mean_squared_error),
        (Some(1.0), None)
    );
    let position = &report.heads["a position"];
    assert_eq!((position.rows, position.mean_squared_error), (1, Some(1.0)));
    assert_eq!((position.accuracy, position.error_to_teacher), (None, None));
    let expected = "comparison of head \"a position\": the teacher has no such head";
    assert_eq!(found.unmeasured, [expected]);
    assert_eq!(found.teacher.unwrap().heads.len(), 1);
}

#[test]
fn a_model_without_heads_has_size_and_speed() {
    let none = |_| Outputs::features_only();
    let found = pair(
        &Scaled::new(1.0, none),
        Scaled::new(1.0, none),
        &data(labelled),
    );
    let report = found.student;
    assert!(report.heads.is_empty() && found.comparison.is_none());
    assert_eq!((report.samples, report.parameters), (5, Some(1)));
    assert!(report.latency_ms.is_some() && report.bytes.is_some());
}

/// A teacher that is not a model, of which the two most likely classes are known.
struct Sparse;

impl Teacher<Tensor<2>> for Sparse {
    fn ask(&self, batch: &TeacherBatch<'_, Tensor<2>>) -> Result<Outputs> {
        let all = burn::tensor::activation::log_softmax(batch.input.clone(), 1);
        let (log_probs, indices) = all.topk_with_indices(2, 1);
        Ok(Outputs::new(TopK::new(indices, log_probs, 3)))
    }

    fn on(&self, _device: &Device) -> Arc<dyn Teacher<Tensor<2>>> {
        Arc::new(Sparse)
    }
}

#[test]
fn of_a_top_k_teacher_only_what_is_known_is_reported() {
    let found = pair(&Scaled::new(1.0, plain), Sparse, &data(labelled));
    let report = found.student;
    near(report.agreement, 1.0);
    near(report.kl_teacher_student, 0.0);
    assert_eq!(report.kl_student_teacher, None);
    let teacher = found.teacher.unwrap();
    assert_eq!(teacher.accuracy, report.accuracy);
    assert_eq!((teacher.cross_entropy, teacher.perplexity), (None, None));
    assert_eq!((teacher.parameters, teacher.latency_ms), (None, None));
    assert_eq!(
        found.unmeasured,
        [
            "head \"logits\" of the student: KL(student || teacher): only the teacher's most likely classes are known",
            "size and speed of the teacher: it is not a model",
            "head \"logits\" of the teacher: cross-entropy: not every label has a probability that is known",
        ]
    );
}

/// Answers the first batch only.
struct Failing;

impl Teacher<Tensor<2>> for Failing {
    fn ask(&self, batch: &TeacherBatch<'_, Tensor<2>>) -> Result<Outputs> {
        match batch.indices.first() {
            Some(0) => Ok(Outputs::new(batch.input.clone())),
            _ => Err(Error::Teacher {
                name: "web".into(),
                reason: "gone".into(),
            }),
        }
    }

    fn on(&self, _device: &Device) -> Arc<dyn Teacher<Tensor<2>>> {
        Arc::new(Failing)
    }

    fn info(&self) -> TeacherInfo {
        TeacherInfo::named("web")
    }
}

#[test]
fn a_teacher_that_fails_leaves_the_student_its_own_numbers() {
    let student = Scaled::new(1.0, plain);
    let found = pair(&student, Failing, &data(labelled));
    assert!(found.student.accuracy.is_some() && found.student.agreement.is_none());
    assert!(found.teacher.is_none() && found.comparison.is_none());
    let expected = "comparison with the teacher: teacher \"web\" did not answer: gone";
    assert_eq!(found.unmeasured, [expected]);
    let error = measure(&student, Some(&Failing), &data(labelled), 3, &device()).unwrap_err();
    assert!(matches!(error, Error::Teacher { .. }), "{error}");
}

#[test]
fn heads_of_another_width_are_compared_as_the_policy_says() {
    let two = |x: Tensor<2>| Outputs::new(x.narrow(1, 0, 2));
    let data = data(|batch, _| batch);
    let student = Scaled::new(1.0, two);
    let teacher: Arc<dyn Teacher<Tensor<2>>> = Arc::new(Scaled::new(1.0, plain));
    let measured =
        |policy| measure_pair(&student, Some(&teacher), true, policy, &data, 3, &device()).unwrap();
    let refused = measured(ClassPolicy::Error);
    assert_eq!(refused.student.agreement, None);
    let expected = "comparison of head \"logits\": the student has 2 classes, the teacher 3";
    assert_eq!(refused.unmeasured, [expected]);
    near(
        measured(ClassPolicy::Truncate).student.kl_teacher_student,
        0.0,
    );
    near(measured(ClassPolicy::Pad).student.agreement, 3.0 / 5.0);
}

#[test]
fn errors_name_sample_and_label() {
    let far = data(|batch, indices| {
        let labels: Vec<i32> = indices.iter().map(|index| *index as i32).collect();
        batch.with_classes(Tensor::<1, Int>::from_data(labels.as_slice(), &device()))
    });
    let student = Scaled::new(1.0, plain);
    let error = measure(&student, None, &far, 2, &device()).unwrap_err();
    let expected = "cannot measure head \"logits\": label 3 of sample 3 is out of range: \
                    the student has 3 classes (0 to 2)";
    assert_eq!(error.to_string(), expected);

    let empty = data(|batch, _| {
        batch.with_mask(Tensor::<1, burn::tensor::Bool>::from_data(
            [true],
            &device(),
        ))
    });
    let error = measure(&student, None, &empty, 2, &device()).unwrap_err();
    assert!(matches!(error, Error::RowMismatch { .. }), "{error}");
}

#[test]
fn targets_of_another_kind_are_not_compared() {
    let values = data(|batch, _| {
        let values = batch.input.clone();
        batch.with_values(values)
    });
    let found = pair(&Scaled::new(1.0, plain), Scaled::new(1.0, plain), &values);
    assert_eq!(
        (found.student.accuracy, found.student.agreement),
        (None, Some(1.0))
    );
    let expected = "comparison with the targets: head \"logits\" is categorical, \
                    its targets are real-valued targets";
    assert_eq!(found.unmeasured, [expected]);
}
