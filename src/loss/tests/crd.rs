use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};

use super::*;
use crate::data::outputs::Outputs;
use crate::data::targets::{Targets, Weights};
use crate::loss::testing::features::{close, mask, outputs, weights};
use crate::loss::testing::numbers::{elements_close as assert_close, noise, numbers};

fn vectors<const N: usize>(rows: [[f32; 2]; N]) -> Tensor<2> {
    Tensor::from_floats(rows, &Device::flex().autodiff()).require_grad()
}

fn candidates<const N: usize, const K: usize>(rows: [[i32; K]; N]) -> Tensor<2, Int> {
    Tensor::from_ints(rows, &Device::flex())
}

fn random(shape: [usize; 2], seed: usize) -> Tensor<2> {
    let x = Tensor::<2>::from_data(noise(shape, seed), &Device::flex());
    crate::ops::vectors::unit(x)
}

/// A memory of the two unit vectors of the plane, with Z = 1.
fn corner() -> CrdMemory {
    let plane = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &Device::flex());
    let z = Tensor::<1>::zeros([2], &Device::flex());
    CrdMemory::new(plane.clone(), plane).with_normalisers(z)
}

#[test]
fn value_and_gradient_by_hand() {
    let (student, teacher) = (vectors([[1.0, 0.0]]), vectors([[0.0, 1.0]]));
    let both = candidates([[0, 1]]);
    let value = crd(student.clone(), teacher.clone(), &corner(), both, 1.0).mean();
    let gradients = value.backward();
    // The student's scores are e and 1, the teacher's 1 and e; c = 1/2.
    let e = 1f64.exp();
    let student_side = -(e / (e + 0.5)).ln() - (0.5f64 / 1.5).ln();
    let teacher_side = -(1.0f64 / 1.5).ln() - (0.5 / (e + 0.5)).ln();
    assert_close(value, &[(student_side + teacher_side) as f32], 1e-5);
    let quotient = |o: f64| (o / (o + 0.5)) as f32;
    let expected = [quotient(e) - 1.0, quotient(1.0)];
    assert_close(student.grad(&gradients).unwrap(), &expected, 1e-6);
    let expected = [quotient(1.0) - 1.0, quotient(e)];
    assert_close(teacher.grad(&gradients).unwrap(), &expected, 1e-6);
}

/// At a high temperature every score is 1 and Z the number of samples: each side is
/// ln(1 + K) + K · ln((K + 1) / K), whatever the embeddings.
#[test]
fn a_high_temperature_forgets_the_embeddings() {
    let memory = CrdMemory::new(random([50, 4], 1), random([50, 4], 2));
    let picked = candidates([[3, 7, 9, 11], [4, 40, 3, 3]]);
    let value = crd(random([2, 4], 3), random([2, 4], 4), &memory, picked, 1e4).mean();
    let side = 4f32.ln() + 3.0 * (4f32 / 3.0).ln();
    // The 1e-7 beside c is 2e-6 of it.
    assert_close(value, &[2.0 * side], 3e-5);
}

#[test]
fn a_low_temperature_stays_finite() {
    let student = vectors([[1.0, 0.0], [-1.0, 0.0]]);
    let teacher = vectors([[-1.0, 0.0], [0.0, 1.0]]);
    for normalised in [true, false] {
        let mut memory = corner();
        if !normalised {
            memory.normalisers = None;
        }
        let both = candidates([[0, 1], [1, 0]]);
        let rows = crd(student.clone(), teacher.clone(), &memory, both, 1e-3).per_row();
        let gradients = rows.clone().mean().backward();
        let gradient = numbers(student.grad(&gradients).unwrap());
        let rows = numbers(rows);
        assert!(
            rows.iter().chain(&gradient).all(|x| x.is_finite()),
            "{rows:?} {gradient:?}"
        );
        assert!(rows[0] > 100.0, "{rows:?}");
    }
}

