//! The output layer of a language model, in chunks and with all logits in memory.
//!
//! `cargo bench --bench chunked_head` times both at a moderate size, with forward and backward pass.
//! Peak memory and time at the size of a real model, each form in a process of its own:
//!
//! ```text
//! cargo bench --bench chunked_head -- peak [rows vocabulary width [loss]]
//! ```
//!
//! By default that is 4096 rows, 128256 entries, a width of 512 on both sides, and soft targets. The
//! materialised form needs 6.5 GB then. Peak memory is read from Linux; elsewhere it is left out.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_distill::loss::{
    ChunkedHead, Head, HeadLoss, TemperatureScale, dkd, hard_label, jensen_shannon, reverse_kl,
    soft_target,
};
use criterion::{BenchmarkId, Criterion};

const TEMPERATURE: f64 = 2.0;

/// Both forms of every loss, by name.
const LOSSES: [(&str, HeadLoss); 6] = [
    (
        "soft_target",
        HeadLoss::SoftTarget {
            temperature: TEMPERATURE,
        },
    ),
    (
        "reverse_kl",
        HeadLoss::ReverseKl {
            temperature: TEMPERATURE,
            scale: TemperatureScale::Squared,
        },
    ),
    (
        "jensen_shannon",
        HeadLoss::JensenShannon {
            temperature: TEMPERATURE,
            scale: TemperatureScale::Squared,
            beta: 0.5,
        },
    ),
    ("hard_label", HeadLoss::HardLabel { smoothing: 0.0 }),
    (
        "hard_and_soft",
        HeadLoss::HardAndSoft {
            temperature: TEMPERATURE,
            alpha: 0.5,
        },
    ),
    (
        "dkd",
        HeadLoss::Dkd {
            temperature: TEMPERATURE,
            alpha: 1.0,
            beta: 2.0,
        },
    ),
];

/// Hidden states and weights of both sides, and labels.
struct Inputs {
    student: [Tensor<2>; 2],
    teacher: [Tensor<2>; 2],
    labels: Tensor<1, Int>,
}

impl Inputs {
    fn new(rows: usize, vocabulary: usize, width: usize) -> Self {
        let device = Device::flex();
        device.seed(1);
        let random = |dims: [usize; 2], scale: f64| {
            let normal = Distribution::Normal(0.0, scale);
            Tensor::<2>::random(dims, normal, &device)
        };
        let side = || {
            let weight = random([width, vocabulary], 2.0 / (width as f64).sqrt());
            [random([rows, width], 1.0), weight]
        };
        let labels: Vec<i32> = (0..rows).map(|n| (n * 7919 % vocabulary) as i32).collect();
        Self {
            student: side().map(|x| x.autodiff().require_grad()),
            teacher: side(),
            labels: Tensor::from_data(labels.as_slice(), &device),
        }
    }

    /// The value, after a backward pass.
    fn chunked(&self, loss: HeadLoss, rows_per_chunk: Option<usize>) -> f32 {
        let head = |[hidden, weight]: &[Tensor<2>; 2]| Head::new(hidden.clone(), weight.clone());
        let mut chunked = ChunkedHead::new(head(&self.student))
            .with_teacher(head(&self.teacher))
            .with_labels(self.labels.clone());
        if let Some(rows) = rows_per_chunk {
            chunked = chunked.with_rows_per_chunk(rows);
        }
        self.backward(chunked.forward(loss))
    }

    fn materialised(&self, loss: HeadLoss) -> f32 {
        let logits = |[hidden, weight]: &[Tensor<2>; 2]| hidden.clone().matmul(weight.clone());
        let student = logits(&self.student);
        let teacher = || logits(&self.teacher);
        let labels = self.labels.clone();
        let loss = match loss {
            HeadLoss::SoftTarget { temperature } => soft_target(student, teacher(), temperature),
            HeadLoss::ReverseKl { temperature, scale } => {
                reverse_kl(student, teacher(), temperature, scale)
            }
            HeadLoss::JensenShannon {
                temperature,
                scale,
                beta,
            } => jensen_shannon(student, teacher(), temperature, scale, beta),
            HeadLoss::HardLabel { smoothing } => hard_label(student, labels, smoothing),
            HeadLoss::HardAndSoft { temperature, alpha } => {
                hard_label(student.clone(), labels, 0.0) * alpha
                    + soft_target(student, teacher(), temperature) * (1.0 - alpha)
            }
            HeadLoss::Dkd {
                temperature,
                alpha,
                beta,
            } => dkd(student, teacher(), labels, temperature, alpha, beta),
            other => unreachable!("{other:?} is not in the list"),
        };
        self.backward(loss)
    }

