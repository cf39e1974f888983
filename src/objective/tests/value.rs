use burn::tensor::{DType, Device, Int};

use super::*;
use crate::data::output_layer::OutputLayer;
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::data::top_k::TopK;
use crate::loss::custom::loss_fn;
use crate::loss::features::hint::Hint;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::logit_mse::LogitMse;
use crate::loss::logits::nkd::Nkd;
use crate::loss::logits::reverse_kl::ReverseKl;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::logits::sparse_soft_target::SparseSoftTarget;
use crate::loss::loss::Loss;
use crate::loss::term::IntoTerm;
use crate::loss::testing::numbers::{close, noise, numbers};
use crate::objective::classes::ClassPolicy;
use crate::schedule::Schedule;

fn random<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
    Tensor::from_data(noise(shape, seed), &Device::flex())
}

fn constant(name: &'static str, value: f64) -> impl Loss {
    loss_fn(name, move |context: &LossContext<'_>| {
        Tensor::full([1], value, &context.logits().device())
    })
}

fn terms(value: &ObjectiveValue) -> Vec<f32> {
    let terms = value.terms.iter();
    terms.map(|term| term.clone().into_scalar()).collect()
}

#[test]
fn the_sum_is_the_weighted_terms() {
    let objective = Objective::new()
        .with(constant("a", 2.0), 0.5)
        .with(constant("b", 3.0), Schedule::linear(0.0, 1.0));
    let (student, teacher) = (
        Outputs::new(random([2, 2], 1)),
        Outputs::new(random([2, 2], 2)),
    );
    let context = LossContext::new(&student, &teacher).at(0.5);
    let value = objective.forward(&context, &ObjectiveModules::default());
    assert_eq!(value.total.clone().into_scalar::<f32>(), 2.5); // 0.5 · 2 + 0.5 · 3
    assert_eq!(terms(&value), [2.0, 3.0]);
}

/// The output layers of a student: their tracked tensors, and the layers made of them.
struct Student {
    leaves: Vec<Tensor<2>>,
    first: OutputLayer,
    second: OutputLayer,
}

const ROWS: usize = 7;

impl Student {
    fn new() -> Self {
        let leaf = |shape: [usize; 2], seed, size: f64| {
            (random(shape, seed) * size).autodiff().require_grad()
        };
        let leaves = vec![
            leaf([ROWS, 4], 1, 1.0),
            leaf([4, 9], 2, 3.0),
            leaf([ROWS, 3], 3, 1.0),
            leaf([3, 5], 4, 3.0),
        ];
        let layer = |i: usize| OutputLayer::new(leaves[i].clone(), leaves[i + 1].clone());
        Self {
            first: layer(0).with_bias(random([9], 5)).with_soft_cap(4.0),
            second: layer(2).with_scale(0.5),
            leaves,
        }
    }

    fn projected(&self) -> Outputs {
        Outputs::new(self.first.clone()).with_head("side", self.second.clone())
    }

    fn dense(&self) -> Outputs {
        Outputs::new(self.first.logits()).with_head("side", self.second.logits())
    }
}

/// Labels of both heads, some rows without; weights of the first head, one of them 0.
fn targets() -> Targets {
    let device = Device::flex();
    let side = Tensor::<1, Int>::from_ints([4, -1, 0, 1, 2, 3, -1], &device);
    let first = Tensor::<1, Int>::from_ints([8, 0, -1, 3, 99, 1, 5], &device);
    let weights = Tensor::<1>::from_floats([1.0, 2.0, 0.5, 1.0, 0.0, 3.0, 1.0], &device);
    Targets::new()
        .with_classes(first)
        .with_weights(weights)
        .with_head("side", Targets::new().with_classes(side))
}

fn objective() -> Objective {
    Objective::new()
        .with(SoftTarget::new(2.0), Schedule::linear(1.0, 0.5))
        .with(HardLabel::new().with_smoothing(0.1), 0.3)
        .with(ReverseKl::new(1.5), 0.7)
        .with(Nkd::new(1.5), 0.2)
        .with(SoftTarget::new(1.0).on("side"), 2.0)
        .with(HardLabel::new().on("side"), 0.5)
        .with(LogitMse::new().on("side"), 0.1)
}

