//! Time of a whole training step with a teacher that answers along the way, on every backend that
//! is compiled in.
//!
//! ```text
//! cargo bench --bench step -- step/mlp
//! cargo bench --bench step --features x86-v4      # AVX-512 in the matrix products of flex
//! ```
//!
//! An id is `step/CASE/DEVICE/OPTIMIZER`. Throughput counts samples.

mod common;

use std::cell::LazyCell;

use burn::module::Module;
use burn::tensor::Device;
use burn_distill::Distillable;
use common::cases::{BATCH, Case, OPTIMIZERS, SEQUENCES, cnn, mlp, step, transformer};
use common::time;
use criterion::{BenchmarkId, Criterion, Throughput};

fn steps<I, T, S>(
    criterion: &mut Criterion,
    (case, samples): (&str, usize),
    make: impl Fn(&Device) -> Case<I, T, S>,
) where
    I: Module,
    T: Distillable<I>,
    S: Distillable<I>,
{
    let mut group = criterion.benchmark_group(format!("step/{case}"));
    group.throughput(Throughput::Elements(samples as u64));
    for (name, device) in common::devices() {
        let made = LazyCell::new(|| {
            device.seed(0);
            make(&device)
        });
        for (optimizer, init) in OPTIMIZERS {
            group.bench_function(BenchmarkId::new(name, optimizer), |bencher| {
                let case = &*made;
                let mut optimizer = init();
                let mut student = Some(case.student.clone());
                time(bencher, &device, || {
                    let batch = (case.input.clone(), case.labels.clone());
                    let before = student.take().expect("each step puts it back");
                    let (after, loss) = step(&case.teacher, before, &mut optimizer, batch);
                    student = Some(after);
                    loss
                });
            });
        }
    }
}

fn main() {
    let mut criterion = common::criterion();
    steps(&mut criterion, ("mlp", BATCH), mlp);
    steps(&mut criterion, ("cnn", BATCH), cnn);
    steps(&mut criterion, ("transformer", SEQUENCES), transformer);
    criterion.final_summary();
}
