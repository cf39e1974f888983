use burn::backend::{Dispatch, DispatchTensorKind};
use burn::tensor::{Bool, DType, Int, IntDType, Tensor};

use crate::data::precision::single;
use crate::data::targets::from_bool;
use crate::ops::classes::at_labels;
use crate::ops::decoupled::decoupled;
use crate::ops::extension::{Against, RowOps};
use crate::ops::formula::Formula;
use crate::ops::sparse::{SparseTeacher, sparse_divergence};
use crate::ops::vectors::{mask_rows, mean_rows, normalised};
use crate::ops::{
    Rows, cross_entropy, divergence, masked_classes, mixture_divergence, reverse_divergence,
    squared_error, with_gradient,
};

/// Rows of logits on which a [`Formula`] is evaluated.
///
/// Where the backend has the formula as an operation, that runs; elsewhere it is composed of
/// tensor operations. Both give the same numbers. The gradient is towards the student's logits
/// alone, and a row of weight zero contributes nothing, whatever it holds.
#[derive(Debug, Clone)]
pub(crate) struct Comparison<'a> {
    pub formula: Formula,
    /// A factor of value and gradient.
    pub scale: f64,
    /// `[N, C]`
    pub student: &'a Tensor<2>,
    /// `[N, C]`
    pub teacher: Option<Tensor<2>>,
    /// Instead of the teacher's logits: a sparse distribution.
    pub sparse: Option<SparseTeacher>,
    /// `[N]`
    pub labels: Option<&'a Tensor<1, Int>>,
    /// `[N]`, in `f32`
    pub weights: Option<Tensor<1>>,
}

