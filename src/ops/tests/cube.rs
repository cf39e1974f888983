//! The kernel against the rows of the CPU, on the default GPU.

use burn::module::Module;
use burn::nn::LinearConfig;
use burn::tensor::{DType, Device, DeviceKind, Int, Tensor, TensorData};

use crate::ops::Rows;
use crate::ops::classes::at_labels;
use crate::ops::comparison::{Comparison, with_known_gradient};
use crate::ops::decoupled::decoupled;
use crate::ops::formula::Formula;

/// The default GPU. Where there is none, a word about it, or a failure if
/// `BURN_DISTILL_REQUIRE_GPU` is set.
fn gpu() -> Option<Device> {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    match crate::device::check_device(&device) {
        Ok(()) => Some(device),
        Err(error) => {
            let required = std::env::var_os("BURN_DISTILL_REQUIRE_GPU").is_some();
            assert!(!required, "{error}");
            eprintln!("skipping the GPU: {error}");
            None
        }
    }
}

fn formulas() -> Vec<Formula> {
    let mut all = Vec::new();
    for temperature in [0.5, 1.0, 4.0] {
        all.push(Formula::Divergence { temperature });
        all.push(Formula::Reverse { temperature });
        for beta in [0.1, 0.5, 0.9] {
            all.push(Formula::Mixture { temperature, beta });
        }
        let (alpha, beta) = (1.0, 8.0);
        all.push(Formula::Decoupled {
            temperature,
            alpha,
            beta,
        });
    }
    all.push(Formula::SquaredError);
    all.push(Formula::HardLabel { smoothing: 0.0 });
    all.push(Formula::HardLabel { smoothing: 0.1 });
    all
}

fn has_teacher(formula: Formula) -> bool {
    !matches!(formula, Formula::HardLabel { .. })
}

fn has_labels(formula: Formula) -> bool {
    matches!(
        formula,
        Formula::HardLabel { .. } | Formula::Decoupled { .. }
    )
}

/// What a formula compares.
#[derive(Clone)]
struct Batch {
    classes: usize,
    student: Vec<f32>,
    teacher: Vec<f32>,
    labels: Vec<i32>,
    weights: Vec<f32>,
}

impl Batch {
    /// Logits from −6 to 6 without a pattern, and rows of different weights.
    fn new(rows: usize, classes: usize) -> Self {
        let mut state = 0x9e37_79b9_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let mut logits = |_| next() * 12.0 - 6.0;
        let student = (0..rows * classes).map(&mut logits).collect();
        let teacher = (0..rows * classes).map(&mut logits).collect();
        Self {
            classes,
            student,
            teacher,
            labels: (0..rows).map(|n| (n * 7 % classes) as i32).collect(),
            weights: (0..rows).map(|n| 0.5 + n as f32 % 3.0).collect(),
        }
    }

    fn rows(&self) -> usize {
        self.weights.len()
    }

    fn logits(&self, numbers: &[f32], dtype: DType, device: &Device) -> Tensor<2> {
        let data = TensorData::new(numbers.to_vec(), [self.rows(), self.classes]);
        Tensor::<2>::from_data(data, device).cast(dtype)
    }

    /// Values and gradients on a device.
    fn on(&self, formula: Formula, dtype: DType, device: &Device) -> [Vec<f32>; 2] {
        let student = self.logits(&self.student, dtype, device);
        let teacher = self.logits(&self.teacher, dtype, device);
        let labels = Tensor::<1, Int>::from_ints(&self.labels[..], device);
        let weights = Tensor::<1>::from_floats(&self.weights[..], device);
        let comparison = Comparison {
            formula,
            scale: 1.0,
            student: &student,
            teacher: has_teacher(formula).then_some(teacher),
            sparse: None,
            labels: has_labels(formula).then_some(&labels),
            weights: None,
        };
        assert!(comparison.is_native());
        let Rows { value, gradient } = comparison.weighted(&weights);
        [numbers(value), numbers(gradient)]
    }

    #[track_caller]
    fn check(&self, formula: Formula, dtype: DType, gpu: &Device) {
        let expected = self.on(formula, dtype, &Device::flex());
        let found = self.on(formula, dtype, gpu);
        for n in 0..self.rows() {
            let what = format!("{formula:?}, row {n} of {}", self.classes);
            assert_close(&what, &found[0][n..=n], &expected[0][n..=n]);
            let row = n * self.classes..(n + 1) * self.classes;
            assert_close(&what, &found[1][row.clone()], &expected[1][row]);
        }
    }
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// Equal but for 1e-5 of the largest of them and 1e-6.
#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0f32, |size, x| size.max(x.abs()));
    let bound = 1e-5 * size + 1e-6;
    for (f, e) in found.iter().zip(expected) {
        let is_close = f == e || (f - e).abs() <= bound && bound.is_finite();
        assert!(is_close, "{what}: {f} is not {e}");
    }
}

#[test]
fn every_formula_equals_that_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (rows, classes) in [(5, 7), (3, 1000), (2, 2)] {
        let batch = Batch::new(rows, classes);
        for formula in formulas() {
            batch.check(formula, DType::F32, &gpu);
        }
    }
}

