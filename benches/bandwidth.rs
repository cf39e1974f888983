//! Soft targets, value and gradient, against the speed at which a device copies memory.
//!
//! ```text
//! cargo bench --bench bandwidth --features cuda
//! cargo bench --bench bandwidth --features vulkan -- 8192x32000
//! ```
//!
//! The least that can be done is to read both sides' logits and to write a gradient: three times the size of
//! the logits. A copy reads and writes, twice the size. Prints bytes per second of both, in turn on the same
//! device, and the share of the copy's that the loss reaches. By default with 8,192 rows of 32,000 classes and
//! 4,096 of 128,256, which take 4 and 8 GB.

mod common;

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use burn_distill::loss::soft_target;
use common::{TEMPERATURE, normal, sync};

const SHAPES: [[usize; 2]; 2] = [[8192, 32_000], [4096, 128_256]];
/// With `--test`, to see that it works.
const SMALL: [usize; 2] = [64, 1000];

fn median(runs: usize, device: &Device, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..=runs)
        .map(|_| {
            let start = Instant::now();
            run();
            sync(device);
            start.elapsed()
        })
        .skip(1) // Warms up.
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn print(name: &str, device: &Device, [rows, classes]: [usize; 2], runs: usize) {
    let plain = device.clone().inner();
    let teacher: Tensor<2> = normal([rows, classes], 2.0, device);
    let student: Tensor<2> = normal([rows, classes], 1.0, device);
    let numbers: Tensor<2> = normal([rows, classes], 1.0, &plain);
    sync(device);
    let copy = median(runs, device, || drop(numbers.clone() * 1.0));
    let loss = median(runs, device, || {
        let student = student.clone().require_grad();
        let value = soft_target(student.clone(), teacher.clone(), TEMPERATURE).mean();
        let gradients = value.backward();
        drop(student.grad(&gradients));
    });
    let bytes = (rows * classes * size_of::<f32>()) as f64;
    let [copied, compared] =
        [(2.0, copy), (3.0, loss)].map(|(passes, time)| passes * bytes / time.as_secs_f64() / 1e9);
    println!(
        "| {name} | {rows}x{classes} | {:.2} | {copied:.1} | {compared:.1} | {:.0} % |",
        loss.as_secs_f64() * 1e3,
        100.0 * compared / copied
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let asked: Vec<[usize; 2]> = arguments
        .iter()
        .filter_map(|argument| {
            let (rows, classes) = argument.split_once('x')?;
            Some([rows.parse().ok()?, classes.parse().ok()?])
        })
        .collect();
    let (shapes, runs) = match (is_test, asked.is_empty()) {
        (true, _) => (vec![SMALL], 1),
        (false, true) => (SHAPES.to_vec(), 11),
        (false, false) => (asked, 11),
    };
    println!("| device | logits | loss, ms | copy, GB/s | loss, GB/s | of the copy |");
    println!("|---|---|---:|---:|---:|---:|");
    for (name, device) in common::devices() {
        device.seed(0);
        shapes
            .iter()
            .for_each(|shape| print(name, &device, *shape, runs));
    }
}
