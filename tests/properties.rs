//! What formulas promise, on inputs that nobody picked.

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_distill::loss::{
    CorrelationCongruence, Dist, Dkd, HardLabel, HiddenCosine, Hint, JensenShannon, LogitCosine,
    LogitMse, LossContext, Mmd, Nkd, PatientKd, Pkt, ReverseKl, Rkd, SimilarityPreserving,
    SoftCrossEntropy, SoftTarget, SparseSoftTarget, SymmetricKl, TotalVariation, VirtualTeacher,
};
use burn_distill::{IntoTerm, Objective, Outputs, Targets};
use proptest::collection::vec;
use proptest::prelude::*;

const ROWS: usize = 5;
const CLASSES: usize = 4;
const WIDTH: usize = 6;

/// A term and what its formula promises.
struct Promise {
    objective: Objective,
    /// Zero where student and teacher are equal.
    zero: bool,
    /// Never below zero.
    non_negative: bool,
    /// A constant added to a row of logits changes nothing.
    shift: bool,
    /// The order of the rows changes nothing.
    permutation: bool,
    /// It is a mean over rows, each for itself.
    per_row: bool,
}

impl Promise {
    /// All of them.
    fn all(term: impl IntoTerm) -> Self {
        Self {
            objective: Objective::new().with(term, 1),
            zero: true,
            non_negative: true,
            shift: true,
            permutation: true,
            per_row: true,
        }
    }

    /// All but zero where both sides are equal.
    fn positive(term: impl IntoTerm) -> Self {
        Self {
            zero: false,
            ..Self::all(term)
        }
    }

    /// All, with relations between the rows of a batch.
    fn relational(term: impl IntoTerm) -> Self {
        Self {
            per_row: false,
            ..Self::all(term)
        }
    }

    /// All but indifference to the level of logits.
    fn unshifted(term: impl IntoTerm) -> Self {
        Self {
            shift: false,
            ..Self::all(term)
        }
    }
}

fn promises() -> Vec<Promise> {
    let pair = ("f", "f");
    let mut promises = vec![
        Promise::all(SoftTarget::new(1.0)),
        Promise::all(SoftTarget::new(20.0)),
        Promise::all(ReverseKl::new(2.0)),
        Promise::all(SymmetricKl::new(2.0)),
        Promise::all(JensenShannon::new(2.0).with_beta(0.3)),
        Promise::all(TotalVariation::new(1.0)),
        Promise::all(Dkd::new(4.0)),
        Promise::all(SoftTarget::new(2.0).standardized()),
        Promise::all(SparseSoftTarget::new(CLASSES)),
        // Cross-entropies: their least value is an entropy, not zero.
        Promise::positive(SoftCrossEntropy::new(2.0)),
        Promise::positive(Nkd::new(2.0)),
        Promise::positive(HardLabel::new().with_smoothing(0.1)),
        Promise::positive(VirtualTeacher::new()),
        // A column without variance counts as uncorrelated, so equal sides are only nearly at zero.
        Promise {
            per_row: false,
            ..Promise::positive(Dist::new(1.0))
        },
        // The level of logits is part of what these compare.
        Promise::unshifted(LogitMse::new()),
        Promise::unshifted(LogitCosine::new()),
    ];
    promises.extend([
        Promise::all(Hint::new(pair.0, pair.1)),
        Promise::all(HiddenCosine::new(pair.0, pair.1)),
        Promise::all(PatientKd::new(pair.0, pair.1)),
        Promise::relational(SimilarityPreserving::new(pair.0, pair.1)),
        Promise::relational(Rkd::new(pair.0, pair.1)),
        Promise::relational(CorrelationCongruence::new(pair.0, pair.1)),
        Promise::relational(Pkt::new(pair.0, pair.1)),
        Promise::relational(Mmd::new(pair.0, pair.1)),
    ]);
    promises
}

/// One side's numbers.
#[derive(Debug, Clone)]
struct Side {
    logits: Vec<f32>,
    features: Vec<f32>,
}

impl Side {
    fn outputs(&self) -> Outputs {
        let device = Device::flex();
        let rows = self.logits.len() / CLASSES;
        let tensor = |data: &[f32], width| {
            Tensor::<2>::from_data(TensorData::new(data.to_vec(), [rows, width]), &device)
        };
        Outputs::new(tensor(&self.logits, CLASSES)).with_feature("f", tensor(&self.features, WIDTH))
    }

    fn pick(&self, rows: &[usize]) -> Self {
        let pick = |data: &[f32], width: usize| {
            let rows = rows.iter().flat_map(|r| &data[r * width..(r + 1) * width]);
            rows.copied().collect()
        };
        Self {
            logits: pick(&self.logits, CLASSES),
            features: pick(&self.features, WIDTH),
        }
    }
}

