//! The operations of the backend against the form composed of tensor operations.

mod batch;

use burn::backend::BackendTensor;
use burn::tensor::Device;
use proptest::prelude::*;

use super::*;

use crate::ops::comparison::tests::batch::{
    Batch, Form, SCALE, Seen, has_labels, has_teacher, labels, numbers,
};

const OUT: f32 = f32::NEG_INFINITY;

/// Every formula at one choice of numbers.
fn formulas(temperature: f64, alpha: f64, beta: f64) -> [Formula; 10] {
    [
        Formula::Divergence { temperature },
        Formula::Reverse { temperature },
        Formula::Mixture { temperature, beta },
        Formula::HardLabel { smoothing: 0.0 },
        Formula::HardLabel { smoothing: beta },
        Formula::SquaredError,
        Formula::Sparse {
            temperature,
            has_tail: true,
        },
        Formula::Sparse {
            temperature,
            has_tail: false,
        },
        Formula::Decoupled {
            temperature,
            alpha,
            beta,
        },
        Formula::Decoupled {
            temperature,
            alpha: 0.0,
            beta: 2.0 * beta,
        },
    ]
}

/// A temperature, an α and a β.
fn parameters() -> impl Strategy<Value = (f64, f64, f64)> {
    let temperature = prop_oneof![Just(1.0), 0.5..20.0f64];
    let alpha = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64];
    (temperature, alpha, 0.02..0.98f64)
}

/// A batch, some of whose classes may be masked.
fn batch(is_masked: bool) -> impl Strategy<Value = Batch> {
    let shape = (1..=6usize, 2..=70usize);
    shape.prop_flat_map(move |(rows, classes)| Batch::any(rows, classes, is_masked))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_forms_agree(
        (whole, masked) in (batch(false), batch(true)),
        (temperature, alpha, beta) in parameters(),
    ) {
        for formula in formulas(temperature, alpha, beta) {
            whole.assert_forms_agree(formula);
            masked.assert_forms_agree(formula);
        }
    }

    /// Both read the same numbers and compute in single precision; the gradient is rounded to what
    /// the logits are stored in, with 10 and with 7 digits after the leading one.
    #[test]
    fn both_forms_agree_in_half_precision(
        mut batch in batch(true),
        (temperature, alpha, beta) in parameters(),
    ) {
        // 1e4 over τ would be a gradient beyond what f16 holds.
        for z in batch.student.iter_mut().chain(&mut batch.teacher).filter(|z| z.is_finite()) {
            *z = z.clamp(-50.0, 50.0);
        }
        for (dtype, digits) in [(DType::F16, 10), (DType::BF16, 7)] {
            for formula in formulas(temperature, alpha, beta) {
                let [native, composed] = [Form::Native, Form::Composed]
                    .map(|form| batch.per_row(formula, form, dtype));
                batch.assert_close(formula, &native, &composed, |_| 0.5f32.powi(digits));
            }
        }
    }
}

#[test]
fn both_forms_agree_on_many_classes() {
    for formula in formulas(2.0, 0.3, 0.7) {
        Batch::noise(3, 1000).assert_forms_agree(formula);
    }
}

#[test]
fn many_rows_are_what_each_is_alone() {
    // More than one thread takes at once.
    let batch = Batch::noise(200, 1000);
    for formula in formulas(2.0, 0.3, 0.7) {
        let together = batch.per_row(formula, Form::Native, DType::F32);
        let plain = &batch.values(formula, Form::Native)[1];
        assert_eq!(*plain, together.values);
        for n in [0, 1, 31, 32, 33, 63, 64, 100, 159, 160, 199] {
            let alone = batch.slice(n..n + 1);
            let alone = alone.per_row(formula, Form::Native, DType::F32);
            assert_eq!(alone.values, together.values[n..=n]);
            assert_eq!(alone.gradient, together.gradient[n * 1000..(n + 1) * 1000]);
        }
    }
}

