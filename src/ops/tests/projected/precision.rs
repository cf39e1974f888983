//! Half and double precision.

use super::super::*;
use super::kit::*;

#[test]
fn half_precision_is_computed_in_single() {
    let student = Parts::new(3, 1).with_bias(3).finished();
    for dtype in [DType::BF16, DType::F16] {
        let half = student.cast(dtype);
        // The same numbers.
        let single = half.cast(DType::F32);
        let mixed = Parts {
            hidden: half.hidden.clone(),
            ..single.clone()
        };
        for teacher in teachers() {
            let half_teacher = match &teacher {
                Logits::Projected(_) => {
                    let parts = Parts::new(5, 10).with_bias(12).finished();
                    let single: Logits = parts.cast(dtype).cast(DType::F32).layer().into();
                    [parts.cast(dtype).layer().into(), single]
                }
                Logits::Dense(x) => {
                    let half = x.clone().cast(dtype);
                    [half.clone().into(), half.cast(DType::F32).into()]
                }
                other => [other.clone(), other.clone()],
            };
            let [teacher, single_teacher] = half_teacher;
            for form in forms() {
                let expected = dense(form, &single, &single_teacher, Some(weights()));
                for student in [&half, &mixed] {
                    let parts = student.trained();
                    let layer = parts.layer();
                    let projected = Projected::new(&layer, Some(&teacher)).with_rows_per_chunk(4);
                    let value = projected.run(&[term(form, Some(weights()), 1.0)]);
                    assert_eq!(value.total.dtype(), DType::F32);
                    let found = backward(&value.total, &parts);
                    // The value is that of single precision; gradients are rounded once, at the end.
                    let value = Found(vec![found.0[0].clone()]);
                    value.assert_close(&Found(vec![expected.0[0].clone()]), 1e-5, "value");
                    found.assert_close(&expected, 0.01, &format!("{form:?} in {dtype:?}"));
                }
            }
        }
    }
}

#[test]
fn double_precision_stays_double() {
    let student = Parts::new(3, 1).with_bias(3).finished();
    let [teacher, ..] = teachers();
    for form in forms() {
        let expected = dense(form, &student, &teacher, Some(weights()));
        let parts = student.cast(DType::F64).trained();
        let layer = parts.layer();
        let projected = Projected::new(&layer, Some(&teacher)).with_rows_per_chunk(4);
        let value = projected.run(&[term(form, Some(weights()), 1.0)]);
        assert_eq!(value.total.dtype(), DType::F64);
        let found = backward(&value.total, &parts);
        found.assert_close(&expected, 1e-4, &format!("{form:?}"));
    }
}
