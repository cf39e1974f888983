use std::slice::from_ref;

use burn::tensor::Device;

use super::*;
use crate::loss::testing::bench::*;

/// A loss that hides nothing, so that it does not depend on random numbers.
fn loss(reduction: Reduction) -> Mgd {
    let config = Mgd::new("f0", "f0").with_mask_ratio(0.0);
    config.with_reduction(reduction)
}

fn value(generated: &Feature, teacher: &Feature, reduction: Reduction) -> f32 {
    mgd(expect_maps(generated), expect_maps(teacher), reduction)
        .mean()
        .into_scalar()
}

#[test]
fn value_and_gradient_by_hand() {
    // Two samples of two positions, differences 3, 4 and 0, 1.
    let teacher: Feature = tensor(vec![4.0, 6.0, 5.0, 1.0], [2, 1, 1, 2]).into();
    let differences = [-3.0, -4.0, 0.0, 1.0];
    for (reduction, expected, slope) in [(Reduction::Mean, 6.5, 0.5), (Reduction::Sum, 13.0, 1.0)] {
        let generated = leaf(&tensor(vec![1.0, 2.0, 5.0, 2.0], [2, 1, 1, 2]).into());
        let value = mgd(expect_maps(&generated), expect_maps(&teacher), reduction).mean();
        let gradients = value.backward();
        assert_close(&[value.into_scalar()], &[expected], 1e-6);
        let found = gradient(&generated, &gradients).unwrap();
        assert_close(&found, &differences.map(|d| slope * d), 1e-6);
    }
}

#[test]
fn the_sum_is_the_mean_times_the_elements() {
    let (student, teacher) = (maps([2, 3, 4, 5], 1), maps([2, 3, 4, 5], 2));
    let mean = value(&student, &teacher, Reduction::Mean);
    let sum = value(&student, &teacher, Reduction::Sum);
    assert_close(&[sum / (60.0 * mean)], &[1.0], 1e-5);
}

#[test]
fn hidden_positions_do_not_matter() {
    let [student, teacher] = [1, 2].map(|seed| maps([1, 2, 4, 4], seed));
    let generator = MgdGenerator::new(&student, &teacher, &Device::flex());
    let kept = Tensor::<3>::from_data(
        burn::tensor::TensorData::new(values(16, 3), [1, 4, 4]),
        &Device::flex(),
    )
    .greater_elem(0.0);
    let shown: Vec<bool> = kept.to_data().iter().collect();
    assert!(shown.contains(&true) && shown.contains(&false));
    let generate = |x: &Feature| generator.forward(expect_maps(x), kept.clone());
    let other = changed(&student, |i, v| if shown[i % 16] { v } else { v + 5.0 });
    let same = generate(&student).equal(generate(&other)).all();
    assert!(same.into_scalar::<bool>());
    let other = changed(&student, |i, v| if shown[i % 16] { v + 5.0 } else { v });
    let same = generate(&student).equal(generate(&other)).all();
    assert!(!same.into_scalar::<bool>());
}

#[test]
fn the_ratio_is_the_fraction_of_hidden_positions() {
    // Of a student that is 1 everywhere, the gradient reaches the positions that are kept: with 3 × 3
    // kernels of which every weight counts, exactly those.
    let (student, teacher) = (maps([1, 1, 100, 100], 1), maps([1, 1, 100, 100], 2));
    for ratio in [0.0, 0.2, 0.65] {
        let loss = Mgd::new("f0", "f0").with_mask_ratio(ratio);
        let loss = loss.with_reduction(Reduction::Sum);
        let mut bench = Bench::new(&loss, from_ref(&student), from_ref(&teacher));
        // A bias that keeps the ReLU open everywhere.
        let modules = bench.modules.take().unwrap();
        let mut generator = modules.get::<MgdGenerator>().clone();
        let bias = generator.convolutions[0].bias.take().unwrap();
        let open = bias.map(|b| (b * 0.0 + 100.0).detach().require_grad());
        generator.convolutions[0].bias = Some(open);
        bench.modules = Some(LossModules::new(generator));
        let step = bench.step(from_ref(&student), from_ref(&teacher), None);
        let hidden = step.student[0].iter().filter(|g| **g == 0.0).count() as f64 / 1e4;
        // Four standard deviations of a fraction among 10,000.
        let allowed = 4.0 * (ratio * (1.0 - ratio) / 1e4).sqrt();
        assert!(
            (hidden - ratio).abs() <= allowed,
            "{hidden} hidden at {ratio}"
        );
    }
}

#[test]
fn masked_samples_do_not_count() {
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let (student, teacher) = (maps([3, 3, 4, 4], 1), maps([3, 4, 4, 4], 2));
        assert_masked_samples_do_not_count(&loss(reduction), &[student], &[teacher]);
    }
}

#[test]
fn a_projector_joins_two_widths() {
    let loss = loss(Reduction::Sum);
    let has_projector = |width: usize| {
        let student = maps([2, width, 4, 4], 1);
        let bench = Bench::new(&loss, &[student], &[maps([2, 4, 4, 4], 2)]);
        let modules = bench.modules.unwrap();
        modules.get::<MgdGenerator>().projector.is_some()
    };
    assert!(!has_projector(4));
    assert!(has_projector(3));
}

#[test]
fn masked_pixels_are_neither_seen_nor_compared() {
    let shape = [2, 3, 4, 4];
    let ignored = |i: usize| i % 16 < 5;
    let broken = |seed| {
        changed(
            &maps(shape, seed),
            |i, v| if ignored(i) { f32::NAN } else { v },
        )
    };
    let by: Vec<f32> = (0..32).map(|i| f32::from(!ignored(i))).collect();
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let loss = loss(reduction);
        let bench = Bench::new(&loss, &[maps(shape, 1)], &[maps(shape, 2)]);
        let by = Some(weights(&by, [2, 4, 4]));
        let step = bench.weighted_step(&[broken(1)], &[broken(2)], by);
        assert!(step.is_finite() && step.value > 0.0);
        let gradients = step.student[0].iter().enumerate();
        assert!(gradients.clone().all(|(i, g)| ignored(i) == (*g == 0.0)));
    }
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let loss = loss(Reduction::Sum);
    assert_eq!(
        check_error(&loss, &[maps([2, 3, 4, 4], 1)], &[maps([3, 3, 4, 4], 1)]),
        "term \"mgd_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 4, 4], teacher has [3, 3, 4, 4]"
    );
    assert_eq!(
        check_error(&loss, &[tokens([2, 3, 4], 1)], &[tokens([2, 3, 4], 1)]),
        "term \"mgd_f0\": feature \"f0\" of the student has shape [2, 3, 4], expected feature maps [N, C, H, W]"
    );
}

#[test]
#[should_panic(expected = "generated maps and the teacher's have one shape")]
fn two_sizes_panic() {
    let _ = value(
        &maps([1, 1, 2, 2], 1),
        &maps([1, 1, 4, 4], 1),
        Reduction::Sum,
    );
}
