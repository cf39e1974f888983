//! Bytes a row, and what is lost against the whole distribution.
//!
//! The teacher is a language model as far as its answers go: 65,536 classes whose logits are -ln(rank) and
//! normal noise. *Uniform* has the classes in another order for each row, so that nothing can be said of
//! their numbers beforehand; *skewed* in the same order for all, as frequent words are frequent everywhere.
//! A store names frequent classes by small numbers where that saves more than the list of them takes, which
//! takes many rows: each skewed row is recorded [`COPIES`] times.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_distill::knowledge::{LogitsFormat, Store, ValuePrecision};
use burn_distill::{Head, Logits, Outputs, TopK};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::numbers;

const CLASSES: usize = 65_536;
/// Rows of one sample.
const SEQUENCE: usize = 64;
const KS: [usize; 4] = [16, 64, 128, 256];
const DRAWS: [usize; 2] = [12, 50];
/// How often each skewed row is recorded.
const COPIES: usize = 4;

/// Logits of `rows` tokens, one row at a time.
struct Teacher {
    random: StdRng,
    /// The classes, the most likely first.
    order: Vec<u32>,
    is_uniform: bool,
}

impl Teacher {
    fn new(is_uniform: bool) -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let mut order: Vec<u32> = (0..CLASSES as u32).collect();
        order.shuffle(&mut random);
        Self {
            random,
            order,
            is_uniform,
        }
    }

    fn row(&mut self) -> Vec<f32> {
        if self.is_uniform {
            self.order.shuffle(&mut self.random);
        }
        let mut logits = vec![0.0; CLASSES];
        for (rank, class) in self.order.iter().enumerate() {
            logits[*class as usize] = (normal(&mut self.random) - (1.0 + rank as f64).ln()) as f32;
        }
        logits
    }
}

/// By the method of Box and Muller.
fn normal(random: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// What is known of a row before it is written, its likeliest classes first.
struct Row {
    classes: Vec<i32>,
    log_probs: Vec<f64>,
    /// For each `k` the tail probability, and Σ p ln p there.
    outside: [(f64, f64); KS.len()],
}

impl Row {
    fn new(logits: &[f32]) -> Self {
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|z| f64::from(z - most).exp()).sum();
        let log_prob = |class: &usize| f64::from(logits[*class] - most) - sum.ln();
        let mut order: Vec<usize> = (0..CLASSES).collect();
        let by_logit = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]);
        let widest = KS[KS.len() - 1];
        order.select_nth_unstable_by(widest, by_logit);
        order[..widest].sort_unstable_by(by_logit);
        let all: Vec<f64> = order.iter().map(log_prob).collect();
        let outside = KS.map(|k| {
            let rest = all[k..].iter();
            rest.fold((0.0, 0.0), |(tail, entropy), l| {
                (tail + l.exp(), entropy + l.exp() * l)
            })
        });
        Self {
            classes: order[..widest].iter().map(|class| *class as i32).collect(),
            log_probs: all[..widest].to_vec(),
            outside,
        }
    }
}

pub fn print(rows: usize) {
    println!("| k | values | bytes, uniform | bytes, skewed | KL | of it by precision |");
    println!("|---:|---|---:|---:|---:|---:|");
    let table = |is_uniform| -> Arc<[Row]> {
        let mut teacher = Teacher::new(is_uniform);
        (0..rows).map(|_| Row::new(&teacher.row())).collect()
    };
    let (uniform, skewed) = std::thread::scope(|scope| {
        let uniform = scope.spawn(|| table(true));
        let skewed = table(false);
        (uniform.join().expect("rows are drawn"), skewed)
    });
    let step = |step| (format!("step {step}"), ValuePrecision::Step(step));
    for (at, k) in KS.into_iter().enumerate() {
        for (name, precision) in [
            ("f32".into(), ValuePrecision::F32),
            ("f16".into(), ValuePrecision::F16),
            step(0.05),
            step(0.1),
            step(0.2),
            step(0.5),
        ] {
            let logits = LogitsFormat::TopK {
                k,
                temperature: 1.0,
                precision,
            };
            let (_uniform, store) = write_top(&uniform, 1, at, logits);
            let (_skewed, ranked) = write_top(&skewed, COPIES, at, logits);
            let [bytes, fewer] = [&store, &ranked].map(per_row);
            let (all, of_precision) = lost(&store, &uniform, at);
            let of_precision = match of_precision {
                loss if loss < 5e-6 => "< 0.00001".into(),
                loss => format!("{loss:.5}"),
            };
            println!("| {k} | {name} | {bytes:.1} | {fewer:.1} | {all:.3} | {of_precision} |");
        }
    }
    for draws in DRAWS {
        println!(
            "| {draws} draws | counts | {:.1} | | | |",
            drawn(rows, draws)
        );
    }
}