/// The value of each term, the total, and the gradient of all that is tracked.
fn run(objective: &Objective, form: fn(&Student) -> Outputs, teacher: &Outputs) -> [Vec<f32>; 2] {
    let (student, targets) = (Student::new(), targets());
    let outputs = form(&student);
    let context = LossContext::new(&outputs, teacher).with_targets(&targets);
    let context = context.at(0.5);
    objective.check(&context).unwrap();
    let value = objective.forward(&context, &ObjectiveModules::default());
    let gradients = value.total.backward();
    let slope = |leaf: &Tensor<2>| leaf.grad(&gradients).map(numbers);
    let slopes = student.leaves.iter().filter_map(slope).collect::<Vec<_>>();
    let slopes = slopes.concat();
    [[terms(&value), numbers(value.total)].concat(), slopes]
}

#[track_caller]
fn assert_same(objective: &Objective, teachers: [&Outputs; 2]) {
    let [dense, other] = teachers;
    let expected = run(objective, Student::dense, dense);
    let found = run(objective, Student::projected, other);
    for (found, expected) in found.iter().zip(&expected) {
        close(found, expected, 2e-5);
    }
    assert!(expected[0].iter().all(|value| value.is_finite()));
    assert!(expected[1].iter().any(|slope| *slope != 0.0));
}

/// A teacher outside autodiff as logits, and as the layers that make them.
fn teachers() -> [Outputs; 2] {
    let first = OutputLayer::new(random([ROWS, 6], 11), random([6, 9], 12) * 3.0);
    let second = OutputLayer::new(random([ROWS, 2], 13), random([2, 5], 14) * 3.0);
    let dense = Outputs::new(first.logits()).with_head("side", second.logits());
    [dense, Outputs::new(first).with_head("side", second)]
}

#[test]
fn projected_heads_give_what_their_logits_give() {
    let [dense, projected] = &teachers();
    assert_same(&objective(), [dense, dense]);
    assert_same(&objective(), [dense, projected]);
}

#[test]
fn a_row_of_weight_zero_may_hold_anything_on_a_projected_head() {
    let [dense, _] = &teachers();
    let bad = Tensor::<2>::full([1, 9], f32::NAN, &Device::flex());
    let logits = dense.logits().slice_assign([4..5, 0..9], bad);
    let spoiled = dense.clone().with_head("logits", logits);
    assert_same(&objective(), [dense, &spoiled]);
}

/// The classes of each row that are most likely, by a teacher whose logits are known.
fn top_k(logits: Tensor<2>, k: usize) -> TopK {
    let classes = logits.dims()[1];
    let log_p = burn::tensor::activation::log_softmax(logits, 1);
    let (log_probs, indices) = log_p.topk_with_indices(k, 1);
    TopK::new(indices, log_probs, classes)
}

#[test]
fn a_top_k_teacher_gives_to_a_projected_head_what_it_gives_to_logits() {
    let [dense, _] = &teachers();
    let side = dense.head("side").unwrap().tensor();
    let top = Outputs::new(top_k(dense.logits(), 3)).with_head("side", top_k(side, 2));
    assert_same(&objective(), [&top, &top]);
    let sparse = objective()
        .with(SparseSoftTarget::new(64).with_temperature(2.0), 0.4)
        .with(SparseSoftTarget::new(64).on("side"), 0.6);
    assert_same(&sparse, [&top, &top]);
}

/// All classes of a top-k teacher are its logits.
#[test]
fn a_top_k_teacher_of_all_classes_is_a_dense_one() {
    let [dense, _] = &teachers();
    let side = dense.head("side").unwrap().tensor();
    let top = Outputs::new(top_k(dense.logits(), 9)).with_head("side", top_k(side.clone(), 5));
    // Of logits, whose squared error sees a constant: those of probabilities.
    let log_p = |x| burn::tensor::activation::log_softmax::<2>(x, 1);
    let same = Outputs::new(log_p(dense.logits())).with_head("side", log_p(side));
    assert_same(&objective(), [&same, &top]);
}