impl Comparison<'_> {
    /// The weighted mean over rows, `[1]`; 0 where all weights are.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn mean(self) -> Tensor<1> {
        if !self.is_native() {
            let weights = self.weights.clone();
            return mean_rows(self.composed(), weights.as_ref());
        }
        let rows = self.student.dims()[0];
        let weights = match self.weights.clone() {
            None => self.even(self.scale / rows.max(1) as f64),
            Some(weights) => normalised(weights) * self.scale,
        };
        self.native(weights, |values| values.sum())
    }

    /// One value per row, `[N]`: not multiplied by its weight, but 0 where that is 0.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn per_row(self) -> Tensor<1> {
        if !self.is_native() {
            return self.composed();
        }
        let weights = match &self.weights {
            None => self.even(self.scale),
            Some(weights) => from_bool(valid(weights)) * self.scale,
        };
        self.native(weights, |values| values)
    }

    /// Values and gradients, each row times its weight of `weights`; no graph records them.
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
        // A row of weight zero may have any label.
        let this = Comparison {
            weights: Some(weights.clone()),
            ..self.clone()
        };
        let Rows { value, gradient } = this.composed_rows();
        // A class at −∞ is a constant.
        let gradient = gradient.mask_fill(masked_classes(self.student), 0.0);
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
        let is_supported = matches!(student.dtype(), DType::F32 | DType::F16 | DType::BF16);
        // A softmax over one class is constant.
        let has_classes = student.dims()[1] > 1;
        is_supported && has_classes && has_formula(self.formula, &student.into_dispatch().kind)
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

    /// Passes the teacher on by value, so that the gradient may reuse its buffer where that is not shared.
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
        let against = match (teacher.map(Tensor::into_dispatch), labels, self.sparse) {
            (Some(teacher), Some(labels), _) => Against::TeacherAndLabels(teacher, labels),
            (Some(teacher), None, _) => Against::Teacher(teacher),
            (None, Some(labels), _) => Against::Labels(labels),
            (None, None, Some(sparse)) => {
                let indices = sparse.indices.cast(IntDType::I32);
                let log_p = sparse.log_p.cast(DType::F32);
                let log_tail = sparse.log_tail.map(|log_tail| log_tail.cast(DType::F32));
                // The formula says whether there is a tail.
                let log_tail = log_tail.unwrap_or_else(|| log_p.clone().narrow(1, 0, 1));
                Against::Sparse {
                    indices: indices.into_dispatch(),
                    log_p: log_p.into_dispatch(),
                    log_tail: log_tail.into_dispatch(),
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
        let sparse = self.sparse.as_ref();
        for (what, len) in [
            ("teacher", sparse.map(|sparse| sparse.indices.dims()[0])),
            ("labels", self.labels.map(|labels| labels.dims()[0])),
            ("weights", self.weights.as_ref().map(|w| w.dims()[0])),
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
            self.mask().as_ref(),
        )
    }

    /// The rows of a weight other than zero.
    fn mask(&self) -> Option<Tensor<1, Bool>> {
        self.weights.as_ref().map(valid)
    }

    fn composed_rows(&self) -> Rows {
        self.check();
        let student = single(self.student.clone().without_autodiff());
        let teacher = self
            .teacher
            .clone()
            .map(|teacher| teacher.without_autodiff().cast(student.dtype()));
        match self.formula {
            Formula::HardLabel { smoothing } => cross_entropy(
                &student,
                self.expect_labels(),
                smoothing,
                self.mask().as_ref(),
            ),
            Formula::Sparse { temperature, .. } => {
                let sparse = self.sparse.as_ref().expect("has a sparse teacher");
                sparse_divergence(&student, &sparse.cast(student.dtype()), temperature)
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
            Formula::Decoupled {
                temperature,
                alpha,
                beta,
            } => {
                let classes = student.dims()[1];
                let is_true = at_labels(self.expect_labels(), classes, self.mask().as_ref());
                decoupled(student, teacher, is_true, temperature, [alpha, beta])
            }
            Formula::SquaredError => squared_error(student, teacher),
            Formula::HardLabel { .. } | Formula::Sparse { .. } => {
                unreachable!("it does not compare with dense logits")
            }
        }
    }

    fn expect_labels(&self) -> &Tensor<1, Int> {
        self.labels.expect("a formula with labels has them")
    }
}

/// Where a weight is not zero.
fn valid(weights: &Tensor<1>) -> Tensor<1, Bool> {
    weights.clone().equal_elem(0.0).bool_not()
}

/// A value, `[N]` or `[1]`, whose backward pass passes the gradient of its rows on to `wrt`,
/// times what arrives for each of them.
///
/// Only where the backend has it as an operation.
fn attach<const D: usize>(wrt: &Tensor<D>, value: Tensor<1>, gradient: Tensor<D>) -> Tensor<1> {
    let wrt = wrt.clone().into_dispatch();
    let attached = Dispatch::attach(wrt, value.into_dispatch(), gradient.into_dispatch());
    Tensor::from_dispatch(attached)
}

/// A value, `[1]`, whose backward pass passes `gradient` on to `wrt`, times what arrives.
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
    let wrt = single(wrt.clone());
    // A row of weight zero may hold anything.
    let not_finite = wrt.clone().is_finite().bool_not();
    let product = (wrt.mask_fill(not_finite, 0.0) * gradient).sum();
    product.clone() - product.without_autodiff() + value
}

/// `sum + lhs · rhs`, in the buffer of `sum` where the backend can and it is not shared.
pub(crate) fn add_product(sum: Tensor<2>, lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    if sum.dtype() != DType::F32 || !has_row_ops(&sum.clone().into_dispatch().kind) {
        return sum + lhs.matmul(rhs);
    }
    let [sum, lhs, rhs] = [sum, lhs, rhs].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::add_product(sum, lhs, rhs))
}

/// Whether the formula is an operation for tensors of this kind.
///
/// Leaving out some classes of a row takes extra memory in a kernel of a GPU, and the composed form is
/// fused there.
fn has_formula(formula: Formula, kind: &DispatchTensorKind) -> bool {
    match (formula, kind) {
        #[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
        (Formula::Sparse { .. }, DispatchTensorKind::Cube(_)) => false,
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