fn per_row(store: &Store) -> f64 {
    store.bytes() as f64 / store.rows() as f64
}

/// The likeliest classes of all rows, as many as the `k` at this place of [`KS`].
fn write_top(
    rows: &Arc<[Row]>,
    copies: usize,
    at: usize,
    logits: LogitsFormat,
) -> (tempfile::TempDir, Store) {
    let sequences = rows.len().div_ceil(SEQUENCE);
    let rows = rows.clone();
    numbers::write(sequences * copies, 1, logits, move |number, device| {
        let sequence = number[0] as usize % sequences;
        let rows = rows
            .chunks(SEQUENCE)
            .nth(sequence)
            .expect("it is a sequence");
        top(rows, KS[at], device)
    })
}

/// The `k` likeliest classes of some rows.
fn top(rows: &[Row], k: usize, device: &Device) -> Outputs {
    let classes = rows.iter().flat_map(|row| &row.classes[..k]).copied();
    let classes = TensorData::new(classes.collect(), [rows.len(), k]);
    let log_probs = rows.iter().flat_map(|row| &row.log_probs[..k]);
    let log_probs = log_probs.map(|l| *l as f32).collect();
    let log_probs = TensorData::new(log_probs, [rows.len(), k]);
    Outputs::new(TopK::new(
        Tensor::<2, Int>::from_data(classes, device),
        Tensor::<2>::from_data(log_probs, device),
        CLASSES,
    ))
}

/// KL(teacher || what is read) per row, the rest spread evenly, and what of it is left when the rest is
/// spread as the teacher has it: that much is due to the precision of the numbers.
fn lost(store: &Store, rows: &Arc<[Row]>, at: usize) -> (f64, f64) {
    let sums = Arc::new(Mutex::new((0.0, 0.0)));
    let (total, known) = (sums.clone(), rows.clone());
    let sequences = rows.len().div_ceil(SEQUENCE) as u32;
    numbers::read(
        store,
        (0..sequences).collect(),
        1,
        move |indices, outputs, _| {
            let Some((_, Head::Categorical(Logits::TopK(top)))) = outputs.first_head() else {
                unreachable!("the store has some classes of each row");
            };
            let classes: Vec<i32> = top.indices.clone().into_data().iter().collect();
            let log_probs: Vec<f32> = top.log_probs.clone().into_data().iter().collect();
            let rows = known
                .chunks(SEQUENCE)
                .nth(indices[0])
                .expect("it is a sequence");
            let (mut all, mut of_precision) = (0.0, 0.0);
            let read = classes.chunks(KS[at]).zip(log_probs.chunks(KS[at]));
            for (row, (classes, log_probs)) in rows.iter().zip(read) {
                let (inside, outside) = row.losses(classes, log_probs, at);
                all += inside + outside[0];
                of_precision += inside + outside[1];
            }
            let mut total = total.lock().expect("no thread panics");
            *total = (total.0 + all, total.1 + of_precision);
        },
    );
    let (all, of_precision) = *sums.lock().expect("no thread panics");
    (all / rows.len() as f64, of_precision / rows.len() as f64)
}

impl Row {
    /// What is lost in the classes that are read, and in the others: where these are spread evenly, and as
    /// the teacher has them.
    fn losses(&self, classes: &[i32], log_probs: &[f32], at: usize) -> (f64, [f64; 2]) {
        let log_probs = log_probs.iter().map(|l| f64::from(*l));
        let kept: f64 = log_probs.clone().map(f64::exp).sum();
        let found: HashMap<i32, f64> = classes.iter().copied().zip(log_probs).collect();
        let inside = (self.classes[..KS[at]].iter().zip(&self.log_probs))
            .map(|(class, l)| l.exp() * (l - found[class]))
            .sum();
        let (tail, entropy) = self.outside[at];
        let rest = (1.0 - kept).ln();
        let evenly = rest - ((CLASSES - KS[at]) as f64).ln();
        (inside, [entropy - tail * evenly, tail * (tail.ln() - rest)])
    }
}

/// Bytes a row of `draws` draws.
fn drawn(rows: usize, draws: usize) -> f64 {
    let logits = LogitsFormat::Sampled {
        draws,
        temperature: 1.0,
    };
    let teacher = Mutex::new(Teacher::new(true));
    let sequence = SEQUENCE.min(rows);
    let (_directory, store) = numbers::write(rows / sequence, 1, logits, move |_, device| {
        let mut teacher = teacher.lock().expect("no thread panics");
        let all: Vec<f32> = (0..sequence).flat_map(|_| teacher.row()).collect();
        let all = TensorData::new(all, [sequence, CLASSES]);
        Outputs::new(Tensor::<2>::from_data(all, device))
    });
    per_row(&store)
}