#[test]
fn standardized_terms_and_those_without_a_closed_form_see_the_logits_of_a_projected_head() {
    let [dense, projected] = &teachers();
    let composed = loss_fn("composed", |context: &LossContext<'_>| {
        let error = context.logits() - context.teacher_logits();
        context.mean(error.abs().mean_dim(1).squeeze_dim(1))
    });
    let objective = objective()
        .with(composed, 0.5)
        .with(SoftTarget::new(2.0).standardized(), 0.5);
    assert_same(&objective, [dense, projected]);
}

#[test]
fn a_projected_head_of_more_classes_shares_the_pass_only_with_its_like() {
    let first = OutputLayer::new(random([ROWS, 6], 11), random([6, 7], 12) * 3.0);
    let second = OutputLayer::new(random([ROWS, 2], 13), random([2, 8], 14) * 3.0);
    let dense = Outputs::new(first.logits()).with_head("side", second.logits());
    let projected = Outputs::new(first).with_head("side", second);
    // Labels are of the student's nine classes, whatever the teacher's seven are.
    let labels_and_soft = || {
        Objective::new()
            .with(SoftTarget::new(2.0), 1.0)
            .with(HardLabel::new(), 0.3)
            .with(ReverseKl::new(1.5), 0.7)
            .with(SoftTarget::new(1.0).on("side"), 2.0)
            .with(HardLabel::new().on("side"), 0.5)
    };
    for policy in [ClassPolicy::Truncate, ClassPolicy::Pad] {
        let objective = labels_and_soft().with_class_policy(policy);
        assert_same(&objective, [&dense, &projected]);
    }
}

#[test]
fn terms_with_a_closed_form_share_one_pass_over_each_projected_head() {
    let student = Student::new();
    let (projected, [teacher, _]) = (student.projected(), &teachers());
    let targets = targets();
    let context = LossContext::new(&projected, teacher).with_targets(&targets);
    let objective = objective().with(SoftTarget::new(2.0).standardized(), 1.0);
    let aligned = objective.align(&context);
    let groups = objective.groups(&context, &aligned);
    let found: Vec<_> = (groups.iter())
        .map(|group| {
            let terms: Vec<_> = group.terms.iter().map(|(index, _)| *index).collect();
            (group.head, terms)
        })
        .collect();
    assert_eq!(found, [("logits", vec![0, 1, 2]), ("side", vec![4, 5])]);
    let dense = student.dense();
    let context = LossContext::new(&dense, teacher).with_targets(&targets);
    assert!(objective.groups(&context, &aligned).is_empty());
}

#[test]
fn each_head_has_its_own_labels_and_weights() {
    let [teacher, _] = &teachers();
    let student = Student::new();
    let outputs = student.dense();
    let targets = targets();
    let context = LossContext::new(&outputs, teacher).with_targets(&targets);
    let objective = Objective::new()
        .with(HardLabel::new(), 1.0)
        .with(HardLabel::new().on("side"), 1.0);
    objective.check(&context).unwrap();
    let value = objective.forward(&context, &ObjectiveModules::default());
    let loss = |logits: Tensor<2>, labels: &[i64], weights: &[f32]| {
        let log_p = burn::tensor::activation::log_softmax(logits, 1);
        let width = log_p.dims()[1];
        let log_p = numbers(log_p);
        let rows = labels.iter().zip(weights).enumerate();
        let rows = rows.filter(|(_, (label, weight))| **label >= 0 && **weight != 0.0);
        let (sum, total) = rows.fold((0.0, 0.0), |(sum, total), (row, (label, weight))| {
            let value = -log_p[row * width + *label as usize];
            (sum + weight * value, total + weight)
        });
        sum / total
    };
    let side = outputs.head("side").unwrap().tensor();
    let expected = [
        loss(
            outputs.logits(),
            &[8, 0, -1, 3, 99, 1, 5],
            &[1.0, 2.0, 0.5, 1.0, 0.0, 3.0, 1.0],
        ),
        loss(side, &[4, -1, 0, 1, 2, 3, -1], &[1.0; ROWS]),
    ];
    close(&terms(&value), &expected, 1e-5);
}

