//! Numbers are exact whatever the device's default type is: half precision as the default, set before the
//! first tensor, in a process of its own for each type.

mod common;

use std::process::Command;

use burn::data::dataset::InMemDataset;
use burn::module::{Module, Param, Quantizer};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::SgdConfig;
use burn::tensor::activation::relu;
use burn::tensor::quantization::{Calibration, QuantScheme, QuantValue};
use burn::tensor::{Bool, DType, Device, FloatDType, Int, Tensor, TensorData};
use burn::train::MultiDeviceOptim;
use burn_distill::knowledge::{LogitsFormat, LogitsPrecision, RecordOptions, Store, record};
use burn_distill::loss::{LossContext, SoftTarget, hint, loss_fn};
use burn_distill::metric::{
    accuracy, agreement, expected_calibration_error, kl_divergence, parameter_distance,
};
use burn_distill::report::measure;
use burn_distill::{
    AnyTeacher, Combine, DistillBatch, DistillData, Distillable, Distilled, Distiller, Ensemble,
    FitConfig, Objective, Outputs, ProgressMode, Recorded, Targets, Teacher, TeacherBatch,
    TeacherCache, Weights, adapt, teacher_fn, train_supervised,
};

/// Names the default type of a process that a test started.
const DEFAULT: &str = "BURN_DISTILL_TEST_DEFAULT";

/// Runs the body of a test in a process for each half type, the device's default there.
fn by_default(test: &str, body: fn(FloatDType)) {
    let types = [("f16", FloatDType::F16), ("bf16", FloatDType::BF16)];
    if let Ok(asked) = std::env::var(DEFAULT) {
        let found = types.into_iter().find(|(name, _)| *name == asked);
        let (_, dtype) = found.expect("one of the half types");
        Device::flex().configure(dtype).unwrap();
        let one = Tensor::<1>::ones([1], &Device::flex());
        assert_eq!(one.dtype(), dtype.into());
        return body(dtype);
    }
    for (name, _) in types {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(DEFAULT, name)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success(), "{test} with {name}:\n{text}");
        assert!(text.contains("1 passed"), "{test} ran with {name}:\n{text}");
    }
}

fn f32s<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    let options = (&Device::flex(), DType::F32);
    Tensor::from_data(TensorData::new(values, shape), options)
}

/// Two classes per row, of which the first `right` rows say class 0.
fn rows(count: usize, right: usize) -> Tensor<2> {
    let row = |row: usize| match row < right {
        true => [1.0, 0.0],
        false => [0.0, 1.0],
    };
    f32s((0..count).flat_map(row).collect(), [count, 2])
}

fn all_valid(rows: usize) -> Tensor<1, Bool> {
    Tensor::from_data(vec![true; rows].as_slice(), &Device::flex())
}

#[test]
fn rows_are_counted_exactly() {
    by_default("rows_are_counted_exactly", |dtype| {
        let device = Device::flex();
        for (count, right) in [(70_000, 70_000), (3_001, 2_000), (1_000, 923)] {
            let expected = right as f64 / count as f64;
            let labels = Tensor::<1, Int>::zeros([count], &device);
            let weights = Weights::from(all_valid(count));
            for logits in [rows(count, right), rows(count, right).cast(dtype)] {
                for weights in [None, Some(&weights)] {
                    assert_eq!(accuracy(logits.clone(), labels.clone(), weights), expected);
                    let teacher = rows(count, count);
                    assert_eq!(agreement(logits.clone(), teacher, weights), expected);
                    let divergence = kl_divergence(rows(count, count), logits.clone(), weights);
                    // Where they differ it is tanh(1/2).
                    let one = 0.5f64.tanh() * (1.0 - expected);
                    assert!((divergence - one).abs() < 1e-6, "{divergence} is not {one}");
                    let error = expected_calibration_error(logits.clone(), labels.clone(), weights);
                    let sure = 1.0 / (1.0 + (-1f64).exp());
                    let error = error.unwrap();
                    assert!((error - (expected - sure).abs()).abs() < 1e-6, "{error}");
                }
            }
        }
    });
}