#[test]
fn a_rotation_of_everything_changes_nothing() {
    let all = [1, 2, 3, 4].map(|seed| random([6, 2], seed));
    let value = |[student, teacher, ours, theirs]: [Tensor<2>; 4]| {
        let picked = candidates([
            [0, 1, 5],
            [1, 0, 2],
            [2, 3, 4],
            [3, 3, 3],
            [4, 0, 1],
            [5, 1, 1],
        ]);
        crd(student, teacher, &CrdMemory::new(ours, theirs), picked, 0.1).mean()
    };
    let turn = Tensor::<2>::from_floats([[0.6, 0.8], [-0.8, 0.6]], &Device::flex());
    let turned = all.clone().map(|x| x.matmul(turn.clone()));
    assert_close(value(turned), &numbers(value(all)), 1e-4);
}

/// The two sides are treated alike, so that swapping both embeddings and memories changes nothing,
/// and swapping one of them does.
#[test]
fn the_sides_are_not_mixed_up() {
    let [student, teacher, ours, theirs] = [1, 2, 3, 4].map(|seed| random([4, 3], seed));
    let value = |student: &Tensor<2>, teacher: &Tensor<2>, ours: &Tensor<2>, theirs: &Tensor<2>| {
        let picked = candidates([[0, 1, 2], [1, 0, 2], [2, 3, 0], [3, 1, 2]]);
        let memory = CrdMemory::new(ours.clone(), theirs.clone());
        numbers(crd(student.clone(), teacher.clone(), &memory, picked, 0.5).mean())[0]
    };
    let right = value(&student, &teacher, &ours, &theirs);
    assert!((right - value(&teacher, &student, &theirs, &ours)).abs() < 1e-5);
    assert!((right - value(&student, &teacher, &theirs, &ours)).abs() > 1e-2);
}

#[test]
fn both_ways_to_the_products_agree() {
    let (embeddings, memory) = (random([3, 2], 1), random([64, 2], 2));
    let picked = candidates([[0, 63], [5, 5], [31, 2]]);
    // 64 samples are more than 2 candidates of width 2.
    let copied = products(&embeddings, &memory, &picked);
    let all = embeddings.matmul(memory.transpose()).gather(1, picked);
    assert_close(copied, &numbers(all), 1e-6);
}

#[test]
fn a_memory_moves_towards_what_it_is_given() {
    let new = vectors([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]);
    // Sample 0 is there twice: its last row is taken, and the first is forgotten.
    let memory = corner().updated(&[0, 1, 0], new.clone(), new, 0.25);
    // unit(0.25 · [1, 0] + 0.75 · [−1, 0]), unit(0.25 · [0, 1] + 0.75 · [1, 0])
    let length = 10f32.sqrt();
    let expected = [-1.0, 0.0, 3.0 / length, 1.0 / length];
    assert_close(memory.student, &expected, 1e-6);
    assert_close(memory.teacher, &expected, 1e-6);
}

#[test]
fn negatives_are_all_others_and_never_the_sample_itself() {
    let loss = Crd::new("s", "t").with_negatives(200);
    let device = Device::flex();
    let memory = Tensor::<2>::zeros([4, 2], &device);
    // At most as many as there are others.
    let few = loss.draw(Some(&index_tensor(&[0, 3], &device)), 2, &memory);
    assert_eq!(few.dims(), [2, 3]);

    let own: Vec<usize> = (0..400).map(|i| i % 4).collect();
    let drawn = loss.draw(Some(&index_tensor(&own, &device)), 400, &memory);
    let mut counts = [[0; 4]; 4];
    for (i, index) in drawn.into_data().iter::<i64>().enumerate() {
        counts[own[i / 3]][index as usize] += 1;
    }
    for (sample, counts) in counts.into_iter().enumerate() {
        for (index, count) in counts.into_iter().enumerate() {
            // 300 draws over three others: 100 each, give or take six deviations of 8.
            let expected = if index == sample { 0..1 } else { 50..150 };
            assert!(expected.contains(&count), "{sample}: {counts:?}");
        }
    }
    let all = loss.draw(None, 400, &memory).into_data();
    assert!((0..4).all(|index| all.iter::<i64>().any(|i| i == index)));
}

