//! Losses on outputs in half precision: computed in single precision, with a gradient in half.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_distill::loss::*;
use burn_distill::{MissingProbability, Objective, ObjectiveModules, Outputs, Targets, TopK};

const ROWS: usize = 3;
const CLASSES: usize = 10;

type Pure = fn(Tensor<2>, Tensor<2>) -> Tensor<1>;

fn labels() -> Tensor<1, Int> {
    Tensor::from_ints([4, 0, 9], &Device::flex())
}

fn top(teacher: Tensor<2>) -> TopK {
    let log = burn::tensor::activation::log_softmax(teacher / 2.0, 1);
    let (log_probs, indices) = log.topk_with_indices(4, 1);
    TopK::new(indices, log_probs, CLASSES).at_temperature(2.0)
}

/// Every loss on logits as a pure function.
fn losses() -> Vec<(&'static str, Pure)> {
    vec![
        ("soft_target", |s, t| soft_target(s, t, 2.0).mean()),
        ("soft_target, top k", |s, t| {
            soft_target(s, top(t), 2.0).mean()
        }),
        ("soft_cross_entropy", |s, t| {
            soft_cross_entropy(s, t, 2.0, TemperatureScale::Squared).mean()
        }),
        ("reverse_kl", |s, t| {
            reverse_kl(s, t, 2.0, TemperatureScale::Squared).mean()
        }),
        ("symmetric_kl", |s, t| {
            symmetric_kl(s, t, 2.0, TemperatureScale::Squared).mean()
        }),
        ("jensen_shannon", |s, t| {
            jensen_shannon(s, t, 2.0, TemperatureScale::Squared, 0.5).mean()
        }),
        ("total_variation", |s, t| total_variation(s, t, 2.0).mean()),
        ("logit_mse", |s, t| logit_mse(s, t, Reduction::Mean).mean()),
        ("logit_cosine", |s, t| logit_cosine(s, t, true).mean()),
        ("dkd", |s, t| dkd(s, t, labels(), 2.0, 1.0, 8.0).mean()),
        ("nkd", |s, t| nkd(s, t, labels(), 2.0, 1.5).mean()),
        ("dist", |s, t| dist(s, t, 2.0, 1.0, 1.0)),
        ("standardized", |s, t| {
            soft_target(standardize(s, 1e-7), standardize(t, 1e-7), 2.0).mean()
        }),
        ("hard_label", |s, _| hard_label(s, labels(), 0.1).mean()),
        ("virtual_teacher", |s, _| {
            virtual_teacher(s, labels(), 2.0, 0.9).mean()
        }),
        ("sparse_soft_target, renormalised", |s, t| {
            sparse_soft_target(s, top(t), 2.0, MissingProbability::Renormalize).mean()
        }),
        ("sparse_soft_target, bucket", |s, t| {
            sparse_soft_target(s, top(t), 2.0, MissingProbability::Bucket).mean()
        }),
        ("two terms", |s, t| {
            let objective = Objective::new()
                .with(SoftTarget::new(2), 0.7)
                .with(HardLabel::new(), 0.3);
            let (student, teacher) = (Outputs::new(s), Outputs::new(t));
            let targets = Targets::new().with_classes(labels());
            let context = LossContext::new(&student, &teacher).with_targets(&targets);
            objective
                .forward(&context, &ObjectiveModules::default())
                .total
        }),
    ]
}

/// Logits from −4 to 4 without a pattern, exact in both kinds of half precision.
fn logits(rows: usize, classes: usize, seed: usize) -> Tensor<2> {
    let value = |i: usize| (((i + 100 * seed) * 37 + 11) % 65) as f32 / 8.0 - 4.0;
    let values: Vec<f32> = (0..rows * classes).map(value).collect();
    Tensor::from_data(TensorData::new(values, [rows, classes]), &Device::flex())
}

/// A leaf of this type, what a function makes of it, and the gradient.
fn backward(
    student: Tensor<2>,
    dtype: DType,
    run: impl FnOnce(Tensor<2>) -> Tensor<1>,
) -> (Tensor<1>, Tensor<2>) {
    let leaf = student.cast(dtype).autodiff().require_grad();
    let value = run(leaf.clone());
    let gradient = leaf.grad(&value.backward()).expect("the student learns");
    (value, gradient)
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    let size = expected.iter().fold(0f32, |size, x| size.max(x.abs()));
    assert!(size > 0.0, "{what}: nothing to compare");
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-2 * size, "{what}: {f} is not {e}");
    }
}

#[test]
fn pure_functions_compute_in_single_precision() {
    let (student, teacher) = (logits(ROWS, CLASSES, 1), logits(ROWS, CLASSES, 2));
    for (name, loss) in losses() {
        let run = |s| loss(s, teacher.clone());
        let (expected, slope) = backward(student.clone(), DType::F32, run);
        for dtype in [DType::F16, DType::BF16] {
            let what = format!("{name} in {dtype:?}");
            let run = |s| loss(s, teacher.clone().cast(dtype));
            let (value, gradient) = backward(student.clone(), dtype, run);
            assert_eq!(value.dtype(), DType::F32, "{what}");
            assert_eq!(gradient.dtype(), dtype, "{what}");
            assert_close(&what, &numbers(value), &numbers(expected.clone()));
            assert_close(&what, &numbers(gradient), &numbers(slope.clone()));
        }
    }
}

/// 4096 squares of 4 sum to 65536, and the largest number in f16 is 65504.
#[test]
fn a_sum_over_many_classes_does_not_overflow() {
    let student = Tensor::<2>::full([1, 4096], 4.0, &Device::flex());
    let teacher = student.zeros_like().cast(DType::F16);

    let squares = (student.clone().cast(DType::F16) - teacher.clone()).square();
    let in_half: f32 = squares.sum_dim(1).into_scalar();
    assert!(in_half.is_infinite(), "{in_half}");

    let run = |s| logit_mse(s, teacher, Reduction::Sum).mean();
    let (value, gradient) = backward(student, DType::F16, run);
    assert_eq!(value.into_scalar::<f32>(), 65536.0);
    assert_eq!(numbers(gradient), vec![8.0; 4096]);
}

/// Where 4095 logits are 0 and that of the true class is 1, the cross-entropy is log(4095 + e) − 1.
/// That is 7.318, and its neighbours in bf16 are 7.3125 and 7.34375.
#[test]
fn a_value_keeps_its_digits() {
    let student = Tensor::<2>::zeros([1, 4096], &Device::flex());
    let student = student.slice_fill([0..1, 7..8], 1.0);
    let label = Tensor::<1, Int>::from_ints([7], &Device::flex());
    let (value, _) = backward(student, DType::BF16, |s| hard_label(s, label, 0.0).mean());
    let expected = (4095.0 + 1f64.exp()).ln() - 1.0;
    assert!((value.into_scalar::<f64>() - expected).abs() < 1e-5);
}