#[test]
fn means_over_many_rows_are_exact() {
    by_default("means_over_many_rows_are_exact", |_| {
        for count in [257, 70_000] {
            let outputs = Outputs::new(rows(count, count));
            let targets = Targets::new().with_mask(all_valid(count));
            let context = LossContext::new(&outputs, &outputs).with_targets(&targets);
            let ones = f32s(vec![1.0; count], [count]);
            assert_eq!(context.mean(ones).into_scalar::<f32>(), 1.0);
        }
        // Features of 70 samples of 1,000 tokens.
        let student = f32s(vec![1.0; 70_000], [70, 1_000, 1]);
        let teacher = f32s(vec![0.0; 70_000], [70, 1_000, 1]);
        let plain = hint(student.clone(), teacher.clone()).mean();
        assert_eq!(plain.into_scalar::<f32>(), 1.0);
        let outputs = |x: &Tensor<3>| Outputs::features_only().with_feature("x", x.clone());
        let (student, teacher) = (outputs(&student), outputs(&teacher));
        let mask = all_valid(70_000).reshape([70, 1_000]);
        let targets = Targets::new().with_mask(mask);
        let context = LossContext::new(&student, &teacher).with_targets(&targets);
        let objective = Objective::from_toml(
            r#"terms = [{ loss = { hint = { student = "x", teacher = "x" } } }]"#,
        );
        let objective = objective.unwrap();
        objective.check(&context).unwrap();
        let modules = objective.modules(&context, &Device::flex());
        let value = objective.forward(&context, &modules).total;
        assert_eq!(value.into_scalar::<f32>(), 1.0);
    });
}

/// Convolutions, vectors and tokens, of the device's default type.
#[derive(Module, Debug)]
struct Net {
    low: Conv2d,
    high: Conv2d,
    hidden: Linear,
    head: Linear,
}

impl Net {
    fn new(low: usize, high: usize, width: usize) -> Self {
        let device = Device::flex();
        let conv = |from: usize, to: usize, stride: usize| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(&device)
        };
        Self {
            low: conv(1, low, 1),
            high: conv(low, high, 2),
            hidden: LinearConfig::new(high * 4, width).init(&device),
            head: LinearConfig::new(width, 3).init(&device),
        }
    }
}

impl Distillable<Tensor<4>> for Net {
    fn outputs(&self, images: Tensor<4>) -> Outputs {
        let low = self.low.forward(images);
        let high = self.high.forward(relu(low.clone()));
        let [samples, channels, height, width] = high.dims();
        let hidden = relu(self.hidden.forward(high.clone().flatten::<2>(1, 3)));
        let tokens: Tensor<3> = high.clone().reshape([samples, channels, height * width]);
        let square: Tensor<4> = low.clone().narrow(1, 0, 2);
        Outputs::new(self.head.forward(hidden.clone()))
            .with_feature("words", low.clone().flatten::<3>(2, 3).swap_dims(1, 2))
            .with_feature("low", low)
            .with_feature("high", high)
            .with_feature("tokens", tokens.swap_dims(1, 2))
            .with_feature("attention", burn::tensor::activation::softmax(square, 3))
            .with_feature("hidden", hidden)
    }
}