#[test]
fn a_weight_of_zero_keeps_the_value_of_the_term() {
    let [teacher, _] = &teachers();
    for form in [Student::dense, Student::projected] {
        let objective = Objective::new()
            .with(SoftTarget::new(2.0).into_term().weighted(0.0), 0.0)
            .with(ReverseKl::new(1.0), 1.0);
        let [values, _] = run(&objective, form, teacher);
        assert!(values[0] > 0.0);
        assert_eq!(values[1], values[2]);
    }
}

/// Everything in single precision, and everything but the modules in half, up to the digits of half.
#[test]
fn terms_of_models_in_half_precision_see_single_precision() {
    let objective = Objective::new()
        .with(SoftTarget::new(2.0), 0.5)
        .with(HardLabel::new(), 0.25)
        .with(Hint::new("f", "f"), 0.25)
        .with(LogitMse::new(), 0.5)
        .with_class_policy(ClassPolicy::Truncate);
    let device = Device::flex();
    let targets = Targets::new().with_classes(Tensor::<1, Int>::from_ints([0, 2], &device));
    let logits = Tensor::<2>::from_floats([[0.5, -1.25, 2.0], [-0.75, 1.5, 0.25]], &device);
    let taught = [[1.5, -0.5, 1.0, 3.0], [0.25, 2.5, -1.0, 0.5]];
    let taught = Tensor::<2>::from_floats(taught, &device);
    let feature = Tensor::<2>::from_floats([[0.5, -1.0], [2.0, 0.25]], &device);
    let example = Tensor::<2>::from_floats([[1.0, 0.0, -0.5], [0.25, 1.5, 2.0]], &device);

    let plain = Outputs::new(logits.clone().autodiff()).with_feature("f", feature.clone());
    let teacher = Outputs::new(taught.clone()).with_feature("f", example.clone());
    let context = LossContext::new(&plain, &teacher).with_targets(&targets);
    let modules = objective.modules(&context, &device.clone().autodiff());

    let run = |student: DType, teacher: DType| {
        let leaf = |x: &Tensor<2>| x.clone().cast(student).autodiff().require_grad();
        let leaves = [leaf(&logits), leaf(&feature)];
        let student = Outputs::new(leaves[0].clone()).with_feature("f", leaves[1].clone());
        let constant = |x: &Tensor<2>| x.clone().cast(teacher);
        let teacher = Outputs::new(constant(&taught)).with_feature("f", constant(&example));
        let context = LossContext::new(&student, &teacher).with_targets(&targets);
        objective.check(&context).unwrap();
        let value = objective.forward(&context, &modules);
        assert!(value.terms.iter().all(|term| term.dtype() == DType::F32));
        let gradients = value.total.backward();
        let gradients = leaves.map(|leaf| leaf.grad(&gradients).unwrap());
        (value.total.into_scalar::<f32>(), gradients)
    };
    let (expected, slopes) = run(DType::F32, DType::F32);
    for (student, teacher) in [
        (DType::F16, DType::F16),
        (DType::BF16, DType::BF16),
        (DType::F16, DType::F32),
        (DType::F32, DType::BF16),
    ] {
        let (found, gradients) = run(student, teacher);
        assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        for (gradient, slope) in gradients.into_iter().zip(&slopes) {
            assert_eq!(gradient.dtype(), student);
            let gap = gradient.cast(DType::F32) - slope.clone();
            let (gap, size) = (gap.abs().max(), slope.clone().abs().max());
            assert!(gap.into_scalar::<f32>() < 1e-2 * size.into_scalar::<f32>());
        }
    }
}
