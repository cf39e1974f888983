//! What a teacher can pass on about images that were never shown, or have no label.
//!
//! ```text
//! cargo run --release --example missing_class
//! ```
//!
//! **A digit that the student never sees.** From the student's images every 3 is taken out. Labels of
//! the others say nothing of a 3, and a student that learned from them finds none. A teacher's
//! outputs do: how much each 2, 5 or 8 looks like a 3. From these, without any
//! label, a student recognises most 3s of the test set (Hinton et al. 2015, section 3):
//!
//! ```text
//! | learns from | 3s recognised % | all digits % |
//! |---|---|---|
//! | their labels | 0.00 ± 0.00 | 83.95 ± 0.18 |
//! | the teacher's outputs, τ = 1 | 33.33 ± 1.95 | 87.87 ± 0.15 |
//! | the teacher's outputs, τ = 4 | 62.81 ± 3.28 | 91.73 ± 0.20 |
//! | the teacher's outputs, τ = 8 | 65.70 ± 0.72 | 92.00 ± 0.35 |
//! | the teacher's outputs, τ = 20 | 70.39 ± 2.75 | 92.50 ± 0.44 |
//! | the teacher itself | 95.04 | 96.35 |
//! ```
//!
//! A low temperature hides the probabilities of the unlikely classes: at τ = 1 only a third is recognised.
//!
//! **Few labels, many images.** 1,000 images have labels, 10,000 have none. Distillation may use all
//! of them, and so may anybody who lets the teacher label them with its best guess. To tell the worth
//! of more images from the worth of soft targets, all four ways stand side by side:
//!
//! ```text
//! | learns from | images | labels | accuracy % |
//! |---|---|---|---|
//! | 1,000 labels only | 1000 | 1000 | 88.42 ± 0.54 |
//! | the teacher's best guesses | 10000 | 0 | 95.25 ± 0.31 |
//! | the teacher's outputs, τ = 2 | 10000 | 0 | 95.38 ± 0.39 |
//! | all true labels | 10000 | 10000 | 95.43 ± 0.15 |
//! | the teacher itself | 10000 | 10000 | 96.35 |
//! ```
//!
//! Nearly all of the gain is more images. This teacher was trained on the labels of these same 10,000,
//! so that its guesses are hardly less than those labels and its soft targets hardly more: the three
//! ways differ by less than their spread.
//!
//! **With all of MNIST.** The files that come with the repository have 10,000 digits for training and
//! 2,000 for tests. With MNIST's own files (`--data DIR`) the teacher has 20,000 and teaches on 10,000:
//!
//! ```text
//! | learns from | 3s recognised % | all digits % |
//! |---|---|---|
//! | their labels | 0.00 ± 0.00 | 87.37 ± 0.05 |
//! | the teacher's outputs, τ = 1 | 58.51 ± 2.73 | 93.11 ± 0.29 |
//! | the teacher's outputs, τ = 4 | 72.64 ± 1.90 | 94.53 ± 0.19 |
//! | the teacher's outputs, τ = 8 | 74.19 ± 2.61 | 94.54 ± 0.25 |
//! | the teacher's outputs, τ = 20 | 75.35 ± 1.05 | 94.61 ± 0.12 |
//! | the teacher itself | 97.33 | 97.27 |
//!
//! | learns from | images | labels | accuracy % |
//! |---|---|---|---|
//! | 1,000 labels only | 1000 | 1000 | 89.30 ± 0.22 |
//! | the teacher's best guesses | 10000 | 0 | 95.62 ± 0.09 |
//! | the teacher's outputs, τ = 2 | 10000 | 0 | 96.48 ± 0.17 |
//! | all true labels | 10000 | 10000 | 95.89 ± 0.08 |
//! | the teacher itself | 20000 | 20000 | 97.27 |
//! ```
//!
//! Here the teacher knows more than the labels of the 10,000, and soft targets do better than both its
//! guesses and those labels. How long it was trained counts too: after twice as many epochs 97.69 % of its
//! predictions are right, but it is surer of them and tells less of the other classes, and at τ = 8 a
//! student recognises only 52 % of the 3s (one seed).
//!
//! All students have one teacher; numbers are means over three seeds ± standard deviation. Epochs and
//! learning rates of the second table, and its temperature, were chosen on 1,000 training digits that
//! nothing was trained on (`--validate`); those of the first are not tuned.

mod common;

use std::error::Error;
use std::path::PathBuf;

use burn::tensor::{Device, Int, Tensor};
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::report::measure;
use burn_distill::{
    Distillable, Distiller, FitConfig, Objective, ProgressMode, Schedule, TeacherCache,
    train_supervised,
};
use clap::Parser;
use common::args::Common;
use common::digits::{self, Digit};
use common::mlp::Mlp;

