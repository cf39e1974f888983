//! The peak memory of a loss at the output of a language model, in chunks and at once. Each form has
//! a process of its own, which is this test again.
#![cfg(feature = "flex")]

use burn::tensor::{Device, Distribution, Tensor};
use burn_distill::loss::{ChunkedHead, Head, HeadLoss, soft_target};

const FORM: &str = "BURN_DISTILL_TEST_FORM";
const ROWS: usize = 2048;
const VOCABULARY: usize = 16_384;
const WIDTH: usize = 32;

/// A line of what Linux says about this process, in KiB: `VmRSS:`, what is resident, or `VmHWM:`, the
/// peak of that.
fn memory(name: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// By how much the peak grows above what the inputs need.
fn growth(form: &str) -> usize {
    let device = Device::flex();
    let random = |dims| Tensor::<2>::random(dims, Distribution::Normal(0.0, 0.1), &device);
    let trained = |dims| random(dims).autodiff().require_grad();
    let (hidden, weight) = (trained([ROWS, WIDTH]), trained([WIDTH, VOCABULARY]));
    let (wide, high) = (random([ROWS, 2 * WIDTH]), random([2 * WIDTH, VOCABULARY]));
    let before = memory("VmRSS:").expect("Linux says");
    let loss = match form {
        "chunked" => ChunkedHead::new(Head::new(hidden.clone(), weight.clone()))
            .with_teacher(Head::new(wide, high))
            .with_rows_per_chunk(64)
            .forward(HeadLoss::SoftTarget { temperature: 2.0 }),
        _ => soft_target(
            hidden.clone().matmul(weight.clone()),
            wide.matmul(high),
            2.0,
        ),
    };
    let gradients = loss.backward();
    assert!(hidden.grad(&gradients).is_some() && weight.grad(&gradients).is_some());
    memory("VmHWM:").expect("Linux says") - before
}

/// The growth in a process of its own.
fn measured(form: &str) -> usize {
    let this = std::env::current_exe().expect("a test has a path");
    let mut child = std::process::Command::new(this);
    child.args([
        "--exact",
        "chunks_need_a_fraction_of_the_memory",
        "--nocapture",
    ]);
    let output = child.env(FORM, form).output().expect("a test runs again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let growth = text.lines().find_map(|line| line.split_once("growth="));
    let (_, growth) = growth.unwrap_or_else(|| panic!("{output:?}"));
    growth.trim().parse().expect("a number")
}

#[test]
fn chunks_need_a_fraction_of_the_memory() {
    if let Ok(form) = std::env::var(FORM) {
        println!("\ngrowth={}", growth(&form));
        return;
    }
    if memory("VmHWM:").is_none() {
        eprintln!("skipped: only Linux says how much memory a process had at most");
        return;
    }
    let (all, chunked) = (measured("materialised"), measured("chunked"));
    println!("{all} KiB at once, {chunked} KiB in chunks");
    // Two tensors of that size at the very least, or the measurement is none.
    assert!(all >= 2 * ROWS * VOCABULARY * 4 / 1024, "{all} KiB");
    assert!(20 * chunked <= 3 * all, "{chunked} of {all} KiB");
}
