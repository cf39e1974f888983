//! What every loss promises, and one test that holds each to it.
//!
//! A new loss without a row in [`contract`] does not compile. What is special about a loss, numbers by
//! hand, limits, edge cases, stands in a file of its own.

use std::panic::catch_unwind;
use std::sync::{Mutex, MutexGuard};

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use crate::data::feature::Feature;
use crate::data::outputs::Outputs;
use crate::data::targets::Targets;
use crate::loss::context::LossContext;
use crate::loss::features::activation_boundary::ActivationBoundary;
use crate::loss::features::attention_transfer::AttentionTransfer;
use crate::loss::features::channel_wise::ChannelWise;
use crate::loss::features::factor_transfer::FactorTransfer;
use crate::loss::features::fsp::Fsp;
use crate::loss::features::hint::Hint;
use crate::loss::features::mgd::Mgd;
use crate::loss::features::nst::Nst;
use crate::loss::features::overhaul::Overhaul;
use crate::loss::features::review_kd::ReviewKd;
use crate::loss::features::vid::Vid;
use crate::loss::known::KnownLoss;
use crate::loss::logits::dist::Dist;
use crate::loss::logits::dkd::Dkd;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::jensen_shannon::JensenShannon;
use crate::loss::logits::logit_cosine::LogitCosine;
use crate::loss::logits::logit_mse::LogitMse;
use crate::loss::logits::nkd::Nkd;
use crate::loss::logits::reverse_kl::ReverseKl;
use crate::loss::logits::soft_cross_entropy::SoftCrossEntropy;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::logits::sparse_soft_target::SparseSoftTarget;
use crate::loss::logits::symmetric_kl::SymmetricKl;
use crate::loss::logits::total_variation::TotalVariation;
use crate::loss::logits::virtual_teacher::VirtualTeacher;
use crate::loss::relations::correlation_congruence::CorrelationCongruence;
use crate::loss::relations::crd::Crd;
use crate::loss::relations::mmd::Mmd;
use crate::loss::relations::pkt::Pkt;
use crate::loss::relations::rkd::Rkd;
use crate::loss::relations::similarity_preserving::SimilarityPreserving;
use crate::loss::sequences::attention_map::AttentionMap;
use crate::loss::sequences::gram_mse::GramMse;
use crate::loss::sequences::hidden_cosine::HiddenCosine;
use crate::loss::sequences::patient_kd::PatientKd;
use crate::objective::Objective;

/// What a formula promises.
struct Contract {
    /// Zero where the student is the teacher.
    zero_at_teacher: bool,
    /// The same where a number is added to all logits of a row.
    shift: bool,
    /// The same where all of the student's numbers are multiplied by one that is greater than 0.
    scale: bool,
    /// It draws random numbers in every step, so that values of different batches cannot be compared.
    draws: bool,
    /// The largest number that its inputs may have, and value and gradient stay finite.
    largest: f32,
    /// A field out of its range, and what is said of it.
    refused: (&'static str, &'static str),
}

impl Contract {
    const PLAIN: Self = Self {
        zero_at_teacher: true,
        shift: false,
        scale: false,
        draws: false,
        largest: 1e4,
        refused: ("{}", ""),
    };
}

