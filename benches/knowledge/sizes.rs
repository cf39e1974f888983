//! Bytes a row, and what is lost against the whole distribution.
//!
//! The teacher is a language model as far as its answers go: 65,536 classes whose logits are -ln(rank) and
//! normal noise. *Uniform* has the classes in another order for each row, so that nothing can be said of
//! their numbers beforehand; *skewed* in the same order for all, as frequent words are frequent everywhere.

use burn_distill::knowledge::{
    BatchLogits, Header, Key, LogitsFormat, LogitsRecord, RankChoice, SampleId, SampleRecord,
    Store, ValuePrecision, Writer, WriterOptions,
};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const CLASSES: usize = 65_536;
/// Rows of one sample.
const SEQUENCE: usize = 64;
const KS: [usize; 4] = [16, 64, 128, 256];
const DRAWS: [usize; 2] = [12, 50];

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
        let log_prob = |class: usize| f64::from(logits[class] - most) - sum.ln();
        let mut order: Vec<usize> = (0..CLASSES).collect();
        order.sort_unstable_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let all: Vec<f64> = order.iter().map(|class| log_prob(*class)).collect();
        let outside = KS.map(|k| {
            let rest = all[k..].iter();
            rest.fold((0.0, 0.0), |(tail, entropy), l| {
                (tail + l.exp(), entropy + l.exp() * l)
            })
        });
        let widest = KS[KS.len() - 1];
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
    let table = |is_uniform| -> Vec<Row> {
        let mut teacher = Teacher::new(is_uniform);
        (0..rows).map(|_| Row::new(&teacher.row())).collect()
    };
    let (uniform, skewed) = (table(true), table(false));
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
            let (_uniform, store) = write_top(&uniform, at, logits, RankChoice::Off);
            let ranks = RankChoice::Given(by_frequency(&skewed, k));
            let (_skewed, ranked) = write_top(&skewed, at, logits, ranks);
            let [bytes, fewer] = [&store, &ranked].map(|store| store.bytes() as f64 / rows as f64);
            let (all, of_precision) = lost(&store, &uniform, at);
            let of_precision = match of_precision {
                loss if loss < 5e-6 => "< 0.00001".into(),
                loss => format!("{loss:.5}"),
            };
            println!("| {k} | {name} | {bytes:.1} | {fewer:.1} | {all:.3} | {of_precision} |");
        }
    }
    for draws in DRAWS {
        let bytes = [true, false].map(|is_uniform| drawn(rows, draws, is_uniform));
        println!(
            "| {draws} draws | counts | {:.1} | {:.1} | | |",
            bytes[0], bytes[1]
        );
    }
}

fn write(
    logits: LogitsFormat,
    ranks: RankChoice,
    fill: impl FnOnce(&mut Writer),
) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a directory for the benchmark");
    let header = Header {
        teacher: "a generator of random numbers".into(),
        heads: Vec::new(),
        classes: CLASSES,
        logits,
        features: Vec::new(),
        views: 1,
    };
    let mut options = WriterOptions::default();
    options.ranks = ranks;
    let mut writer = Writer::create_or_resume_with(directory.path(), &header, options)
        .expect("an empty directory");
    fill(&mut writer);
    writer.finish().expect("room on the disk");
    let store = Store::open(directory.path()).expect("just written");
    (directory, store)
}

fn sample(i: usize, rows: usize, logits: LogitsRecord<'_>) -> SampleRecord<'_> {
    SampleRecord {
        id: SampleId(i as u128),
        view: 0,
        seed: 0,
        rows,
        logits,
        features: &[],
    }
}

/// The likeliest classes of all rows, as many as the `k` at this place of [`KS`].
fn write_top(
    rows: &[Row],
    at: usize,
    logits: LogitsFormat,
    ranks: RankChoice,
) -> (tempfile::TempDir, Store) {
    let k = KS[at];
    write(logits, ranks, |writer| {
        for (i, rows) in rows.chunks(SEQUENCE).enumerate() {
            let indices: Vec<i32> = rows
                .iter()
                .flat_map(|row| &row.classes[..k])
                .copied()
                .collect();
            let log_probs = rows.iter().flat_map(|row| &row.log_probs[..k]);
            let log_probs: Vec<f32> = log_probs.map(|l| *l as f32).collect();
            let log_rest: Vec<f32> = rows
                .iter()
                .map(|row| row.outside[at].0.ln() as f32)
                .collect();
            let logits = LogitsRecord::TopK {
                indices: &indices,
                log_probs: &log_probs,
                log_rest: &log_rest,
            };
            let sample = sample(i, rows.len(), logits);
            writer.write(&sample).expect("room on the disk");
        }
    })
}

fn by_frequency(rows: &[Row], k: usize) -> Vec<u32> {
    let mut counts = vec![0usize; CLASSES];
    for class in rows.iter().flat_map(|row| &row.classes[..k]) {
        counts[*class as usize] += 1;
    }
    let mut order: Vec<u32> = (0..CLASSES as u32).collect();
    order.sort_by_key(|class| std::cmp::Reverse(counts[*class as usize]));
    order
}

/// KL(teacher || what is read) per row, the rest spread evenly, and what of it is left when the rest is
/// spread as the teacher has it: that much is due to the precision of the numbers.
fn lost(store: &Store, rows: &[Row], at: usize) -> (f64, f64) {
    let (k, mut all, mut of_precision) = (KS[at], 0.0, 0.0);
    for (i, rows) in rows.chunks(SEQUENCE).enumerate() {
        let read = store
            .read(&[Key::new(SampleId(i as u128))])
            .expect("it was written");
        let BatchLogits::Sparse {
            width,
            indices,
            log_probs,
            log_rest,
        } = read.logits
        else {
            unreachable!("the store has some classes of each row");
        };
        for (n, row) in rows.iter().enumerate() {
            let found: std::collections::HashMap<i32, f32> = indices[n * width..][..width]
                .iter()
                .copied()
                .zip(log_probs[n * width..][..width].iter().copied())
                .collect();
            let inside: f64 = (row.classes[..k].iter().zip(&row.log_probs))
                .map(|(class, l)| l.exp() * (l - f64::from(found[class])))
                .sum();
            let ((tail, entropy), rest) = (row.outside[at], f64::from(log_rest[n]));
            all += inside + entropy - tail * (rest - ((CLASSES - k) as f64).ln());
            of_precision += inside + tail * (tail.ln() - rest);
        }
    }
    (all / rows.len() as f64, of_precision / rows.len() as f64)
}

/// Bytes a row of so many draws.
fn drawn(rows: usize, draws: usize, is_uniform: bool) -> f64 {
    let logits = LogitsFormat::Sampled {
        draws,
        temperature: 1.0,
    };
    let mut teacher = Teacher::new(is_uniform);
    let ranks = match is_uniform {
        true => RankChoice::Off,
        false => RankChoice::Given(teacher.order.clone()),
    };
    let (_directory, store) = write(logits, ranks, |writer| {
        for i in 0..rows.div_ceil(SEQUENCE) {
            let count = SEQUENCE.min(rows - i * SEQUENCE);
            let all: Vec<f32> = (0..count).flat_map(|_| teacher.row()).collect();
            let sample = sample(i, count, LogitsRecord::Full(&all));
            writer.write(&sample).expect("room on the disk");
        }
    });
    store.bytes() as f64 / rows as f64
}
