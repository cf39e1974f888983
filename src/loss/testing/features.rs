//! What the tests of losses on features share.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, Device, Tensor};

use crate::data::feature::Feature;
use crate::data::outputs::Outputs;
use crate::data::targets::{Targets, Weights};
use crate::loss::context::LossContext;
use crate::loss::loss::Loss;
use crate::loss::modules::LossModules;
pub use crate::loss::testing::numbers::close_by_size as close;
use crate::loss::testing::numbers::{noise, numbers, values};

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

    /// Other elements in the same shape.
    pub fn with_data(&self, data: Vec<f32>) -> Self {
        let shape = self.shape.clone();
        Self { shape, data }
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

pub fn mask(valid: &[bool]) -> Weights {
    Tensor::<1, Bool>::from_data(valid, &Device::flex()).into()
}

pub fn weights(weights: &[f32]) -> Weights {
    Tensor::<1>::from_floats(weights, &Device::flex()).into()
}

/// Outputs of one feature and nothing else.
pub fn outputs(name: &str, feature: impl Into<Feature>) -> Outputs {
    Outputs::features_only().with_feature(name, feature)
}

/// Runs a term. The teacher's feature wants a gradient, too, and must not get one.
pub fn run(loss: &dyn Loss, student: &Array, teacher: &Array) -> Found {
    run_with(loss, student, teacher, None, None)
}

/// [`run`] with weights.
pub fn run_weighted(loss: &dyn Loss, student: &Array, teacher: &Array, w: Weights) -> Found {
    run_with(loss, student, teacher, Some(w), None)
}

pub fn run_with(
    loss: &dyn Loss,
    student: &Array,
    teacher: &Array,
    weights: Option<Weights>,
    modules: Option<&LossModules>,
) -> Found {
    let (student_leaf, student) = student.leaf();
    let (teacher_leaf, teacher) = teacher.leaf();
    let (student, teacher) = (outputs(STUDENT, student), outputs(TEACHER, teacher));
    let targets = weights.map(|weights| Targets::new().with_weights(weights));
    let mut context = LossContext::new(&student, &teacher);
    context.targets = targets.as_ref();
    context.modules = modules;
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
pub fn check(loss: &dyn Loss, student: &Array, teacher: &Array) -> String {
    let student = outputs(STUDENT, student.feature());
    let teacher = outputs(TEACHER, teacher.feature());
    let context = LossContext::new(&student, &teacher);
    loss.check(&context).expect_err("a mismatch").to_string()
}

/// The modules that the loss makes, always the same ones.
pub fn modules(loss: &dyn Loss, student: &Array, teacher: &Array) -> Option<LossModules> {
    let student = outputs(STUDENT, student.feature());
    let teacher = outputs(TEACHER, teacher.feature());
    let modules = loss.modules(&LossContext::new(&student, &teacher), &device());
    modules.map(filled)
}

/// The modules with weights that do not depend on a random number.
pub fn filled(modules: LossModules) -> LossModules {
    modules.map(&mut Fill(0))
}

struct Fill(usize);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        // Scales, shifts and statistics start as constants and stay as they are.
        let start = numbers(param.val());
        if start.iter().all(|x| *x == start[0]) {
            return param;
        }
        let seed = self.0;
        param.map(|old| {
            let new = noise(old.dims(), seed);
            Tensor::from_data(new, &old.device()).require_grad()
        })
    }
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

/// Of five samples two have no weight and hold NaN: value and gradient are those of the other three.
pub fn masked_samples_are_left_out(loss: &dyn Loss, student: Array, teacher: Array) {
    let modules = modules(loss, &student, &teacher);
    let kept = [0, 2, 4];
    let (s, t) = (student.samples(&kept), teacher.samples(&kept));
    let among_kept = run_with(loss, &s, &t, None, modules.as_ref());

    let broken = |x: Array| x.with_sample(1, f32::NAN).with_sample(3, f32::NAN);
    let valid = mask(&[true, false, true, false, true]);
    let (s, t) = (broken(student), broken(teacher));
    let found = run_with(loss, &s, &t, Some(valid), modules.as_ref());

    close(&[found.value], &[among_kept.value], 1e-5);
    let gradient = s.with_data(found.gradient);
    close(&gradient.samples(&kept).data, &among_kept.gradient, 1e-5);
    assert!(gradient.samples(&[1, 3]).data.iter().all(|g| *g == 0.0));
    // The test says something only if there is something to compare.
    assert!(among_kept.value.abs() > 1e-4 && among_kept.gradient.iter().any(|g| g.abs() > 1e-4));

    let none = run_with(loss, &s, &t, Some(mask(&[false; 5])), modules.as_ref());
    none.is_zero(0.0);
}

/// A sample of weight 3 is a sample that is there three times, value and gradient, and a factor of
/// all weights changes nothing.
///
/// A loss whose value falls with the number of samples as `1/N^power` compares at `N` = (Σw)²/Σw².
pub fn weights_are_repetitions(loss: &dyn Loss, student: &Array, teacher: &Array, power: i32) {
    let repeated = [0, 0, 0, 1, 2, 2, 3];
    let (s, t) = (student.samples(&repeated), teacher.samples(&repeated));
    let expected = run(loss, &s, &t);
    let factor = ((9.0 + 1.0 + 4.0 + 1.0) / 7.0f32).powi(power);
    let copies = s.with_data(expected.gradient);
    let sum = |copies: Array| copies.data.iter().map(|g| g * factor).collect::<Vec<_>>();
    let by_sample = (0..4).flat_map(|sample| {
        let at = (0..7).filter(|i| repeated[*i] == sample);
        let copies = at.map(|i| sum(copies.samples(&[i])));
        copies
            .reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect())
            .expect("every sample is there")
    });
    let gradient: Vec<f32> = by_sample.collect();
    for scale in [1.0, 0.01, 50.0] {
        let w = weights(&[3.0, 1.0, 2.0, 1.0].map(|w| w * scale));
        let found = run_weighted(loss, student, teacher, w);
        close(&[found.value], &[factor * expected.value], 1e-5);
        close(&found.gradient, &gradient, 1e-5);
    }
    let plain = run(loss, student, teacher).value;
    assert!(
        (plain - factor * expected.value).abs() > 1e-4,
        "{plain} {}",
        expected.value
    );
}
