//! Every batch is held to what the first one promised: what differs is an error that says where, in
//! training and in validation, whoever prepares it and however many devices share it.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::data::dataset::{Dataset, DatasetError, InMemDataset};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Device, Int, IntDType, Tensor, TensorData};
use burn::train::MultiDeviceOptim;
use burn_distill::knowledge::{RecordOptions, record};
use burn_distill::loss::{HardLabel, Hint, LogitMse, LossContext, Needs, SoftTarget, loss_fn};
use burn_distill::report::measure;
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, FitConfig, IntoTerm, Objective, Outputs,
    ProgressMode, Teacher, TeacherCache, Term, TopK, adapt, teacher_fn, train_supervised,
};
use common::net::{CLASSES, INPUTS, Point, classes, inputs, labelled, numbers, points};
use common::plain::Plain;

type Data = DistillData<Tensor<2>>;

fn quiet() -> FitConfig {
    FitConfig::new(2)
        .with_batch_size(16)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_progress(ProgressMode::Silent)
}

/// One device whose batches are prepared on the spot, by workers, and two devices.
fn ways() -> Vec<FitConfig> {
    let two = vec![Device::flex(), Device::flex()];
    vec![
        quiet().with_workers(0),
        quiet().with_workers(2),
        quiet()
            .with_batch_size(8)
            .with_devices(two, MultiDeviceOptim::OptimMainDevice),
    ]
}

fn soft() -> Objective {
    Objective::new().with(SoftTarget::new(2), 1)
}

fn soft_and_hard() -> Objective {
    soft().with(HardLabel::new(), 1)
}

/// What comes of a training, in words; a panic that reached the caller is one too.
fn outcome<E: std::fmt::Display, R>(run: impl FnOnce() -> Result<R, E>) -> String {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(_)) => "ok".into(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|text| text.to_string()));
            format!("PANIC {}", text.unwrap_or_default())
        }
    }
}

fn fit<T: Teacher<Tensor<2>> + Clone>(
    config: &FitConfig,
    objective: Objective,
    teacher: T,
    train: Data,
    valid: Option<Data>,
) -> String {
    outcome(|| {
        Distiller::on(Device::flex(), teacher, Plain::new(4))
            .with_objective(objective)
            .fit(config, train, valid)
    })
}

/// Points, of which a batcher knows by their first number whether one is the bad one.
const BAD: f32 = 7.0;

fn with_bad(at: usize) -> Vec<Point> {
    let mut points = points(48);
    points[at].input[0] = BAD;
    points
}

fn is_bad(point: &Point) -> bool {
    point.input[0] == BAD
}

/// Data whose batches are changed where they have the bad point.
fn changed(
    points: Vec<Point>,
    change: impl Fn(DistillBatch<Tensor<2>>, &[Point], &Device) -> DistillBatch<Tensor<2>>
    + Send
    + Sync
    + 'static,
) -> Data {
    DistillData::from_fn(
        InMemDataset::new(points),
        move |points: Vec<Point>, device: &Device| {
            let batch =
                DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device));
            match points.iter().any(is_bad) {
                true => change(batch, &points, device),
                false => batch,
            }
        },
    )
}

/// Runs data with a bad batch after the first, and after the last good one in validation, every way.
#[track_caller]
fn refused(objective: fn() -> Objective, data: impl Fn() -> Data, expected: &str) {
    for config in ways() {
        let found = fit(&config, objective(), Plain::new(8), data(), None);
        assert!(found.contains("training"), "{found} in {config:?}");
        assert!(found.contains(expected), "{found}\n{config:?}");
    }
    let config = quiet();
    let found = fit(
        &config,
        objective(),
        Plain::new(8),
        labelled(points(48)),
        Some(data()),
    );
    assert!(found.contains("validation"), "{found}");
    assert!(found.contains(expected), "{found}");
}

