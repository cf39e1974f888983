use burn::tensor::Device;

use super::*;
use crate::data::feature::Feature;
use crate::data::targets::Weights;
use crate::loss::testing::bench::*;
use crate::ops::maps::expect_maps;

fn loss(reduction: Reduction) -> Overhaul {
    let config = Overhaul::new("f0", "f0", vec![-0.5, -1.0, 0.0, -2.0]);
    config.with_reduction(reduction)
}

const REDUCTIONS: [Reduction; 2] = [Reduction::Mean, Reduction::Sum];

fn map(values: Vec<f32>) -> Feature {
    let width = values.len();
    tensor(values, [1, 1, 1, width]).into()
}

fn margin(value: f32) -> Tensor<1> {
    Tensor::from_floats([value], &Device::flex())
}

fn value(student: &Feature, teacher: &Feature, m: f32) -> f32 {
    let [student, teacher] = [student, teacher].map(expect_maps);
    overhaul(student, teacher, margin(m)).mean().into_scalar()
}

#[test]
fn value_and_gradient_by_hand() {
    // On at the teacher: above and below it. Off: above the cut, between cut and teacher, below.
    let student = leaf(&map(vec![3.0, -1.0, 0.5, -0.4, -2.0]));
    let teacher = map(vec![1.0, 1.0, -0.2, -9.0, -0.2]);
    // At −9 the target is the margin −0.5, at −0.2 it is −0.2 itself.
    let differences = [2.0f32, -2.0, 0.7, 0.1, 0.0];
    let maps = [&student, &teacher].map(expect_maps);
    let [ours, theirs] = maps;
    let value = overhaul(ours, theirs, margin(-0.5)).mean();
    let gradients = value.backward();
    let expected: f32 = differences.iter().map(|d| d * d).sum();
    assert_close(&[value.into_scalar()], &[expected], 1e-5);
    let found = gradient(&student, &gradients).unwrap();
    assert_close(&found, &differences.map(|d| 2.0 * d), 1e-5);
}

#[test]
fn the_sum_is_the_mean_times_the_samples() {
    let (student, teacher) = (maps([3, 3, 2, 2], 1), maps([3, 4, 2, 2], 2));
    let of = |reduction, by: Option<Weights>| {
        let loss = loss(reduction);
        let (student, teacher) = ([student.clone()], [teacher.clone()]);
        let bench = Bench::new(&loss, &student, &teacher);
        bench.weighted_step(&student, &teacher, by).value
    };
    let by = || Some(weights(&[1.0, 0.5, 3.0], [3]));
    let [sum, mean] = [Reduction::Sum, Reduction::Mean].map(|r| (of(r, None), of(r, by())));
    assert_close(&[sum.0], &[3.0 * mean.0], 1e-5);
    assert_close(&[sum.1], &[4.5 * mean.1], 1e-5);
}

#[test]
fn being_further_off_costs_nothing() {
    let teacher = changed(&maps([2, 1, 3, 3], 1), |_, v| -v.abs() - 0.1);
    let student = changed(&teacher, |i, v| v - i as f32);
    assert_eq!(value(&student, &teacher, -5.0), 0.0);
    // But the other way round it does: the loss is not symmetric.
    assert!(value(&teacher, &student, -50.0) > 0.0);
}

#[test]
fn below_the_margin_the_teacher_does_not_matter() {
    let student = maps([2, 1, 3, 3], 1);
    let teacher = changed(&maps([2, 1, 3, 3], 2), |_, v| v - 2.0);
    let lower = changed(&teacher, |i, v| v * (i + 1) as f32);
    assert_eq!(
        value(&student, &teacher, -0.5),
        value(&student, &lower, -0.5)
    );
}

#[test]
fn a_deep_margin_leaves_the_partial_error() {
    // m → −∞: (s − t)² wherever the student is above or the teacher on.
    let student = map(vec![1.0, -3.0, 2.0]);
    let teacher = map(vec![-1.0, -2.0, 4.0]);
    assert_close(
        &[value(&student, &teacher, -1e30)],
        &[4.0 + 0.0 + 4.0],
        1e-6,
    );
}

