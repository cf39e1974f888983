use super::*;
use crate::loss::features::hint::HintConfig;
use crate::loss::logits::dkd::DkdConfig;
use crate::loss::logits::hard_label::HardLabelConfig;
use crate::loss::logits::logit_mse::LogitMseConfig;
use crate::loss::logits::soft_target::SoftTargetConfig;
use crate::loss::logits::virtual_teacher::VirtualTeacherConfig;
use crate::loss::testing::logits::{self, Batch};
use crate::loss::testing::numbers::close as assert_close;

fn loss(inner: impl Into<LossConfig>) -> Standardized {
    StandardizedConfig::new(inner).init().unwrap()
}

fn soft_target() -> Standardized {
    loss(SoftTargetConfig::new(2.0))
}

fn z_scores<const C: usize>(row: [f32; C]) -> Vec<f64> {
    let device = Device::flex();
    let row = Tensor::<2>::from_floats([row], &device);
    standardize(row, 1e-7).into_data().iter::<f64>().collect()
}

#[test]
fn z_scores_by_hand() {
    // Mean 2, squares 4 + 0 + 0 + 4 over 3.
    let std = (8.0_f64 / 3.0).sqrt();
    let expected = [-2.0 / std, 0.0, 0.0, 2.0 / std];
    assert_close(&z_scores([0.0, 2.0, 2.0, 4.0]), &expected, 1e-6);
    let root = 0.5_f64.sqrt();
    assert_close(&z_scores([3.0, 3.5]), &[-root, root], 1e-6);
}

#[test]
fn equal_logits_are_zeros_whatever_their_level() {
    for level in [0.0, 0.1, -7.3, 1e4, 12345.678] {
        assert_eq!(z_scores([level; 7]), [0.0; 7]);
    }
}

#[test]
fn far_from_zero_the_digits_stay() {
    // These differ by 0.5 exactly, in single precision too.
    let expected = z_scores([0.0, 0.5, 1.0]);
    assert_close(&z_scores([10000.0, 10000.5, 10001.0]), &expected, 1e-6);
}

#[test]
fn value_by_hand() {
    // Squared error of (−1, 0, 1) and (1, 0, −1): (4 + 0 + 4) / 3.
    let batch = Batch::new([[1.0, 3.0, 5.0]], [[0.5, 0.25, 0.0]], [0]);
    let seen = batch.seen(&loss(LogitMseConfig::new()));
    assert_close(&[seen.value], &[8.0 / 3.0], 1e-5);
}

#[test]
fn gradient_is_the_slope() {
    logits::gradient_is_the_slope(&soft_target(), &Batch::example());
    logits::gradient_is_the_slope(&loss(DkdConfig::new(2.0)), &Batch::example());
}

#[test]
fn level_and_scale_do_not_matter() {
    let loss = soft_target();
    logits::level_does_not_matter(&loss);
    let mut batch = Batch::example();
    let expected = batch.seen(&loss).value;
    for (n, scale) in [3.0, 0.25, 40.0].into_iter().enumerate() {
        batch.student[n].iter_mut().for_each(|z| *z *= scale);
        batch.teacher[n].iter_mut().for_each(|z| *z /= scale);
    }
    assert_close(&[batch.seen(&loss).value], &[expected], 1e-5);
}

#[test]
fn zero_where_the_student_is_the_teacher_on_another_scale() {
    let mut batch = Batch::example();
    assert!(batch.seen(&soft_target()).value > 1e-3);
    for (student, teacher) in batch.student.iter_mut().zip(&batch.teacher) {
        *student = teacher.iter().map(|z| 0.1 * z - 3.0).collect();
    }
    let seen = batch.seen(&soft_target());
    assert_close(&[seen.value], &[0.0], 1e-6);
    assert_close(&seen.gradient, &[0.0; 12], 1e-5);
}

#[test]
fn a_large_eps_leaves_nothing_to_compare() {
    let config = StandardizedConfig::new(SoftTargetConfig::new(2.0)).with_eps(1e6);
    let seen = Batch::example().seen(&config.init().unwrap());
    assert_close(&[seen.value], &[0.0], 1e-6);
}

#[test]
fn extremes_are_finite() {
    for temperature in [0.5, 1.0, 100.0] {
        let soft = loss(SoftTargetConfig::new(temperature));
        logits::extremes_are_finite(&soft);
        logits::extremes_are_finite(&loss(DkdConfig::new(temperature)));
        let (level, uneven) = ([7.3; 4], [1.0, 2.0, 3.0, 4.0]);
        for (student, teacher) in [(level, uneven), (uneven, level), (level, level)] {
            let seen = Batch::new([student], [teacher], [0]).seen(&soft);
            seen.assert_finite();
        }
    }
}

