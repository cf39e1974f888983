//! A teacher that is no module: a closure, with what it may return and what may go wrong.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataset::InMemDataset;
use burn::tensor::{Device, Tensor};
use burn_distill::knowledge::{RecordOptions, Store, record};
use burn_distill::loss::SoftTarget;
use burn_distill::{
    Combine, DistillBatch, DistillData, Distiller, Ensemble, Error, FitConfig, Outputs,
    ProgressMode, Teacher, TeacherBatch, TeacherOutputs, teacher_fn,
};
use common::net::{CLASSES, INPUTS, Net, Point, inputs, points, unlabelled};

/// The first three numbers of each point: in `points`, the largest is its class.
fn first_three(x: Tensor<2>) -> Vec<[f32; CLASSES]> {
    let numbers: Vec<f32> = x.into_data().iter().collect();
    let rows = numbers.chunks(INPUTS);
    rows.map(|row| [0, 1, 2].map(|k| 4.0 * row[k])).collect()
}

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(16)
        .with_progress(ProgressMode::Silent)
}

fn logits(teacher: &impl Teacher<Tensor<2>>, input: &Tensor<2>) -> Vec<f32> {
    let outputs = teacher.ask(&TeacherBatch::new(input)).unwrap();
    // In a training the student's batch carries autodiff, and no teacher sees it.
    assert!(!outputs.logits().is_autodiff());
    outputs.logits().into_data().iter().collect()
}

fn distil<T: Teacher<Tensor<2>>>(teacher: T, config: &FitConfig) -> Result<f64, Error> {
    let _seeded = common::seeded();
    Device::flex().seed(1);
    let student = Net::new(16, 0.0, &Device::flex());
    let distilled = Distiller::on(Device::flex(), teacher, student)
        .with(SoftTarget::new(1.0), 1.0)
        .fit(config, unlabelled(points(64)), unlabelled(points(32)))?;
    let report = distilled.report;
    assert_eq!((report.compression, report.speed_up), (None, None));
    Ok(report.distilled.agreement.expect("there is a teacher"))
}

#[test]
fn a_student_learns_from_a_closure() {
    let agreement = distil(teacher_fn("the first three", first_three), &quiet(40)).unwrap();
    assert!(agreement > 0.9, "{agreement}");
}

#[test]
fn every_kind_of_output_is_the_same_output() {
    fn check<A: TeacherOutputs>(closure: impl Fn(Tensor<2>) -> A + Send + Sync + 'static) {
        let device = Device::flex();
        let input = inputs(&points(4), &device);
        let expected = first_three(input.clone()).concat();
        let teacher = teacher_fn("t", closure);
        assert_eq!(logits(&teacher, &input), expected);
        let tracked = inputs(&points(4), &device.autodiff());
        assert_eq!(logits(&teacher, &tracked), expected);
    }

    let tensor = |x: Tensor<2>| {
        assert!(!x.is_autodiff());
        4.0 * x.narrow(1, 0, CLASSES)
    };
    check(first_three);
    check(|x| {
        first_three(x)
            .iter()
            .map(|row| row.to_vec())
            .collect::<Vec<_>>()
    });
    check(tensor);
    check(move |x| Outputs::new(tensor(x)));
    check(move |x| Ok::<_, std::io::Error>(tensor(x)));
    check(|x| Ok::<_, &str>(first_three(x)));
}

#[test]
fn an_error_of_the_closure_is_an_error_from_the_first_batch_on() {
    let refuses = |x: Tensor<2>| match x.dims()[0] {
        0 => Ok(x),
        rows => Err(format!("no line for {rows} rows")),
    };
    let error = distil(teacher_fn("a service", refuses), &quiet(1)).unwrap_err();
    let expected = "teacher \"a service\" did not answer: no line for 16 rows";
    assert_eq!(error.to_string(), expected);

    let ragged = |_: Tensor<2>| vec![vec![0.0; 3], vec![0.0; 2]];
    let error = distil(teacher_fn("ragged", ragged), &quiet(1)).unwrap_err();
    let expected = "teacher \"ragged\" did not answer: row 1 has 2 logits, row 0 has 3";
    assert_eq!(error.to_string(), expected);

    let short = |_: Tensor<2>| vec![[0.0; CLASSES]];
    let error = distil(teacher_fn("short", short), &quiet(1)).unwrap_err();
    let expected = "heads \"logits\" differ: student has [16, 3], teacher has [1, 3]";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn one_that_fails_in_the_middle_of_a_training_ends_it_with_its_reason() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let gives_up = move |x: Tensor<2>| match counted.fetch_add(1, Ordering::Relaxed) {
        0..6 => Ok(first_three(x)),
        _ => Err("the line is dead"),
    };
    let config = quiet(3);
    let error = distil(teacher_fn("a service", gives_up), &config).unwrap_err();
    assert!(matches!(&error, Error::Teacher { .. }), "{error:?}");
    let expected = "teacher \"a service\" did not answer: the line is dead";
    assert_eq!(error.to_string(), expected);
    assert_eq!(asked.load(Ordering::Relaxed), 7, "nobody asks again");
    // The same configuration trains another time.
    distil(teacher_fn("the first three", first_three), &config).unwrap();
}

#[test]
fn it_is_recorded_under_its_name() {
    fn named(name: &'static str) -> impl Teacher<Tensor<2>> {
        teacher_fn(name, first_three)
    }
    fn fingerprint(teacher: &impl Teacher<Tensor<2>>) -> String {
        let fingerprint = teacher.info().fingerprint;
        fingerprint.expect("it is known by a name")
    }
    assert_eq!(fingerprint(&named("a")), fingerprint(&named("a")));
    assert_ne!(fingerprint(&named("a")), fingerprint(&named("b")));
    let two = |a, b| Ensemble::new(vec![named(a), named(b)], Combine::Logits).unwrap();
    assert_ne!(fingerprint(&two("a", "b")), fingerprint(&two("a", "c")));

    let directory = tempfile::tempdir().unwrap();
    let data = DistillData::builder(InMemDataset::new(points(20)))
        .by_content()
        .batched(|points: Vec<Point>, device: &Device| DistillBatch::new(inputs(&points, device)));
    let options = RecordOptions::new(Device::flex()).with_progress(ProgressMode::Silent);
    let run = |name| record(&named(name), &data, directory.path(), &options);
    assert_eq!(run("a").unwrap().samples, 20);
    assert_eq!(Store::open(directory.path()).unwrap().len(), 20);
    let error = run("b").unwrap_err();
    assert!(
        matches!(error, Error::KnowledgeMismatch { .. }),
        "{error:?}"
    );
}