fn side() -> impl Strategy<Value = Side> {
    let logits = vec(-8.0f32..8.0, ROWS * CLASSES);
    let features = vec(-2.0f32..2.0, ROWS * WIDTH);
    (logits, features).prop_map(|(logits, features)| Side { logits, features })
}

fn labels() -> impl Strategy<Value = Vec<i64>> {
    vec(0..CLASSES as i64, ROWS)
}

fn value(
    objective: &Objective,
    student: &Side,
    teacher: &Side,
    labels: &[i64],
    weights: Option<&[f32]>,
) -> f64 {
    let device = Device::flex();
    let (student, teacher) = (student.outputs(), teacher.outputs());
    let targets = Targets::new().with_classes(Tensor::<1, Int>::from_data(labels, &device));
    let targets = match weights {
        Some(weights) => targets.with_weights(Tensor::<1>::from_data(weights, &device)),
        None => targets,
    };
    let context = LossContext::new(&student, &teacher).with_targets(&targets);
    objective.check(&context).unwrap();
    let modules = objective.modules(&context, &device);
    let value = objective.forward(&context, &modules);
    f64::from(value.total.into_scalar::<f32>())
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * a.abs().max(b.abs()) + 1e-5
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn equal_sides_have_no_distance(side in side(), labels in labels()) {
        for promise in promises().iter().filter(|p| p.zero) {
            let value = value(&promise.objective, &side, &side, &labels, None);
            prop_assert!(value.abs() < 1e-5, "{}: {value}", promise.objective);
        }
    }

    #[test]
    fn a_distance_is_not_negative(student in side(), teacher in side(), labels in labels()) {
        for promise in promises().iter().filter(|p| p.non_negative) {
            let value = value(&promise.objective, &student, &teacher, &labels, None);
            prop_assert!(value >= 0.0, "{}: {value}", promise.objective);
        }
    }

    #[test]
    fn the_level_of_logits_does_not_matter(
        student in side(), teacher in side(), labels in labels(), shift in -50.0f32..50.0,
    ) {
        let shifted = |side: &Side, shift: f32| Side {
            logits: side.logits.iter().map(|z| z + shift).collect(),
            ..side.clone()
        };
        for promise in promises().iter().filter(|p| p.shift) {
            let plain = value(&promise.objective, &student, &teacher, &labels, None);
            let (s, t) = (shifted(&student, shift), shifted(&teacher, -shift));
            let moved = value(&promise.objective, &s, &t, &labels, None);
            let close = (plain - moved).abs() <= 1e-3 * plain.abs() + 1e-3;
            prop_assert!(close, "{}: {plain} and {moved}", promise.objective);
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter(
        student in side(), teacher in side(), labels in labels(),
        order in Just((0..ROWS).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        for promise in promises().iter().filter(|p| p.permutation) {
            let plain = value(&promise.objective, &student, &teacher, &labels, None);
            let permuted: Vec<i64> = order.iter().map(|r| labels[*r]).collect();
            let (s, t) = (student.pick(&order), teacher.pick(&order));
            let other = value(&promise.objective, &s, &t, &permuted, None);
            prop_assert!(close(plain, other), "{}: {plain} and {other}", promise.objective);
        }
    }

    #[test]
    fn rows_of_weight_zero_are_as_good_as_removed(
        student in side(), teacher in side(), labels in labels(),
        mask in vec(any::<bool>(), ROWS).prop_filter("some rows", |m| m.iter().any(|m| *m)),
    ) {
        let kept: Vec<usize> = (0..ROWS).filter(|r| mask[*r]).collect();
        let weights: Vec<f32> = mask.iter().map(|valid| f32::from(*valid)).collect();
        for promise in promises() {
            let masked = value(&promise.objective, &student, &teacher, &labels, Some(&weights));
            let left: Vec<i64> = kept.iter().map(|r| labels[*r]).collect();
            let (s, t) = (student.pick(&kept), teacher.pick(&kept));
            let removed = value(&promise.objective, &s, &t, &left, None);
            prop_assert!(close(masked, removed), "{}: {masked} and {removed}", promise.objective);
        }
    }

    #[test]
    fn a_row_of_weight_two_is_there_twice(
        student in side(), teacher in side(), labels in labels(), twice in 0..ROWS,
    ) {
        let mut weights = vec![1.0; ROWS];
        weights[twice] = 2.0;
        let doubled: Vec<usize> = (0..ROWS).chain([twice]).collect();
        let of_doubled: Vec<i64> = doubled.iter().map(|r| labels[*r]).collect();
        let (s, t) = (student.pick(&doubled), teacher.pick(&doubled));
        for promise in promises().iter().filter(|p| p.per_row) {
            let weighted = value(&promise.objective, &student, &teacher, &labels, Some(&weights));
            let repeated = value(&promise.objective, &s, &t, &of_doubled, None);
            let what = format!("{}: {weighted} and {repeated}", promise.objective);
            prop_assert!(close(weighted, repeated), "{}", what);
        }
    }
}