#[test]
fn a_label_far_ahead_of_masked_classes_is_left_out_alone() {
    // What is left is a choice between the second and the third class.
    let batch = Batch {
        classes: 5,
        student: vec![1e4, 1.0, 2.0, OUT, OUT, 90.0, 1.0, 2.0, OUT, 0.0],
        teacher: vec![1e4, 2.0, 1.0, OUT, 0.0, 1.0, 2.0, 1.0, OUT, OUT],
        labels: vec![0, 0],
        weights: None,
        factors: vec![1.0, 2.0],
    };
    for formula in formulas(1.0, 0.5, 0.5) {
        batch.assert_forms_agree(formula);
    }
}

#[test]
fn a_teacher_that_masks_all_but_the_label_does_not_compare_the_others() {
    let batch = Batch {
        classes: 3,
        student: vec![0.0, 1.0, 3.0, 0.5, 1.5, -1.0],
        teacher: vec![OUT, 0.0, OUT, 2.0, 1.0, 0.0],
        labels: vec![1, 0],
        weights: None,
        factors: vec![1.0, 2.0],
    };
    let formula = |alpha, beta| Formula::Decoupled {
        temperature: 1.0,
        alpha,
        beta,
    };
    batch.assert_forms_agree(formula(1.0, 1.0));
    // −log softmax of the label is all there is: log(e^0 + e^1 + e^3) − 1.
    let [value, _] = batch.slice(0..1).values(formula(1.0, 8.0), Form::Native);
    let value = value[0];
    let expected = SCALE * ((1.0 + 1f64.exp() + 3f64.exp()).ln() - 1.0);
    assert!((f64::from(value) - expected).abs() < 1e-5, "{value}");
}

#[test]
fn rows_of_weight_zero_are_not_read() {
    let clean = Batch {
        weights: Some(vec![1.0, 0.0, 0.5, 0.0]),
        factors: vec![1.0, 0.0, -2.0, 0.0],
        ..Batch::noise(4, 19)
    };
    let mut dirty = clean.clone();
    for n in [1, 3] {
        dirty.student[19 * n + n] = f32::NAN;
        dirty.teacher[19 * n + 2 * n] = f32::INFINITY;
        dirty.labels[n] = [0, -100, 0, 19][n];
    }
    for formula in formulas(2.0, 0.3, 0.7) {
        for form in [Form::Native, Form::Composed] {
            let all = |batch: &Batch| {
                [
                    batch.mean(formula, form),
                    batch.per_row(formula, form, DType::F32),
                    batch.weighted(formula, form),
                ]
            };
            let found = all(&dirty);
            assert_eq!(found, all(&clean), "{formula:?} {form:?}");
            for seen in &found {
                assert!(seen.gradient[19..38].iter().all(|&g| g == 0.0));
                assert!(seen.gradient[57..].iter().all(|&g| g == 0.0));
            }
            assert_eq!(found[1].values[1], 0.0);
            assert_eq!(found[2].values[3], 0.0);
        }
    }
}

#[test]
fn a_nan_in_a_valid_row_is_seen() {
    for what in [f32::NAN, f32::INFINITY] {
        for at in [0, 8, 18] {
            for is_student in [true, false] {
                let mut batch = Batch::noise(3, 19);
                batch.weights = None;
                let side = match is_student {
                    true => &mut batch.student,
                    false => &mut batch.teacher,
                };
                side[19 + at] = what;
                for formula in formulas(2.0, 0.3, 0.7) {
                    if !is_student && !has_teacher(formula) {
                        continue;
                    }
                    let seen = batch.per_row(formula, Form::Native, DType::F32);
                    let is_bad: Vec<bool> = seen.values.iter().map(|v| !v.is_finite()).collect();
                    assert_eq!(is_bad, [false, true, false], "{formula:?}");
                    assert!(!batch.mean(formula, Form::Native).values[0].is_finite());
                    assert!(!batch.mean(formula, Form::Composed).values[0].is_finite());
                }
            }
        }
    }
}

