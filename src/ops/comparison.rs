use burn::backend::{Dispatch, DispatchTensorKind};
use burn::tensor::{Bool, DType, Int, IntDType, Tensor};

use crate::ops::classes::at_labels;
use crate::ops::decoupled::decoupled;
use crate::ops::extension::{Against, RowOps};
use crate::ops::formula::Formula;
use crate::ops::known::{Known, known_divergence};
use crate::ops::vectors::{mask_rows, mean_rows};
use crate::ops::{
    Rows, cross_entropy, divergence, mixture_divergence, reverse_divergence, ruled_out, single,
    squared_error, with_gradient,
};

/// Rows of logits on which a [`Formula`] is evaluated.
///
/// Where the backend has the formula as an operation, that runs; elsewhere it is composed of
/// tensor operations. Both give the same numbers. The gradient is towards the student's logits
/// alone, and a row that the mask leaves out contributes nothing, whatever it holds.
#[derive(Debug, Clone)]
pub(crate) struct Comparison<'a> {
    pub formula: Formula,
    /// A factor of value and gradient.
    pub scale: f64,
    /// `[N, C]`
    pub student: &'a Tensor<2>,
    /// `[N, C]`
    pub teacher: Option<Tensor<2>>,
    /// Instead of a teacher of whom all is known.
    pub known: Option<Known>,
    /// `[N]`
    pub labels: Option<&'a Tensor<1, Int>>,
    /// `[N]`
    pub mask: Option<&'a Tensor<1, Bool>>,
}

