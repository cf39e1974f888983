use burn::tensor::{Bool, TensorData};

use super::*;

/// Four samples of two channels and two positions, without a pattern.
fn input(device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..16).map(|i| ((i * i * 7 + 3 * i) % 11) as f32).collect();
    Tensor::from_data(TensorData::new(values, [4, 2, 1, 2]), device)
}

fn statistics(layer: &ConvNorm) -> Vec<f32> {
    let states = [&layer.norm.running_mean, &layer.norm.running_var];
    states
        .iter()
        .flat_map(|s| s.value_sync().into_data().iter::<f32>().collect::<Vec<_>>())
        .collect()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()))
}

#[test]
fn a_mask_of_everything_is_batch_norm() {
    let device = Device::flex().autodiff();
    let masked = ConvNorm::new([2, 3], 1, &device);
    // Two copies that share no statistics.
    let plain = masked.valid().train();
    let masked = masked.valid().train();
    let mask: Weights = Tensor::<1, Bool>::from_data([true; 4], &Device::flex()).into();
    for _ in 0..2 {
        let a = masked.forward(input(&device), Some(&mask)).into_data();
        let b = plain.forward(input(&device), None).into_data();
        let [a, b] = [a, b].map(|data| data.iter::<f32>().collect::<Vec<_>>());
        assert!(close(&a, &b), "{a:?} is not {b:?}");
    }
    assert!(close(&statistics(&masked), &statistics(&plain)));
    assert!(statistics(&plain) != [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn nothing_is_learnt_of_nothing() {
    let device = Device::flex().autodiff();
    let layer = ConvNorm::new([2, 3], 1, &device);
    let mask: Weights = Tensor::<1, Bool>::from_data([false; 4], &Device::flex()).into();
    let output = layer.forward(input(&device), Some(&mask));
    assert!(output.is_finite().all().into_scalar::<bool>());
    assert_eq!(statistics(&layer), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn outside_training_the_mask_changes_nothing() {
    let device = Device::flex();
    let layer = ConvNorm::new([2, 3], 3, &device);
    let mask: Weights = Tensor::<1, Bool>::from_data([true, false, true, false], &device).into();
    let masked = layer.forward(input(&device), Some(&mask));
    let plain = layer.forward(input(&device), None);
    assert!(masked.equal(plain).all().into_scalar::<bool>());
    assert_eq!(statistics(&layer), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn weight_two_is_there_twice() {
    let device = Device::flex().autodiff();
    let weighted = ConvNorm::new([2, 3], 1, &device);
    let plain = weighted.valid().train();
    let weighted = weighted.valid().train();
    // Samples, and single positions of them.
    let x = input(&device);
    let by = Tensor::<1>::from_floats([1.0, 0.0, 2.0, 1.0], &Device::flex());
    let a = weighted.forward(x.clone(), Some(&by.into()));
    let rows = Tensor::<1, burn::tensor::Int>::from_ints([0, 2, 2, 3], &device);
    let b = plain.forward(x.clone().select(0, rows.clone()), None);
    let a = a
        .select(0, rows)
        .into_data()
        .iter::<f32>()
        .collect::<Vec<_>>();
    assert!(close(&a, &b.into_data().iter::<f32>().collect::<Vec<_>>()));
    assert!(close(&statistics(&weighted), &statistics(&plain)));

    let masked = plain.valid().train();
    let first = Tensor::<3>::ones([4, 1, 1], &Device::flex());
    let by = Tensor::cat(vec![first.clone(), first.zeros_like()], 2);
    masked.forward(x.clone(), Some(&by.into()));
    plain.forward(x.narrow(3, 0, 1), None);
    assert!(close(&statistics(&masked), &statistics(&plain)));
}