/// The contract of every loss; the numbers of the losses themselves do not matter.
fn contract(loss: &KnownLoss) -> Contract {
    let plain = |refused| Contract {
        refused,
        ..Contract::PLAIN
    };
    let on_logits = |refused| Contract {
        shift: true,
        ..plain(refused)
    };
    let of_directions = |refused| Contract {
        scale: true,
        ..plain(refused)
    };
    let above_teacher = |contract: Contract| Contract {
        zero_at_teacher: false,
        ..contract
    };
    match loss {
        KnownLoss::SoftTarget(_) => on_logits((
            r#"{"temperature": 0}"#,
            "soft_target.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::SoftCrossEntropy(_) => above_teacher(on_logits((
            r#"{"temperature": -1}"#,
            "soft_cross_entropy.temperature is -1, expected a number greater than 0",
        ))),
        KnownLoss::ReverseKl(_) => on_logits((
            r#"{"temperature": 0}"#,
            "reverse_kl.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::SymmetricKl(_) => on_logits((
            r#"{"temperature": 0}"#,
            "symmetric_kl.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::JensenShannon(_) => on_logits((
            r#"{"beta": 1.5}"#,
            "jensen_shannon.beta is 1.5, expected a number in [0, 1]",
        )),
        KnownLoss::TotalVariation(_) => on_logits((
            r#"{"temperature": 0}"#,
            "total_variation.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::LogitMse(_) => plain((
            r#"{"temperature": 0}"#,
            "logit_mse.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::LogitCosine(_) => of_directions(("{}", "")),
        KnownLoss::HardLabel(_) => above_teacher(on_logits((
            r#"{"smoothing": 1}"#,
            "hard_label.smoothing is 1, expected a number in [0, 1)",
        ))),
        KnownLoss::Dkd(_) => on_logits((
            r#"{"temperature": 0}"#,
            "dkd.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::Nkd(_) => above_teacher(on_logits((
            r#"{"temperature": 0}"#,
            "nkd.temperature is 0, expected a number greater than 0",
        ))),
        KnownLoss::Dist(_) => on_logits((
            r#"{"temperature": 0}"#,
            "dist.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::VirtualTeacher(_) => above_teacher(on_logits((
            r#"{"temperature": 0}"#,
            "virtual_teacher.temperature is 0, expected a number greater than 0",
        ))),
        KnownLoss::SparseSoftTarget(_) => on_logits((
            r#"{"temperature": 0}"#,
            "sparse_soft_target.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::Hint(_) => plain((
            r#"{"student": ""}"#,
            r#"hint.student is "", expected the name of a feature"#,
        )),
        KnownLoss::HiddenCosine(_) => of_directions((
            r#"{"teacher": ""}"#,
            r#"hidden_cosine.teacher is "", expected the name of a feature"#,
        )),
        KnownLoss::PatientKd(_) => of_directions((r#"{"pairs": []}"#, "")),
        KnownLoss::AttentionMap(_) => plain((
            r#"{"student": ""}"#,
            r#"attention_map.student is "", expected the name of a feature"#,
        )),
        KnownLoss::Crd(_) => Contract {
            draws: true,
            ..above_teacher(plain((
                r#"{"temperature": 0}"#,
                "crd.temperature is 0, expected a number greater than 0",
            )))
        },
        KnownLoss::Vid(_) => above_teacher(plain((
            r#"{"student": ""}"#,
            r#"vid.student is "", expected the name of a feature"#,
        ))),
        KnownLoss::Fsp(_) => plain((
            r#"{"student": ["", "m2"]}"#,
            r#"fsp.student is "", expected the name of a feature"#,
        )),
        KnownLoss::FactorTransfer(_) => above_teacher(plain((
            r#"{"student": ""}"#,
            r#"factor_transfer.student is "", expected the name of a feature"#,
        ))),
        KnownLoss::ActivationBoundary(_) => above_teacher(plain((
            r#"{"student": ""}"#,
            r#"activation_boundary.student is "", expected the name of a feature"#,
        ))),
        KnownLoss::Overhaul(_) => above_teacher(plain((
            r#"{"student": ""}"#,
            r#"overhaul.student is "", expected the name of a feature"#,
        ))),
        KnownLoss::ReviewKd(_) => above_teacher(plain((r#"{"student": [], "teacher": []}"#, ""))),
        KnownLoss::Mgd(_) => Contract {
            draws: true,
            ..above_teacher(plain((
                r#"{"student": ""}"#,
                r#"mgd.student is "", expected the name of a feature"#,
            )))
        },
        KnownLoss::ChannelWise(_) => plain((
            r#"{"temperature": 0}"#,
            "channel_wise.temperature is 0, expected a number greater than 0",
        )),
        KnownLoss::AttentionTransfer(_) => of_directions((
            r#"{"student": ""}"#,
            r#"attention_transfer.student is "", expected the name of a feature"#,
        )),
        KnownLoss::Nst(_) => of_directions((
            r#"{"student": ""}"#,
            r#"nst.student is "", expected the name of a feature"#,
        )),
        KnownLoss::SimilarityPreserving(_) => of_directions((
            r#"{"student": ""}"#,
            r#"similarity_preserving.student is "", expected the name of a feature"#,
        )),
        KnownLoss::Pkt(_) => of_directions((
            r#"{"student": ""}"#,
            r#"pkt.student is "", expected the name of a feature"#,
        )),
        KnownLoss::Rkd(_) => of_directions((
            r#"{"student": ""}"#,
            r#"rkd.student is "", expected the name of a feature"#,
        )),
        KnownLoss::CorrelationCongruence(_) => plain((
            r#"{"student": ""}"#,
            r#"correlation_congruence.student is "", expected the name of a feature"#,
        )),
        KnownLoss::Mmd(_) => plain((
            r#"{"student": ""}"#,
            r#"mmd.student is "", expected the name of a feature"#,
        )),
        KnownLoss::GramMse(_) => plain((
            r#"{"student": ["", "t2"]}"#,
            r#"gram_mse.student is "", expected the name of a feature"#,
        )),
    }
}

/// One of each loss. That none is missing is what the test on the names shows.
fn all() -> Vec<KnownLoss> {
    vec![
        SoftTarget::new(2).into(),
        SoftCrossEntropy::new(2).into(),
        ReverseKl::new(2).into(),
        SymmetricKl::new(2).into(),
        JensenShannon::new(2).into(),
        TotalVariation::new(2).into(),
        LogitMse::new().into(),
        LogitCosine::new().into(),
        HardLabel::new().with_smoothing(0.1).into(),
        Dkd::new(2).into(),
        Nkd::new(2).into(),
        Dist::new(2).into(),
        VirtualTeacher::new().into(),
        SparseSoftTarget::new(3).into(),
        Hint::new("v", "v").into(),
        HiddenCosine::new("t", "t").into(),
        PatientKd::new("t", "t").with_pair("t2", "t2").into(),
        AttentionMap::new("a", "a").into(),
        Crd::new("v", "v").into(),
        Vid::new("m", "m").into(),
        Fsp::new(["m", "m2"], ["m", "m2"]).into(),
        FactorTransfer::new("m", "m").into(),
        ActivationBoundary::new("m", "m").into(),
        Overhaul::new("m", "m", vec![-0.5; CHANNELS]).into(),
        ReviewKd::new(["m", "m2"], ["m", "m2"]).into(),
        Mgd::new("m", "m").into(),
        ChannelWise::new("m", "m").into(),
        AttentionTransfer::new("m", "m").into(),
        Nst::new("m", "m").into(),
        SimilarityPreserving::new("v", "v").into(),
        Pkt::new("v", "v").into(),
        Rkd::new("v", "v").into(),
        CorrelationCongruence::new("v", "v").into(),
        Mmd::new("v", "v").into(),
        GramMse::new(["t", "t2"], ["t", "t2"]).into(),
    ]
}

const CLASSES: usize = 5;
const CHANNELS: usize = 4;
/// The samples of a whole dataset.
const DATASET: usize = 16;

/// A tensor of a batch: its name, the axes of one sample.
const TENSORS: [(&str, &[usize]); 7] = [
    ("logits", &[CLASSES]),
    ("v", &[6]),
    ("m", &[CHANNELS, 4, 4]),
    ("m2", &[CHANNELS, 4, 4]),
    ("t", &[3, 6]),
    ("t2", &[3, 6]),
    ("a", &[2, 3, 3]),
];

/// The outputs of one side, sample by sample: the numbers of each tensor one after the other.
#[derive(Debug, Clone)]
struct Numbers(Vec<Vec<f32>>);

fn stride() -> usize {
    TENSORS
        .iter()
        .map(|(_, axes)| axes.iter().product::<usize>())
        .sum()
}

impl Numbers {
    /// Numbers from −2 to 2 that look random, always the same for one seed.
    fn new(samples: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 * 4.0 - 2.0
        };
        Self(
            (0..samples)
                .map(|_| (0..stride()).map(|_| next()).collect())
                .collect(),
        )
    }

    fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        let row = |row: &Vec<f32>| row.iter().map(|x| f(*x)).collect();
        Self(self.0.iter().map(row).collect())
    }

    /// The same with another number added to the logits of each sample.
    fn shifted(&self) -> Self {
        let mut shifted = self.clone();
        for (n, row) in shifted.0.iter_mut().enumerate() {
            row[..CLASSES].iter_mut().for_each(|x| *x += 3.0 + n as f32);
        }
        shifted
    }

    fn ordered(&self, order: &[usize]) -> Self {
        Self(order.iter().map(|n| self.0[*n].clone()).collect())
    }

    /// The tensors, in order: rank 2, 3 or 4.
    fn tensors(&self, device: &Device, dtype: DType) -> Vec<Feature> {
        let mut start = 0;
        let tensors = TENSORS.iter().map(|(_, axes)| {
            let size: usize = axes.iter().product();
            let numbers = self.0.iter().flat_map(|row| &row[start..start + size]);
            let numbers: Vec<f32> = numbers.copied().collect();
            start += size;
            let shape: Vec<usize> = [self.0.len()].iter().chain(*axes).copied().collect();
            let data = TensorData::new(numbers, shape);
            let options = (device, dtype);
            match axes.len() {
                1 => Feature::from(Tensor::<2>::from_data(data, options)),
                2 => Feature::from(Tensor::<3>::from_data(data, options)),
                _ => Feature::from(Tensor::<4>::from_data(data, options)),
            }
        });
        tensors.collect()
    }
}

fn with_gradient(feature: Feature) -> Feature {
    match feature {
        Feature::Rank2(x) => x.require_grad().into(),
        Feature::Rank3(x) => x.require_grad().into(),
        Feature::Rank4(x) => x.require_grad().into(),
    }
}

/// The gradient of a leaf, sample by sample.
fn gradient(feature: &Feature, gradients: &burn::tensor::Gradients) -> Option<Vec<f32>> {
    let data = match feature {
        Feature::Rank2(x) => x.grad(gradients).map(Tensor::into_data),
        Feature::Rank3(x) => x.grad(gradients).map(Tensor::into_data),
        Feature::Rank4(x) => x.grad(gradients).map(Tensor::into_data),
    };
    Some(data?.iter::<f32>().collect())
}

fn outputs(tensors: &[Feature]) -> Outputs {
    let Feature::Rank2(logits) = &tensors[0] else {
        unreachable!("logits have two axes")
    };
    let named = TENSORS.iter().zip(tensors).skip(1);
    named.fold(Outputs::new(logits.clone()), |outputs, ((name, _), x)| {
        outputs.with_feature(name, x.clone())
    })
}

/// A batch as a loss sees it.
#[derive(Debug, Clone)]
struct Batch {
    student: Numbers,
    teacher: Numbers,
    labels: Vec<i64>,
    weights: Option<Vec<f32>>,
    dtype: DType,
}

/// Value and gradient of a loss.
#[derive(Debug)]
struct Seen {
    value: f32,
    /// `[samples][numbers]`
    gradient: Vec<Vec<f32>>,
    teacher_has_gradient: bool,
}

/// Device generators are shared by all tests of the process.
fn seeded() -> MutexGuard<'static, ()> {
    static SEEDED: Mutex<()> = Mutex::new(());
    SEEDED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Batch {
    fn new() -> Self {
        Self {
            student: Numbers::new(6, 3),
            teacher: Numbers::new(6, 5),
            labels: vec![2, 0, 3, 1, 4, 2],
            weights: None,
            dtype: DType::F32,
        }
    }

    fn seen(&self, loss: &KnownLoss) -> Seen {
        let _guard = seeded();
        let device = Device::flex();
        device.seed(7);
        let samples = self.student.0.len();
        let leaves = |numbers: &Numbers| -> Vec<Feature> {
            let tensors = numbers.tensors(&device.clone().autodiff(), self.dtype);
            tensors.into_iter().map(with_gradient).collect()
        };
        let (ours, theirs) = (leaves(&self.student), leaves(&self.teacher));
        let (student, teacher) = (outputs(&ours), outputs(&theirs));
        let labels = Tensor::<1, Int>::from_data(&self.labels[..], &device);
        let mut targets = Targets::new().with_classes(labels);
        if let Some(weights) = &self.weights {
            targets = targets.with_weights(Tensor::<1>::from_data(&weights[..], &device));
        }
        let indices: Vec<usize> = (0..samples).collect();
        let context = LossContext::new(&student, &teacher)
            .with_targets(&targets)
            .with_indices(&indices, DATASET);
        let objective = Objective::new().with(loss.clone(), 1);
        objective
            .check(&context)
            .unwrap_or_else(|error| panic!("{loss:?}: {error}"));
        let modules = objective.modules(&context, &device);
        // The same numbers are drawn in every step, however many a module took to begin with.
        device.seed(11);
        let value = objective.forward(&context, &modules).total;
        let gradients = value.backward();
        let mut per_sample = vec![Vec::new(); samples];
        for (leaf, (_, axes)) in ours.iter().zip(TENSORS) {
            let size: usize = axes.iter().product();
            let numbers = gradient(leaf, &gradients).unwrap_or_else(|| vec![0.0; size * samples]);
            for (row, part) in per_sample.iter_mut().zip(numbers.chunks(size)) {
                row.extend_from_slice(part);
            }
        }
        Seen {
            value: value.into_scalar(),
            gradient: per_sample,
            teacher_has_gradient: theirs
                .iter()
                .any(|leaf| gradient(leaf, &gradients).is_some()),
        }
    }
}

#[track_caller]
fn assert_close(loss: &KnownLoss, what: &str, found: &Seen, expected: &Seen, tolerance: f32) {
    let close = |a: f32, b: f32| (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()));
    assert!(
        close(found.value, expected.value),
        "{loss:?}: {what}: {} instead of {}",
        found.value,
        expected.value
    );
    for (found, expected) in found.gradient.iter().zip(&expected.gradient) {
        for (a, b) in found.iter().zip(expected) {
            assert!(
                close(*a, *b),
                "{loss:?}: {what}: gradient {a} instead of {b}"
            );
        }
    }
}

#[test]
fn every_loss_is_in_the_list() {
    let name = |loss: &KnownLoss| {
        let json = serde_json::to_value(loss).unwrap();
        json.as_object().unwrap().keys().next().unwrap().clone()
    };
    let mut names: Vec<String> = all().iter().map(name).collect();
    names.sort();
    names.dedup();
    // A file with a name that is none lists all that there are.
    let error = serde_json::from_str::<KnownLoss>(r#"{"no_loss": {}}"#)
        .unwrap_err()
        .to_string();
    let known = error.matches('`').count() / 2 - 1;
    assert_eq!(names.len(), known, "{error}");
}

#[test]
fn every_loss_keeps_its_contract() {
    let keeps = |loss: &&KnownLoss| catch_unwind(|| keeps_its_contract(loss)).is_ok();
    let all = all();
    let broken: Vec<_> = all.iter().filter(|loss| !keeps(loss)).collect();
    assert!(broken.is_empty(), "broken by {broken:#?}, see above");
}

fn keeps_its_contract(loss: &KnownLoss) {
    let plain = Batch::new();
    {
        let contract = contract(loss);
        let seen = plain.seen(loss);
        assert!(seen.value.is_finite(), "{loss:?}");
        assert!(
            !seen.teacher_has_gradient,
            "{loss:?}: a gradient flows into the teacher"
        );
        let moved = seen.gradient.iter().flatten().any(|g| *g != 0.0);
        assert!(moved, "{loss:?}: no gradient flows into the student");

        let same = Batch {
            student: plain.teacher.clone(),
            ..plain.clone()
        };
        let at_teacher = same.seen(loss);
        if contract.zero_at_teacher {
            assert!(
                at_teacher.value.abs() < 1e-5,
                "{loss:?}: {}",
                at_teacher.value
            );
            let largest = at_teacher
                .gradient
                .iter()
                .flatten()
                .fold(0f32, |a, b| a.max(b.abs()));
            assert!(
                largest < 2e-3,
                "{loss:?}: gradient {largest} at the teacher"
            );
        } else {
            assert!(
                at_teacher.value.abs() > 1e-4,
                "{loss:?} is zero at the teacher after all"
            );
        }
        if contract.shift {
            let shifted = Batch {
                student: plain.student.shifted(),
                ..plain.clone()
            };
            assert_close(loss, "shifted", &shifted.seen(loss), &seen, 1e-5);
        }
        if contract.scale {
            let scaled = Batch {
                student: plain.student.map(|x| x * 3.0),
                ..plain.clone()
            };
            let found = scaled.seen(loss).value;
            let close = (found - seen.value).abs() <= 1e-4 * (1.0 + seen.value.abs());
            assert!(close, "{loss:?}: scaled: {found} instead of {}", seen.value);
        }
        if !contract.draws {
            rows_can_be_permuted(loss, &plain, &seen);
            rows_of_weight_zero_are_not_there(loss, &plain, &seen);
            the_size_of_all_weights_does_not_matter(loss, &plain);
        }
        nothing_is_left_of_no_rows(loss, &plain);
        half_precision_is_compared_in_single(loss, &plain);
        extremes_are_finite(loss, &plain, contract.largest);
        config_round_trips_and_refuses(loss, contract.refused);
    }
}

fn rows_can_be_permuted(loss: &KnownLoss, plain: &Batch, seen: &Seen) {
    let order = [2, 0, 5, 1, 4, 3];
    let permuted = Batch {
        student: plain.student.ordered(&order),
        teacher: plain.teacher.ordered(&order),
        labels: order.iter().map(|n| plain.labels[*n]).collect(),
        ..plain.clone()
    };
    let expected = Seen {
        value: seen.value,
        gradient: order.iter().map(|n| seen.gradient[*n].clone()).collect(),
        teacher_has_gradient: false,
    };
    assert_close(loss, "permuted", &permuted.seen(loss), &expected, 1e-4);
}

/// A sample of weight zero, whatever it holds, is a sample that is not there.
fn rows_of_weight_zero_are_not_there(loss: &KnownLoss, plain: &Batch, seen: &Seen) {
    for (ours, theirs) in [
        (7.0, 7.0),
        (f32::NAN, 1.0),
        (0.0, f32::NAN),
        (f32::INFINITY, 3.0),
    ] {
        for at in [0, 3, 6] {
            let mut longer = plain.clone();
            longer.student.0.insert(at, vec![ours; stride()]);
            longer.teacher.0.insert(at, vec![theirs; stride()]);
            longer.labels.insert(at, 1000);
            longer.weights = Some((0..7).map(|n| f32::from(n != at)).collect());
            let mut found = longer.seen(loss);
            let removed = found.gradient.remove(at);
            assert!(
                removed.iter().all(|g| *g == 0.0),
                "{loss:?}: a gradient at weight 0"
            );
            assert_close(loss, "beside a row of weight 0", &found, seen, 1e-4);
        }
    }
}

fn the_size_of_all_weights_does_not_matter(loss: &KnownLoss, plain: &Batch) {
    let weighted = |factor: f32| Batch {
        weights: Some([1.0, 0.5, 2.0, 0.0, 1.5, 1.0].map(|w| w * factor).to_vec()),
        ..plain.clone()
    };
    let (one, small) = (weighted(1.0).seen(loss), weighted(0.125).seen(loss));
    assert_close(loss, "all weights smaller", &small, &one, 1e-4);
}

fn nothing_is_left_of_no_rows(loss: &KnownLoss, plain: &Batch) {
    let none = Batch {
        weights: Some(vec![0.0; 6]),
        ..plain.clone()
    };
    let seen = none.seen(loss);
    assert!(
        seen.value.is_finite(),
        "{loss:?}: {} of no rows",
        seen.value
    );
    let zero = seen.gradient.iter().flatten().all(|g| *g == 0.0);
    assert!(zero, "{loss:?}: a gradient of no rows");
}

/// A batch in `bf16` has the value of the same numbers in `f32`.
fn half_precision_is_compared_in_single(loss: &KnownLoss, plain: &Batch) {
    let round = |x: f32| half::bf16::from_f32(x).to_f32();
    let rounded = Batch {
        student: plain.student.map(round),
        teacher: plain.teacher.map(round),
        ..plain.clone()
    };
    let in_half = Batch {
        dtype: DType::BF16,
        ..rounded.clone()
    };
    // Gradients arrive in half, with eight bits.
    assert_close(
        loss,
        "in half precision",
        &in_half.seen(loss),
        &rounded.seen(loss),
        1e-2,
    );
}

fn extremes_are_finite(loss: &KnownLoss, plain: &Batch, largest: f32) {
    for (ours, theirs) in [
        (largest, -largest),
        (largest, largest),
        (0.0, largest),
        (largest, 0.0),
        (0.0, 0.0),
    ] {
        let extreme = Batch {
            student: plain.student.map(|x| x * ours / 2.0),
            teacher: plain.teacher.map(|x| x * theirs / 2.0),
            ..plain.clone()
        };
        let seen = extreme.seen(loss);
        assert!(
            seen.value.is_finite(),
            "{loss:?}: {} at {ours}, {theirs}",
            seen.value
        );
        let finite = seen.gradient.iter().flatten().all(|g| g.is_finite());
        assert!(
            finite,
            "{loss:?}: a gradient that is not finite at {ours}, {theirs}"
        );
    }
}

/// The parameters survive a file, and one out of range, or without a name, is refused.
fn config_round_trips_and_refuses(loss: &KnownLoss, (field, message): (&str, &str)) {
    let json = serde_json::to_value(loss).unwrap();
    assert_eq!(
        serde_json::from_value::<KnownLoss>(json.clone()).unwrap(),
        *loss
    );
    let toml = toml::to_string(loss).unwrap();
    assert_eq!(toml::from_str::<KnownLoss>(&toml).unwrap(), *loss);

    let changed = |fields: serde_json::Value| {
        let mut json = json.clone();
        let inner = json.as_object_mut().unwrap().values_mut().next().unwrap();
        for (name, value) in fields.as_object().unwrap() {
            inner[name] = value.clone();
        }
        serde_json::from_value::<KnownLoss>(json)
    };
    let unknown = changed(serde_json::json!({"unknown": 1}))
        .unwrap_err()
        .to_string();
    assert!(
        unknown.starts_with("unknown field `unknown`"),
        "{loss:?}: {unknown}"
    );

    let fields = serde_json::from_str::<serde_json::Value>(field).unwrap();
    if fields.as_object().unwrap().is_empty() {
        return;
    }
    let refused = changed(fields).unwrap_or_else(|error| panic!("{loss:?}: {error}"));
    let error = Objective::new().with(refused, 1).validate();
    let error = error.expect_err("a value out of range").to_string();
    match message.is_empty() {
        true => assert!(!error.is_empty()),
        false => assert_eq!(error, message),
    }
}

/// A row without a label is left out of losses on labels, and only there.
#[test]
fn a_label_below_zero_is_no_label() {
    let plain = Batch::new();
    for loss in &all() {
        let needs = crate::loss::term::IntoTerm::into_term(loss.clone());
        let needs = needs.loss().needs();
        let unlabelled = Batch {
            labels: vec![2, 0, -1, 1, 4, -100],
            ..plain.clone()
        };
        let found = unlabelled.seen(loss);
        let expected = match needs.target.is_some() {
            true => Batch {
                weights: Some(vec![1.0, 1.0, 0.0, 1.0, 1.0, 0.0]),
                ..plain.clone()
            },
            false => plain.clone(),
        };
        assert_close(loss, "without labels", &found, &expected.seen(loss), 1e-6);
    }
}

/// What a loss needs and is not there is an error that names it.
#[test]
fn what_is_missing_is_named() {
    let device = Device::flex();
    let nothing = Outputs::features_only();
    let mask = Tensor::<1, Bool>::full([1], true, &device);
    let targets = Targets::new().with_mask(mask);
    for loss in &all() {
        let objective = Objective::new().with(loss.clone(), 1);
        let context = LossContext::new(&nothing, &nothing).with_targets(&targets);
        let error = objective
            .check(&context)
            .expect_err("nothing is there")
            .to_string();
        let name = objective.terms()[0].name();
        assert!(error.contains(&name), "{loss:?}: {error}");
    }
}
