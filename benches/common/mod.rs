//! What the benchmarks share: where to run, inputs from a fixed seed, and what is timed.
#![allow(dead_code)] // No benchmark uses all of it.

pub mod cases;
pub mod nets;
#[path = "../../tests/common/mod.rs"]
mod tests;

use std::hint::black_box;
use std::time::Duration;

use burn::tensor::{Device, Distribution, Int, Tensor};
use criterion::{Bencher, Criterion};

/// The temperature of every loss that has one.
pub const TEMPERATURE: f64 = 4.0;

/// Few samples: a case is a long computation that hardly varies, and there are many cases.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args()
}

/// A device of every backend that is compiled in, with autodiff, under its name.
pub fn devices() -> Vec<(&'static str, Device)> {
    let devices = tests::devices().into_iter();
    devices
        .map(|(name, device)| (name, device.autodiff()))
        .collect()
}

/// Times a computation until the device has done it: a GPU only queues what it is told.
pub fn time<T>(bencher: &mut Bencher<'_>, device: &Device, mut compute: impl FnMut() -> T) {
    sync(device); // The inputs are there before the first pass.
    bencher.iter(|| {
        let result = black_box(compute());
        sync(device);
        result
    });
}

/// Waits until a device has done all that it was told.
pub fn sync(device: &Device) {
    device.sync().expect("the device does what it is told");
}

/// Times a loss: its value, and its gradient with respect to the student's tensor.
pub fn time_loss<const D: usize>(
    bencher: &mut Bencher<'_>,
    student: &Tensor<D>,
    loss: impl Fn(Tensor<D>) -> Tensor<1>,
) {
    time(bencher, &student.device(), || {
        let student = student.clone().require_grad();
        let value = loss(student.clone());
        let gradients = value.backward();
        (
            value,
            student
                .grad(&gradients)
                .expect("the loss depends on the student"),
        )
    });
}

/// Normal numbers.
pub fn normal<const D: usize>(shape: [usize; D], std: f64, device: &Device) -> Tensor<D> {
    // Drawn outside of autodiff, such that nothing is recorded of how they were made.
    let plain = device.clone().inner();
    let numbers = Tensor::<D>::random(shape, Distribution::Normal(0.0, std), &plain);
    Tensor::from_data(numbers.into_data(), device)
}

/// Classes, all as likely.
pub fn classes<const D: usize>(shape: [usize; D], count: usize, device: &Device) -> Tensor<D, Int> {
    let plain = device.clone().inner();
    let numbers = Tensor::<D>::random(shape, Distribution::Uniform(0.0, count as f64), &plain);
    // A number may round up to the end of its interval.
    let classes = numbers.int().clamp_max(count as i64 - 1);
    Tensor::from_data(classes.into_data(), device)
}
