//! The peak memory of a training of language models, with few tokens and with many: their logits are never
//! there as a whole. Each training has a process of its own, which is this test again.
#![cfg(feature = "flex")]

use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::{
    DistillBatch, DistillData, Distillable, Distiller, FitConfig, OutputLayer, Outputs,
    ProgressMode,
};

const SEQUENCES: &str = "BURN_DISTILL_TEST_SEQUENCES";
const TOKENS: usize = 128;
const VOCABULARY: usize = 32_768;
const WIDTH: usize = 16;

/// The shortest of language models.
#[derive(Module, Debug)]
struct Model {
    words: Embedding,
    head: Linear,
}

impl Model {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            words: EmbeddingConfig::new(VOCABULARY, width).init(device),
            head: LinearConfig::new(width, VOCABULARY).init(device),
        }
    }
}

impl Distillable<Tensor<2, Int>> for Model {
    fn outputs(&self, words: Tensor<2, Int>) -> Outputs {
        let hidden = self.words.forward(words).tanh();
        Outputs::new(OutputLayer::linear(hidden, &self.head))
    }
}

/// Sequences in which each word is followed by a certain other.
fn texts(count: usize) -> DistillData<Tensor<2, Int>> {
    let texts: Vec<usize> = (0..count).collect();
    DistillData::from_fn(
        InMemDataset::new(texts),
        |texts: Vec<usize>, device: &Device| {
            let words = |shift: usize| {
                let text = |n: &usize| {
                    let start = n * 7919;
                    (0..TOKENS).map(move |t| ((start + 31 * (t + shift)) % VOCABULARY) as i64)
                };
                let words: Vec<i64> = texts.iter().flat_map(text).collect();
                let data = TensorData::new(words, [texts.len(), TOKENS]);
                Tensor::<2, Int>::from_data(data, device)
            };
            DistillBatch::new(words(0)).with_classes(words(1))
        },
    )
}

/// A line of what Linux says about this process, in KiB: `VmRSS:`, what is resident, or `VmHWM:`, the
/// peak of that.
fn memory(name: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// By how many KiB the peak grows above what the models need, with `sequences` sequences in one batch.
fn growth(sequences: usize) -> usize {
    let device = Device::flex();
    let (teacher, student) = (Model::new(2 * WIDTH, &device), Model::new(WIDTH, &device));
    let config = FitConfig::new(1)
        .with_batch_size(sequences)
        .with_optimizer(SgdConfig::new().init(), 0.1)
        .with_progress(ProgressMode::Silent);
    let before = memory("VmRSS:").expect("Linux says");
    let distilled = Distiller::on(device, teacher, student)
        .with(SoftTarget::new(2), 0.5)
        .with(HardLabel::new(), 0.5)
        .fit(&config, texts(sequences), None)
        .expect("it trains");
    // It is measured as well, and that is not done at once either.
    assert!(distilled.report.distilled.agreement.is_some());
    memory("VmHWM:").expect("Linux says") - before
}

/// The growth in a process of its own.
fn measured(sequences: usize) -> usize {
    let this = std::env::current_exe().expect("a test has a path");
    let mut child = std::process::Command::new(this);
    child.args([
        "--exact",
        "memory_does_not_grow_with_the_number_of_tokens",
        "--nocapture",
    ]);
    let output = child.env(SEQUENCES, sequences.to_string()).output();
    let output = output.expect("a test runs again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let growth = text.lines().find_map(|line| line.split_once("growth="));
    let (_, growth) = growth.unwrap_or_else(|| panic!("{output:?}"));
    growth.trim().parse().expect("a number")
}

#[test]
fn memory_does_not_grow_with_the_number_of_tokens() {
    if let Ok(sequences) = std::env::var(SEQUENCES) {
        println!("\ngrowth={}", growth(sequences.parse().expect("a number")));
        return;
    }
    if memory("VmHWM:").is_none() {
        eprintln!("skipped: only Linux says how much memory a process had at most");
        return;
    }
    let (few, many) = (measured(8), measured(24));
    println!("{few} KiB with 8 sequences, {many} KiB with 24");
    // What the logits of both models would need.
    let logits = |sequences: usize| 2 * sequences * TOKENS * VOCABULARY * 4 / 1024;
    // The logits of few are there as a whole, or the measurement is none.
    assert!(few >= logits(8), "{few} KiB");
    assert!(many < logits(24), "{many} KiB");
    assert!(10 * many <= 15 * few, "{many} KiB of {few} KiB");
}
