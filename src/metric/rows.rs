//! Rows of a head as numbers on the host, a chunk of rows at a time.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Int, IntDType, Tensor, TensorReadError};

use crate::data::head::Logits;
use crate::data::precision::single;
use crate::data::targets::Weights;
use crate::loss::value::LossValue;
use crate::ops::closed_form::ClosedForm;
use crate::ops::formula::Formula;
use crate::ops::row_loss::RowLoss;

/// How many logits a chunk has, of each side: 16 MiB in single precision.
const LOGITS_PER_CHUNK: usize = 1 << 22;

/// Runs of rows of which the logits may be in memory at once.
pub(crate) fn chunks([rows, width]: [usize; 2]) -> impl Iterator<Item = Range<usize>> {
    let rows_per_chunk = (LOGITS_PER_CHUNK / width.max(1)).max(1);
    (0..rows)
        .step_by(rows_per_chunk)
        .map(move |first| first..rows.min(first + rows_per_chunk))
}

/// Some rows of logits, in memory and in single precision. The k classes of a top-k teacher stay what
/// they are.
pub(crate) fn chunk(logits: &Logits, rows: Range<usize>) -> Logits {
    match logits.slice(rows) {
        top_k @ Logits::TopK(_) => top_k,
        other => Logits::Dense(single(other.dense()).without_autodiff()),
    }
}

/// Columns of as many rows, read from the device together.
pub(crate) fn floats<const N: usize>(
    columns: [Tensor<1>; N],
) -> Result<[Vec<f64>; N], TensorReadError> {
    let columns = columns.map(|column| column.without_autodiff().cast(DType::F32));
    let data = Tensor::cat(columns.to_vec(), 0).try_into_data()?;
    Ok(split(data.iter::<f64>().collect()))
}

/// Columns of as many rows, read from the device together.
pub(crate) fn ints<const N: usize>(
    columns: [Tensor<1, Int>; N],
) -> Result<[Vec<i64>; N], TensorReadError> {
    let columns = columns.map(|column| column.without_autodiff().cast(IntDType::I32));
    let data = Tensor::cat(columns.to_vec(), 0).try_into_data()?;
    Ok(split(data.iter::<i64>().collect()))
}

fn split<T: Copy, const N: usize>(all: Vec<T>) -> [Vec<T>; N] {
    let rows = all.len() / N.max(1);
    std::array::from_fn(|column| all[column * rows..(column + 1) * rows].to_vec())
}

/// The most likely class of each row, `[rows]`.
pub(crate) fn top_class(logits: &Logits) -> Tensor<1, Int> {
    match logits {
        Logits::TopK(top_k) => {
            let best = top_k.log_probs.clone().argmax(1);
            top_k.indices.clone().gather(1, best).squeeze_dim(1)
        }
        other => other.dense().argmax(1).squeeze_dim(1),
    }
}

/// The probability of the most likely class of each row, `[rows]`.
pub(crate) fn confidence(logits: &Logits) -> Tensor<1> {
    softmax(logits.dense(), 1).max_dim(1).squeeze_dim(1)
}

/// A comparison of the student's rows with the teacher's, at temperature 1, `[rows]`.
pub(crate) fn compare(formula: Formula, student: &Logits, teacher: &Logits) -> Tensor<1> {
    value(formula, student, Some(teacher.clone()), None)
}

/// `−log softmax(z)_y` of each row, `[rows]`; any number where the label is below 0.
pub(crate) fn cross_entropy(logits: &Logits, labels: Tensor<1, Int>) -> Tensor<1> {
    let formula = Formula::HardLabel { smoothing: 0.0 };
    value(formula, logits, None, Some(labels))
}

fn value(
    formula: Formula,
    student: &Logits,
    teacher: Option<Logits>,
    labels: Option<Tensor<1, Int>>,
) -> Tensor<1> {
    let rows = RowLoss {
        form: ClosedForm::new(formula, 1.0),
        student: student.clone(),
        teacher,
        labels,
        weights: None,
    };
    LossValue::closed(rows).per_row()
}

/// Labels and weights of the rows of a head, on the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    labels: Option<Vec<i64>>,
    weights: Option<Vec<f64>>,
}

impl Truth {
    pub fn read(
        labels: Option<&Tensor<1, Int>>,
        weights: Option<&Weights>,
    ) -> Result<Self, TensorReadError> {
        let labels = labels.map(|labels| ints([labels.clone()])).transpose()?;
        let weights = weights.map(|w| floats([w.values().clone()])).transpose()?;
        Ok(Self {
            labels: labels.map(|[labels]| labels),
            weights: weights.map(|[weights]| weights),
        })
    }

    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// The weight of a row.
    pub fn weight(&self, row: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[row])
    }

    /// The label of a valid row that has one.
    pub fn label(&self, row: usize) -> Option<usize> {
        let label = usize::try_from(self.labels.as_ref()?[row]).ok()?;
        (self.weight(row) > 0.0).then_some(label)
    }

    /// The first row whose label is `classes` or more, and that label.
    pub fn out_of_range(&self, classes: usize) -> Option<(usize, usize)> {
        let rows = self.labels.as_ref().map_or(0, Vec::len);
        (0..rows)
            .filter_map(|row| Some((row, self.label(row)?)))
            .find(|(_, label)| *label >= classes)
    }

    /// The labels of some rows on the device of logits of `classes` classes, below 0 where there is none.
    pub fn labels_of(&self, rows: Range<usize>, like: &Logits) -> Option<Tensor<1, Int>> {
        self.labels.as_ref()?;
        let [_, classes] = like.shape();
        let label = |row| match self.label(row) {
            Some(label) if label < classes => label as i32,
            _ => -1,
        };
        let labels: Vec<i32> = rows.map(label).collect();
        Some(Tensor::from_data(
            labels.as_slice(),
            (&like.device(), DType::I32),
        ))
    }
}
