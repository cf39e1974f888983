//! What the tests of losses on features share: a loss between features that a test makes up, run
//! forward and backward.

use std::slice::from_ref;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Gradients, Tensor, TensorData};

use crate::data::feature::Feature;
use crate::data::outputs::Outputs;
use crate::data::targets::{Targets, Weights};
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::loss::Loss;
use crate::loss::modules::LossModules;
pub(crate) use crate::loss::testing::numbers::{close_by_largest as assert_close, values};

pub(crate) fn vectors(shape: [usize; 2], seed: usize) -> Feature {
    tensor(values(shape.iter().product(), seed), shape).into()
}

pub(crate) fn tokens(shape: [usize; 3], seed: usize) -> Feature {
    tensor(values(shape.iter().product(), seed), shape).into()
}

pub(crate) fn maps(shape: [usize; 4], seed: usize) -> Feature {
    tensor(values(shape.iter().product(), seed), shape).into()
}

pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// The feature with its elements changed.
pub(crate) fn changed(feature: &Feature, change: impl Fn(usize, f32) -> f32) -> Feature {
    let data = data(feature);
    let shape = data.shape().clone();
    let changed = data
        .iter::<f32>()
        .enumerate()
        .map(|(i, value)| change(i, value));
    let data = TensorData::new(changed.collect::<Vec<_>>(), shape.clone());
    match shape.len() {
        2 => Tensor::<2>::from_data(data, &Device::flex()).into(),
        3 => Tensor::<3>::from_data(data, &Device::flex()).into(),
        _ => Tensor::<4>::from_data(data, &Device::flex()).into(),
    }
}

/// Some of the samples of a feature.
pub(crate) fn samples(feature: &Feature, range: std::ops::Range<usize>) -> Feature {
    match feature {
        Feature::Rank2(x) => x.clone().slice_dim(0, range).into(),
        Feature::Rank3(x) => x.clone().slice_dim(0, range).into(),
        Feature::Rank4(x) => x.clone().slice_dim(0, range).into(),
    }
}

fn data(feature: &Feature) -> TensorData {
    match feature {
        Feature::Rank2(x) => x.to_data(),
        Feature::Rank3(x) => x.to_data(),
        Feature::Rank4(x) => x.to_data(),
    }
}

/// A copy on an autodiff device whose gradient is asked for.
pub(crate) fn leaf(feature: &Feature) -> Feature {
    let device = Device::flex().autodiff();
    match feature {
        Feature::Rank2(x) => Tensor::<2>::from_data(x.to_data(), &device)
            .require_grad()
            .into(),
        Feature::Rank3(x) => Tensor::<3>::from_data(x.to_data(), &device)
            .require_grad()
            .into(),
        Feature::Rank4(x) => Tensor::<4>::from_data(x.to_data(), &device)
            .require_grad()
            .into(),
    }
}

pub(crate) fn gradient(feature: &Feature, gradients: &Gradients) -> Option<Vec<f32>> {
    let data = match feature {
        Feature::Rank2(x) => x.grad(gradients)?.into_data(),
        Feature::Rank3(x) => x.grad(gradients)?.into_data(),
        Feature::Rank4(x) => x.grad(gradients)?.into_data(),
    };
    Some(data.iter().collect())
}

/// Outputs with the features `f0`, `f1` and so on, and no head.
pub(crate) fn outputs(features: &[Feature]) -> Outputs {
    let named = features.iter().enumerate();
    named.fold(Outputs::features_only(), |outputs, (i, x)| {
        outputs.with_feature(format!("f{i}"), x.clone())
    })
}

/// A mask of samples or tokens.
pub(crate) fn mask(valid: &[bool]) -> Weights {
    Tensor::<1, Bool>::from_data(valid, &Device::flex()).into()
}

/// Weights with these axes.
pub(crate) fn weights<const D: usize>(values: &[f32], axes: [usize; D]) -> Weights {
    tensor(values.to_vec(), axes).into()
}

/// A loss, with the modules that it asked for between the features of a batch.
pub(crate) struct Bench<'a> {
    loss: &'a dyn Loss,
    pub modules: Option<LossModules>,
}

/// What one step gave.
#[derive(Debug)]
pub(crate) struct Step {
    pub value: f32,
    /// For each feature of the student.
    pub student: Vec<Vec<f32>>,
    /// For each feature of the teacher, if it had any.
    pub teacher: Vec<Option<Vec<f32>>>,
    /// For each parameter of the modules, if it had any.
    pub modules: Vec<Option<Vec<f32>>>,
}

impl Step {
    pub fn is_finite(&self) -> bool {
        let modules = self.modules.iter().flatten();
        let mut gradients = self.student.iter().chain(modules).flatten();
        self.value.is_finite() && gradients.all(|g| g.is_finite())
    }