#[test]
fn rows_close_to_each_other_cancel_no_digits() {
    let Some(gpu) = gpu() else { return };
    let mut batch = Batch::new(4, 50);
    for (i, (s, t)) in batch.student.iter().zip(&mut batch.teacher).enumerate() {
        *t = s + (i % 7) as f32 / 16.0;
    }
    // Equal rows.
    batch.teacher[..50].copy_from_slice(&batch.student[..50]);
    for formula in formulas() {
        batch.check(formula, DType::F32, &gpu);
        if !has_labels(formula) {
            let [value, gradient] = batch.on(formula, DType::F32, &gpu);
            assert_eq!(value[0], 0.0, "{formula:?}");
            assert!(gradient[..50].iter().all(|g| g.abs() < 1e-7), "{formula:?}");
        }
    }
}

#[test]
fn rows_of_weight_zero_are_not_read() {
    let Some(gpu) = gpu() else { return };
    let mut batch = Batch::new(4, 70);
    batch.weights[1] = 0.0;
    batch.weights[3] = 0.0;
    batch.labels[1] = -100;
    batch.labels[3] = 1_000_000;
    batch.student[70..140].fill(f32::NAN);
    batch.teacher[210..].fill(f32::INFINITY);
    for formula in formulas() {
        batch.check(formula, DType::F32, &gpu);
        let [value, gradient] = batch.on(formula, DType::F32, &gpu);
        assert_eq!([value[1], value[3]], [0.0; 2], "{formula:?}");
        assert!(gradient[70..140].iter().all(|&g| g == 0.0), "{formula:?}");
    }
}

#[test]
fn classes_at_minus_infinity_are_masked() {
    let Some(gpu) = gpu() else { return };
    let none = f32::NEG_INFINITY;
    let mut batch = Batch::new(6, 9);
    // The student alone, the teacher alone, both, a class each, all but one of both.
    batch.labels = vec![0; 6];
    batch.student[3] = none;
    batch.teacher[9 + 4] = none;
    batch.student[18 + 5] = none;
    batch.teacher[18 + 5] = none;
    batch.student[27 + 6] = none;
    batch.teacher[27 + 7] = none;
    batch.student[36 + 1..45].fill(none);
    batch.teacher[36 + 1..45].fill(none);
    // The label.
    batch.student[45] = none;
    for formula in formulas() {
        batch.check(formula, DType::F32, &gpu);
    }
}

/// All classes but the label's, by the student alone and by the teacher alone. The student's value
/// is that of the composed form; the teacher leaves nothing to compare but the choice of the label.
#[test]
fn all_other_classes_masked() {
    let Some(gpu) = gpu() else { return };
    let mut batch = Batch::new(2, 9);
    batch.weights = vec![1.0; 2];
    batch.labels = vec![0; 2];
    batch.student[1..9].fill(f32::NEG_INFINITY);
    batch.teacher[10..].fill(f32::NEG_INFINITY);
    let formula = |beta| Formula::Decoupled {
        temperature: 2.0,
        alpha: 1.0,
        beta,
    };
    let cpu = Device::flex();
    let student = batch.logits(&batch.student, DType::F32, &cpu);
    let teacher = batch.logits(&batch.teacher, DType::F32, &cpu);
    let labels = Tensor::<1, Int>::from_ints(&batch.labels[..], &cpu);
    let is_label = at_labels(&labels, 9, None);
    let composed = numbers(decoupled(&student, &teacher, is_label, 2.0, [1.0, 8.0]).value);
    let [choice, gradient] = batch.on(formula(0.0), DType::F32, &cpu);
    let found = batch.on(formula(8.0), DType::F32, &gpu);
    assert_close("the student", &found[0][..1], &composed[..1]);
    assert_close("the teacher", &found[0][1..], &choice[1..]);
    for row in [0..9, 9..18] {
        assert_close("gradient", &found[1][row.clone()], &gradient[row]);
    }
}

#[test]
fn extreme_logits_have_finite_values() {
    let Some(gpu) = gpu() else { return };
    let mut batch = Batch::new(3, 40);
    for (i, z) in batch.student.iter_mut().enumerate() {
        *z = if i % 3 == 0 { 1e3 } else { -1e3 };
    }
    for formula in formulas() {
        batch.check(formula, DType::F32, &gpu);
    }
}

#[test]
fn nan_stays_nan() {
    let Some(gpu) = gpu() else { return };
    let mut batch = Batch::new(2, 12);
    batch.student[3] = f32::NAN;
    for formula in formulas() {
        let [value, gradient] = batch.on(formula, DType::F32, &gpu);
        assert!(!value[0].is_finite(), "{formula:?}: {}", value[0]);
        assert!(!gradient[3].is_finite(), "{formula:?}: {}", gradient[3]);
        assert!(value[1].is_finite());
    }
}

#[test]
fn a_label_out_of_range_gives_nan() {
    let Some(gpu) = gpu() else { return };
    for label in [-1, 8] {
        let mut batch = Batch::new(2, 8);
        batch.labels[0] = label;
        for formula in formulas().into_iter().filter(|&f| has_labels(f)) {
            let [value, _] = batch.on(formula, DType::F32, &gpu);
            assert!(value[0].is_nan(), "{formula:?}: {}", value[0]);
            assert!(value[1].is_finite());
        }
    }
}

