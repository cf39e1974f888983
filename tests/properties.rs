//! What formulas promise, on inputs that nobody picked.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_distill::loss::{
    CorrelationCongruenceConfig, DistConfig, DkdConfig, HardAndSoftConfig, HardLabelConfig,
    HiddenCosineConfig, HintConfig, JensenShannonConfig, LogitCosineConfig, LogitMseConfig,
    LossContext, MmdConfig, NkdConfig, PatientKdConfig, PktConfig, ReverseKlConfig, RkdConfig,
    SimilarityPreservingConfig, SoftCrossEntropyConfig, SoftTargetConfig, SparseSoftTargetConfig,
    StandardizedConfig, SymmetricKlConfig, TotalVariationConfig, VirtualTeacherConfig,
};
use burn_distill::{IntoLoss, LossConfig, Outputs, Targets};
use proptest::collection::vec;
use proptest::prelude::*;

const ROWS: usize = 5;
const CLASSES: usize = 4;
const WIDTH: usize = 6;

/// A loss and what its formula promises.
struct Promise {
    config: LossConfig,
    /// Zero where student and teacher are equal.
    zero: bool,
    /// Never below zero.
    non_negative: bool,
    /// A constant added to a row of logits changes nothing.
    shift: bool,
    /// The order of the rows changes nothing.
    permutation: bool,
}

impl Promise {
    /// All of them.
    fn all(config: impl Into<LossConfig>) -> Self {
        Self {
            config: config.into(),
            zero: true,
            non_negative: true,
            shift: true,
            permutation: true,
        }
    }

    /// All but zero where both sides are equal.
    fn positive(config: impl Into<LossConfig>) -> Self {
        Self {
            zero: false,
            ..Self::all(config)
        }
    }

    /// All but indifference to the level of logits.
    fn unshifted(config: impl Into<LossConfig>) -> Self {
        Self {
            shift: false,
            ..Self::all(config)
        }
    }
}

fn promises() -> Vec<Promise> {
    let pair = ("f", "f");
    let mut promises = vec![
        Promise::all(SoftTargetConfig::new(1.0)),
        Promise::all(SoftTargetConfig::new(20.0)),
        Promise::all(ReverseKlConfig::new(2.0)),
        Promise::all(SymmetricKlConfig::new(2.0)),
        Promise::all(JensenShannonConfig::new(2.0).with_beta(0.3)),
        Promise::all(TotalVariationConfig::new(1.0)),
        Promise::all(DkdConfig::new(4.0)),
        Promise::all(StandardizedConfig::new(SoftTargetConfig::new(2.0))),
        Promise::all(SparseSoftTargetConfig::new(CLASSES)),
        // Cross-entropies: their least value is an entropy, not zero.
        Promise::positive(SoftCrossEntropyConfig::new(2.0)),
        Promise::positive(NkdConfig::new(2.0)),
        Promise::positive(HardLabelConfig::new().with_smoothing(0.1)),
        Promise::positive(HardAndSoftConfig::new(4.0).with_alpha(0.3)),
        Promise::positive(VirtualTeacherConfig::new()),
        // A column without variance counts as uncorrelated, so equal sides are only nearly at zero.
        Promise::positive(DistConfig::new(1.0)),
        // The level of logits is part of what these compare.
        Promise::unshifted(LogitMseConfig::new()),
        Promise::unshifted(LogitCosineConfig::new()),
    ];
    promises.extend([
        Promise::all(HintConfig::new(pair.0, pair.1)),
        Promise::all(HiddenCosineConfig::new(pair.0, pair.1)),
        Promise::all(PatientKdConfig::new(pair.0, pair.1)),
        Promise::all(SimilarityPreservingConfig::new(pair.0, pair.1)),
        Promise::all(RkdConfig::new(pair.0, pair.1)),
        Promise::all(CorrelationCongruenceConfig::new(pair.0, pair.1)),
        Promise::all(PktConfig::new(pair.0, pair.1)),
        Promise::all(MmdConfig::new(pair.0, pair.1)),
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
    config: &LossConfig,
    student: &Side,
    teacher: &Side,
    labels: &[i64],
    mask: Option<&[bool]>,
) -> f64 {
    let device = Device::flex();
    let (student, teacher) = (student.outputs(), teacher.outputs());
    let targets = Targets::Classes(Tensor::<1, Int>::from_data(labels, &device));
    let mask = mask.map(|mask| Tensor::<1, Bool>::from_data(mask, &device));
    let mut context = LossContext::new(&student, &teacher).with_targets(&targets);
    if let Some(mask) = &mask {
        context = context.with_mask(mask);
    }
    let loss = config.clone().into_loss().unwrap();
    loss.check(&context).unwrap();
    f64::from(loss.forward(&context).into_scalar::<f32>())
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * a.abs().max(b.abs()) + 1e-5
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn equal_sides_have_no_distance(side in side(), labels in labels()) {
        for promise in promises().iter().filter(|p| p.zero) {
            let value = value(&promise.config, &side, &side, &labels, None);
            prop_assert!(value.abs() < 1e-5, "{:?}: {value}", promise.config);
        }
    }

    #[test]
    fn a_distance_is_not_negative(student in side(), teacher in side(), labels in labels()) {
        for promise in promises().iter().filter(|p| p.non_negative) {
            let value = value(&promise.config, &student, &teacher, &labels, None);
            prop_assert!(value >= 0.0, "{:?}: {value}", promise.config);
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
            let plain = value(&promise.config, &student, &teacher, &labels, None);
            let (s, t) = (shifted(&student, shift), shifted(&teacher, -shift));
            let moved = value(&promise.config, &s, &t, &labels, None);
            let close = (plain - moved).abs() <= 1e-3 * plain.abs() + 1e-3;
            prop_assert!(close, "{:?}: {plain} and {moved}", promise.config);
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter(
        student in side(), teacher in side(), labels in labels(),
        order in Just((0..ROWS).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        for promise in promises().iter().filter(|p| p.permutation) {
            let plain = value(&promise.config, &student, &teacher, &labels, None);
            let permuted: Vec<i64> = order.iter().map(|r| labels[*r]).collect();
            let (s, t) = (student.pick(&order), teacher.pick(&order));
            let other = value(&promise.config, &s, &t, &permuted, None);
            prop_assert!(close(plain, other), "{:?}: {plain} and {other}", promise.config);
        }
    }

    #[test]
    fn masked_rows_are_as_good_as_removed(
        student in side(), teacher in side(), labels in labels(),
        mask in vec(any::<bool>(), ROWS).prop_filter("some rows", |m| m.iter().any(|m| *m)),
    ) {
        let kept: Vec<usize> = (0..ROWS).filter(|r| mask[*r]).collect();
        for promise in promises() {
            let masked = value(&promise.config, &student, &teacher, &labels, Some(&mask));
            let left: Vec<i64> = kept.iter().map(|r| labels[*r]).collect();
            let (s, t) = (student.pick(&kept), teacher.pick(&kept));
            let removed = value(&promise.config, &s, &t, &left, None);
            prop_assert!(close(masked, removed), "{:?}: {masked} and {removed}", promise.config);
        }
    }
}
