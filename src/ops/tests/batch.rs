//! Batches of any logits, what a formula makes of them in each form, and how far two may be apart.

use burn::tensor::TensorData;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::data::top_k::MissingProbability;

/// The factor of all comparisons here.
pub const SCALE: f64 = 1.5;

/// Logits of both sides, labels and weights, as plain numbers.
#[derive(Debug, Clone)]
pub struct Batch {
    pub classes: usize,
    pub student: Vec<f32>,
    pub teacher: Vec<f32>,
    pub labels: Vec<i64>,
    /// The weight of each row in `mean`; 0 leaves it out everywhere.
    pub weights: Option<Vec<f32>>,
    /// What arrives at each row in the backward pass, and the factor of each row in `weighted`.
    pub factors: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Native,
    Composed,
    /// Composed, of numbers in double precision.
    Double,
}

impl Form {
    pub fn dtype(self) -> DType {
        match self {
            Self::Double => DType::F64,
            Self::Native | Self::Composed => DType::F32,
        }
    }
}

/// Values, and the gradient at the student's logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub values: Vec<f32>,
    pub gradient: Vec<f32>,
}

pub fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

pub fn tensor(numbers: &[f32], shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), shape), &Device::flex())
}

pub fn labels(labels: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(labels, &Device::flex())
}

pub fn has_teacher(formula: Formula) -> bool {
    !matches!(formula, Formula::HardLabel { .. } | Formula::Sparse { .. })
}

pub fn has_labels(formula: Formula) -> bool {
    matches!(
        formula,
        Formula::HardLabel { .. } | Formula::Decoupled { .. }
    )
}

impl Comparison<'_> {
    pub fn mean_by(self, form: Form) -> Tensor<1> {
        match form {
            Form::Native => {
                assert!(self.is_native());
                self.mean()
            }
            Form::Composed | Form::Double => {
                let weights = self.weights.clone();
                mean_rows(self.composed(), weights.as_ref())
            }
        }
    }

    pub fn per_row_by(self, form: Form) -> Tensor<1> {
        match form {
            Form::Native => {
                assert!(self.is_native());
                self.per_row()
            }
            Form::Composed | Form::Double => self.composed(),
        }
    }
}

impl Batch {
    /// Batches of this many rows and classes. Most logits are moderate, a few are huge, and where
    /// `has_holes` a few classes are masked, by either side or by both.
    pub fn any(rows: usize, classes: usize, has_holes: bool) -> impl Strategy<Value = Self> {
        let logit = prop_oneof![30 => -50f32..50.0, 1 => Just(1e4), 1 => Just(-1e4)];
        let logits = || vec(logit.clone(), rows * classes);
        let holes = vec(prop_oneof![12 => Just(0u8), 1 => 1..4u8], rows * classes);
        let weight = prop_oneof![Just(1f32), Just(0.0), 0.01..4f32];
        let factor = prop_oneof![Just(1f32), Just(0.0), -2f32..2.0];
        (
            (logits(), logits(), holes),
            vec(0..classes as i64, rows),
            proptest::option::of(vec(weight, rows)),
            vec(factor, rows),
        )
            .prop_map(
                move |((student, teacher, holes), labels, weights, factors)| {
                    let mut batch = Self {
                        classes,
                        student,
                        teacher,
                        labels,
                        weights,
                        factors,
                    };
                    for (i, sides) in holes.into_iter().enumerate() {
                        // No side masks all classes, nor all but the label: that leaves no choice.
                        let next = (batch.labels[i / classes] as usize + 1) % classes;
                        if has_holes && i % classes != next {
                            for (bit, side) in [&mut batch.student, &mut batch.teacher]
                                .into_iter()
                                .enumerate()
                            {
                                if sides >> bit & 1 == 1 {
                                    side[i] = OUT;
                                }
                            }
                        }
                    }
                    batch
                },
            )
    }