impl Comparison<'_> {
    /// The mean over the rows that count, `[1]`.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn mean(self) -> Tensor<1> {
        let mask = self.mask;
        if !self.is_native() {
            return mean_rows(self.composed(), mask);
        }
        let rows = self.student.dims()[0];
        let weights = match mask {
            None => self.even(self.scale / rows.max(1) as f64),
            Some(mask) => {
                let counts = mask.clone().without_autodiff().float().cast(DType::F32);
                counts.clone() * self.scale / counts.sum().clamp_min(1.0)
            }
        };
        self.native(weights, |values| values.sum())
    }

    /// One value per row, `[N]`.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn per_row(self) -> Tensor<1> {
        if !self.is_native() {
            return self.composed();
        }
        let weights = match self.mask {
            None => self.even(self.scale),
            Some(mask) => mask.clone().without_autodiff().float().cast(DType::F32) * self.scale,
        };
        self.native(weights, |values| values)
    }

    /// Values and gradients as they are, each row times its weight; no graph records them. The
    /// mask is left to the weights: a row of weight zero is not looked at.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn weighted(self, weights: &Tensor<1>) -> Rows {
        let student = self.student.clone().without_autodiff();
        let this = Comparison {
            student: &student,
            ..self
        };
        if this.is_native() {
            let weights = weights.clone() * this.scale;
            return this.rows(weights, true);
        }
        this.composed_weighted(weights)
    }

    fn composed_weighted(&self, weights: &Tensor<1>) -> Rows {
        let ignored = weights.clone().equal_elem(0.0);
        // The mask lets rows that do not count have any label.
        let counts = ignored.clone().bool_not();
        let this = Comparison {
            mask: Some(&counts),
            ..self.clone()
        };
        let Rows { value, gradient } = this.composed_rows();
        // A class at −∞ is a constant.
        let gradient = gradient.mask_fill(ruled_out(self.student), 0.0);
        let factors = weights.clone().cast(value.dtype()) * self.scale;
        Rows {
            value: value.mask_fill(ignored.clone(), 0.0) * factors.clone(),
            gradient: mask_rows(gradient, &ignored) * factors.unsqueeze_dim(1),
        }
    }

    /// The same weight for all rows.
    fn even(&self, weight: f64) -> Tensor<1> {
        let device = self.student.device().inner();
        Tensor::full([self.student.dims()[0]], weight, (&device, DType::F32))
    }

    /// Whether the backend has the formulas as operations, and for logits of this type.
    pub(crate) fn is_native(&self) -> bool {
        let student = self.student.clone().without_autodiff();
        let is_known = matches!(student.dtype(), DType::F32 | DType::F16 | DType::BF16);
        // A choice of two is no choice where there is one.
        let has_choice = student.dims()[1] > 1;
        is_known && has_choice && has_formula(self.formula, &student.into_dispatch().kind)
    }

    fn native(self, weights: Tensor<1>, reduce: impl Fn(Tensor<1>) -> Tensor<1>) -> Tensor<1> {
        let student = self.student;
        let is_recorded = student.is_autodiff();
        let Rows { value, gradient } = self.rows(weights, is_recorded);
        match is_recorded {
            true => attach(student, reduce(value), gradient),
            false => reduce(value),
        }
    }

    /// Hands the teacher on, such that the gradient may take its place where nobody else holds it.
    fn rows(self, weights: Tensor<1>, has_gradient: bool) -> Rows {
        self.check();
        let mut student = self.student.clone().without_autodiff();
        let mut teacher = self.teacher.map(Tensor::without_autodiff);
        if let Some(teacher) = &mut teacher
            && teacher.dtype() != student.dtype()
        {
            *teacher = single(teacher.clone());
            student = single(student);
        }
        let labels = self.labels.map(|labels| {
            let labels = labels.clone().without_autodiff();
            labels.cast(IntDType::I32).into_dispatch()
        });
        let against = match (teacher.map(Tensor::into_dispatch), labels, self.known) {
            (Some(teacher), Some(labels), _) => Against::TeacherAndLabels(teacher, labels),
            (Some(teacher), None, _) => Against::Teacher(teacher),
            (None, Some(labels), _) => Against::Labels(labels),
            (None, None, Some(known)) => {
                let indices = known.indices.cast(IntDType::I32);
                let log_p = known.log_p.cast(DType::F32);
                let log_rest = known.log_rest.map(|log_rest| log_rest.cast(DType::F32));
                // The formula says whether there is a rest.
                let log_rest = log_rest.unwrap_or_else(|| log_p.clone().narrow(1, 0, 1));
                Against::Known {
                    indices: indices.into_dispatch(),
                    log_p: log_p.into_dispatch(),
                    log_rest: log_rest.into_dispatch(),
                }
            }
            (None, None, None) => unreachable!("a formula compares with something"),
        };
        let (student, weights) = (student.into_dispatch(), weights.into_dispatch());
        let (values, gradient) =
            Dispatch::compare(student, against, weights, self.formula, has_gradient);
        Rows {
            value: Tensor::from_dispatch(values),
            gradient: Tensor::from_dispatch(gradient),
        }
    }

    fn check(&self) {
        if let Some(teacher) = &self.teacher {
            assert_eq!(
                self.student.dims(),
                teacher.dims(),
                "student and teacher logits have one shape"
            );
        }
        let rows = self.student.dims()[0];
        let known = self.known.as_ref();
        for (what, len) in [
            ("teacher", known.map(|known| known.indices.dims()[0])),
            ("labels", self.labels.map(|labels| labels.dims()[0])),
            ("mask", self.mask.map(|mask| mask.dims()[0])),
        ] {
            let len = len.unwrap_or(rows);
            assert_eq!(
                rows, len,
                "student logits and {what} have the same number of rows"
            );
        }
    }

    fn composed(&self) -> Tensor<1> {
        with_gradient(
            self.composed_rows().scaled(self.scale),
            self.student,
            self.mask,
        )
    }

    fn composed_rows(&self) -> Rows {
        self.check();
        let student = single(self.student.clone().without_autodiff());
        let teacher = self
            .teacher
            .clone()
            .map(|teacher| single(teacher.without_autodiff()));
        match self.formula {
            Formula::HardLabel { smoothing } => {
                cross_entropy(&student, self.expect_labels(), smoothing, self.mask)
            }
            Formula::Known { temperature, .. } => {
                let known = self.known.as_ref().expect("has what is known");
                known_divergence(&student, known, temperature)
            }
            formula => self.with_teacher(formula, &student, &teacher.expect("has a teacher")),
        }
    }

    fn with_teacher(&self, formula: Formula, student: &Tensor<2>, teacher: &Tensor<2>) -> Rows {
        match formula {
            Formula::Divergence { temperature } => divergence(student, teacher, temperature),
            Formula::Reverse { temperature } => reverse_divergence(student, teacher, temperature),
            Formula::Mixture { temperature, beta } => {
                mixture_divergence(student, teacher, temperature, beta)
            }
            Formula::HardAndSoft { temperature, alpha } => {
                let soft = divergence(student, teacher, temperature);
                let soft = soft.scaled((1.0 - alpha) * temperature * temperature);
                // Without labels, one that is ruled out does not matter.
                if alpha == 0.0 {
                    return soft;
                }
                let hard = cross_entropy(student, self.expect_labels(), 0.0, self.mask);
                let hard = hard.scaled(alpha);
                Rows {
                    value: hard.value + soft.value,
                    gradient: hard.gradient + soft.gradient,
                }
            }
            Formula::Decoupled {
                temperature,
                alpha,
                beta,
            } => {
                let classes = student.dims()[1];
                let is_true = at_labels(self.expect_labels(), classes, self.mask);
                decoupled(student, teacher, is_true, temperature, [alpha, beta])
            }
            Formula::SquaredError => squared_error(student, teacher),
            Formula::HardLabel { .. } | Formula::Known { .. } => {
                unreachable!("it has no teacher of whom all is known")
            }
        }
    }

    fn expect_labels(&self) -> &Tensor<1, Int> {
        self.labels.expect("a formula with labels has them")
    }
}

