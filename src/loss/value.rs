//! The value of a loss before it is decided how its rows are reduced.

use burn::tensor::{DType, Int, Tensor};

use crate::data::targets::{Weights, from_bool};
use crate::ops::row_loss::RowLoss;
use crate::ops::vectors::mean_rows;

/// A loss of a batch, computed when it is asked for: as a mean, as a weighted mean, or per row.
///
/// # Example
///
/// ```
/// use burn::tensor::{Bool, Device, Tensor};
/// use burn_distill::loss::soft_target;
///
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[0.0, 0.0], [9.0, 0.0]], &device);
/// let teacher = Tensor::<2>::from_floats([[0.0, 0.0], [0.0, 9.0]], &device);
/// let mask = Tensor::<1, Bool>::from_data([true, false], &device);
/// let loss = soft_target(student, teacher, 4.0);
/// assert_eq!(loss.clone().per_row().dims(), [2]);
/// assert_eq!(loss.weighted(&mask).mean().into_scalar::<f32>(), 0.0);
/// ```
#[must_use = "a loss is computed by `.mean()`, or `.per_row()`"]
#[derive(Debug, Clone)]
pub struct LossValue {
    rows: Rows,
    factor: f64,
}

#[derive(Debug, Clone)]
enum Rows {
    Closed(Box<RowLoss>),
    Composed(Box<Composed>),
}

#[derive(Debug, Clone)]
struct Composed {
    /// `[rows]`
    values: Tensor<1>,
    /// 1 where the row has a label, 0 where it has none; `None` where labels do not matter.
    has_label: Option<Tensor<1>>,
    weights: Option<Tensor<1>>,
}

impl Composed {
    /// The weights of the rows that have a label.
    fn valid_weights(&self) -> Option<Tensor<1>> {
        match (self.has_label.clone(), self.weights.clone()) {
            (Some(has_label), Some(weights)) => Some(has_label * weights),
            (has_label, weights) => has_label.or(weights),
        }
    }
}

impl LossValue {
    pub(crate) fn closed(rows: RowLoss) -> Self {
        Self {
            rows: Rows::Closed(Box::new(rows)),
            factor: 1.0,
        }
    }

    /// One value per row, `[rows]`.
    pub(crate) fn composed(values: Tensor<1>) -> Self {
        Self::of_rows(values, None)
    }

    /// One value per row, `[rows]`, of a loss on labels, `[rows]`: a label below 0 leaves its row out.
    pub(crate) fn labelled(values: Tensor<1>, labels: Tensor<1, Int>) -> Self {
        let is_missing = labels.without_autodiff().lower_elem(0);
        Self::of_rows(values, Some(from_bool(is_missing.bool_not())))
    }

    fn of_rows(values: Tensor<1>, has_label: Option<Tensor<1>>) -> Self {
        let rows = Composed {
            values,
            has_label,
            weights: None,
        };
        Self {
            rows: Rows::Composed(Box::new(rows)),
            factor: 1.0,
        }
    }

    /// Sets the weight of each row, `[rows]`: a tensor of numbers of at least 0, or a mask. A row of
    /// weight 0 may hold anything.
    pub fn weighted(mut self, weights: impl Into<Weights>) -> Self {
        let new = Some(weights.into().values.cast(DType::F32));
        match &mut self.rows {
            Rows::Closed(rows) => rows.weights = new,
            Rows::Composed(rows) => rows.weights = new,
        }
        self
    }

    /// The weighted mean over rows, `Σ w·v / Σ w`, `[1]`.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ.
    pub fn mean(self) -> Tensor<1> {
        let mean = match self.rows {
            Rows::Closed(rows) => rows.mean(),
            Rows::Composed(rows) => mean_rows(rows.values.clone(), rows.valid_weights().as_ref()),
        };
        scaled(mean, self.factor)
    }

    /// One value per row, `[rows]`, not multiplied by its weight, but 0 where the weight is 0.
    ///
    /// # Panics
    ///
    /// Panics if the shapes differ, or if a projected head wants a gradient: that of a mean, or of a
    /// weighted mean, can be had, but not that of each row.
    pub fn per_row(self) -> Tensor<1> {
        let rows = match self.rows {
            Rows::Closed(rows) => rows.per_row(),
            Rows::Composed(rows) => match rows.valid_weights() {
                Some(weights) => rows.values.mask_fill(weights.equal_elem(0.0), 0.0),
                None => rows.values,
            },
        };
        scaled(rows, self.factor)
    }
}

fn scaled(x: Tensor<1>, factor: f64) -> Tensor<1> {
    match factor == 1.0 {
        true => x,
        false => x * factor,
    }
}

impl std::ops::Mul<f64> for LossValue {
    type Output = Self;

    fn mul(mut self, factor: f64) -> Self {
        self.factor *= factor;
        self
    }
}
