//! A closed form on the logits of a batch, as a mean or per row.

use burn::tensor::{Int, Tensor};

use crate::data::head::Logits;
use crate::ops::closed_form::{ClosedForm, Teacher, labelled};
use crate::ops::comparison::Comparison;
use crate::ops::projected::{Projected, ProjectedTerm};

/// A closed form on the logits of a batch.
#[derive(Debug, Clone)]
pub(crate) struct RowLoss {
    pub form: ClosedForm,
    pub student: Logits,
    pub teacher: Option<Logits>,
    /// `[rows]`; a label below 0 leaves its row out of a loss on labels.
    pub labels: Option<Tensor<1, Int>>,
    /// `[rows]`
    pub weights: Option<Tensor<1>>,
}

impl RowLoss {
    /// Between the logits of student and teacher, all weights 1.
    pub fn between(
        form: ClosedForm,
        student: impl Into<Logits>,
        teacher: impl Into<Logits>,
    ) -> Self {
        Self {
            form,
            student: student.into(),
            teacher: Some(teacher.into()),
            labels: None,
            weights: None,
        }
    }

    /// The weighted mean over rows, `[1]`.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn mean(self) -> Tensor<1> {
        match &self.student {
            Logits::Projected(layer) => {
                let projected = Projected::new(layer, self.teacher.as_ref());
                projected.run(&[self.term()]).total
            }
            other => {
                let student = other.dense();
                self.compare(&student, |it| it.mean())
            }
        }
    }

    /// One value per row, `[rows]`. Of a projected head it carries no gradient.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ, or if a gradient is wanted through a projected head: the gradient of
    /// its weight would need to know each row's factor before the rows are gone.
    pub fn per_row(self) -> Tensor<1> {
        match &self.student {
            Logits::Projected(layer) => {
                assert!(
                    !layer.is_tracked(),
                    "a value per row of a projected head has no gradient: take its mean, or its weighted mean"
                );
                Projected::new(layer, self.teacher.as_ref()).per_row(&self.term())
            }
            other => {
                let student = other.dense();
                self.compare(&student, |it| it.per_row())
            }
        }
    }

    fn term(&self) -> ProjectedTerm {
        let (labels, weights) = (self.labels.clone(), self.weights.clone());
        let (labels, weights) = labelled(self.form.formula, labels, weights);
        ProjectedTerm {
            form: self.form,
            labels,
            weights,
            factor: 1.0,
        }
    }

    fn compare(
        self,
        student: &Tensor<2>,
        reduce: impl Fn(Comparison<'_>) -> Tensor<1>,
    ) -> Tensor<1> {
        let (formula, teacher) = self.form.against(self.teacher.as_ref());
        if let Some(Logits::TopK(top_k)) = &self.teacher {
            assert_eq!(
                student.dims()[1],
                top_k.classes,
                "student and teacher have the same number of classes"
            );
        }
        // Held here alone, a teacher's buffer may become that of the gradient.
        drop(self.teacher);
        let (labels, weights) = labelled(formula, self.labels, self.weights);
        let (teacher, sparse) = match teacher {
            Teacher::None => (None, None),
            Teacher::Logits(Logits::Dense(logits)) => (Some(logits), None),
            Teacher::Logits(other) => (Some(other.dense()), None),
            Teacher::Sparse(sparse) => (None, Some(sparse)),
        };
        reduce(Comparison {
            formula,
            scale: self.form.scale,
            student,
            teacher,
            sparse,
            labels: labels.as_ref(),
            weights,
        })
    }
}