#[test]
fn a_student_of_equal_logits_can_leave_them() {
    // The gradient of Z there is 1/ε of the centred one: τ (q − p) with q = 1/3.
    let batch = Batch::new([[2.0; 3]], [[1.0, 0.0, -1.0]], [0]);
    let seen = batch.seen(&loss(SoftTargetConfig::new(1.0)));
    let sum = 1_f64.exp() + 1.0 + (-1_f64).exp();
    let p = [1_f64.exp() / sum, 1.0 / sum, (-1_f64).exp() / sum];
    let scaled: Vec<f64> = seen.gradient.iter().map(|g| g * 1e-7).collect();
    assert_close(&scaled, &p.map(|p| 1.0 / 3.0 - p), 1e-5);
}

#[test]
fn rows_and_masks() {
    for loss in [soft_target(), loss(DkdConfig::new(4.0))] {
        logits::rows_can_be_permuted(&loss);
        logits::masked_rows_do_not_count(&loss);
        logits::teacher_has_no_gradient(&loss);
    }
}

#[test]
fn sides_are_not_interchangeable() {
    let batch = Batch::example();
    let mut swapped = batch.clone();
    std::mem::swap(&mut swapped.student, &mut swapped.teacher);
    let loss = soft_target();
    assert!((batch.seen(&loss).value - swapped.seen(&loss).value).abs() > 1e-3);
}

#[test]
fn progress_reaches_the_inner_loss() {
    // By hand: halfway from 2 to 6 is 4.
    let scheduled = loss(SoftTargetConfig::new(crate::schedule::Schedule::linear(
        2.0, 6.0,
    )));
    let batch = Batch::example().at(0.5);
    let fixed = loss(SoftTargetConfig::new(4.0));
    batch
        .seen(&scheduled)
        .assert_close(&batch.seen(&fixed), 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let loss = loss(DkdConfig::new(2.0));
    assert_eq!(loss.name(), "standardized_dkd");
    let mut batch = Batch::example();
    batch.teacher[1][2] = f64::NEG_INFINITY;
    assert_eq!(
        batch.refused(&loss),
        "not finite: term \"standardized_dkd\": a logit of the teacher (NaN or infinite)"
    );
    batch.teacher.pop();
    batch.teacher.pop();
    assert_eq!(
        batch.refused(&loss),
        "term \"dkd\": logits differ: student has [3, 4], teacher has [1, 4]"
    );
    assert_eq!(
        Batch::new([[1.0]], [[1.0]], [0]).refused(&loss),
        "term \"standardized_dkd\": the number of classes is 1, expected at least 2"
    );
}

#[test]
fn only_a_loss_between_logits_can_be_inside() {
    let error = |inner: LossConfig| {
        let config = StandardizedConfig::new(inner);
        config.init().unwrap_err().to_string()
    };
    for (inner, name) in [
        (HardLabelConfig::new().into(), "hard_label"),
        (VirtualTeacherConfig::new().into(), "virtual_teacher"),
        (HintConfig::new("a", "b").into(), "hint_a"),
    ] {
        assert_eq!(
            error(inner),
            format!(
                "standardized.loss is {name}, expected a loss between the logits of student and \
                 teacher"
            )
        );
    }
    // What the inner loss refuses is refused here.
    assert_eq!(
        error(SoftTargetConfig::new(-1.0).into()),
        "soft_target.temperature is -1, expected a number greater than 0"
    );
}

#[test]
fn config_defaults_ranges_and_round_trip() {
    let config: StandardizedConfig =
        serde_json::from_str(r#"{"loss": {"soft_target": {"temperature": 2}}}"#).unwrap();
    assert_eq!(config, StandardizedConfig::new(SoftTargetConfig::new(2.0)));
    assert_eq!(config.eps, 1e-7);
    logits::round_trip(&config.clone().with_eps(1e-6));
    let error = serde_json::from_str::<StandardizedConfig>("{}").unwrap_err();
    assert!(
        error.to_string().contains("missing field `loss`"),
        "{error}"
    );

    let objective = crate::objective::ObjectiveConfig::from_toml(
        "[[terms]]\nloss = { standardized = { loss = { dkd = { beta = 2.0 } } } }",
    );
    let objective = objective.unwrap().init().unwrap();
    assert_eq!(objective.to_string(), "1 · standardized_dkd");

    for (eps, text) in [(0.0, "0"), (-1.0, "-1"), (f64::INFINITY, "inf")] {
        let error = config.clone().with_eps(eps).init().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("standardized.eps is {text}, expected a number greater than 0")
        );
    }
}
