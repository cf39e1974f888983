use std::slice::from_ref;

use super::*;
use crate::data::feature::Feature;
use crate::loss::testing::bench::*;
use crate::ops::maps::expect_maps;

fn loss() -> ChannelWise {
    ChannelWise::new("f0", "f0")
}

fn value(student: &Feature, teacher: &Feature, temperature: f64) -> f32 {
    channel_wise(expect_maps(student), expect_maps(teacher), temperature)
        .mean()
        .into_scalar()
}

#[test]
fn value_and_gradient_by_hand() {
    // Two channels of two places: [3/4, 1/4] against [1/2, 1/2], and nothing to learn.
    let student = leaf(&tensor(vec![0.0, 0.0, 5.0, 5.0], [1, 2, 1, 2]).into());
    let teacher: Feature = tensor(vec![3f32.ln(), 0.0, -1.0, -1.0], [1, 2, 1, 2]).into();
    let loss = channel_wise(expect_maps(&student), expect_maps(&teacher), 1.0).mean();
    let gradients = loss.backward();
    let kl = 0.75 * 1.5f32.ln() + 0.25 * 0.5f32.ln();
    assert_close(&[loss.into_scalar()], &[kl / 2.0], 1e-5);
    // τ (p_s − p_t) / C
    let found = gradient(&student, &gradients).unwrap();
    assert_close(&found, &[-0.125, 0.125, 0.0, 0.0], 1e-5);
}

#[test]
fn the_temperature_scales_the_value() {
    // At τ = 2 twice the logits are the distributions of the case above, and τ² = 4.
    let student: Feature = tensor(vec![0.0, 0.0], [1, 1, 1, 2]).into();
    let teacher: Feature = tensor(vec![2.0 * 3f32.ln(), 0.0], [1, 1, 1, 2]).into();
    let kl = 0.75 * 1.5f32.ln() + 0.25 * 0.5f32.ln();
    assert_close(&[value(&student, &teacher, 2.0)], &[4.0 * kl], 1e-5);
}

#[test]
fn a_high_temperature_leaves_the_squared_error() {
    // τ → ∞: 1/(2·HW) of the squared error between the centred places of a channel.
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 3, 2, 2], 2));
    let difference = expect_maps(&student) - expect_maps(&teacher);
    let difference: Tensor<3> = difference.flatten(2, 3);
    let centred = difference.clone() - difference.mean_dim(2);
    let expected: f32 = ((centred.clone() * centred).sum_dim(2).mean() / 8.0).into_scalar();
    assert_close(&[value(&student, &teacher, 1e3)], &[expected], 1e-2);
}

#[test]
fn a_shift_of_a_channel_changes_nothing() {
    let (student, teacher) = (maps([2, 3, 2, 2], 1), maps([2, 3, 2, 2], 2));
    let shifted = changed(&student, |i, v| v + (i / 4) as f32);
    let before = value(&student, &teacher, 1.0);
    assert_close(&[value(&shifted, &teacher, 1.0)], &[before], 1e-4);
    // But who is student and who is teacher is not the same.
    assert!((value(&teacher, &student, 1.0) - before).abs() > 1e-4);
}

#[test]
fn masked_samples_do_not_count() {
    let (student, teacher) = (maps([3, 3, 4, 4], 1), maps([3, 4, 2, 2], 2));
    assert_masked_samples_do_not_count(&loss(), from_ref(&student), &[teacher]);
    assert_masked_samples_do_not_count(&loss(), &[student], &[maps([3, 3, 4, 4], 2)]);
}

#[test]
fn pixels_weigh_in_the_distributions() {
    // A pixel of weight 0 is as good as not there, and one of weight 2 is there twice.
    let loss = loss();
    let run = |student: Vec<f32>, teacher: Vec<f32>, by: Option<&[f32]>| {
        let width = student.len();
        let [student, teacher] =
            [student, teacher].map(|x| [Feature::from(tensor(x, [1, 1, 1, width]))]);
        let by = by.map(|by| weights(by, [1, 1, width]));
        Bench::new(&loss, &student, &teacher).weighted_step(&student, &teacher, by)
    };
    let weighted = run(
        vec![3.0, f32::NAN, -1.0, 2.0],
        vec![0.5, f32::NAN, 1.0, -2.0],
        Some(&[2.0, 0.0, 1.0, 1.0]),
    );
    let plain = run(vec![3.0, 3.0, -1.0, 2.0], vec![0.5, 0.5, 1.0, -2.0], None);
    assert_close(&[weighted.value], &[plain.value], 1e-5);
    let [a, b, c, d] = plain.student[0][..] else {
        unreachable!()
    };
    assert_close(&weighted.student[0], &[a + b, 0.0, c, d], 1e-5);
    let nothing = run(vec![f32::NAN; 2], vec![f32::NAN; 2], Some(&[0.0, 0.0]));
    nothing.assert_zero(0.0);
}

#[test]
fn features_that_do_not_fit_are_refused() {
    assert_eq!(
        check_error(&loss(), &[maps([2, 3, 4, 4], 1)], &[maps([3, 3, 4, 4], 1)]),
        "term \"channel_wise_f0\": features \"f0\" and \"f0\" differ: student has [2, 3, 4, 4], teacher has [3, 3, 4, 4]"
    );
    assert_eq!(
        check_error(&loss(), &[vectors([2, 3], 1)], &[vectors([2, 3], 1)]),
        "term \"channel_wise_f0\": feature \"f0\" of the student has shape [2, 3], expected feature maps [N, C, H, W]"
    );
}

#[test]
#[should_panic(expected = "student and teacher maps have one shape")]
fn two_widths_panic() {
    let _ = value(&maps([1, 1, 2, 2], 1), &maps([1, 2, 2, 2], 1), 1.0);
}