/// Labelled images, of which some have no label and some are invalid, and hold anything.
fn images(is_masked: bool) -> DistillData<Tensor<4>> {
    let pixel = |i: usize| (((i + 1) as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0) as f32;
    let items: Vec<(usize, Vec<f32>)> = (0..22)
        .map(|n| (n, (0..16).map(|i| pixel(16 * n + i)).collect()))
        .collect();
    DistillData::from_fn(
        InMemDataset::new(items),
        move |items: Vec<(usize, Vec<f32>)>, device: &Device| {
            let (numbers, images): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let shape = [images.len(), 1, 4, 4];
            let images = Tensor::<4>::from_data(TensorData::new(images.concat(), shape), device);
            let labels: Vec<i64> = numbers.iter().map(|n| *n as i64 % 4 - 1).collect();
            let valid: Vec<bool> = numbers.iter().map(|n| n % 5 != 4).collect();
            let batch = DistillBatch::new(images)
                .with_classes(Tensor::<1, Int>::from_data(labels.as_slice(), device));
            match is_masked {
                true => batch.with_mask(Tensor::<1, Bool>::from_data(valid.as_slice(), device)),
                false => batch,
            }
        },
    )
}

fn quiet(epochs: usize) -> FitConfig {
    FitConfig::new(epochs)
        .with_batch_size(8)
        .with_optimizer(SgdConfig::new().init(), 1e-3)
        .with_progress(ProgressMode::Silent)
}

/// Every loss that has a name.
const LOSSES: [&str; 36] = [
    r#"soft_target = { temperature = 2 }"#,
    r#"soft_cross_entropy = { temperature = 2 }"#,
    r#"reverse_kl = { temperature = 2 }"#,
    r#"symmetric_kl = { temperature = 2 }"#,
    r#"jensen_shannon = { temperature = 2 }"#,
    r#"total_variation = { temperature = 2 }"#,
    r#"logit_mse = {}"#,
    r#"logit_cosine = {}"#,
    r#"hint = { student = "hidden", teacher = "hidden" }"#,
    r#"hint = { student = "high", teacher = "high", regressor = "conv_bn_relu" }"#,
    r#"hidden_cosine = { student = "tokens", teacher = "tokens" }"#,
    r#"patient_kd = { pairs = [["words", "words"]] }"#,
    r#"attention_map = { student = "attention", teacher = "attention" }"#,
    r#"crd = { student = "hidden", teacher = "hidden" }"#,
    r#"vid = { student = "hidden", teacher = "hidden" }"#,
    r#"fsp = { student = ["low", "low"], teacher = ["low", "low"] }"#,
    r#"factor_transfer = { student = "high", teacher = "high" }"#,
    r#"activation_boundary = { student = "high", teacher = "high" }"#,
    r#"overhaul = { student = "high", teacher = "high", margins = [-0.1, -0.1, -0.1, -0.1, -0.1, -0.1] }"#,
    r#"review_kd = { student = ["low", "high"], teacher = ["low", "high"] }"#,
    r#"mgd = { student = "high", teacher = "high" }"#,
    r#"channel_wise = { student = "low", teacher = "low" }"#,
    r#"attention_transfer = { student = "high", teacher = "high" }"#,
    r#"nst = { student = "high", teacher = "high" }"#,
    r#"similarity_preserving = { student = "hidden", teacher = "hidden" }"#,
    r#"pkt = { student = "hidden", teacher = "hidden" }"#,
    r#"rkd = { student = "hidden", teacher = "hidden", angle_weight = 1, distance_weight = 1 }"#,
    r#"correlation_congruence = { student = "hidden", teacher = "hidden" }"#,
    r#"mmd = { student = "hidden", teacher = "hidden" }"#,
    r#"gram_mse = { student = ["tokens", "tokens"], teacher = ["tokens", "tokens"] }"#,
    r#"hard_label = { smoothing = 0.1 }"#,
    r#"dkd = { temperature = 2 }"#,
    r#"nkd = { temperature = 2 }"#,
    r#"dist = { temperature = 2 }"#,
    r#"virtual_teacher = {}"#,
    r#"sparse_soft_target = { k = 2, temperature = 2 }"#,
];

#[test]
fn every_loss_trains_with_labels_masks_and_accumulation() {
    let test = "every_loss_trains_with_labels_masks_and_accumulation";
    by_default(test, |_| {
        let mut failed = Vec::new();
        for loss in LOSSES {
            for is_masked in [false, true] {
                let run = || {
                    let objective = format!("terms = [{{ loss = {{ {loss} }} }}]");
                    let objective = Objective::from_toml(&objective).map_err(|e| e.to_string())?;
                    let (teacher, student) = (Net::new(2, 6, 6), Net::new(2, 4, 5));
                    let distilled = Distiller::on(Device::flex(), teacher, student)
                        .with_objective(objective)
                        .fit(
                            &quiet(1).with_accumulation(2),
                            images(is_masked),
                            images(is_masked),
                        )
                        .map_err(|e| e.to_string())?;
                    let report = distilled.report;
                    if !report.unmeasured.is_empty() {
                        return Err(format!("unmeasured: {:?}", report.unmeasured));
                    }
                    let history = &report.training.history;
                    let mut numbers = history.train.values().chain(history.valid.values());
                    match numbers.all(|values| values.iter().all(|value| value.is_finite())) {
                        true => Ok(()),
                        false => Err(format!("{history:?}")),
                    }
                };
                let found = std::panic::catch_unwind(run);
                let found = found.unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    Err(format!("PANIC {}", text.unwrap_or_default()))
                });
                if let Err(error) = found {
                    failed.push(format!("{loss}, masked {is_masked}: {error}"));
                }
            }
        }
        assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    });
}

