//! A closed form on logits of any kind: dense, projected, or the top k of a teacher.

use burn::backend::DispatchTensorKind;
use burn::tensor::{DType, Int, Tensor};

use crate::data::head::Logits;
use crate::data::targets::from_bool;
use crate::data::top_k::MissingProbability;
use crate::ops::formula::Formula;
use crate::ops::sparse::SparseTeacher;

/// A loss whose value and gradient per row have a closed form.
///
/// A loss that has one returns it from [`Loss::closed_form`](crate::loss::Loss::closed_form). It then
/// runs as one operation of the backend, and on heads whose logits are never materialised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClosedForm {
    pub(crate) formula: Formula,
    /// A factor of value and gradient.
    pub(crate) scale: f64,
    /// What is assumed of the classes that a top-k teacher leaves out.
    pub(crate) missing: MissingProbability,
}

impl ClosedForm {
    pub(crate) fn new(formula: Formula, scale: f64) -> Self {
        Self {
            formula,
            scale,
            missing: MissingProbability::default(),
        }
    }

    /// The formula, and the teacher as it takes it.
    pub(crate) fn against(&self, teacher: Option<&Logits>) -> (Formula, Teacher) {
        match (teacher, self.formula) {
            (_, formula) if !formula.has_teacher() => (formula, Teacher::None),
            (Some(Logits::TopK(top_k)), Formula::Divergence { temperature }) => {
                let sparse = SparseTeacher::from_top_k(top_k.clone(), temperature, self.missing);
                (sparse.formula(temperature), Teacher::Sparse(sparse))
            }
            (Some(teacher), formula) => (formula, Teacher::Logits(teacher.clone())),
            (None, _) => panic!("the loss compares with a teacher, and there is none"),
        }
    }
}

/// A teacher as a formula takes it.
#[derive(Debug, Clone)]
pub(crate) enum Teacher {
    None,
    Logits(Logits),
    Sparse(SparseTeacher),
}

/// Labels and weights of a formula. A formula on labels leaves out the rows whose label is below 0; any
/// other takes no labels.
pub(crate) fn labelled(
    formula: Formula,
    labels: Option<Tensor<1, Int>>,
    weights: Option<Tensor<1>>,
) -> (Option<Tensor<1, Int>>, Option<Tensor<1>>) {
    if !formula.has_labels() {
        return (None, weights);
    }
    let labels = labels
        .expect("a loss on labels has some")
        .without_autodiff();
    if is_on_host(&labels) && labels.to_data().iter::<i64>().all(|label| label >= 0) {
        return (Some(labels), weights);
    }
    let is_missing = labels.clone().lower_elem(0);
    let has_label = from_bool(is_missing.clone().bool_not());
    let weights = match weights {
        Some(weights) => weights.cast(DType::F32) * has_label,
        None => has_label,
    };
    (Some(labels.mask_fill(is_missing, 0)), Some(weights))
}

/// Whether looking at numbers costs less than one operation on them, and synchronises nothing.
fn is_on_host(labels: &Tensor<1, Int>) -> bool {
    match labels.clone().into_dispatch().kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        _ => false,
    }
}