#[test]
fn a_label_out_of_range_is_named_with_its_sample_and_its_set() {
    let _seeded = common::seeded();
    for at in [3, 37] {
        let mut wrong = points(48);
        wrong[at].class = 10;
        let expected = format!("label 10 of sample {at} of the");
        for objective in [soft as fn() -> Objective, soft_and_hard] {
            refused(objective, || labelled(wrong.clone()), &expected);
        }
        let objective = Objective::new().with(HardLabel::new(), 1);
        let found = outcome(|| {
            train_supervised(
                Device::flex(),
                Plain::new(4),
                &objective,
                &quiet(),
                labelled(wrong.clone()),
                None,
            )
        });
        assert!(found.contains(&expected), "{found}");
    }
}

#[test]
fn targets_are_there_in_every_batch_or_in_none() {
    let _seeded = common::seeded();
    let data = || {
        changed(with_bad(37), |batch, _, _| {
            DistillBatch::new(batch.input.clone())
        })
    };
    for objective in [soft as fn() -> Objective, soft_and_hard] {
        refused(objective, data, "targets");
    }
}

#[test]
fn targets_keep_their_kind() {
    let _seeded = common::seeded();
    let data = || {
        changed(with_bad(37), |batch, points, device| {
            batch.with_values(Tensor::zeros([points.len(), CLASSES], device))
        })
    };
    refused(soft, data, "targets");
}

#[test]
fn labels_and_masks_have_as_many_entries_as_there_are_rows() {
    let _seeded = common::seeded();
    let data = || {
        changed(with_bad(37), |batch, points, device| {
            let mask = vec![true; points.len() + 1];
            batch.with_mask(Tensor::<1, Bool>::from_data(mask.as_slice(), device))
        })
    };
    refused(soft_and_hard, data, "the mask has");
    let data = || {
        changed(with_bad(37), |batch, points, device| {
            batch.with_classes(Tensor::<1, Int>::zeros([points.len() + 1], device))
        })
    };
    refused(soft_and_hard, data, "the target has");
}

/// Two values per row.
#[derive(Module, Debug)]
struct Values {
    layer: Linear,
}

impl Distillable<Tensor<2>> for Values {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        Outputs::values(self.layer.forward(input))
    }
}

fn values() -> Values {
    Values {
        layer: LinearConfig::new(INPUTS, 2).init(&Device::flex()),
    }
}

/// Points with real values, which are `width` in number where the bad one is.
fn valued(points: Vec<Point>, width: usize) -> Data {
    DistillData::from_fn(
        InMemDataset::new(points),
        move |points: Vec<Point>, device: &Device| {
            let width = match points.iter().any(is_bad) {
                true => width,
                false => 2,
            };
            DistillBatch::new(inputs(&points, device))
                .with_values(Tensor::zeros([points.len(), width], device))
        },
    )
}

#[test]
fn values_keep_their_width() {
    let _seeded = common::seeded();
    let run = |config: &FitConfig, train, valid: Option<Data>| {
        outcome(|| {
            Distiller::on(Device::flex(), values(), values())
                .with(LogitMse::new(), 1)
                .fit(config, train, valid)
        })
    };
    for config in ways() {
        let found = run(&config, valued(with_bad(37), 4), None);
        assert!(
            found.contains("has 2 values per row, its targets have 4"),
            "{found}"
        );
        assert!(found.contains("training"), "{found}");
    }
    let found = run(
        &quiet(),
        valued(points(48), 2),
        Some(valued(with_bad(37), 4)),
    );
    assert!(
        found.contains("has 2 values per row, its targets have 4"),
        "{found}"
    );
    assert!(found.contains("validation"), "{found}");
}

/// A teacher that changes its outputs where the bad point is.
fn teaching(change: fn(Outputs, &Tensor<2>) -> Outputs) -> impl Teacher<Tensor<2>> + Clone {
    let model = Plain::new(8);
    teacher_fn("changing", move |input: Tensor<2>| {
        let outputs = model.valid().outputs(input.clone());
        let firsts: Vec<f32> = input.clone().narrow(1, 0, 1).into_data().iter().collect();
        match firsts.contains(&BAD) {
            true => change(outputs, &input),
            false => outputs,
        }
    })
}