    /// Without pattern, always the same.
    pub fn noise(rows: usize, classes: usize) -> Self {
        let logits = |seed: u64| -> Vec<f32> {
            let number = |i: u64| {
                let mixed = (1_000_003 * seed + i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                (mixed >> 40) as f32 / (1u64 << 20) as f32 - 8.0
            };
            (0..(rows * classes) as u64).map(number).collect()
        };
        Self {
            classes,
            student: logits(1),
            teacher: logits(2),
            labels: (0..rows).map(|n| ((n * 37) % classes) as i64).collect(),
            weights: Some(
                (0..rows)
                    .map(|n| [1.0, 0.5, 3.0, 0.0, 1.0][n % 5])
                    .collect(),
            ),
            factors: (0..rows).map(|n| (n % 4) as f32 - 1.0).collect(),
        }
    }

    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The rows from one to before another.
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Self {
        let logits = rows.start * self.classes..rows.end * self.classes;
        Self {
            classes: self.classes,
            student: self.student[logits.clone()].to_vec(),
            teacher: self.teacher[logits].to_vec(),
            labels: self.labels[rows.clone()].to_vec(),
            weights: (self.weights.as_ref()).map(|weights| weights[rows.clone()].to_vec()),
            factors: self.factors[rows].to_vec(),
        }
    }

    pub fn logits(&self, side: &[f32]) -> Tensor<2> {
        tensor(side, [self.rows(), self.classes])
    }

    pub fn factors(&self) -> Tensor<1> {
        Tensor::from_data(self.factors.as_slice(), &Device::flex())
    }

    /// Hands the comparison of this student with the rest of the batch on.
    pub fn compare<R>(
        &self,
        formula: Formula,
        student: &Tensor<2>,
        then: impl FnOnce(Comparison<'_>) -> R,
    ) -> R {
        let teacher = self.logits(&self.teacher).cast(student.dtype());
        let labels = labels(&self.labels);
        let weights = self.weights.as_deref();
        let weights = weights.map(|weights| Tensor::from_data(weights, &Device::flex()));
        then(Comparison {
            formula,
            scale: SCALE,
            student,
            teacher: has_teacher(formula).then_some(teacher),
            sparse: self.sparse(formula, student.dtype()),
            labels: has_labels(formula).then_some(&labels),
            weights,
        })
    }

    /// The teacher's top k, with gaps here and there.
    pub fn sparse(&self, formula: Formula, dtype: DType) -> Option<SparseTeacher> {
        let Formula::Sparse {
            temperature,
            has_tail,
        } = formula
        else {
            return None;
        };
        let missing = match has_tail {
            true => MissingProbability::Bucket,
            false => MissingProbability::Renormalize,
        };
        let k = match self.classes {
            few @ ..8 => few,
            many => many / 3,
        };
        let teacher = self.logits(&self.teacher);
        let teacher = teacher
            .clone()
            .mask_fill(teacher.is_finite().bool_not(), -60.0);
        let sparse = SparseTeacher::from_logits(teacher, k, temperature, missing);
        let gaps: Vec<bool> = (0..self.rows() * k).map(|i| i % k % 7 == 5).collect();
        let gaps = TensorData::new(gaps, [self.rows(), k]);
        let gaps = Tensor::<2, Bool>::from_data(gaps, &Device::flex());
        let first = Tensor::cat(vec![sparse.indices.clone().narrow(1, 0, 1); k], 1);
        // It is in single precision, or double, whatever the logits are in.
        let wide = single(self.logits(&self.teacher).cast(dtype)).dtype();
        Some(SparseTeacher {
            indices: sparse.indices.mask_where(gaps.clone(), first),
            log_p: sparse.log_p.mask_fill(gaps, OUT).cast(wide),
            log_tail: sparse.log_tail.map(|log_tail| log_tail.cast(wide)),
        })
    }

    pub fn leaf(&self, dtype: DType) -> Tensor<2> {
        let student = self.logits(&self.student).cast(dtype);
        student.autodiff().require_grad()
    }

    /// The mean, with 2.5 arriving in the backward pass.
    pub fn mean(&self, formula: Formula, form: Form) -> Seen {
        let leaf = self.leaf(form.dtype());
        let value = self.compare(formula, &leaf, |it| it.mean_by(form));
        let gradient = leaf.grad(&(value.clone() * 2.5).backward()).unwrap();
        Seen {
            values: numbers(value),
            gradient: numbers(gradient),
        }
    }

    /// A value per row, with the factors arriving in the backward pass.
    pub fn per_row(&self, formula: Formula, form: Form, dtype: DType) -> Seen {
        let leaf = self.leaf(dtype);
        let values = self.compare(formula, &leaf, |it| it.per_row_by(form));
        let arriving = (values.clone() * self.factors().cast(values.dtype())).sum();
        let gradient = leaf.grad(&arriving.backward()).unwrap();
        assert_eq!(gradient.dtype(), dtype);
        Seen {
            values: numbers(values),
            gradient: numbers(gradient),
        }
    }

    pub fn weighted(&self, formula: Formula, form: Form) -> Seen {
        let student = self.logits(&self.student).cast(form.dtype());
        let factors = self.factors().cast(form.dtype());
        let rows = self.compare(formula, &student, |it| match form {
            Form::Native => {
                assert!(it.is_native());
                it.weighted(&factors)
            }
            Form::Composed | Form::Double => it.composed_weighted(&factors),
        });
        Seen {
            values: numbers(rows.value),
            gradient: numbers(rows.gradient),
        }
    }

    /// Values outside autodiff: of the mean, then of the rows.
    pub fn values(&self, formula: Formula, form: Form) -> [Vec<f32>; 2] {
        let student = self.logits(&self.student);
        [
            self.compare(formula, &student, |it| numbers(it.mean_by(form))),
            self.compare(formula, &student, |it| numbers(it.per_row_by(form))),
        ]
    }

    /// How far off the logarithms of a row's probabilities are in single precision.
    ///
    /// Logits are divided by τ first and rounded there, by half a unit in the last place of the
    /// largest on each side. The logarithm of a masked class is −87.
    pub fn rounding(&self, row: usize, formula: Formula) -> f32 {
        let at = row * self.classes..(row + 1) * self.classes;
        let logits = self.student[at.clone()].iter().chain(&self.teacher[at]);
        let temperature = formula.temperature() as f32;
        let logs = logits.map(|&z| {
            if z == OUT {
                87.0
            } else {
                z.abs() / temperature
            }
        });
        2.0 * f32::EPSILON * logs.fold(0.0, f32::max)
    }

    /// How far two ways to compute a row may be apart, whatever comes out: the rounding of the
    /// logarithms and some units in the last place of one, both times what the formula multiplies
    /// with: 1/τ, and factors and scale, here up to 4.
    pub fn floor(&self, row: usize, formula: Formula) -> f32 {
        let temperature = formula.temperature() as f32;
        4.0 * (1.0 / temperature).max(1.0) * (1e-6 + self.rounding(row, formula))
    }

    /// Relative to the largest number of a row: softmax mixes all its numbers.
    #[track_caller]
    pub fn assert_close(
        &self,
        formula: Formula,
        a: &Seen,
        b: &Seen,
        tolerance: impl Fn(usize) -> f32,
    ) {
        let tolerances: Vec<f32> = (0..self.rows()).map(tolerance).collect();
        let loosest = tolerances.iter().copied().fold(0.0, f32::max);
        let floors: Vec<f32> = (0..self.rows()).map(|n| self.floor(n, formula)).collect();
        let worst = floors.iter().copied().fold(0.0, f32::max);
        assert_eq!(a.values.len(), b.values.len());
        let is_mean = a.values.len() == 1;
        for (n, (a, b)) in a.values.iter().zip(&b.values).enumerate() {
            let (floor, tolerance) = match is_mean {
                true => (worst, loosest),
                false => (floors[n], tolerances[n]),
            };
            let allowed = tolerance * b.abs() + floor;
            // Equal where both are infinite.
            let is_close = a == b || (a - b).abs() <= allowed;
            assert!(is_close, "{formula:?}, value {n}: {a} and {b} ± {allowed}");
        }
        assert_eq!(a.gradient.len(), self.student.len());
        assert_eq!(b.gradient.len(), self.student.len());
        let rows = |seen: &Seen| -> Vec<Vec<f32>> {
            let rows = seen.gradient.chunks(self.classes);
            rows.map(<[f32]>::to_vec).collect()
        };
        for (n, (a, b)) in rows(a).iter().zip(rows(b)).enumerate() {
            let largest = b.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
            let allowed = tolerances[n] * largest + floors[n];
            for (c, (a, b)) in a.iter().zip(&b).enumerate() {
                let is_close = (a - b).abs() <= allowed;
                assert!(
                    is_close,
                    "{formula:?}, gradient {n} {c}: {a} and {b} ± {allowed}"
                );
            }
        }
    }

    /// Both forms agree with the composed one in double precision, by all reductions.
    ///
    /// The composed form adds a maximum to the logarithm of a sum and rounds once more there, so that
    /// next to logits of 1e4 each of its probabilities is off by what the logarithms are.
    #[track_caller]
    pub fn assert_forms_agree(&self, formula: Formula) {
        let ask = |form: Form| {
            [
                self.mean(formula, form),
                self.per_row(formula, form, form.dtype()),
                self.weighted(formula, form),
            ]
        };
        let (native, composed) = (ask(Form::Native), ask(Form::Composed));
        let expected = ask(Form::Double);
        for i in 0..3 {
            self.assert_close(formula, &native[i], &expected[i], |_| 1e-4);
            let tolerance = |n| 1e-4 + 2.0 * self.rounding(n, formula);
            self.assert_close(formula, &composed[i], &expected[i], tolerance);
        }
        // Without a graph the values are the same to the last digit.
        let [mean, per_row, _] = native;
        let values = [mean.values, per_row.values];
        assert_eq!(self.values(formula, Form::Native), values);
    }
}
