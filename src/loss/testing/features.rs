//! What the tests of losses on features share.

use burn::tensor::{Bool, Device, Tensor};

use crate::data::outputs::{Feature, Outputs};
use crate::loss::modules::Parts;
use crate::loss::testing::bench::filled;
pub use crate::loss::testing::config::{from_json, round_trip};
pub use crate::loss::testing::numbers::close_by_size as close;
use crate::loss::testing::numbers::{numbers, values};
use crate::loss::{Loss, LossContext};

/// The names of the two features in every test.
pub const STUDENT: &str = "s";
pub const TEACHER: &str = "t";

pub fn device() -> Device {
    Device::flex().autodiff()
}

/// A feature by its shape and elements.
#[derive(Debug, Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl Array {
    pub fn new<const D: usize>(shape: [usize; D], data: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Self {
            shape: shape.to_vec(),
            data: data.to_vec(),
        }
    }

    pub fn filled<const D: usize>(shape: [usize; D], value: f32) -> Self {
        Self::new(shape, &vec![value; shape.iter().product()])
    }

    /// Elements between -1 and 1, the same for the same seed.
    pub fn random<const D: usize>(shape: [usize; D], seed: u32) -> Self {
        let data = values(shape.iter().product(), seed as usize);
        Self::new(shape, &data)
    }

    pub fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        self.data.iter_mut().for_each(|x| *x = f(*x));
        self
    }

    fn stride(&self) -> usize {
        self.data.len() / self.shape[0]
    }

    /// The same with one value all over a sample.
    pub fn with_sample(mut self, sample: usize, value: f32) -> Self {
        let stride = self.stride();
        self.data[sample * stride..][..stride].fill(value);
        self
    }

    /// These samples, in this order.
    pub fn samples(&self, samples: &[usize]) -> Self {
        let stride = self.stride();
        let rows = samples
            .iter()
            .flat_map(|i| &self.data[i * stride..][..stride]);
        let mut shape = self.shape.clone();
        shape[0] = samples.len();
        Self {
            shape,
            data: rows.copied().collect(),
        }
    }

    fn shaped(&self, x: Tensor<1>) -> Feature {
        let shape = self.shape.as_slice();
        match *shape {
            [n, d] => x.reshape([n, d]).into(),
            [n, t, d] => x.reshape([n, t, d]).into(),
            [n, c, h, w] => x.reshape([n, c, h, w]).into(),
            _ => panic!("no feature has shape {shape:?}"),
        }
    }

    /// A flat leaf that wants a gradient, and the feature made of it.
    fn leaf(&self) -> (Tensor<1>, Feature) {
        let leaf = Tensor::<1>::from_floats(self.data.as_slice(), &device()).require_grad();
        (leaf.clone(), self.shaped(leaf))
    }

    pub fn feature(&self) -> Feature {
        self.shaped(Tensor::from_floats(self.data.as_slice(), &device()))
    }
}

/// A value, and its gradient with respect to the student's feature.
#[derive(Debug, Clone)]
pub struct Found {
    pub value: f32,
    pub gradient: Vec<f32>,
}

pub fn mask(counts: &[bool]) -> Tensor<1, Bool> {
    Tensor::from_data(counts, &Device::flex())
}

/// Outputs of `rows` rows that mean nothing, with one feature.
pub fn outputs(rows: usize, name: &str, feature: impl Into<Feature>) -> Outputs {
    Outputs::new(Tensor::<2>::zeros([rows, 2], &Device::flex())).with_feature(name, feature)
}

/// Runs a term. The teacher's feature wants a gradient, too, and must not get one.
pub fn run(loss: &dyn Loss, student: &Array, teacher: &Array) -> Found {
    run_with(loss, student, teacher, None, None)
}

pub fn run_with(
    loss: &dyn Loss,
    student: &Array,
    teacher: &Array,
    counts: Option<&[bool]>,
    parts: Option<&Parts>,
) -> Found {
    let rows = counts.map_or(student.shape[0], <[bool]>::len);
    let (student_leaf, student) = student.leaf();
    let (teacher_leaf, teacher) = teacher.leaf();
    let (student, teacher) = (
        outputs(rows, STUDENT, student),
        outputs(rows, TEACHER, teacher),
    );
    let counts = counts.map(mask);
    let mut context = LossContext::new(&student, &teacher);
    context.mask = counts.as_ref();
    context.parts = parts;
    loss.check(&context).expect("a loss that fits its test");
    let value = loss.forward(&context);
    assert_eq!(value.dims(), [1]);
    let gradients = value.backward();
    assert!(
        teacher_leaf.grad(&gradients).is_none(),
        "a gradient towards the teacher"
    );
    let gradient = student_leaf.grad(&gradients).map(numbers);
    Found {
        value: value.into_scalar::<f32>(),
        gradient: gradient.unwrap_or_else(|| vec![0.0; student_leaf.dims()[0]]),
    }
}

/// What the check before training says.
pub fn check(loss: &dyn Loss, student: &Array, teacher: &Array, rows: usize) -> String {
    let student = outputs(rows, STUDENT, student.feature());
    let teacher = outputs(rows, TEACHER, teacher.feature());
    let all = mask(&vec![true; rows]);
    let context = LossContext::new(&student, &teacher).with_mask(&all);
    loss.check(&context).expect_err("a mismatch").to_string()
}

pub fn parts(loss: &dyn Loss, student: &Array, teacher: &Array) -> Option<Parts> {
    let student = outputs(student.shape[0], STUDENT, student.feature());
    let teacher = outputs(teacher.shape[0], TEACHER, teacher.feature());
    let parts = loss.parts(&LossContext::new(&student, &teacher), &device());
    parts.map(filled)
}

impl Found {
    pub fn is_finite(&self) -> bool {
        self.value.is_finite() && self.gradient.iter().all(|g| g.is_finite())
    }

    pub fn is_zero(&self, tolerance: f32) {
        close(&[self.value], &[0.0], tolerance);
        close(&self.gradient, &vec![0.0; self.gradient.len()], tolerance);
    }
}

/// Of five samples two do not count and hold NaN: value and gradient are those of the other three.
pub fn masked_samples_do_not_count(loss: &dyn Loss, student: Array, teacher: Array) {
    let parts = parts(loss, &student, &teacher);
    let kept = [0, 2, 4];
    let (s, t) = (student.samples(&kept), teacher.samples(&kept));
    let among_kept = run_with(loss, &s, &t, None, parts.as_ref());

    let broken = |x: Array| x.with_sample(1, f32::NAN).with_sample(3, f32::NAN);
    let counts = [true, false, true, false, true];
    let (s, t) = (broken(student), broken(teacher));
    let found = run_with(loss, &s, &t, Some(&counts), parts.as_ref());

    close(&[found.value], &[among_kept.value], 1e-5);
    let gradient = Array {
        shape: s.shape.clone(),
        data: found.gradient,
    };
    close(&gradient.samples(&kept).data, &among_kept.gradient, 1e-5);
    assert!(gradient.samples(&[1, 3]).data.iter().all(|g| *g == 0.0));
    // The test says something only if there is something to compare.
    assert!(among_kept.value.abs() > 1e-4 && among_kept.gradient.iter().any(|g| g.abs() > 1e-4));

    let none = run_with(loss, &s, &t, Some(&[false; 5]), parts.as_ref());
    none.is_zero(0.0);
}