#[track_caller]
fn teacher_refused(
    objective: fn() -> Objective,
    change: fn(Outputs, &Tensor<2>) -> Outputs,
    expected: &str,
) {
    let bad = || labelled(with_bad(37));
    for config in ways() {
        let found = fit(&config, objective(), teaching(change), bad(), None);
        assert!(found.contains(expected), "{found}\n{config:?}");
        assert!(found.contains("training"), "{found}");
    }
    let found = fit(
        &quiet(),
        objective(),
        teaching(change),
        labelled(points(48)),
        Some(bad()),
    );
    assert!(found.contains(expected), "{found}");
    assert!(found.contains("validation"), "{found}");
}

#[test]
fn a_teacher_keeps_its_rows_classes_and_features() {
    let _seeded = common::seeded();
    let fewer = |outputs: Outputs, _: &Tensor<2>| {
        let logits = outputs.logits();
        let rows = logits.dims()[0] - 1;
        Outputs::new(logits.narrow(0, 0, rows))
    };
    teacher_refused(soft, fewer, "heads \"logits\" differ");
    let wider = |outputs: Outputs, _: &Tensor<2>| {
        let logits = outputs.logits();
        Outputs::new(Tensor::cat(vec![logits.clone(), logits.narrow(1, 0, 1)], 1))
    };
    teacher_refused(soft, wider, "teacher has");
    let headless = |_: Outputs, _: &Tensor<2>| Outputs::features_only();
    teacher_refused(soft, headless, "the teacher has no head \"logits\"");
    let hint = || soft().with(Hint::new("hidden", "hidden"), 1);
    let featureless = |outputs: Outputs, _: &Tensor<2>| Outputs::new(outputs.logits());
    teacher_refused(hint, featureless, "needs feature \"hidden\" of the teacher");
    let narrower = |outputs: Outputs, input: &Tensor<2>| {
        outputs.with_feature("hidden", input.clone().narrow(1, 0, 5))
    };
    teacher_refused(hint, narrower, "feature \"hidden\"");
}

#[test]
fn what_is_not_finite_is_named_with_its_sample_and_its_set() {
    let _seeded = common::seeded();
    let poisoned = |outputs: Outputs, input: &Tensor<2>| {
        let is_bad = input.clone().narrow(1, 0, 1).equal_elem(BAD);
        let logits = outputs.logits();
        let is_bad = is_bad.expand(logits.dims());
        Outputs::new(logits.mask_fill(is_bad, f32::NAN))
    };
    let expected = "head \"logits\" of the teacher for sample 37 of the";
    teacher_refused(soft, poisoned, expected);
    // In the first batch, too.
    let found = fit(
        &quiet(),
        soft(),
        teaching(poisoned),
        labelled(with_bad(3)),
        None,
    );
    let expected = "head \"logits\" of the teacher for sample 3 of the training set";
    assert!(found.contains(expected), "{found}");

    // An input, with and without a teacher.
    for at in [3, 37] {
        let mut wrong = points(48);
        wrong[at].input[2] = f32::NAN;
        let expected = format!("the input of sample {at} of the");
        refused(soft, || labelled(wrong.clone()), &expected);
        let objective = Objective::new().with(HardLabel::new(), 1);
        let found = outcome(|| {
            let data = labelled(wrong.clone());
            train_supervised(
                Device::flex(),
                Plain::new(4),
                &objective,
                &quiet(),
                data,
                None,
            )
        });
        assert!(found.contains(&expected), "{found}");
    }
}

