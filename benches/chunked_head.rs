//! The output layer of a language model, a chunk of rows at a time and with all logits in memory.
//!
//! `cargo bench --bench chunked_head` times both with forward and backward pass: 256 rows of 16,384 entries,
//! which are one chunk, and 1,024 rows of 65,536, which are two. Peak memory and time at the size of a real
//! model, each form in a process of its own:
//!
//! ```text
//! cargo bench --bench chunked_head -- peak [rows vocabulary width [loss]]
//! ```
//!
//! By default that is 4096 rows, 128256 entries, a width of 512 on both sides, and soft targets. The
//! materialised form needs 6.5 GB then. Peak memory is read from Linux; elsewhere it is left out.

use std::cell::LazyCell;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_distill::loss::{
    HardLabel, LossContext, SoftTarget, TemperatureScale, dkd, hard_label, jensen_shannon,
    reverse_kl, soft_target,
};
use burn_distill::{Head, Logits, Objective, OutputLayer, Outputs, Targets};
use criterion::{BenchmarkId, Criterion};

const TEMPERATURE: f64 = 2.0;

/// A loss of the student's logits. The teacher's are computed where it asks for them.
type Loss = fn(Logits, &dyn Fn() -> Logits, Tensor<1, Int>) -> Tensor<1>;

const LOSSES: [(&str, Loss); 6] = [
    ("soft_target", |student, teacher, _| {
        soft_target(student, teacher(), TEMPERATURE).mean()
    }),
    ("reverse_kl", |student, teacher, _| {
        reverse_kl(student, teacher(), TEMPERATURE, TemperatureScale::Squared).mean()
    }),
    ("jensen_shannon", |student, teacher, _| {
        let squared = TemperatureScale::Squared;
        jensen_shannon(student, teacher(), TEMPERATURE, squared, 0.5).mean()
    }),
    ("hard_label", |student, _, labels| {
        hard_label(student, labels, 0.0).mean()
    }),
    ("hard_and_soft", |student, teacher, labels| match student {
        Logits::Projected(_) => in_one_pass(student, teacher(), labels),
        dense => {
            let hard = hard_label(dense.clone(), labels, 0.0).mean();
            hard * 0.5 + soft_target(dense, teacher(), TEMPERATURE).mean() * 0.5
        }
    }),
    ("dkd", |student, teacher, labels| {
        dkd(student, teacher(), labels, TEMPERATURE, 1.0, 2.0).mean()
    }),
];

/// Half soft targets, half labels: the terms of an objective share each chunk.
fn in_one_pass(student: Logits, teacher: Logits, labels: Tensor<1, Int>) -> Tensor<1> {
    let device = labels.device();
    let [student, teacher] = [student, teacher].map(|side| Outputs::new(Head::Categorical(side)));
    let targets = Targets::new().with_classes(labels);
    let objective = Objective::new()
        .with(SoftTarget::new(TEMPERATURE), 0.5)
        .with(HardLabel::new(), 0.5);
    let context = LossContext::new(&student, &teacher).with_targets(&targets);
    let modules = objective.modules(&context, &device);
    objective.forward(&context, &modules).total
}

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
    fn chunked(&self, loss: Loss) -> f32 {
        let layer = |[hidden, weight]: &[Tensor<2>; 2]| {
            Logits::Projected(OutputLayer::new(hidden.clone(), weight.clone()))
        };
        self.run(loss, layer)
    }

    fn materialised(&self, loss: Loss) -> f32 {
        let logits = |[hidden, weight]: &[Tensor<2>; 2]| {
            Logits::Dense(hidden.clone().matmul(weight.clone()))
        };
        self.run(loss, logits)
    }

    fn run(&self, loss: Loss, logits: impl Fn(&[Tensor<2>; 2]) -> Logits) -> f32 {
        let student = logits(&self.student);
        let teacher = || logits(&self.teacher);
        self.backward(loss(student, &teacher, self.labels.clone()))
    }

    fn backward(&self, loss: Tensor<1>) -> f32 {
        let gradients = loss.backward();
        for x in &self.student {
            black_box(x.grad(&gradients));
        }
        loss.into_scalar()
    }
}

/// Rows, vocabulary and width.
const SIZES: [[usize; 3]; 2] = [[256, 16_384, 128], [1024, 65_536, 128]];
/// With `--test`, to see that it works.
const SMALL: [usize; 3] = [8, 64, 4];

fn time(criterion: &mut Criterion) {
    let sizes = match std::env::args().any(|arg| arg == "--test") {
        true => vec![SMALL],
        false => SIZES.to_vec(),
    };
    for [rows, vocabulary, width] in sizes {
        // Made only if a case that needs them is selected, and dropped before the next size.
        let inputs = LazyCell::new(|| Inputs::new(rows, vocabulary, width));
        let mut group = criterion.benchmark_group(format!("head {rows}x{vocabulary}x{width}"));
        group
            .sample_size(10)
            .measurement_time(Duration::from_secs(3));
        for (name, loss) in LOSSES {
            group.bench_function(BenchmarkId::new("materialised", name), |bencher| {
                bencher.iter(|| inputs.materialised(loss));
            });
            group.bench_function(BenchmarkId::new("chunked", name), |bencher| {
                bencher.iter(|| inputs.chunked(loss));
            });
        }
        group.finish();
    }
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
fn measure(form: &str, [rows, vocabulary, width]: [usize; 3], loss: Loss) {
    let inputs = Inputs::new(rows, vocabulary, width);
    let before = memory("VmRSS:");
    let start = Instant::now();
    let value = match form {
        "materialised" => inputs.materialised(loss),
        _ => inputs.chunked(loss),
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
    for form in ["materialised", "chunked"] {
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