#[test]
fn masked_samples_do_not_count() {
    for reduction in REDUCTIONS {
        let (student, teacher) = (maps([3, 3, 4, 4], 1), maps([3, 4, 2, 2], 2));
        assert_masked_samples_do_not_count(&loss(reduction), &[student], &[teacher]);
    }
}

#[test]
fn the_regressor_is_there_at_equal_widths_too() {
    let loss = loss(Reduction::Mean);
    let widths = |student: Feature| {
        let bench = Bench::new(&loss, &[student], &[maps([2, 4, 2, 2], 2)]);
        let modules = bench.modules.unwrap();
        modules.get::<OverhaulRegressor>().layer.channels()
    };
    assert_eq!(widths(maps([2, 3, 2, 2], 1)), [3, 4]);
    assert_eq!(widths(maps([2, 4, 2, 2], 1)), [4, 4]);
}

#[test]
fn margins_of_known_normals() {
    let device = Device::flex();
    let of = |gamma: f64, beta: f64| {
        let [gamma, beta] = [gamma, beta].map(|x| Tensor::<1>::from_floats([x], &device));
        margins(gamma, beta)[0]
    };
    // The half normal: −σ·√(2/π), whatever the sign of γ.
    let half = -(2.0 / std::f64::consts::PI).sqrt();
    assert!((of(1.0, 0.0) - half).abs() < 1e-14);
    assert!((of(-2.0, 0.0) - 2.0 * half).abs() < 1e-14);
    // φ(1)/Φ(−1) and φ(1)/Φ(1), from tables: φ(1) = 0.2419707245, Φ(−1) = 0.1586552539.
    assert!((of(1.0, 1.0) - (1.0 - 0.2419707245 / 0.1586552539)).abs() < 1e-8);
    assert!((of(1.0, -1.0) - (-1.0 - 0.2419707245 / 0.8413447461)).abs() < 1e-8);
    // All of it negative, and too little of it: Φ(−3) = 0.00135, Φ(−3.25) = 0.00058.
    assert_eq!(of(1.0, -20.0), -20.0);
    assert!(of(1.0, 3.0) > -1.0 && of(1.0, 3.0) < 0.0);
    assert_eq!(of(2.0, 6.5), -6.0);
    assert_eq!(of(2.0, 100.0), -6.0);
    // No deviation.
    assert_eq!(of(0.0, 2.0), 0.0);
    assert_eq!(of(0.0, -2.0), -2.0);
}

#[test]
fn the_distribution_has_the_digits_of_the_tables() {
    assert_eq!(distribution(0.0), 0.5);
    for (x, expected) in [
        (1.0, 0.841_344_746_068_542_9),
        (2.0, 0.977_249_868_051_820_8),
        (-3.0, 0.001_349_898_031_630_09),
        (5.0, 0.999_999_713_348_428_1),
    ] {
        assert!(
            (distribution(x) - expected).abs() < 1e-15,
            "{x}: {}",
            distribution(x)
        );
    }
    assert_eq!((distribution(9.0), distribution(-9.0)), (1.0, 0.0));
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let loss = loss(Reduction::Mean);
    assert_eq!(
        check_error(&loss, &[vectors([2, 4], 1)], &[vectors([2, 4], 1)]),
        "term \"overhaul_f0\": feature \"f0\" of the student has shape [2, 4], expected feature maps [N, C, H, W]"
    );
    assert_eq!(
        check_error(&loss, &[maps([2, 4, 2, 2], 1)], &[maps([2, 3, 2, 2], 1)]),
        "term \"overhaul_f0\": the number of margins is 4, expected one for each channel of the teacher's feature"
    );
    assert_eq!(
        check_error(&loss, &[maps([2, 4, 2, 2], 1)], &[maps([3, 4, 2, 2], 1)]),
        "term \"overhaul_f0\": features \"f0\" and \"f0\" differ: student has [2, 4, 2, 2], teacher has [3, 4, 2, 2]"
    );
}

#[test]
#[should_panic(expected = "student and teacher maps have one shape")]
fn two_widths_panic() {
    let _ = value(&maps([1, 1, 2, 2], 1), &maps([1, 2, 2, 2], 1), -0.5);
}