const TEACHER: [usize; 4] = [784, 1200, 1200, 10];
/// Learns a digit that it never sees.
const WIDE: [usize; 3] = [784, 300, 10];
/// Learns from few labels.
const NARROW: [usize; 3] = [784, 100, 10];
const MISSING: u8 = 3;

/// What a teacher can pass on about images that were never shown, or have no label.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Directory with MNIST's four files, gzipped or not, in place of the digits that come with the
    /// repository; the first 20,000 training digits are used, and all test digits.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Students per line, with seeds from `--seed` on.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Measures the last 1,000 of the training digits and trains on the others: for choosing settings.
    #[arg(long)]
    validate: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::parse();
    let Common { seed, quick, .. } = args.common;
    if quick {
        args.seeds = 1;
    }
    let device = args.common.device()?;
    let directory = args.data.clone().unwrap_or_else(digits::shipped);
    let (mut train, mut test) = (digits::train_in(&directory)?, digits::test_in(&directory)?);
    train.truncate(20_000);
    if args.validate {
        test = train.split_off(train.len() - 1000);
    }
    if quick {
        train.truncate(2000);
    }

    println!("Teacher 784-1200-1200-10 on {} digits ...", train.len());
    device.seed(seed);
    let teacher = Mlp::new(&TEACHER, &device).with_dropout(0.1, 0.4);
    // As many steps as eight passes over 10,000 digits: a surer teacher tells less of the other classes.
    let epochs = match quick {
        true => 1,
        false => 80_000 / train.len().max(1),
    };
    let config = recipe(epochs, 3e-3, seed)
        .with_progress(ProgressMode::Auto)
        .with_label("teacher");
    let data = digits::data(train.clone());
    let labels = Objective::new().with(HardLabel::new(), 1);
    let teacher = train_supervised(device.clone(), teacher, &labels, &config, data, None)?;
    let school = School {
        teacher: teacher.model,
        device,
        labels,
        train,
        test,
        seeds: seed..seed + args.seeds,
        quick,
    };
    school.missing_digit()?;
    school.few_labels()
}

/// What students learn from.
enum Lesson {
    /// Images with labels.
    Labels(Vec<Digit>),
    /// The teacher's outputs for images without labels, at a temperature.
    Outputs(Vec<Digit>, f64),
}

/// How long and how fast a student learns.
struct Pace {
    epochs: usize,
    rate: f64,
}

fn pace(epochs: usize, rate: f64) -> Pace {
    Pace { epochs, rate }
}

fn recipe(epochs: usize, rate: f64, seed: u64) -> FitConfig {
    let adam = burn::optim::AdamConfig::new().with_epsilon(1e-8);
    FitConfig::new(epochs)
        .with_optimizer(adam.init(), rate)
        .with_lr_schedule(Schedule::cosine(1.0, 0.0))
        .with_seed(seed)
        .with_progress(ProgressMode::Silent)
}

/// A teacher, and what students learn and are tested on.
struct School {
    device: Device,
    teacher: Mlp,
    labels: Objective,
    train: Vec<Digit>,
    test: Vec<Digit>,
    seeds: std::ops::Range<u64>,
    quick: bool,
}

impl School {
    /// Hinton's demonstration: a digit that only the teacher has seen.
    fn missing_digit(&self) -> Result<(), Box<dyn Error>> {
        let others = self.train.iter().filter(|digit| digit.label != MISSING);
        let others: Vec<Digit> = others.cloned().collect();
        let (missing, _): (Vec<_>, Vec<_>) =
            (self.test.iter().cloned()).partition(|digit: &Digit| digit.label == MISSING);
        println!(
            "\nStudent 784-300-10 on {} digits, no {MISSING} among them; {} of the {} test digits are {MISSING}s.\n",
            others.len(),
            missing.len(),
            self.test.len(),
        );
        println!("| learns from | {MISSING}s recognised % | all digits % |");
        println!("|---|---|---|");
        let mut lessons = vec![("their labels".to_string(), Lesson::Labels(others.clone()))];
        for temperature in [1.0, 4.0, 8.0, 20.0] {
            let lesson = Lesson::Outputs(others.clone(), temperature);
            lessons.push((format!("the teacher's outputs, τ = {temperature}"), lesson));
        }
        // As many steps as ten passes over 20,000 digits.
        let pace = pace(200_000 / self.train.len(), 3e-3);
        for (title, lesson) in lessons {
            let students = self.students(&WIDE, &pace, |_| &lesson)?;
            let of_missing = self.accuracy(&students, &missing)?;
            println!(
                "| {title} | {of_missing} | {} |",
                self.accuracy(&students, &self.test)?
            );
        }
        let teacher = std::slice::from_ref(&self.teacher);
        let of_missing = self.accuracy(teacher, &missing)?;
        println!(
            "| the teacher itself | {of_missing} | {} |",
            self.accuracy(teacher, &self.test)?
        );
        Ok(())
    }