#[test]
fn a_teacher_may_say_anything_of_masked_rows() {
    let _seeded = common::seeded();
    // Every fourth row is masked, and has a NaN or a zero.
    let run = |fill: f32| {
        let data = DistillData::from_fn(
            InMemDataset::new((0..32).zip(points(32)).collect()),
            |items: Vec<(usize, Point)>, device: &Device| {
                let (numbers, points): (Vec<_>, Vec<Point>) = items.into_iter().unzip();
                let mask: Vec<bool> = numbers.iter().map(|n| n % 4 != 1).collect();
                let marks: Vec<f32> = mask.iter().map(|is_valid| f32::from(*is_valid)).collect();
                let marks = Tensor::<1>::from_floats(marks.as_slice(), device).unsqueeze_dim(1);
                let input = inputs(&points, device);
                DistillBatch::new(input.clone())
                    .with_teacher_input(Tensor::cat(vec![input, marks], 1))
                    .with_mask(Tensor::<1, Bool>::from_data(mask.as_slice(), device))
            },
        );
        let model = Plain::new(8);
        let teacher = teacher_fn("masked", move |input: Tensor<2>| {
            let rows = input.dims()[0];
            let is_out = input.clone().narrow(1, INPUTS, 1).equal_elem(0.0);
            let outputs = model.outputs(input.narrow(1, 0, INPUTS));
            let hidden = Tensor::<2>::ones([rows, 4], &outputs.logits().device());
            let filled = |x: Tensor<2>| {
                let shape = x.dims();
                x.mask_fill(is_out.clone().expand(shape), fill)
            };
            Outputs::new(filled(outputs.logits())).with_feature("hidden", filled(hidden))
        });
        let distilled = Distiller::on(Device::flex(), teacher, Plain::new(4))
            .with_objective(soft().with(Hint::new("hidden", "hidden"), 1))
            .fit(&quiet(), data, None)
            .unwrap();
        numbers(&distilled.student)
    };
    assert_eq!(run(f32::NAN), run(0.0));
}

#[test]
fn labels_may_be_of_any_integer_type() {
    let _seeded = common::seeded();
    let run = |dtype: Option<IntDType>| {
        let data = DistillData::from_fn(
            InMemDataset::new(points(40)),
            move |points: Vec<Point>, device: &Device| {
                let labels = classes(&points, device);
                DistillBatch::new(inputs(&points, device)).with_classes(match dtype {
                    Some(dtype) => labels.cast(dtype),
                    None => labels,
                })
            },
        );
        let distilled = Distiller::on(Device::flex(), Plain::new(8), Plain::new(4))
            .with_objective(
                soft_and_hard()
                    .with(burn_distill::loss::Dkd::new(2), 1)
                    .with(burn_distill::loss::Nkd::new(2), 1)
                    .with(burn_distill::loss::VirtualTeacher::new(), 1),
            )
            .fit(&quiet(), data, None)
            .unwrap();
        let accuracy = distilled.report.distilled.accuracy;
        (numbers(&distilled.student), accuracy)
    };
    let expected = run(None);
    for dtype in INTEGERS {
        let found = catch_unwind(|| run(Some(dtype)));
        assert_eq!(found.ok(), Some(expected.clone()), "{dtype:?}");
    }
}

const INTEGERS: [IntDType; 8] = [
    IntDType::I64,
    IntDType::I32,
    IntDType::I16,
    IntDType::I8,
    IntDType::U64,
    IntDType::U32,
    IntDType::U16,
    IntDType::U8,
];

#[test]
fn masked_labels_may_be_too_large_in_any_integer_type() {
    let _seeded = common::seeded();
    let run = |dtype: IntDType, marked: i64| {
        let data = DistillData::from_fn(
            InMemDataset::new(points(40)),
            move |points: Vec<Point>, device: &Device| {
                let valid: Vec<bool> = points.iter().map(|p| p.class != 2).collect();
                let valid = Tensor::<1, Bool>::from_data(valid.as_slice(), device);
                let labels = classes(&points, device);
                let labels = labels.mask_fill(valid.clone().bool_not(), marked);
                DistillBatch::new(inputs(&points, device))
                    .with_classes(labels.cast(dtype))
                    .with_mask(valid)
            },
        );
        let distilled = Distiller::on(Device::flex(), Plain::new(8), Plain::new(4))
            .with_objective(soft_and_hard())
            .fit(&quiet(), data.clone(), data)
            .unwrap();
        let report = distilled.report;
        let accuracy = report.distilled.accuracy;
        (numbers(&distilled.student), accuracy, report.unmeasured)
    };
    let expected = run(IntDType::I32, -1);
    assert!(expected.2.is_empty(), "{:?}", expected.2);
    for dtype in INTEGERS {
        assert_eq!(run(dtype, 100), expected, "{dtype:?}");
    }
}