/// A value, `[N]` or `[1]`, whose backward pass hands the known gradient of its rows on to `wrt`,
/// times what arrives for each of them.
///
/// Only where the backend has it as an operation.
fn attach<const D: usize>(wrt: &Tensor<D>, value: Tensor<1>, gradient: Tensor<D>) -> Tensor<1> {
    let wrt = wrt.clone().into_dispatch();
    let attached = Dispatch::attach(wrt, value.into_dispatch(), gradient.into_dispatch());
    Tensor::from_dispatch(attached)
}

/// A value, `[1]`, whose backward pass hands `gradient` on to `wrt`, times what arrives.
///
/// Where `wrt` is in half precision, value and gradient are in [`single`].
pub(crate) fn with_known_gradient<const D: usize>(
    wrt: &Tensor<D>,
    value: Tensor<1>,
    gradient: Tensor<D>,
) -> Tensor<1> {
    if !wrt.is_autodiff() {
        return value;
    }
    let is_single = [value.dtype(), gradient.dtype()] == [DType::F32; 2];
    if is_single && has_row_ops(&value.clone().into_dispatch().kind) {
        return attach(wrt, value, gradient);
    }
    // f(x) = v + ⟨g, x⟩ − ⟨g, x₀⟩ has the value v and the gradient g at x = x₀.
    let product = (single(wrt.clone()) * gradient).sum();
    product.clone() - product.without_autodiff() + value
}

/// `sum + lhs · rhs`, in the place of `sum` where the backend can and nobody else holds it.
pub(crate) fn add_product(sum: Tensor<2>, lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    if sum.dtype() != DType::F32 || !has_row_ops(&sum.clone().into_dispatch().kind) {
        return sum + lhs.matmul(rhs);
    }
    let [sum, lhs, rhs] = [sum, lhs, rhs].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::add_product(sum, lhs, rhs))
}

/// Whether the formula is an operation for tensors of this kind.
///
/// To leave out some classes of a row takes memory of its own in a kernel of a GPU, and what is composed
/// is fused there.
fn has_formula(formula: Formula, kind: &DispatchTensorKind) -> bool {
    match (formula, kind) {
        #[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
        (Formula::Known { .. }, DispatchTensorKind::Cube(_)) => false,
        _ => has_row_ops(kind),
    }
}

/// Whether [`RowOps`] has an implementation for tensors of this kind.
fn has_row_ops(kind: &DispatchTensorKind) -> bool {
    match kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
        DispatchTensorKind::Cube(_) => true,
        _ => false,
    }
}

#[cfg(all(test, feature = "flex"))]
#[path = "tests/comparison.rs"]
mod tests;