#[test]
fn half_precision_is_computed_in_single() {
    let Some(gpu) = gpu() else { return };
    let mut batch = Batch::new(3, 300);
    batch.student[7] = f32::NEG_INFINITY;
    for dtype in [DType::F16, DType::BF16] {
        if !gpu.supports_dtype(dtype) {
            eprintln!("skipping {dtype:?}: the GPU does not have it");
            continue;
        }
        for formula in formulas() {
            batch.check(formula, dtype, &gpu);
        }
    }
}

/// A gradient of any rank, times what arrives.
#[test]
fn a_known_gradient_is_handed_on() {
    let Some(gpu) = gpu() else { return };
    let leaf = Tensor::<3>::ones([2, 3, 4], &gpu.clone().autodiff()).require_grad();
    let gradient = Tensor::<1, Int>::arange(0..24, &gpu).float();
    let value = Tensor::<1>::from_floats([5.0], &gpu);
    let sparse = with_known_gradient(&leaf, value, gradient.reshape([2, 3, 4]));
    let loss = sparse * 3.0;
    let found = leaf.grad(&loss.backward()).expect("the leaf learns");
    let expected: Vec<f32> = (0..24).map(|i| 3.0 * i as f32).collect();
    assert_eq!(numbers(found), expected);
    assert_eq!(numbers(loss), [15.0]);
}

#[test]
fn more_rows_than_a_line_of_cubes() {
    let Some(gpu) = gpu() else { return };
    let batch = Batch::new(70_000, 3);
    let formula = Formula::Divergence { temperature: 2.0 };
    let expected = batch.on(formula, DType::F32, &Device::flex());
    let found = batch.on(formula, DType::F32, &gpu);
    for (found, expected) in found.iter().zip(&expected) {
        assert_close("many rows", found, expected);
    }
}

#[test]
fn rows_that_are_not_contiguous_are_read_in_order() {
    let Some(gpu) = gpu() else { return };
    let batch = Batch::new(6, 8);
    let run = |device: &Device| {
        let turned = |numbers: &[f32]| {
            batch
                .logits(numbers, DType::F32, device)
                .transpose()
                .slice([1..7, 1..5])
        };
        let student = turned(&batch.student);
        let comparison = Comparison {
            formula: Formula::Reverse { temperature: 2.0 },
            scale: 1.0,
            student: &student,
            teacher: Some(turned(&batch.teacher)),
            sparse: None,
            labels: None,
            weights: None,
        };
        let weights = Tensor::<1>::ones([6], device);
        let Rows { value, gradient } = comparison.weighted(&weights);
        [numbers(value), numbers(gradient)]
    };
    let (found, expected) = (run(&gpu), run(&Device::flex()));
    assert_close("value", &found[0], &expected[0]);
    assert_close("gradient", &found[1], &expected[1]);
}

/// Behind a layer, within sums and with weights: what fusion gathers before the kernel, and after.
#[test]
fn a_layer_before_it_learns() {
    let Some(gpu) = gpu() else { return };
    let batch = Batch::new(6, 20);
    let layer = LinearConfig::new(20, 20).init(&Device::flex());
    let run = |formula: Formula, device: &Device| {
        let autodiff = device.clone().autodiff();
        let layer = layer.clone().to_device(device).train();
        let input = batch.logits(&batch.student, DType::F32, &autodiff);
        let logits = layer.forward(input * 0.5) * 2.0;
        let teacher = batch.logits(&batch.teacher, DType::F32, device);
        let labels = Tensor::<1, Int>::from_ints(&batch.labels[..], device);
        let weights = Tensor::<1>::from_floats([1.0, 0.5, 0.0, 2.0, 1.0, 0.0], device);
        let comparison = Comparison {
            formula,
            scale: 4.0,
            student: &logits,
            teacher: has_teacher(formula).then(|| teacher.clone()),
            sparse: None,
            labels: has_labels(formula).then_some(&labels),
            weights: Some(weights.clone()),
        };
        let mean = comparison.clone().mean();
        let each = comparison.per_row();
        let plain = Comparison {
            student: &logits.clone().without_autodiff(),
            formula,
            scale: 1.0,
            teacher: has_teacher(formula).then_some(teacher),
            sparse: None,
            labels: has_labels(formula).then_some(&labels),
            weights: Some(weights.clone()),
        };
        let plain = numbers(plain.per_row());
        let rows = numbers(each.clone().without_autodiff());
        let factors = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &autodiff);
        let loss = mean.clone() * 3.0 + (each * factors).sum();
        let value = numbers(mean.without_autodiff());
        let gradients = loss.backward();
        let weight = layer.weight.grad(&gradients).expect("the layer learns");
        [value, rows, plain, numbers(weight)]
    };
    for formula in formulas() {
        let found = run(formula, &gpu);
        let expected = run(formula, &Device::flex());
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(&format!("{formula:?}"), found, expected);
        }
    }
}