    /// What users meet most: some images with labels, many more without.
    fn few_labels(&self) -> Result<(), Box<dyn Error>> {
        let all: Vec<Digit> = self.train.iter().take(10_000).cloned().collect();
        let guessed = Lesson::Labels(self.guesses(&all));
        let soft = Lesson::Outputs(all.clone(), 2.0);
        let few: Vec<Lesson> = (self.seeds.clone())
            .map(|seed| {
                let first = seed as usize * 1000 % all.len();
                Lesson::Labels(all[first..first + 1000].to_vec())
            })
            .collect();
        let images = all.len();
        let every = Lesson::Labels(all);

        println!("\nStudent 784-100-10 with few labels and many images.\n");
        println!("| learns from | images | labels | accuracy % |");
        println!("|---|---|---|---|");
        let line = |title: &str, images: usize, labels: usize, students: &[Mlp]| {
            let accuracy = self.accuracy(students, &self.test)?;
            println!("| {title} | {images} | {labels} | {accuracy} |");
            Ok::<_, Box<dyn Error>>(())
        };
        let of_few = |seed: u64| &few[(seed - self.seeds.start) as usize];
        let students = self.students(&NARROW, &pace(100, 2e-2), of_few)?;
        line("1,000 labels only", 1000, 1000, &students)?;
        let students = self.students(&NARROW, &pace(40, 1e-2), |_| &guessed)?;
        line("the teacher's best guesses", images, 0, &students)?;
        let students = self.students(&NARROW, &pace(20, 2e-2), |_| &soft)?;
        line("the teacher's outputs, τ = 2", images, 0, &students)?;
        let students = self.students(&NARROW, &pace(40, 1e-2), |_| &every)?;
        line("all true labels", images, images, &students)?;
        let teacher = std::slice::from_ref(&self.teacher);
        line(
            "the teacher itself",
            self.train.len(),
            self.train.len(),
            teacher,
        )
    }

    /// One student per seed.
    fn students<'a>(
        &self,
        widths: &[usize],
        pace: &Pace,
        lesson: impl Fn(u64) -> &'a Lesson,
    ) -> Result<Vec<Mlp>, Box<dyn Error>> {
        let epochs = if self.quick { 1 } else { pace.epochs };
        let mut students = Vec::new();
        for seed in self.seeds.clone() {
            self.device.seed(seed);
            let student = Mlp::new(widths, &self.device);
            let config = recipe(epochs, pace.rate, seed);
            let device = self.device.clone();
            students.push(match lesson(seed) {
                Lesson::Labels(digits) => {
                    let data = digits::data(digits.clone());
                    train_supervised(device, student, &self.labels, &config, data, None)?.model
                }
                Lesson::Outputs(digits, temperature) => {
                    let data = digits::unlabelled(digits.clone());
                    // The teacher runs once on each image, and not in every epoch.
                    let config = config.with_teacher_cache(TeacherCache::memory(64 << 20));
                    Distiller::on(device, self.teacher.clone(), student)
                        .with(SoftTarget::new(*temperature), 1)
                        .fit(&config, data, None)?
                        .student
                }
            });
        }
        Ok(students)
    }

    /// The digits with the teacher's predictions in place of their labels.
    fn guesses(&self, digits: &[Digit]) -> Vec<Digit> {
        let mut guessed = digits.to_vec();
        for digits in guessed.chunks_mut(1000) {
            let images = digits::flat_images(digits, &self.device);
            let classes: Tensor<2, Int> = self.teacher.outputs(images).logits().argmax(1);
            for (digit, class) in digits.iter_mut().zip(classes.into_data().iter::<u8>()) {
                digit.label = class;
            }
        }
        guessed
    }

    /// The accuracy on the digits in percent: the mean over models, and the deviation between them.
    fn accuracy(&self, models: &[Mlp], digits: &[Digit]) -> Result<String, Box<dyn Error>> {
        let data = digits::data(digits.to_vec());
        let mut values = Vec::new();
        for model in models {
            let measured = measure(model, None, &data, 1000, &self.device)?;
            values.push(measured.accuracy.ok_or("digits without labels")? * 100.0);
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        if values.len() == 1 {
            return Ok(format!("{mean:.2}"));
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Ok(format!(
            "{mean:.2} ± {:.2}",
            (squares / (count - 1.0)).sqrt()
        ))
    }
}