/// Two samples in all, so that the only negative is the other one and nothing is left to chance.
struct Pair {
    loss: Crd,
    modules: LossModules,
    indices: Vec<usize>,
    student: Outputs,
    teacher: Outputs,
    targets: Targets,
    features: [Tensor<2>; 2],
}

const TEACHER: [[f32; 2]; 2] = [[0.5, 2.0], [1.0, -1.0]];

impl Pair {
    fn new(rows: [[f32; 2]; 2]) -> Self {
        Self::of(rows, TEACHER, &[0, 1])
    }

    /// Rows of one or both samples, as often as their indices say.
    fn of<const N: usize>(rows: [[f32; 2]; N], teacher: [[f32; 2]; N], at: &[usize]) -> Self {
        let loss = Crd::new("s", "t").with_width(3);
        let features = [vectors(rows), vectors(teacher)];
        let [student, teacher] = features.clone();
        let (student, teacher) = (outputs("s", student), outputs("t", teacher));
        let context = LossContext::new(&student, &teacher).with_indices(at, 2);
        loss.check(&context).unwrap();
        let modules = loss.modules(&context, &Device::flex()).unwrap().train();
        Self {
            loss,
            modules,
            indices: at.to_vec(),
            student,
            teacher,
            targets: Targets::new(),
            features,
        }
    }

    /// The same with copies of the modules of another.
    fn like(self, other: &Self) -> Self {
        // A clone would share its memories.
        let modules = other.modules.valid().train();
        Self { modules, ..self }
    }

    fn weighted(mut self, weights: impl Into<Weights>) -> Self {
        self.targets = Targets::new().with_weights(weights);
        self
    }

    fn context(&self) -> LossContext<'_> {
        LossContext::new(&self.student, &self.teacher)
            .with_targets(&self.targets)
            .with_modules(&self.modules)
            .with_indices(&self.indices, 2)
    }

    fn contrast(&self) -> &Contrast {
        self.modules.get()
    }

    fn memory(&self) -> CrdMemory {
        self.contrast().read(&Device::flex())
    }

    /// The normalisers that are kept, or 7 where there are none.
    fn normalisers(&self) -> Vec<f32> {
        let seven = Tensor::full([2], 7.0, &Device::flex());
        numbers(self.contrast().normalisers_or(seven))
    }
}

#[test]
fn a_training_step_computes_the_function_and_updates_the_memories() {
    let pair = Pair::new([[1.0, 2.0], [3.0, -1.0]]);
    let [student, teacher] = pair.features.clone();
    let (student, teacher) = pair.contrast().embed(student, teacher);
    let memory = pair.memory();
    let both = candidates([[0, 1], [1, 0]]);
    let expected = crd(
        student.clone(),
        teacher.clone(),
        &memory,
        both.clone(),
        0.07,
    )
    .mean();
    let z = crd_normalisers(student.clone(), teacher.clone(), &memory, both, 0.07);
    let updated = memory.updated(&[0, 1], student, teacher, 0.5);
    assert_eq!(pair.normalisers(), [7.0, 7.0]);

    assert_close(pair.loss.forward(&pair.context()), &numbers(expected), 1e-4);
    assert_close(pair.memory().student, &numbers(updated.student), 1e-6);
    assert_close(pair.memory().teacher, &numbers(updated.teacher), 1e-6);
    let kept = pair.normalisers();
    assert_eq!(kept, numbers(z));

    // Z stays as the first step found it, though the memories have changed.
    let before = numbers(pair.memory().student);
    let _ = pair.loss.forward(&pair.context());
    assert_eq!(pair.normalisers(), kept);
    assert_ne!(numbers(pair.memory().student), before);
}

#[test]
fn both_embeddings_learn_and_the_teacher_does_not() {
    let pair = Pair::new([[1.0, 2.0], [3.0, -1.0]]);
    let gradients = pair.loss.forward(&pair.context()).backward();
    let [student, teacher] = &pair.features;
    assert!(
        numbers(student.grad(&gradients).unwrap())
            .iter()
            .all(|g| *g != 0.0)
    );
    assert!(teacher.grad(&gradients).is_none());
    let gradients = burn::optim::GradientsParams::from_grads(gradients, &pair.modules);
    // The weights and biases of two embeddings; no memory.
    assert_eq!(gradients.len(), 4);
}

