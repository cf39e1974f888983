use burn::tensor::Device;

use super::*;

#[test]
fn bins_weigh_their_rows_and_leave_out_those_without_a_label() {
    let device = Device::flex();
    let logits = Tensor::<2>::from_floats([[3f32.ln(), 0.0]; 3], &device);
    let labels = Tensor::<1, Int>::from_ints([0, 1, -1], &device);
    let weights = Weights::from(Tensor::<1>::from_floats([3.0, 1.0, 9.0], &device));
    // 3/4 sure, and right in 3/4 of the weight.
    let error = expected_calibration_error(logits.clone(), labels.clone(), Some(&weights));
    assert!(error.unwrap() < 1e-6);

    let mut bins = Bins::default();
    let truth = Truth::read(Some(&labels), Some(&weights)).unwrap();
    bins.add_batch(&logits.into(), &truth).unwrap();
    let filled = bins.filled();
    assert_eq!((filled.len(), filled[0].samples), (1, 2));
    assert!((filled[0].accuracy - 0.75).abs() < 1e-12);
}

#[test]
fn nothing_labelled_has_no_error() {
    let device = Device::flex();
    let logits = Tensor::<2>::zeros([1, 2], &device);
    let labels = Tensor::<1, Int>::from_ints([-1], &device);
    assert_eq!(expected_calibration_error(logits, labels, None), None);
}
