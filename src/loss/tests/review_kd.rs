use super::*;
use crate::data::feature::Feature;
use crate::loss::testing::bench::*;
use crate::ops::maps::expect_maps;

fn loss() -> ReviewKd {
    let names = ["f0", "f1", "f2"];
    ReviewKd::new(names, names).with_width(3)
}

/// Three levels of a student, and of a teacher with other widths and sizes.
fn levels(samples: usize) -> [Vec<Feature>; 2] {
    let student = [[samples, 2, 8, 8], [samples, 3, 4, 4], [samples, 4, 2, 2]];
    let teacher = [[samples, 3, 6, 6], [samples, 4, 3, 3], [samples, 5, 3, 3]];
    let all = |shapes: [[usize; 4]; 3], seed: usize| {
        let levels = shapes.into_iter().enumerate();
        levels.map(|(i, shape)| maps(shape, seed + i)).collect()
    };
    [all(student, 1), all(teacher, 5)]
}

fn value(student: &Feature, teacher: &Feature) -> f32 {
    hcl(expect_maps(student), expect_maps(teacher))
        .mean()
        .into_scalar()
}

#[test]
fn value_and_gradient_by_hand() {
    // Height 3: the sizes 2 and 1 with the weights ½ and ¼. Only the corner differs, by 9.
    let zero: Feature = changed(&maps([1, 1, 3, 3], 1), |_, _| 0.0);
    let student = leaf(&changed(&zero, |i, _| if i == 0 { 9.0 } else { 0.0 }));
    let loss = hcl(expect_maps(&student), expect_maps(&zero)).mean();
    let gradients = loss.backward();
    // 81/9; the corner is in one of four bins of 2 × 2, (9/4)²/4; and 1².
    let expected = (9.0 + 0.5 * (81.0 / 16.0 / 4.0) + 0.25) / 1.75;
    assert_close(&[loss.into_scalar()], &[expected], 1e-5);
    // 2·9/9 + ½ · 2·(9/4)/4 · 1/4 + ¼ · 2·1 · 1/9 at the corner.
    let corner = (2.0 + 0.5 * (4.5 / 16.0) + 0.25 * (2.0 / 9.0)) / 1.75;
    assert_close(
        &gradient(&student, &gradients).unwrap()[..1],
        &[corner],
        1e-5,
    );
}

#[test]
fn a_constant_difference_is_the_same_at_every_size() {
    let student = maps([2, 3, 8, 8], 1);
    let shifted = changed(&student, |_, v| v + 2.0);
    assert_close(&[value(&student, &shifted)], &[4.0], 1e-5);
}

#[test]
fn one_position_has_one_size() {
    let student: Feature = tensor(vec![1.0, 2.0], [1, 2, 1, 1]).into();
    let teacher: Feature = tensor(vec![4.0, 6.0], [1, 2, 1, 1]).into();
    assert_eq!(value(&student, &teacher), 12.5);
}

#[test]
fn a_narrow_map_is_not_stretched() {
    // Width 1: no smaller size fits, whatever the height.
    let student: Feature = tensor(vec![1.0, 2.0], [1, 1, 2, 1]).into();
    let teacher: Feature = tensor(vec![4.0, 6.0], [1, 1, 2, 1]).into();
    assert_eq!(value(&student, &teacher), 12.5);
}

#[test]
fn a_shift_of_both_sides_changes_nothing() {
    let (student, teacher) = (maps([2, 3, 4, 4], 1), maps([2, 3, 4, 4], 2));
    let shifted = |x: &Feature| changed(x, |_, v| v + 3.0);
    let before = value(&student, &teacher);
    assert_close(
        &[value(&shifted(&student), &shifted(&teacher))],
        &[before],
        1e-5,
    );
    // A squared error is symmetric in its value, only not in its gradient.
    assert_close(&[value(&teacher, &student)], &[before], 1e-6);
}

#[test]
fn masked_samples_do_not_count() {
    let [student, teacher] = levels(3);
    assert_masked_samples_do_not_count(&loss(), &student, &teacher);
}

#[test]
fn a_level_hears_of_the_deeper_ones_alone() {
    let [student, teacher] = levels(2);
    let loss = loss();
    let modules = Bench::new(&loss, &student, &teacher).modules.unwrap();
    let fusion: &ReviewKdFusion = modules.get();
    let sizes = vec![[6, 6], [3, 3], [3, 3]];
    let fused = |levels: &[Feature]| {
        fusion.forward(
            levels.iter().map(expect_maps).collect(),
            sizes.clone(),
            None,
        )
    };
    let before = fused(&student);
    let shapes: Vec<_> = before.iter().map(Tensor::dims).collect();
    assert_eq!(shapes, [[2, 3, 6, 6], [2, 4, 3, 3], [2, 5, 3, 3]]);
    for changed_level in 0..3 {
        let mut other = student.clone();
        other[changed_level] = changed(&student[changed_level], |_, v| v * 3.0 + 1.0);
        let after = fused(&other);
        for (level, (before, after)) in before.iter().zip(after).enumerate() {
            let same = before.clone().equal(after).all().into_scalar::<bool>();
            assert_eq!(same, level > changed_level, "{level} after {changed_level}");
        }
    }
}

#[test]
fn the_width_is_that_of_the_deepest_level() {
    let [student, teacher] = levels(2);
    let names = ["f0", "f1", "f2"];
    let loss = ReviewKd::new(names, names);
    let modules = Bench::new(&loss, &student, &teacher).modules.unwrap();
    assert_eq!(modules.get::<ReviewKdFusion>().width(), 4);
}

#[test]
fn masked_pixels_are_out_at_every_size() {
    // The same feature at every size, but for a pixel that has no weight.
    let teacher = maps([1, 1, 4, 4], 1);
    let student = changed(&teacher, |i, v| if i == 5 { v + 7.0 } else { v + 2.0 });
    let mut by = [1.0; 16];
    by[5] = 0.0;
    let by = weights(&by, [1, 4, 4]);
    let sizes = at_each_size(expect_maps(&student), expect_maps(&teacher), Some(&by));
    assert_eq!(sizes.len(), 3);
    for (errors, _) in sizes {
        assert_close(&[errors.mean(Some(&by)).into_scalar()], &[4.0], 1e-5);
    }
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let [student, mut teacher] = levels(2);
    teacher[1] = vectors([2, 3], 1);
    assert_eq!(
        check_error(&loss(), &student, &teacher),
        "term \"review_kd_f0_f1_f2\": features \"f1\" and \"f1\" differ: student has [2, 3, 4, 4], teacher has [2, 3]"
    );
    let vectors = vec![vectors([2, 3], 1), vectors([2, 3], 1), vectors([2, 3], 1)];
    assert_eq!(
        check_error(&loss(), &vectors, &vectors),
        "term \"review_kd_f0_f1_f2\": feature \"f0\" of the student has shape [2, 3], expected feature maps [N, C, H, W]"
    );
}

#[test]
#[should_panic(expected = "student and teacher maps have one shape")]
fn two_sizes_panic() {
    let _ = value(&maps([1, 1, 2, 2], 1), &maps([1, 1, 4, 4], 1));
}
