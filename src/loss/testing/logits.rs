//! What the tests of losses on outputs share: a batch in plain numbers, and what every such loss
//! has to hold.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::loss::context::LossContext;
use crate::loss::loss::Loss;
use crate::loss::term::IntoTerm;
pub use crate::loss::testing::numbers::close as assert_close;
use crate::objective::Objective;

/// Logits of both sides, labels, and the weights of the rows.
#[derive(Debug, Clone)]
pub struct Batch {
    pub student: Vec<Vec<f64>>,
    pub teacher: Vec<Vec<f64>>,
    pub labels: Vec<i64>,
    pub weights: Option<Vec<f64>>,
    pub progress: f64,
}

/// Value and gradient towards the student, row after row.
#[derive(Debug, Clone)]
pub struct Seen {
    pub value: f64,
    pub gradient: Vec<f64>,
}

impl Batch {
    pub fn new<const N: usize, const C: usize>(
        student: [[f64; C]; N],
        teacher: [[f64; C]; N],
        labels: [i64; N],
    ) -> Self {
        Self {
            student: student.map(Vec::from).to_vec(),
            teacher: teacher.map(Vec::from).to_vec(),
            labels: labels.to_vec(),
            weights: None,
            progress: 0.0,
        }
    }

    pub fn at(mut self, progress: f64) -> Self {
        self.progress = progress;
        self
    }

    /// Three rows of four classes; any numbers do.
    pub fn example() -> Self {
        Self::new(
            [
                [0.5, -1.25, 2.0, 0.25],
                [-0.75, 1.5, 0.0, -2.0],
                [1.0, 0.5, -0.5, 3.0],
            ],
            [
                [1.5, -0.5, 1.0, -2.0],
                [0.25, 2.5, -1.0, 0.75],
                [-1.0, 2.0, 0.5, 1.25],
            ],
            [2, 0, 3],
        )
    }

    /// The rows of these numbers, in this order.
    pub fn rows(&self, order: &[usize]) -> Self {
        let pick = |rows: &Vec<Vec<f64>>| order.iter().map(|&n| rows[n].clone()).collect();
        Self {
            student: pick(&self.student),
            teacher: pick(&self.teacher),
            labels: order.iter().map(|&n| self.labels[n]).collect(),
            weights: self
                .weights
                .as_ref()
                .map(|weights| order.iter().map(|&n| weights[n]).collect()),
            progress: self.progress,
        }
    }

    pub fn seen(&self, loss: &dyn Loss) -> Seen {
        self.seen_as(loss, DType::F32)
    }

    fn seen_as(&self, loss: &dyn Loss, dtype: DType) -> Seen {
        let device = Device::flex();
        let leaf = tensor(&self.student, &device.clone().autodiff(), dtype).require_grad();
        let value = self.forward(loss, leaf.clone(), tensor(&self.teacher, &device, dtype));
        let gradient = leaf.grad(&value.backward()).expect("a gradient");
        Seen {
            value: value.into_data().iter::<f64>().next().expect("one value"),
            gradient: gradient.into_data().iter::<f64>().collect(),
        }
    }

    fn forward(&self, loss: &dyn Loss, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        self.with_context(student, teacher, |context| {
            loss.check(context).expect("a batch that fits the loss");
            loss.forward(context)
        })
    }