#[test]
fn validation_updates_nothing_and_takes_the_other_side_as_the_positive() {
    let pair = Pair::new([[1.0, 2.0], [3.0, -1.0]]);
    let _ = pair.loss.forward(&pair.context());
    let (memory, kept) = (pair.memory(), pair.normalisers());

    // One sample that is not in memory, under an index that is.
    let device = Device::flex();
    let modules = pair.modules.valid();
    let feature = Tensor::<2>::from_floats([[-1.0, 1.0]], &device);
    let (s, t) = (outputs("s", feature.clone()), outputs("t", feature.clone()));
    let context = LossContext::new(&s, &t)
        .with_modules(&modules)
        .with_indices(&[0], 1000);
    let found = numbers(pair.loss.forward(&context));

    let contrast: &Contrast = modules.get();
    let (student, teacher) = contrast.embed(feature.clone(), feature);
    // The one negative is either of two.
    let possible = [0, 1].map(|negative| {
        let side = |anchor: &Tensor<2>, other: &Tensor<2>, memory: &Tensor<2>, z: f32| {
            let dot = |x: &Tensor<2>, y: Tensor<2>| f64::from(numbers((x.clone() * y).sum())[0]);
            let score = |product: f64| (product / 0.07 - f64::from(z)).exp();
            let own = score(dot(anchor, other.clone()));
            let far = score(dot(anchor, memory.clone().narrow(0, negative, 1)));
            -(own / (own + 0.5)).ln() - (0.5 / (far + 0.5)).ln()
        };
        let student_side = side(&student, &teacher, &memory.teacher, kept[0]);
        (student_side + side(&teacher, &student, &memory.student, kept[1])) as f32
    });
    // Each side meets the same negative.
    assert!(
        possible.iter().any(|p| (found[0] - p).abs() < 1e-4),
        "{found:?} {possible:?}"
    );
    let after = contrast.read(&device);
    assert_eq!(numbers(after.student), numbers(memory.student));
    assert_eq!(numbers(after.teacher), numbers(memory.teacher));
}

#[test]
fn masked_samples_are_left_out_and_not_stored() {
    let untrained = Pair::new([[0.0; 2]; 2]);
    let step = |rows, valid: [bool; 2]| {
        let pair = Pair::new(rows).like(&untrained).weighted(mask(&valid));
        let before = pair.memory();
        let value = pair.loss.forward(&pair.context());
        let gradients = value.backward();
        let gradient = numbers(pair.features[0].grad(&gradients).unwrap());
        (
            numbers(value)[0],
            gradient,
            before,
            pair.memory(),
            pair.normalisers(),
        )
    };
    let valid = [true, false];
    let (value, gradient, before, after, z) = step([[1.0, 2.0], [3.0, -1.0]], valid);
    let hole = step([[1.0, 2.0], [f32::NAN, f32::INFINITY]], valid);
    assert_eq!((value, &gradient, &z), (hole.0, &hole.1, &hole.4));
    assert!(value.is_finite() && gradient[..2].iter().all(|g| *g != 0.0));
    assert_eq!(gradient[2..], [0.0, 0.0]);
    let rows = |memory: &CrdMemory| numbers(memory.student.clone());
    assert_eq!(rows(&before)[3..], rows(&after)[3..]);
    assert_ne!(rows(&before)[..3], rows(&after)[..3]);
    assert_eq!(rows(&hole.3), rows(&after));

    // A batch without a valid sample is 0 and leaves no trace.
    let (value, gradient, before, after, z) = step([[1.0, 2.0], [3.0, -1.0]], [false; 2]);
    assert_eq!((value, gradient, z), (0.0, vec![0.0; 4], vec![7.0, 7.0]));
    assert_eq!(rows(&before), rows(&after));
}

