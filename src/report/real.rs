//! The numbers of binary and of continuous heads.

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Tensor, TensorReadError};

use crate::data::head::{HeadKind, Logits};
use crate::data::targets::from_bool;
use crate::metric::mean::Mean;
use crate::metric::rows::{Truth, compare, floats};
use crate::ops::formula::Formula;
use crate::ops::vectors::mean_square;
use crate::report::model::HeadReport;

/// Sums over the rows of a head of independent yes-or-no logits, each row the mean over its labels.
#[derive(Debug, Default)]
pub(crate) struct Binary {
    rows: usize,
    correct: Mean,
    exact: Mean,
    cross_entropy: Mean,
    agreeing: Mean,
    kl_teacher_student: Mean,
    kl_student_teacher: Mean,
}

impl Binary {
    pub fn add_own(
        &mut self,
        logits: &Tensor<2>,
        labels: Option<&Tensor<2>>,
        truth: &Truth,
    ) -> Result<(), TensorReadError> {
        self.rows += valid(logits, truth);
        let Some(labels) = labels else {
            return Ok(());
        };
        let right = same(logits, &labels.clone().cast(logits.dtype()).sub_scalar(0.5));
        let exact: Tensor<1> = right.clone().min_dim(1).squeeze_dim(1);
        let columns = [
            mean(right),
            exact,
            mean(binary_cross_entropy(logits, labels)),
        ];
        let means = [&mut self.correct, &mut self.exact, &mut self.cross_entropy];
        add(means, columns, truth)
    }

    pub fn add_pair(
        &mut self,
        student: &Tensor<2>,
        teacher: &Tensor<2>,
        truth: &Truth,
    ) -> Result<(), TensorReadError> {
        let shape = student.dims();
        let [ours, theirs] = [student, teacher].map(|logits| as_two_classes(logits.clone()));
        let temperature = 1.0;
        let kl = |formula| mean(compare(formula, &ours, &theirs).reshape(shape));
        let columns = [
            mean(same(student, teacher)),
            kl(Formula::Divergence { temperature }),
            kl(Formula::Reverse { temperature }),
        ];
        let means = [
            &mut self.agreeing,
            &mut self.kl_teacher_student,
            &mut self.kl_student_teacher,
        ];
        add(means, columns, truth)
    }

    pub fn alone(&mut self) {
        self.agreeing = Mean::default();
        self.kl_teacher_student = Mean::default();
        self.kl_student_teacher = Mean::default();
    }

    pub fn report(&self) -> HeadReport {
        HeadReport {
            rows: self.rows,
            accuracy: self.correct.get(),
            exact_match: self.exact.get(),
            cross_entropy: self.cross_entropy.get(),
            agreement: self.agreeing.get(),
            kl_teacher_student: self.kl_teacher_student.get(),
            kl_student_teacher: self.kl_student_teacher.get(),
            ..HeadReport::new(HeadKind::Binary)
        }
    }
}

/// Sums over the rows of a head of real values, each row the mean over its values.
#[derive(Debug, Default)]
pub(crate) struct Continuous {
    rows: usize,
    to_targets: Mean,
    to_teacher: Mean,
}

impl Continuous {
    pub fn add_own(
        &mut self,
        values: &Tensor<2>,
        targets: Option<&Tensor<2>>,
        truth: &Truth,
    ) -> Result<(), TensorReadError> {
        self.rows += valid(values, truth);
        match targets {
            Some(targets) => add([&mut self.to_targets], [error(values, targets)], truth),
            None => Ok(()),
        }
    }

    pub fn add_pair(
        &mut self,
        student: &Tensor<2>,
        teacher: &Tensor<2>,
        truth: &Truth,
    ) -> Result<(), TensorReadError> {
        add([&mut self.to_teacher], [error(student, teacher)], truth)
    }

    pub fn alone(&mut self) {
        self.to_teacher = Mean::default();
    }

    pub fn report(&self) -> HeadReport {
        HeadReport {
            rows: self.rows,
            mean_squared_error: self.to_targets.get(),
            error_to_teacher: self.to_teacher.get(),
            ..HeadReport::new(HeadKind::Continuous)
        }
    }
}

fn add<const N: usize>(
    means: [&mut Mean; N],
    columns: [Tensor<1>; N],
    truth: &Truth,
) -> Result<(), TensorReadError> {
    for (mean, column) in means.into_iter().zip(floats(columns)?) {
        for (row, value) in column.into_iter().enumerate() {
            mean.add(value, truth.weight(row));
        }
    }
    Ok(())
}

fn valid(head: &Tensor<2>, truth: &Truth) -> usize {
    (0..head.dims()[0])
        .filter(|row| truth.weight(*row) > 0.0)
        .count()
}

fn mean(values: Tensor<2>) -> Tensor<1> {
    values.mean_dim(1).squeeze_dim(1)
}

/// 1 where both say yes or both say no.
fn same(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    let [a, b] = [a, b].map(|logits| from_bool(logits.clone().greater_elem(0.0)));
    from_bool(a.equal(b))
}

/// `−y·log σ(z) − (1 − y)·log(1 − σ(z))`
fn binary_cross_entropy(logits: &Tensor<2>, labels: &Tensor<2>) -> Tensor<2> {
    let labels = labels.clone().cast(logits.dtype());
    let yes = log_sigmoid(logits.clone()) * labels.clone();
    let no = log_sigmoid(logits.clone().neg()) * labels.neg().add_scalar(1.0);
    (yes + no).neg()
}

/// Each yes-or-no logit as a row of two classes, `softmax([z, 0]) = [σ(z), 1 − σ(z)]`.
fn as_two_classes(logits: Tensor<2>) -> Logits {
    let [rows, labels] = logits.dims();
    let yes: Tensor<2> = logits.reshape([rows * labels, 1]);
    Logits::Dense(Tensor::cat(vec![yes.clone(), yes.zeros_like()], 1))
}

/// The mean squared error of each row.
fn error(values: &Tensor<2>, targets: &Tensor<2>) -> Tensor<1> {
    let targets = targets.clone().cast(values.dtype());
    mean_square(values.clone() - targets)
}