    fn with_context<R>(
        &self,
        student: Tensor<2>,
        teacher: Tensor<2>,
        then: impl FnOnce(&LossContext<'_>) -> R,
    ) -> R {
        let device = Device::flex();
        let (student, teacher) = (Outputs::new(student), Outputs::new(teacher));
        let mut targets = Targets::new();
        if !self.labels.is_empty() {
            let labels = Tensor::<1, Int>::from_data(&self.labels[..], &device);
            targets = targets.with_classes(labels);
        }
        if let Some(weights) = &self.weights {
            let weights = TensorData::new(weights.clone(), [weights.len()]);
            let weights = Tensor::<1>::from_data(weights, (&device, DType::F32));
            targets = targets.with_weights(weights);
        }
        let context = LossContext::new(&student, &teacher).with_targets(&targets);
        then(&context.at(self.progress))
    }

    /// The error of an objective that is checked with the batch.
    #[track_caller]
    pub fn refused(&self, loss: &(impl IntoTerm + Clone)) -> String {
        let device = Device::flex();
        let student = tensor(&self.student, &device, DType::F32);
        let teacher = tensor(&self.teacher, &device, DType::F32);
        let objective = Objective::new().with(loss.clone(), 1);
        let checked = self.with_context(student, teacher, |context| objective.check(context));
        checked.expect_err("a batch that does not fit").to_string()
    }
}

fn tensor(rows: &[Vec<f64>], device: &Device, dtype: DType) -> Tensor<2> {
    let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
    Tensor::from_data(data, (device, dtype))
}

impl Seen {
    /// Equal to another, each number within `tolerance`.
    pub fn assert_close(&self, other: &Self, tolerance: f64) {
        assert_close(&[self.value], &[other.value], tolerance);
        assert_close(&self.gradient, &other.gradient, tolerance);
    }