/// A sample of weight 2 is a sample that is there twice: in the value, and in Z.
#[test]
fn weights_are_repetitions() {
    let ([a, b], [c, d]) = ([[1.0, 2.0], [3.0, -1.0]], TEACHER);
    let untrained = Pair::new([[0.0; 2]; 2]);
    let step = |pair: Pair| {
        let pair = pair.like(&untrained);
        let value = numbers(pair.loss.forward(&pair.context()))[0];
        (value, pair.normalisers(), numbers(pair.memory().student))
    };
    let repeated = step(Pair::of([a, a, b], [c, c, d], &[0, 0, 1]));
    for w in [[2.0, 1.0], [0.5, 0.25]] {
        let found = step(Pair::new([a, b]).weighted(weights(&w)));
        close(&[found.0], &[repeated.0], 1e-5);
        close(&found.1, &repeated.1, 1e-5);
        close(&found.2, &repeated.2, 1e-6);
    }
    let plain = step(Pair::new([a, b]));
    assert!((plain.0 - repeated.0).abs() > 1e-3);
}

/// What a checkpoint writes and reads goes through a visit and a map: memories and Z are there.
#[test]
fn memories_are_part_of_a_checkpoint() {
    struct Shapes(Vec<Vec<usize>>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().dims().to_vec());
        }
    }
    struct Sevens;
    impl ModuleMapper for Sevens {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|x| x.full_like(7.0))
        }
    }
    let mut pair = Pair::new([[1.0, 2.0], [3.0, -1.0]]);
    let _ = pair.loss.forward(&pair.context());
    let mut shapes = Shapes(Vec::new());
    pair.modules.visit(&mut shapes);
    // Weight and bias of each side, both memories, and both Z with whether they are known.
    let expected: [&[usize]; 7] = [&[2, 3], &[3], &[2, 3], &[3], &[2, 3], &[2, 3], &[3]];
    assert_eq!(shapes.0, expected);

    pair.modules = pair.modules.map(&mut Sevens);
    let memory = pair.memory();
    assert_eq!(numbers(memory.student), [7.0; 6]);
    assert_eq!(numbers(memory.teacher), [7.0; 6]);
    let known = Tensor::zeros([2], &Device::flex());
    assert_eq!(numbers(pair.contrast().normalisers_or(known)), [7.0; 2]);
}

#[test]
fn errors_say_what_does_not_fit() {
    let device = Device::flex();
    let loss = Crd::new("s", "t");
    let s = outputs("s", Tensor::<2>::zeros([2, 3], &device));
    let t = outputs("t", Tensor::<4>::zeros([2, 4, 2, 2], &device));
    let text = |context: LossContext<'_>| loss.check(&context).unwrap_err().to_string();
    let context = || LossContext::new(&s, &t);
    assert!(loss.check(&context().with_indices(&[4, 7], 10)).is_ok());
    assert!(loss.needs().indices);
    assert_eq!(
        text(context().with_indices(&[0], 10)),
        r#"term "crd_s": feature "s" of the student has shape [2, 3], expected a row for each sample of the batch"#
    );
    assert_eq!(
        text(context().with_indices(&[0, 0], 1)),
        r#"the number of samples for term "crd_s" is 1, expected at least 2, to contrast one with another"#
    );
    let t = outputs("t", Tensor::<2>::zeros([3, 4], &device));
    assert_eq!(
        text(LossContext::new(&s, &t)),
        r#"term "crd_s": features "s" and "t" differ: student has [2, 3], teacher has [3, 4]"#
    );
    let modules = loss.modules(&context().with_indices(&[0, 1], 10), &device);
    let contrast = modules.unwrap().get::<Contrast>().clone();
    let memory = contrast.read(&device);
    assert_eq!(memory.student.dims(), [10, 128]);
    let both = contrast.embed(
        Tensor::zeros([1, 3], &device),
        Tensor::zeros([1, 16], &device),
    );
    assert_eq!((both.0.dims(), both.1.dims()), ([1, 128], [1, 128]));
}