#[test]
fn a_mean_is_weighted_and_a_value_per_row_is_not() {
    let weighted = Batch {
        weights: Some(vec![0.5, 2.0, 0.0, 1.0]),
        ..Batch::noise(4, 19)
    };
    let plain = Batch {
        weights: None,
        ..weighted.clone()
    };
    for formula in formulas(2.0, 0.3, 0.7) {
        let each = plain.per_row(formula, Form::Native, DType::F32);
        let v = &each.values;
        let mean = (0.5 * v[0] + 2.0 * v[1] + v[3]) / 3.5;
        for form in [Form::Native, Form::Composed] {
            let found = weighted.mean(formula, form);
            assert!((found.values[0] - mean).abs() <= 1e-5 * mean.abs().max(1.0));
            let found = weighted.per_row(formula, form, DType::F32);
            for (n, (found, plain)) in found.values.iter().zip(v).enumerate() {
                let expected = if n == 2 { 0.0 } else { *plain };
                assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0));
            }
        }
        // 2.5 arrives at the mean, the factor of the row at its value.
        let mean = weighted.mean(formula, Form::Native);
        let weights = [0.5, 2.0, 0.0, 1.0].map(|w| 2.5 * w / 3.5);
        for (i, found) in mean.gradient.iter().enumerate() {
            let n = i / 19;
            if plain.factors[n] != 0.0 {
                let expected = each.gradient[i] / plain.factors[n] * weights[n];
                assert!((found - expected).abs() <= 1e-5 * expected.abs().max(0.1));
            }
        }
    }
}

#[test]
fn weights_that_are_all_zero_give_zero() {
    let batch = Batch {
        weights: Some(vec![0.0; 4]),
        ..Batch::noise(4, 19)
    };
    for formula in formulas(2.0, 0.3, 0.7) {
        for form in [Form::Native, Form::Composed] {
            let found = batch.mean(formula, form);
            assert_eq!(found.values, [0.0]);
            assert!(found.gradient.iter().all(|&g| g == 0.0));
        }
    }
}

#[test]
fn inputs_need_not_be_contiguous() {
    let batch = Batch {
        weights: None,
        ..Batch::noise(4, 19)
    };
    let turned = |x: Tensor<2>| {
        // The same numbers in column-major order.
        x.transpose().reshape([76]).reshape([19, 4]).transpose()
    };
    let narrowed = |x: Tensor<2>| {
        let x = Tensor::cat(vec![x.clone().neg(), x.clone(), x.neg()], 1);
        x.narrow(1, 19, 19)
    };
    let from_the_middle = |x: Tensor<2>| {
        let x = Tensor::cat(vec![x.clone().neg(), x.clone(), x.neg()], 0);
        x.narrow(0, 4, 4)
    };
    let layouts: [&dyn Fn(Tensor<2>) -> Tensor<2>; 3] = [&turned, &narrowed, &from_the_middle];
    let labels = labels(&[&[18; 4], &batch.labels[..], &[0; 4]].concat()).narrow(0, 4, 4);
    for formula in formulas(2.0, 0.3, 0.7) {
        let expected = batch.per_row(formula, Form::Native, DType::F32);
        for layout in layouts {
            let leaf = batch.leaf(DType::F32);
            let student = layout(leaf.clone());
            let teacher = layout(batch.logits(&batch.teacher));
            let comparison = Comparison {
                formula,
                scale: SCALE,
                student: &student,
                teacher: has_teacher(formula).then_some(teacher),
                sparse: batch.sparse(formula, DType::F32),
                labels: has_labels(formula).then_some(&labels),
                weights: None,
            };
            let values = comparison.per_row_by(Form::Native);
            // What arrives need not be contiguous either.
            let factors = batch.factors();
            let factors: Tensor<2> = Tensor::stack(vec![factors.clone(), factors], 1);
            let factors: Tensor<1> = factors.narrow(1, 1, 1).squeeze_dim(1);
            let loss = (values.clone() * factors).sum();
            let found = Seen {
                values: numbers(values),
                gradient: numbers(leaf.grad(&loss.backward()).unwrap()),
            };
            assert_eq!(found, expected, "{formula:?}");
        }
    }
}

#[test]
fn the_gradient_takes_the_buffer_of_a_teacher_that_is_not_shared() {
    let batch = Batch::noise(40, 1001);
    let factors = batch.factors();
    let student = batch.logits(&batch.student);
    for formula in formulas(2.0, 0.3, 0.7) {
        let alone = batch.weighted(formula, Form::Native);
        let (held, rows) = batch.compare(formula, &student, |it| {
            (it.teacher.clone(), it.weighted(&factors))
        });
        assert_eq!(numbers(rows.value), alone.values, "{formula:?}");
        assert_eq!(numbers(rows.gradient), alone.gradient, "{formula:?}");
        if let Some(teacher) = held {
            assert_eq!(numbers(teacher), batch.teacher, "{formula:?}");
        }
    }
    let teacher = batch.logits(&batch.teacher);
    let place = address(&teacher);
    let comparison = Comparison {
        formula: Formula::Divergence { temperature: 2.0 },
        scale: SCALE,
        student: &student,
        teacher: Some(teacher),
        sparse: None,
        labels: None,
        weights: None,
    };
    assert_eq!(address(&comparison.weighted(&factors).gradient), place);
}