    /// That value and gradients of the student are zero.
    #[track_caller]
    pub fn assert_zero(&self, tolerance: f32) {
        let gradients = self.student.iter().flatten();
        let largest = gradients.fold(self.value.abs(), |x, g| x.max(g.abs()));
        assert!(largest <= tolerance, "{self:?}");
    }
}

/// One step between one feature of each side, with modules made for it.
pub(crate) fn one_step(loss: &dyn Loss, student: &Feature, teacher: &Feature) -> Step {
    let (student, teacher) = (from_ref(student), from_ref(teacher));
    Bench::new(loss, student, teacher).step(student, teacher, None)
}

impl<'a> Bench<'a> {
    /// Makes the modules, always the same ones for the same shapes.
    pub fn new(loss: &'a dyn Loss, student: &[Feature], teacher: &[Feature]) -> Self {
        let (student, teacher) = (outputs(student), outputs(teacher));
        let context = LossContext::new(&student, &teacher);
        loss.check(&context).expect("features that fit the loss");
        let modules = loss.modules(&context, &Device::flex().autodiff());
        Self {
            loss,
            modules: modules.map(filled),
        }
    }

    /// One step forward and backward, where `valid` says which rows are.
    pub fn step(&self, student: &[Feature], teacher: &[Feature], valid: Option<&[bool]>) -> Step {
        self.weighted_step(student, teacher, valid.map(mask))
    }

    /// One step forward and backward.
    pub fn weighted_step(
        &self,
        student: &[Feature],
        teacher: &[Feature],
        weights: Option<Weights>,
    ) -> Step {
        // Modules with a state of their own start anew with every step.
        let modules = self.modules.clone().map(|modules| modules.valid().train());
        let student: Vec<Feature> = student.iter().map(leaf).collect();
        let teacher: Vec<Feature> = teacher.iter().map(leaf).collect();
        let (ours, theirs) = (outputs(&student), outputs(&teacher));
        let mut targets = Targets::new();
        if let Some(weights) = weights {
            targets = targets.with_weights(weights);
        }
        let mut context = LossContext::new(&ours, &theirs).with_targets(&targets);
        context.modules = modules.as_ref();
        self.loss
            .check(&context)
            .expect("features that fit the loss");

        let value = self.loss.forward(&context);
        assert_eq!(value.dims(), [1]);
        let gradients = value.backward();
        let mut seen = Seen {
            gradients: &gradients,
            found: Vec::new(),
        };
        if let Some(modules) = &modules {
            modules.visit(&mut seen);
        }
        let zeros = |x: &Feature| vec![0.0; x.shape().iter().product()];
        let of = |x: &Feature| gradient(x, &gradients);
        Step {
            value: value.into_scalar(),
            student: student
                .iter()
                .map(|x| of(x).unwrap_or_else(|| zeros(x)))
                .collect(),
            teacher: teacher.iter().map(of).collect(),
            modules: seen.found,
        }
    }
}

/// The modules with weights that do not depend on a random number.
pub(crate) fn filled(modules: LossModules) -> LossModules {
    modules.map(&mut Fill(0))
}

struct Fill(usize);

impl burn::module::ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        // Scales, shifts and statistics start as constants and stay as they are.
        let start: Vec<f32> = param.val().into_data().iter().collect();
        if start.iter().all(|x| *x == start[0]) {
            return param;
        }
        let seed = self.0;
        param.map(|old| {
            let shape: [usize; D] = old.dims();
            let new = tensor(values(shape.iter().product(), seed), shape);
            Tensor::from_data(new.into_data(), &old.device()).require_grad()
        })
    }
}

struct Seen<'a> {
    gradients: &'a Gradients,
    found: Vec<Option<Vec<f32>>>,
}

impl ModuleVisitor for Seen<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let gradient = param.val().grad(self.gradients);
            self.found
                .push(gradient.map(|g| g.into_data().iter().collect()));
        }
    }
}

/// That samples of weight 0 contribute nothing, whatever they hold: one that holds NaN is
/// appended and masked, and nothing changes.
pub(crate) fn assert_masked_samples_do_not_count(
    loss: &dyn Loss,
    student: &[Feature],
    teacher: &[Feature],
) {
    let count = student[0].shape()[0];
    let bench = Bench::new(loss, student, teacher);
    let poisoned = |features: &[Feature]| -> Vec<Feature> {
        let last = |x: &Feature| x.shape().iter().product::<usize>() / count * (count - 1);
        let poison = |x: &Feature| {
            let last = last(x);
            changed(x, |i, value| if i >= last { f32::NAN } else { value })
        };
        features.iter().map(poison).collect()
    };
    let kept = |features: &[Feature]| -> Vec<Feature> {
        features.iter().map(|x| samples(x, 0..count - 1)).collect()
    };
    let mask: Vec<bool> = (0..count).map(|i| i + 1 < count).collect();

    let masked = bench.step(&poisoned(student), &poisoned(teacher), Some(&mask));
    let short = bench.step(&kept(student), &kept(teacher), None);
    assert_close(&[masked.value], &[short.value], 1e-5);
    for (masked, short) in masked.student.iter().zip(&short.student) {
        assert_close(&masked[..short.len()], short, 1e-4);
        assert!(masked[short.len()..].iter().all(|g| *g == 0.0));
    }
    // A gradient that is zero but for rounding, as that of a bias before a normalisation, is as exact as the
    // largest.
    let all = |step: &Step| -> Vec<f32> {
        let modules = step.modules.iter();
        modules
            .flat_map(|it| it.clone().expect("trained"))
            .collect()
    };
    let (masked, short) = (all(&masked), all(&short));
    assert_eq!(masked.len(), short.len());
    let largest = short.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (masked, short) in masked.iter().zip(&short) {
        assert!(
            (masked - short).abs() <= 1e-4 * largest,
            "{masked} is not {short}"
        );
    }
}