    fn backward(&self, loss: Tensor<1>) -> f32 {
        let gradients = loss.backward();
        for x in &self.student {
            black_box(x.grad(&gradients));
        }
        loss.into_scalar()
    }
}

fn time(criterion: &mut Criterion) {
    let (rows, vocabulary, width) = match std::env::args().any(|arg| arg == "--test") {
        true => (8, 64, 4),
        false => (256, 16_384, 128),
    };
    let inputs = Inputs::new(rows, vocabulary, width);
    let mut group = criterion.benchmark_group(format!("head {rows}x{vocabulary}x{width}"));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for (name, loss) in LOSSES {
        group.bench_function(BenchmarkId::new("materialised", name), |bencher| {
            bencher.iter(|| inputs.materialised(loss));
        });
        group.bench_function(BenchmarkId::new("chunks of 64", name), |bencher| {
            bencher.iter(|| inputs.chunked(loss, Some(64)));
        });
    }
    group.finish();
}

/// A line of what Linux says about this process, in MiB: `VmRSS:`, what is resident, or `VmHWM:`, the
/// peak of that.
fn memory(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// One form, in this process: prints `value seconds mebibytes`.
fn measure(form: &str, [rows, vocabulary, width]: [usize; 3], loss: HeadLoss) {
    let inputs = Inputs::new(rows, vocabulary, width);
    let before = memory("VmRSS:");
    let start = Instant::now();
    let value = match form {
        "materialised" => inputs.materialised(loss),
        "default" => inputs.chunked(loss, None),
        rows => inputs.chunked(loss, Some(rows.parse().expect("rows of a chunk"))),
    };
    let seconds = start.elapsed().as_secs_f64();
    let grown = memory("VmHWM:")
        .zip(before)
        .map(|(peak, before)| peak - before);
    let grown = grown.map_or("?".into(), |grown| format!("{grown:.0}"));
    println!("{value:.6} {seconds:.2} {grown}");
}

/// Each form in a process of its own, so that each has its own peak.
fn compare(arguments: &[String]) {
    let number = |i: usize, default: usize| {
        let given = arguments.get(i).map(|x| x.parse().expect("a number"));
        given.unwrap_or(default)
    };
    let sizes = [number(0, 4096), number(1, 128_256), number(2, 512)];
    let name = arguments.get(3).map_or("soft_target", String::as_str);
    println!("{name}, {sizes:?}: form, value, seconds, MiB above the inputs");
    let this = std::env::current_exe().expect("this program has a path");
    let forms = std::env::var("CHUNKS").unwrap_or("materialised default 32 64 128 256".into());
    for form in forms.split_whitespace() {
        let mut child = Command::new(&this);
        child.args(["measure", form, name]);
        child.args(sizes.map(|size| size.to_string()));
        let output = child.output().expect("this program runs again");
        assert!(output.status.success(), "{output:?}");
        print!("{form:>14} {}", String::from_utf8_lossy(&output.stdout));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<String> = arguments.into_iter().filter(|x| x != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("peak") => compare(&arguments[1..]),
        Some("measure") => {
            let sizes = [3, 4, 5].map(|i| arguments[i].parse().expect("a number"));
            let loss = LOSSES.iter().find(|(name, _)| *name == arguments[2]);
            measure(&arguments[1], sizes, loss.expect("the name of a loss").1);
        }
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            time(&mut criterion);
            criterion.final_summary();
        }
    }
}