#[test]
fn the_classes_of_a_top_k_teacher_may_be_of_any_integer_type() {
    let _seeded = common::seeded();
    let run = |dtype: IntDType| {
        let model = Plain::new(8);
        let teacher = teacher_fn("top k", move |input: Tensor<2>| {
            let logits = model.outputs(input).logits();
            let (log_probs, indices) = log_softmax(logits, 1).topk_with_indices(2, 1);
            Outputs::new(TopK::new(indices.cast(dtype), log_probs, CLASSES))
        });
        let distilled = Distiller::on(Device::flex(), teacher, Plain::new(4))
            .with_objective(soft_and_hard())
            .fit(&quiet(), labelled(points(40)), None)
            .unwrap();
        let agreement = distilled.report.training.history.train["agreement"].clone();
        (numbers(&distilled.student), agreement)
    };
    let expected = run(IntDType::I32);
    for dtype in INTEGERS {
        assert_eq!(run(dtype), expected, "{dtype:?}");
    }
}

/// A dataset of which one item cannot be read, or panics.
struct Broken {
    points: Vec<Point>,
    at: usize,
    panics: bool,
}

impl Dataset<Point> for Broken {
    fn get(&self, index: usize) -> Result<Point, DatasetError> {
        if index == self.at {
            assert!(!self.panics, "the dataset gave up");
            return Err(DatasetError::new(std::io::Error::other(
                "line is no number",
            )));
        }
        Ok(self.points[index].clone())
    }

    fn len(&self) -> usize {
        self.points.len()
    }
}

fn broken(at: usize, panics: bool) -> Data {
    let points = points(48);
    let dataset = Broken { points, at, panics };
    DistillData::from_fn(dataset, |points: Vec<Point>, device: &Device| {
        DistillBatch::new(inputs(&points, device)).with_classes(classes(&points, device))
    })
}

#[test]
fn a_sample_that_cannot_be_read_is_named() {
    let _seeded = common::seeded();
    for at in [3, 37] {
        let expected = format!("sample {at}: line is no number");
        refused(soft, || broken(at, false), &expected);
    }
}

#[test]
fn a_panic_of_a_users_code_is_an_error_with_its_text() {
    let _seeded = common::seeded();
    for at in [3, 37] {
        refused(soft, || broken(at, true), "the dataset gave up");
        let batcher = || changed(with_bad(at), |_, _, _| panic!("the batcher gave up"));
        refused(soft, batcher, "the batcher gave up");
        let bad = || labelled(with_bad(at));
        for config in ways() {
            let teacher = teaching(|_, _| panic!("the teacher gave up"));
            let found = fit(&config, soft(), teacher, bad(), None);
            assert!(found.ends_with("panicked: the teacher gave up"), "{found}");
            assert!(!found.contains("PANIC"), "{found}");

            let loss = loss_fn("own", |context: &LossContext<'_>| {
                assert!(
                    !context.indices.contains(&37) && !context.indices.contains(&3),
                    "the loss gave up"
                );
                context.mean(context.logits().mean_dim(1).squeeze_dim(1))
            });
            let found = fit(
                &config,
                Objective::new().with(loss, 1),
                Plain::new(8),
                bad(),
                None,
            );
            assert!(found.ends_with("panicked: the loss gave up"), "{found}");
            assert!(!found.contains("PANIC"), "{found}");

            let student = adapt(Plain::new(4), |model: &Plain, input: Tensor<2>| {
                let firsts: Vec<f32> = input.clone().narrow(1, 0, 1).into_data().iter().collect();
                assert!(!firsts.contains(&BAD), "the model gave up");
                model.outputs(input)
            });
            let found = outcome(|| {
                Distiller::on(Device::flex(), Plain::new(8), student)
                    .with_objective(soft())
                    .fit(&config, bad(), None)
            });
            assert!(found.ends_with("panicked: the model gave up"), "{found}");
            assert!(!found.contains("PANIC"), "{found}");
        }
    }
}

