use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};

use crate::ops::classes::{log_sum_exp, lowest, without_classes};
use crate::ops::vectors::mask_rows;
use crate::ops::{Rows, divergence};

/// `α·KL` of the true class against all others `+ β·KL` of the others among themselves, per row,
/// and its gradient with respect to `z_s`.
pub(crate) fn decoupled(
    student: &Tensor<2>,
    teacher: &Tensor<2>,
    is_true: Tensor<2, Bool>,
    temperature: f64,
    [alpha, beta]: [f64; 2],
) -> Rows {
    let student = student.clone() / temperature;
    let teacher = teacher.clone() / temperature;
    let other_students = without_classes(student.clone(), is_true.clone());
    let other_teachers = without_classes(teacher.clone(), is_true.clone());

    // The true class against all others is a choice of two, whose logits are that of the true
    // class and the log-sum-exp of the others.
    let choice = |logits: Tensor<2>, others: &Tensor<2>| {
        let rest = is_true.clone().bool_not();
        let of_true = logits.mask_fill(rest, 0.0).sum_dim(1);
        Tensor::cat(vec![of_true, log_sum_exp(others.clone())], 1)
    };
    let target = divergence(
        &choice(student, &other_students),
        &choice(teacher, &other_teachers),
        1.0,
    );
    let mut non_target = divergence(&other_students, &other_teachers, 1.0);
    // A teacher that masks all but the true class has no distribution over the others.
    let is_alone = other_teachers
        .clone()
        .max_dim(1)
        .lower_equal_elem(lowest(&other_teachers));
    let is_alone: Tensor<1, Bool> = is_alone.squeeze_dim(1);
    non_target.value = non_target.value.mask_fill(is_alone.clone(), 0.0);
    non_target.gradient = mask_rows(non_target.gradient, &is_alone);

    // By the chain rule: log-sum-exp passes its gradient on to the other classes by their softmax.
    let one_hot = is_true.float().cast(other_students.dtype());
    let of_true = target.gradient.narrow(1, 0, 1);
    let target_gradient = of_true * (one_hot - softmax(other_students, 1));
    Rows {
        value: target.value * alpha + non_target.value * beta,
        gradient: (target_gradient * alpha + non_target.gradient * beta) / temperature,
    }
}