/// Where the numbers of a tensor are.
fn address(x: &Tensor<2>) -> *const u8 {
    match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(x)) => x.bytes().as_ptr(),
        _ => unreachable!("made on flex"),
    }
}

#[test]
fn no_rows_are_no_error() {
    let batch = Batch::noise(2, 5).slice(0..0);
    let none = Batch {
        weights: None,
        ..batch.clone()
    };
    for formula in formulas(2.0, 0.3, 0.7) {
        for batch in [&batch, &none] {
            let mean = batch.mean(formula, Form::Native);
            assert_eq!((mean.values, mean.gradient), (vec![0.0], vec![]));
            let rows = batch.per_row(formula, Form::Native, DType::F32);
            assert_eq!((rows.values, rows.gradient), (vec![], vec![]));
            let rows = batch.weighted(formula, Form::Native);
            assert_eq!((rows.values, rows.gradient), (vec![], vec![]));
        }
    }
}

#[test]
#[should_panic(expected = "a label is out of range: there are 5 classes")]
fn a_label_out_of_range_panics() {
    let mut batch = Batch::noise(2, 5);
    batch.labels[1] = 5;
    batch.mean(Formula::HardLabel { smoothing: 0.0 }, Form::Native);
}

#[test]
#[should_panic(expected = "a label is out of range: there are 1000 classes")]
fn a_label_out_of_range_panics_on_other_threads_too() {
    let mut batch = Batch::noise(200, 1000);
    batch.labels[150] = -1;
    let formula = Formula::Decoupled {
        temperature: 2.0,
        alpha: 0.5,
        beta: 0.5,
    };
    batch.mean(formula, Form::Native);
}

#[test]
fn what_arrives_from_several_uses_adds_up() {
    let batch = Batch::noise(4, 19);
    for formula in formulas(2.0, 0.3, 0.7) {
        let once = batch.mean(formula, Form::Native);
        let leaf = batch.leaf(DType::F32);
        let loss = batch.compare(formula, &leaf, |it| it.mean_by(Form::Native));
        // d(v² + 2v) = (2v + 2) dv, and the logits have a gradient of their own.
        let total = loss.clone() * loss.clone() + loss * 2.0 + leaf.clone().sum();
        let found = numbers(leaf.grad(&total.backward()).unwrap());
        let factor = (2.0 * once.values[0] + 2.0) / 2.5;
        for (found, once) in found.iter().zip(&once.gradient) {
            let expected = once * factor + 1.0;
            let allowed = 1e-5 * expected.abs().max(1.0);
            assert!((found - expected).abs() < allowed, "{found} and {expected}");
        }
    }
}

#[test]
fn next_to_huge_logits_nothing_is_still_nothing() {
    // 1e10 − 100 is 1e10 in single precision.
    let batch = Batch {
        classes: 3,
        student: vec![1e10, 0.0, 1e10],
        teacher: vec![1e10, 1e10, OUT],
        labels: vec![0],
        weights: None,
        factors: vec![1.0],
    };
    for formula in formulas(1.0, 0.5, 0.5) {
        for form in [Form::Native, Form::Composed] {
            let seen = batch.per_row(formula, form, DType::F32);
            assert!(seen.gradient.iter().all(|g| g.is_finite()));
        }
    }
    // Two of three are equally likely.
    let hard = Formula::HardLabel { smoothing: 0.0 };
    let seen = batch.per_row(hard, Form::Native, DType::F32);
    assert!((seen.values[0] - 1.5 * 2f32.ln()).abs() < 1e-6);
    for (found, expected) in seen.gradient.iter().zip([-0.75, 0.0, 0.75]) {
        assert!((found - expected).abs() < 1e-6);
    }
}