#[test]
fn a_panic_while_measuring_is_an_error_with_its_text() {
    let model = Plain::new(4);
    let student = adapt(model.clone(), |_: &Plain, _: Tensor<2>| {
        panic!("the model gave up")
    });
    let found = outcome(|| measure(&student, None, &labelled(points(8)), 4, &Device::flex()));
    assert_eq!(found, "cannot measure the student: the model gave up");
    let data = changed(with_bad(5), |_, _, _| panic!("the batcher gave up"));
    let found = outcome(|| measure(&model, None, &data, 4, &Device::flex()));
    assert_eq!(found, "cannot measure the student: the batcher gave up");
}

#[test]
fn a_panic_while_recording_is_an_error_with_its_text() {
    let data = || {
        DistillData::builder(InMemDataset::new(points(48)))
            .by_content()
            .batched(|points: Vec<Point>, device: &Device| {
                assert!(points.len() < 16, "the batcher gave up");
                DistillBatch::new(inputs(&points, device))
            })
    };
    let directory = tempfile::tempdir().unwrap();
    let options = RecordOptions::new(Device::flex())
        .with_batch_size(16)
        .with_progress(ProgressMode::Silent);
    let found = outcome(|| record(&Plain::new(4), &data(), directory.path(), &options));
    let expected = "recorded batch of samples 0, 1, 2 and 13 more: panicked: the batcher gave up";
    assert_eq!(found, expected);
    let config = quiet().with_teacher_cache(TeacherCache::directory(directory.path()));
    let found = fit(&config, soft(), Plain::new(8), data(), None);
    assert!(found.ends_with("panicked: the batcher gave up"), "{found}");
    assert!(!found.contains("PANIC"), "{found}");
}

#[test]
fn one_class_is_no_choice() {
    let _seeded = common::seeded();
    let one = || {
        let layer: Linear = LinearConfig::new(INPUTS, 1).init(&Device::flex());
        adapt(layer, |layer: &Linear, x: Tensor<2>| {
            Outputs::new(layer.forward(x))
        })
    };
    let losses: Vec<Term> = vec![SoftTarget::new(1).into_term(), HardLabel::new().into_term()];
    for term in losses {
        let found = outcome(|| {
            Distiller::on(Device::flex(), one(), one())
                .with_objective(Objective::new().with(term, 1))
                .fit(
                    &quiet(),
                    labelled(Vec::from_iter(
                        points(48).into_iter().map(|p| Point { class: 0, ..p }),
                    )),
                    None,
                )
        });
        assert!(
            found.contains("the number of classes is 1, expected at least 2"),
            "{found}"
        );
    }
}

/// One weight, and a loss that is the mean of `w · x` over rows.
#[derive(Module, Debug)]
struct Weight {
    weight: Param<Tensor<1>>,
}

impl Distillable<Tensor<2>> for Weight {
    fn outputs(&self, input: Tensor<2>) -> Outputs {
        // Samples of several rows, [N, T], and -1 where a batch has fewer of them.
        let rows: Tensor<2> = input.flatten::<1>(0, 1).unsqueeze_dim(1);
        Outputs::values(rows * self.weight.val().unsqueeze())
    }
}

/// How far one optimizer step of rate 1 moves the weight: by the mean of the rows that are valid.
fn moved(config: FitConfig, items: Vec<Vec<(f32, f32)>>, is_masked: bool) -> f64 {
    let data = DistillData::from_fn(
        InMemDataset::new(items),
        move |items: Vec<Vec<(f32, f32)>>, device: &Device| {
            // As many rows as the longest sample of the batch has.
            let longest = items.iter().map(Vec::len).max().unwrap();
            let padded = |item: &Vec<(f32, f32)>| {
                let mut item = item.clone();
                item.resize(longest, (0.0, 0.0));
                item
            };
            let rows: Vec<_> = items.iter().flat_map(padded).collect();
            let (values, weights): (Vec<f32>, Vec<f32>) = rows.into_iter().unzip();
            let shape = [items.len(), longest];
            let tensor = |values| Tensor::<2>::from_data(TensorData::new(values, shape), device);
            let batch = DistillBatch::new(tensor(values));
            match is_masked {
                true => batch.with_weights(tensor(weights)),
                false => batch,
            }
        },
    );
    let student = Weight {
        weight: Param::from_tensor(Tensor::zeros([1], &Device::flex())),
    };
    let loss = loss_fn("mean", |context: &LossContext<'_>| {
        context.mean(context.logits().squeeze_dim(1))
    });
    let objective = Objective::new().with(loss.needing(Needs::nothing()), 1);
    let config = config
        .with_optimizer(SgdConfig::new().init(), 1.0)
        .with_progress(ProgressMode::Silent);
    let trained = train_supervised(Device::flex(), student, &objective, &config, data, None);
    -f64::from(numbers(&trained.unwrap().model)[0])
}