#[test]
fn every_way_to_ask_a_teacher_gives_numbers() {
    by_default("every_way_to_ask_a_teacher_gives_numbers", |_| {
        let config = || quiet(1).with_accumulation(2);
        let objective = || {
            let terms = r#"terms = [
                { loss = { soft_target = { temperature = 2 } } },
                { loss = { hint = { student = "hidden", teacher = "hidden" } } },
            ]"#;
            Objective::from_toml(terms).unwrap()
        };
        fn check<T>(what: &str, distilled: burn_distill::Result<Distilled<T, Net>>) {
            let report = distilled
                .unwrap_or_else(|error| panic!("{what}: {error}"))
                .report;
            // An ensemble and a mean are not models.
            let mut unmeasured = report.unmeasured.iter();
            let is_known = |it: &String| it.starts_with("size and speed of the teacher");
            assert!(unmeasured.all(is_known), "{what}: {:?}", report.unmeasured);
            let loss = report.training.history.train["loss"][0];
            let kl = report.distilled.kl_teacher_student.unwrap();
            assert!(loss.is_finite() && kl.is_finite(), "{what}: {loss} {kl}");
        }
        let on = |config: &FitConfig| {
            Distiller::on(Device::flex(), Net::new(2, 6, 6), Net::new(2, 4, 5))
                .with_objective(objective())
                .fit(config, images(true), images(false))
        };
        let directory = tempfile::tempdir().unwrap();
        let devices = vec![Device::flex(), Device::flex()];
        let configs = [
            (
                "memory",
                config().with_teacher_cache(TeacherCache::memory(1 << 20)),
            ),
            (
                "devices",
                config().with_devices(devices, MultiDeviceOptim::OptimSharded),
            ),
            ("recompute", config().with_gradient_checkpointing(true)),
            ("checkpoints", config().with_checkpoints(directory.path())),
        ];
        for (what, config) in configs {
            check(what, on(&config));
        }
        let mean = Distiller::mean_teacher(Device::flex(), Net::new(2, 4, 5), 0.9);
        let fitted = mean.with_objective(objective());
        check("mean teacher", fitted.fit(&config(), images(true), None));
        for combine in [Combine::Logits, Combine::Probabilities, Combine::Agreement] {
            let teachers = vec![Net::new(2, 6, 6), Net::new(2, 6, 6)];
            let ensemble = Ensemble::new(teachers, combine).unwrap();
            let distilled = Distiller::on(Device::flex(), ensemble, Net::new(2, 4, 5))
                .with(SoftTarget::new(2), 1)
                .fit(&config(), images(true), None);
            check("ensemble", distilled);
        }
    });
}

/// In half, the smallest probability of an ensemble would be zero, and its logarithm −∞.
#[test]
fn an_ensemble_in_half_is_that_in_single() {
    by_default("an_ensemble_in_half_is_that_in_single", |dtype| {
        let teachers = [40.0, 39.0].map(|top: f32| {
            AnyTeacher::new(teacher_fn("sure", move |_: Tensor<2>| {
                f32s(vec![top, 0.0, 0.0], [1, 3]).cast(dtype)
            }))
        });
        let ensemble = Ensemble::new(teachers.to_vec(), Combine::Probabilities).unwrap();
        let input = Tensor::<2>::zeros([1, 1], &Device::flex());
        let outputs = Teacher::ask(&ensemble, &TeacherBatch::new(&input)).unwrap();
        let logits: Vec<f32> = outputs.logits().into_data().iter().collect();
        let expected = ((-40f64).exp() / 2.0 + (-39f64).exp() / 2.0).ln() as f32;
        assert!((logits[1] - expected).abs() < 1e-3, "{logits:?}");
    });
}

#[test]
fn recorded_numbers_keep_their_digits() {
    by_default("recorded_numbers_keep_their_digits", |_| {
        let data = DistillData::builder(InMemDataset::new((0..6u32).collect()))
            .by_content()
            .batched(|items: Vec<u32>, device: &Device| {
                DistillBatch::new(Tensor::<2>::zeros([items.len(), 1], device))
            });
        let teacher = teacher_fn("plain", |x: Tensor<2>| vec![[0.1f32, 7.0]; x.dims()[0]]);
        let directory = tempfile::tempdir().unwrap();
        let options = RecordOptions::new(Device::flex())
            .with_logits(LogitsFormat::Dense {
                precision: LogitsPrecision::F32,
            })
            .with_progress(ProgressMode::Silent);
        record(&teacher, &data, directory.path(), &options).unwrap();
        let recorded = Recorded::new(&Store::open(directory.path()).unwrap());
        let student = || {
            let layer: Linear = LinearConfig::new(1, 2).init(&Device::flex());
            adapt(layer, |layer: &Linear, x: Tensor<2>| {
                Outputs::new(layer.forward(x))
            })
        };
        let seen = loss_fn("seen", |context: &LossContext<'_>| {
            let logits: Vec<f32> = context.teacher_logits().into_data().iter().collect();
            assert_eq!(logits[..2], [0.1, 7.0]);
            context.mean(context.logits().mean_dim(1).squeeze_dim(1))
        });
        Distiller::on(Device::flex(), recorded, student())
            .with(seen, 1)
            .fit(&quiet(1), data, None)
            .unwrap();
    });
}