    pub fn assert_finite(&self) {
        assert!(self.value.is_finite(), "{self:?}");
        assert!(self.gradient.iter().all(|g| g.is_finite()), "{self:?}");
    }
}

/// The gradient is the slope of the value: central differences, both in double precision.
pub fn gradient_is_the_slope(loss: &dyn Loss, batch: &Batch) {
    let step = 1e-5;
    let gradient = batch.seen_as(loss, DType::F64).gradient;
    let classes = batch.student[0].len();
    let slope = (0..gradient.len()).map(|i| {
        let at = |offset: f64| {
            let mut batch = batch.clone();
            batch.student[i / classes][i % classes] += offset;
            batch.seen_as(loss, DType::F64).value
        };
        (at(step) - at(-step)) / (2.0 * step)
    });
    assert_close(&gradient, &slope.collect::<Vec<_>>(), 1e-7);
}

/// The order of the rows does not matter, and each keeps its gradient.
pub fn rows_can_be_permuted(loss: &dyn Loss) {
    let batch = Batch::example();
    let (before, after) = (batch.seen(loss), batch.rows(&[2, 0, 1]).seen(loss));
    let [first, second, third] = [0, 1, 2].map(|n| before.gradient[4 * n..4 * n + 4].to_vec());
    let expected = Seen {
        value: before.value,
        gradient: [third, first, second].concat(),
    };
    after.assert_close(&expected, 1e-6);
}

/// A masked row, whatever it holds, is a row that is not there.
pub fn masked_rows_do_not_count(loss: &dyn Loss) {
    let batch = Batch::example();
    let expected = batch.seen(loss);
    for (student, teacher) in [
        (f64::NAN, f64::NAN),
        (f64::INFINITY, f64::INFINITY),
        (7.0, 7.0),
        (f64::NAN, 1.0),
        (3.0, f64::INFINITY),
        (0.0, f64::NAN),
    ] {
        for at in 0..=3 {
            let mut longer = batch.clone();
            longer.student.insert(at, vec![student; 4]);
            longer.teacher.insert(at, vec![teacher; 4]);
            longer.labels.insert(at, -100);
            longer.weights = Some((0..4).map(|n| f64::from(n != at)).collect());
            let mut found = longer.seen(loss);
            let masked: Vec<f64> = found.gradient.drain(4 * at..4 * at + 4).collect();
            assert_eq!(masked, [0.0; 4]);
            found.assert_close(&expected, 1e-6);
        }
    }
    let mut none = batch;
    none.weights = Some(vec![0.0; 3]);
    let found = none.seen(loss);
    assert_eq!((found.value, found.gradient), (0.0, vec![0.0; 12]));
}

/// A row of weight 2 is a row that is there twice, and a factor of all weights changes nothing.
pub fn weights_are_multiplicities(loss: &dyn Loss) {
    let twice = Batch::example().rows(&[0, 1, 1, 2, 2, 2]);
    let expected = twice.seen(loss);
    for factor in [1.0, 0.25] {
        let mut batch = Batch::example();
        batch.weights = Some(vec![factor, 2.0 * factor, 3.0 * factor]);
        let found = batch.seen(loss);
        assert_close(&[found.value], &[expected.value], 1e-5);
        for (row, copies) in [vec![0], vec![1, 2], vec![3, 4, 5]].into_iter().enumerate() {
            for class in 0..4 {
                let sum: f64 = copies
                    .iter()
                    .map(|n| expected.gradient[4 * n + class])
                    .sum();
                assert_close(&[found.gradient[4 * row + class]], &[sum], 1e-5);
            }
        }
    }
}

/// A row without a label is a row that is not there, for a loss on labels.
pub fn rows_without_a_label_do_not_count(loss: &dyn Loss) {
    let expected = Batch::example().rows(&[0, 2]).seen(loss);
    for label in [-1, -100] {
        let mut batch = Batch::example();
        batch.labels[1] = label;
        for weights in [None, Some(vec![0.5; 3])] {
            batch.weights = weights;
            let mut found = batch.seen(loss);
            let left_out: Vec<f64> = found.gradient.drain(4..8).collect();
            assert_eq!(left_out, [0.0; 4]);
            found.assert_close(&expected, 1e-6);
        }
    }
    let mut none = Batch::example();
    none.labels = vec![-1; 3];
    let found = none.seen(loss);
    assert_eq!((found.value, found.gradient), (0.0, vec![0.0; 12]));
}

/// A constant added to all logits of a row changes nothing, on neither side.
pub fn level_does_not_matter(loss: &dyn Loss) {
    let mut batch = Batch::example();
    let expected = batch.seen(loss);
    for (n, level) in [3.0, -5.0, 20.0].into_iter().enumerate() {
        batch.student[n].iter_mut().for_each(|z| *z += level);
        batch.teacher[n].iter_mut().for_each(|z| *z -= 2.0 * level);
    }
    batch.seen(loss).assert_close(&expected, 1e-4);
}

/// Nothing flows into the teacher, even where its logits ask for it.
pub fn teacher_has_no_gradient(loss: &dyn Loss) {
    let batch = Batch::example();
    let device = Device::flex().autodiff();
    let student = tensor(&batch.student, &device, DType::F32).require_grad();
    let teacher = tensor(&batch.teacher, &device, DType::F32).require_grad();
    let value = batch.forward(loss, student.clone(), teacher.clone());
    let gradients = value.backward();
    assert!(student.grad(&gradients).is_some());
    assert!(teacher.grad(&gradients).is_none());
}

/// Logits of ±1e4, a one-hot teacher, a single row: value and gradient are finite.
pub fn extremes_are_finite(loss: &dyn Loss) {
    let one_hot = [1e4, -1e4, -1e4, -1e4];
    let far = [-1e4, 1e4, -1e4, 1e4];
    let near = [0.5, 0.0, -1.0, 0.25];
    let (high, low) = ([1e4; 4], [-1e4; 4]);
    let rows = [
        one_hot,
        far,
        near,
        high,
        low,
        [0.0; 4],
        [1e3, -1e3, 5.0, 0.0],
    ];
    for student in rows {
        for teacher in rows {
            for label in 0..4 {
                Batch::new([student], [teacher], [label])
                    .seen(loss)
                    .assert_finite();
                let batch = Batch::new([student, near], [teacher, one_hot], [label, 1]);
                batch.seen(loss).assert_finite();
            }
        }
    }
}

/// A class at −∞ on both sides is a class that is not there, wherever it is.
pub fn masked_classes_do_not_count(loss: &dyn Loss) {
    let batch = Batch::example();
    let expected = batch.seen(loss);
    for at in [1, 4] {
        let mut wider = batch.clone();
        for row in wider.student.iter_mut().chain(&mut wider.teacher) {
            row.insert(at, f64::NEG_INFINITY);
        }
        for label in &mut wider.labels {
            *label += i64::from(*label >= at as i64);
        }
        let mut found = wider.seen(loss);
        for row in (0..3).rev() {
            assert_eq!(found.gradient.remove(5 * row + at), 0.0);
        }
        found.assert_close(&expected, 1e-6);
    }
}