/// That the same holds of tokens: a masked one contributes nothing, and the others are rows like
/// vectors.
pub(crate) fn assert_masked_tokens_do_not_count(loss: &dyn Loss, widths: [usize; 2]) {
    let [student, teacher] = [(widths[0], 1), (widths[1], 2)].map(|(d, s)| tokens([2, 3, d], s));
    let mask = [true, false, true, true, true, false];
    let ignored = |i: usize, width: usize| !mask[i / width];
    let poisoned = |x: &Feature| {
        let width = x.width();
        changed(
            x,
            |i, value| if ignored(i, width) { f32::NAN } else { value },
        )
    };
    let rows = |x: &Feature| -> Feature {
        let width = x.width();
        let all = data(x);
        let all = all.iter::<f32>().enumerate();
        let kept: Vec<f32> = all
            .filter(|(i, _)| !ignored(*i, width))
            .map(|(_, v)| v)
            .collect();
        tensor(kept, [4, width]).into()
    };

    let bench = Bench::new(loss, from_ref(&student), from_ref(&teacher));
    let masked = bench.step(&[poisoned(&student)], &[poisoned(&teacher)], Some(&mask));
    let short = bench.step(&[rows(&student)], &[rows(&teacher)], None);
    assert_close(&[masked.value], &[short.value], 1e-5);
    let (width, gradient) = (widths[0], &masked.student[0]);
    let of = |wanted: bool| -> Vec<f32> {
        let all = gradient.iter().enumerate();
        all.filter(|(i, _)| ignored(*i, width) == wanted)
            .map(|(_, g)| *g)
            .collect()
    };
    assert_close(&of(false), &short.student[0], 1e-5);
    assert!(of(true).iter().all(|g| *g == 0.0));
}

/// That the teacher gets no gradient, the student one for every feature, and every parameter of the
/// modules one.
pub(crate) fn assert_gradient_goes_to_the_student_alone(
    loss: &dyn Loss,
    student: &[Feature],
    teacher: &[Feature],
) {
    let step = Bench::new(loss, student, teacher).step(student, teacher, None);
    assert!(
        step.teacher.iter().all(Option::is_none),
        "{:?}",
        step.teacher
    );
    assert!(step.student.iter().all(|g| g.iter().any(|g| *g != 0.0)));
    assert!(step.modules.iter().all(Option::is_some));
}

/// That value and gradients are finite where the features are of the size of 10⁴, where the
/// student's are zero, where both are, and for one sample alone.
pub(crate) fn assert_finite_at_extremes(loss: &dyn Loss, student: &[Feature], teacher: &[Feature]) {
    let scaled = |features: &[Feature], by: f32| -> Vec<Feature> {
        features
            .iter()
            .map(|x| changed(x, |_, value| by * value))
            .collect()
    };
    let bench = Bench::new(loss, student, teacher);
    for (ours, theirs) in [(1e4, 1e4), (1e4, -1e4), (0.0, 1e4), (1e4, 0.0), (0.0, 0.0)] {
        let (student, teacher) = (scaled(student, ours), scaled(teacher, theirs));
        let all = bench.step(&student, &teacher, None);
        assert!(all.is_finite(), "scaled by {ours} and {theirs}: {all:?}");
        let first = |x: &[Feature]| x.iter().map(|x| samples(x, 0..1)).collect::<Vec<_>>();
        let one = bench.step(&first(&student), &first(&teacher), None);
        assert!(
            one.is_finite(),
            "one sample, scaled by {ours} and {theirs}: {one:?}"
        );
        let nothing = vec![false; student[0].shape()[0]];
        let none = bench.step(&student, &teacher, Some(&nothing));
        assert!(
            none.is_finite() && none.value == 0.0,
            "nothing is valid: {none:?}"
        );
    }
}

/// The message of the error that the check of a loss gives between these features.
pub(crate) fn check_error(loss: &dyn Loss, student: &[Feature], teacher: &[Feature]) -> String {
    let (student, teacher) = (outputs(student), outputs(teacher));
    error(loss.check(&LossContext::new(&student, &teacher)))
}

pub(crate) fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("an error").to_string()
}