#[test]
fn a_mean_over_rows_is_right_however_the_data_is_cut() {
    let _seeded = common::seeded();
    let two = || vec![Device::flex(), Device::flex()];
    let config = |batch_size| FitConfig::new(1).with_batch_size(batch_size);
    let ways = |batch_size: usize| {
        vec![
            ("whole", config(4 * batch_size)),
            ("accumulated", config(batch_size).with_accumulation(4)),
            (
                "accumulated, on the spot",
                config(batch_size).with_accumulation(4).with_workers(0),
            ),
            (
                "devices",
                config(2 * batch_size).with_devices(two(), MultiDeviceOptim::OptimMainDevice),
            ),
            (
                "sharded",
                config(2 * batch_size).with_devices(two(), MultiDeviceOptim::OptimSharded),
            ),
            (
                "both",
                config(batch_size)
                    .with_accumulation(2)
                    .with_devices(two(), MultiDeviceOptim::OptimMainDevice),
            ),
        ]
    };
    // One sample per batch: 2 rows of 1, 16 rows of 0, and so on, not all batches full.
    let item = |rows: usize, value: f32| vec![(value, 1.0); rows];
    let lengths = vec![item(2, 1.0), item(16, 0.0), item(4, 0.5)];
    let expected = (2.0 + 4.0 * 0.5) / 22.0;
    for (what, config) in ways(1)
        .into_iter()
        .filter(|(what, _)| !["whole", "devices", "sharded"].contains(what))
    {
        let found = moved(config, lengths.clone(), false);
        assert!(
            (found - expected).abs() < 1e-6,
            "{what}: {found} is not {expected}"
        );
    }
    // Weights: 4 of 64 rows are valid on one side, 60 on the other; one of three samples has none.
    let weighted = |valid: usize, value: f32| {
        (0..64)
            .map(|row| (value, f32::from(row < valid)))
            .collect::<Vec<_>>()
    };
    let masked = vec![weighted(4, 1.0), weighted(60, 0.0), weighted(0, 1e4)];
    for (what, config) in ways(1) {
        let found = moved(config, masked.clone(), true);
        assert!((found - 0.0625).abs() < 1e-6, "{what}: {found}");
    }
    // No row at all is valid but in the last.
    let none = vec![
        weighted(0, 5.0),
        weighted(0, 5.0),
        weighted(0, 5.0),
        weighted(1, 0.25),
    ];
    for (what, config) in ways(1) {
        let found = moved(config, none.clone(), true);
        assert!((found - 0.25).abs() < 1e-6, "{what}: {found}");
    }
}

#[test]
fn a_batch_that_is_masked_whole_may_come_first() {
    let _seeded = common::seeded();
    let item = |value: f32, weight: f32| vec![(value, weight)];
    let items = |last: f32| {
        let mut items = vec![item(1e4, 0.0); 7];
        items.push(item(0.5, last));
        items
    };
    let config = || FitConfig::new(1).with_batch_size(4);
    assert_eq!(moved(config(), items(1.0), true), 0.5);
    let found = catch_unwind(|| moved(config(), items(0.0), true)).unwrap_err();
    let text = found.downcast_ref::<String>().unwrap();
    assert!(text.contains("EmptyMask"), "{text}");
}