#[test]
fn a_quantised_copy_is_as_far_away_as_its_values() {
    let weight = f32s(
        (0..64).map(|i| (i % 13) as f32 / 100.0 - 0.06).collect(),
        [8, 8],
    );
    let linear = Linear {
        weight: Param::from_tensor(weight.clone()),
        bias: None,
    };
    for value in [QuantValue::Q8S, QuantValue::Q8F, QuantValue::Q4S] {
        let scheme = QuantScheme::default().with_value(value);
        let mut quantizer = Quantizer::new(Calibration::MinMax, scheme);
        let quantised = linear.clone().quantize_weights(&mut quantizer);
        let values = quantised.weight.val().dequantize();
        let apart = (values - weight.clone()).powi_scalar(2).sum().sqrt();
        let expected = apart.into_scalar::<f64>();
        for (a, b) in [(&linear, &quantised), (&quantised, &linear)] {
            let found = parameter_distance(a, b);
            assert_eq!(found.compared, 1);
            assert!(
                (found.distance - expected).abs() < 1e-4,
                "{found:?} {expected}"
            );
        }
    }
}

/// Numbers from 0, whose model says class 0 of the first 923 of each thousand.
fn counted(count: usize) -> DistillData<Tensor<2>> {
    DistillData::from_fn(
        InMemDataset::new((0..count).collect()),
        |items: Vec<usize>, device: &Device| {
            let marks: Vec<f32> = items.iter().map(|n| f32::from(n % 1000 < 923)).collect();
            let shape = [items.len(), 1];
            let input = TensorData::new(marks, shape);
            let labels = Tensor::<1, Int>::zeros([items.len()], device);
            DistillBatch::new(Tensor::<2>::from_data(input, device))
                .with_classes(labels)
                .with_mask(all_valid(items.len()))
        },
    )
}

#[test]
fn curves_and_reports_count_exactly() {
    by_default("curves_and_reports_count_exactly", |_| {
        let device = Device::flex();
        let model = || {
            let layer: Linear = LinearConfig::new(1, 2).init(&device);
            adapt(layer, |layer: &Linear, x: Tensor<2>| {
                // The layer takes part with nothing.
                let nothing = layer.forward(x.clone()) * 0.0;
                let other = x.clone().neg().add_scalar(1.0);
                Outputs::new(Tensor::cat(vec![x, other], 1) + nothing)
            })
        };
        let config = quiet(1).with_batch_size(1000);
        let objective = Objective::from_toml("terms = [{ loss = { hard_label = {} } }]").unwrap();
        let trained = train_supervised(
            device.clone(),
            model(),
            &objective,
            &config,
            counted(1000),
            counted(1000),
        )
        .unwrap();
        assert_eq!(trained.report.accuracy, Some(0.923));
        let curve = trained.training.history.train["accuracy"][0];
        assert!((curve - 0.923).abs() < 1e-6, "{curve}");
        let curve = trained.training.history.valid["accuracy"][0];
        assert!((curve - 0.923).abs() < 1e-6, "{curve}");
        let (model, teacher) = (model(), model());
        let report = measure(&model, Some(&teacher), &counted(2000), 1000, &device).unwrap();
        assert_eq!(
            (report.accuracy, report.agreement),
            (Some(0.923), Some(1.0))
        );
    });
}

#[test]
fn plain_numbers_of_a_closure_keep_their_digits() {
    by_default("plain_numbers_of_a_closure_keep_their_digits", |_| {
        let teacher = teacher_fn("plain", |x: Tensor<2>| {
            vec![[0.1f32, 70_000.0]; x.dims()[0]]
        });
        let input = Tensor::<2>::zeros([1, 1], &Device::flex());
        let outputs =
            burn_distill::Teacher::ask(&teacher, &burn_distill::TeacherBatch::new(&input));
        let logits = outputs.unwrap().logits().into_data();
        assert_eq!(logits.iter::<f32>().collect::<Vec<_>>(), [0.1, 70_000.0]);
    });
}
