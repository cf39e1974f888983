//! Recorded knowledge: how fast it is read, what an epoch with it takes, how large it is.
//!
//! ```text
//! cargo bench --bench knowledge                 # reading, and an epoch of each kind
//! cargo bench --bench knowledge -- sizes        # bytes a row, and the divergence that is lost
//! cargo bench --bench knowledge --features x86-v4 -- trainings   # what students come to
//! ```
//!
//! An id is `knowledge/read/FORM` or `knowledge/epoch/KIND/DEVICE`. Throughput counts bytes of the single
//! precision that comes out, or samples.

#[path = "../common/mod.rs"]
mod common;
#[path = "../../examples/common/digits.rs"]
#[allow(dead_code)]
mod digits;
#[path = "../../examples/common/idx.rs"]
#[allow(dead_code)]
mod idx;
mod numbers;
mod reading;
mod sizes;
mod trainings;

fn main() {
    let is_asked = |name: &str| std::env::args().any(|argument| argument == name);
    // As criterion has it: with `--test`, everything runs once.
    let is_test = is_asked("--test");
    if is_asked("sizes") {
        return sizes::print(4096);
    }
    if is_asked("trainings") {
        return trainings::print(20);
    }
    let mut criterion = common::criterion();
    reading::bench(&mut criterion);
    trainings::bench(&mut criterion);
    criterion.final_summary();
    if is_test {
        sizes::print(16);
        trainings::print(1);
    }
}
