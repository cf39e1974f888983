use burn::tensor::Device;

use super::*;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::features::hint::Hint;
use crate::loss::logits::dkd::Dkd;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::logit_mse::LogitMse;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::logits::virtual_teacher::VirtualTeacher;
use crate::loss::loss::Loss;
use crate::loss::term::{IntoTerm, Term};
use crate::loss::testing::logits::{self, Batch};
use crate::loss::testing::numbers::close as assert_close;
use crate::objective::{Objective, ObjectiveModules};
use crate::schedule::Schedule;

/// A term as a loss: what an objective of this term alone computes.
#[derive(Debug, Clone)]
struct Alone(Objective);

impl Loss for Alone {
    fn name(&self) -> String {
        self.0.terms()[0].name()
    }

    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.0.check(context)
    }

    fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
        self.0.forward(context, &ObjectiveModules::default()).total
    }
}

fn term(inner: impl IntoTerm) -> Term {
    inner.into_term().standardized()
}

fn loss(inner: impl IntoTerm) -> Alone {
    Alone(Objective::new().with(term(inner), 1))
}

fn soft_target() -> Alone {
    loss(SoftTarget::new(2.0))
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
    let seen = batch.seen(&loss(LogitMse::new()));
    assert_close(&[seen.value], &[8.0 / 3.0], 1e-5);
}

#[test]
fn gradient_is_the_slope() {
    logits::gradient_is_the_slope(&soft_target(), &Batch::example());
    logits::gradient_is_the_slope(&loss(Dkd::new(2.0)), &Batch::example());
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
    let loss = term(SoftTarget::new(2.0)).standardized_by(1e6);
    let seen = Batch::example().seen(&Alone(Objective::new().with(loss, 1)));
    assert_close(&[seen.value], &[0.0], 1e-6);
}

#[test]
fn extremes_are_finite() {
    for temperature in [0.5, 1.0, 100.0] {
        let soft = loss(SoftTarget::new(temperature));
        logits::extremes_are_finite(&soft);
        logits::extremes_are_finite(&loss(Dkd::new(temperature)));
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
    let seen = batch.seen(&loss(SoftTarget::new(1.0)));
    let sum = 1_f64.exp() + 1.0 + (-1_f64).exp();
    let p = [1_f64.exp() / sum, 1.0 / sum, (-1_f64).exp() / sum];
    let scaled: Vec<f64> = seen.gradient.iter().map(|g| g * 1e-7).collect();
    assert_close(&scaled, &p.map(|p| 1.0 / 3.0 - p), 1e-5);
}

#[test]
fn rows_and_masks() {
    for loss in [soft_target(), loss(Dkd::new(4.0))] {
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
    let scheduled = loss(SoftTarget::new(Schedule::linear(2.0, 6.0)));
    let batch = Batch::example().at(0.5);
    let fixed = loss(SoftTarget::new(4.0));
    batch
        .seen(&scheduled)
        .assert_close(&batch.seen(&fixed), 1e-6);
}

#[test]
fn what_does_not_fit_is_named() {
    let loss = term(Dkd::new(2.0));
    assert_eq!(loss.name(), "standardized_dkd");
    let mut batch = Batch::example();
    batch.teacher[1][2] = f64::NEG_INFINITY;
    assert_eq!(
        batch.refused(&loss),
        "not finite: term \"standardized_dkd\": a logit of the teacher (NaN or infinite)"
    );
    // Where the row is not valid, it may hold anything.
    batch.weights = Some(vec![1.0, 0.0, 1.0]);
    batch.seen(&self::loss(Dkd::new(2.0))).assert_finite();
    assert_eq!(
        Batch::new([[1.0]], [[1.0]], [0]).refused(&loss),
        "term \"standardized_dkd\": the number of classes is 1, expected at least 2: \
         a single logit is `Outputs::binary`, a single value `Outputs::values`"
    );
}

#[test]
fn only_a_loss_between_logits_can_be_seen_so() {
    let error = |inner: Term| {
        let objective = Objective::new().with(term(inner), 1);
        objective.validate().unwrap_err().to_string()
    };
    for (inner, name) in [
        (Term::new(HardLabel::new()), "hard_label"),
        (Term::new(VirtualTeacher::new()), "virtual_teacher"),
        (Term::new(Hint::new("a", "b")), "hint_a"),
    ] {
        assert_eq!(
            error(inner),
            format!(
                "{name}.standardize is on, expected a loss between the logits of student and teacher"
            )
        );
    }
    // What the loss refuses is refused here.
    assert_eq!(
        error(Term::new(SoftTarget::new(-1.0))),
        "soft_target.temperature is -1, expected a number greater than 0"
    );
}

#[test]
fn config_files() {
    let read = |standardize: &str| {
        Objective::from_toml(&format!(
            "[[terms]]\nloss = {{ dkd = {{ beta = 2.0 }} }}\nstandardize = {standardize}"
        ))
        .unwrap()
    };
    let eps = |objective: &Objective| objective.terms()[0].standardize();
    assert_eq!(read("true").to_string(), "1 · standardized_dkd");
    assert_eq!(eps(&read("true")), Some(1e-7));
    assert_eq!(read("false").to_string(), "1 · dkd");
    assert_eq!(eps(&read("1e-6")), Some(1e-6));

    let text = toml::to_string(&read("1e-6")).unwrap();
    assert_eq!(eps(&Objective::from_toml(&text).unwrap()), Some(1e-6));

    for (eps, text) in [("0.0", "0"), ("-1.0", "-1"), ("inf", "inf")] {
        let error = read(eps).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("standardize is {text}, expected a number greater than 0")
        );
    }
}
