//! A distilled student in fewer bits, and what that costs it.
//!
//! ```text
//! cargo run --release --example deploy
//! ```
//!
//! Burn's `Quantizer` gives the weights of any module eight, four or two bits and a scale, one for
//! the matrix or one for each block of them. Here it is applied to a student of 76,330 parameters,
//! distilled on 1,000 digits: after its training, and within it, where each forward pass reads
//! weights that are rounded in the same way. Burn 0.22 has no training of this second kind, and no
//! gradient goes through its quantisation. But it lets a parameter be read through a function, and
//! with a straight-through estimator as that function (`forms.rs`) any student trains so, unchanged.
//!
//! ```text
//!                           quantised        accuracy    agrees       KL       kB one sample
//! teacher                                     96.35 %         -        -   9581.6   0.153 ms
//! student, 32 bits                            93.25 %   94.85 %   0.1173    306.0   0.008 ms
//! 8 bits, one scale         after training    93.25 %   94.85 %   0.1183     77.6   0.020 ms
//!                           in training       93.00 %   94.80 %   0.1190     77.6   0.020 ms
//! 8 bits, a scale for 16    after training    93.25 %   94.85 %   0.1172     96.6   5.242 ms
//!                           in training       93.15 %   94.95 %   0.1121     96.6   2.979 ms
//! 4 bits, one scale         after training    92.65 %   93.95 %   0.1372     77.6   0.020 ms
//!                           in training       93.05 %   94.75 %   0.1071     77.6   0.020 ms
//! 4 bits, a scale for 16    after training    92.95 %   94.45 %   0.1228     96.6  13.715 ms
//!                           in training       93.00 %   94.55 %   0.1084     96.6  10.393 ms
//! 2 bits, a scale for 16    after training    88.70 %   89.80 %   0.2719     96.6   6.392 ms
//!                           in training       91.15 %   92.90 %   0.1867     96.6   6.332 ms
//! ```
//!
//! KL is that of the student from the teacher. Eight bits cost next to nothing; the fewer they are,
//! the more it helps to have them in the training.
//!
//! A file of fewer bits is not a faster model: on a CPU, Burn 0.22 turns weights back into floats in
//! every forward pass, and takes long for blocks (the machine was busy with other things too).
//! `Student::unpacked` does it once. `flex` has one byte for each weight however few its bits;
//! devices that pack them have smaller files. `ndarray` quantises to eight bits only. Activations
//! are floats throughout, and safetensors files hold no quantised tensors in Burn 0.22, so these
//! are Burn's own.
//!
//! `examples/deploy_target` is a crate of its own, without the standard library, that holds such a
//! file and compiles for microcontrollers and WebAssembly.

#[path = "../common/mod.rs"]
mod common;
mod forms;
mod student;

use std::error::Error;

use burn::module::Module;
use burn::optim::AdamConfig;
use burn::tensor::Tensor;
use burn_distill::loss::{HardLabel, SoftTarget};
use burn_distill::report::{ModelReport, measure};
use burn_distill::{
    Distillable, Distiller, FitConfig, Objective, Outputs, Schedule, TeacherCache, train_supervised,
};
use clap::Parser;
use common::args::{Common, Output};
use common::digits;
use common::mlp::Mlp;
use forms::{Form, RoundWeights};
use student::Student;

/// A distilled student in fewer bits, and what that costs it.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    output: Output,
}

impl Distillable<Tensor<2>> for Student {
    fn outputs(&self, images: Tensor<2>) -> Outputs {
        Outputs::new(self.forward(images))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Args { common, output } = Args::parse();
    let device = common.device()?;
    let (mut train, mut test) = (digits::train()?, digits::test()?);
    let first = (common.seed as usize % 10) * 1000;
    let few = digits::data(train[first..first + 1000].to_vec());
    if common.quick {
        train.truncate(1000);
        test.truncate(500);
    }
    let (train, test) = (digits::data(train), digits::data(test));
    let recipe = |label: &str, epochs, rate| {
        FitConfig::new(if common.quick { 1 } else { epochs })
            .with_optimizer(AdamConfig::new().with_epsilon(1e-8).init(), rate)
            .with_lr_schedule(Schedule::cosine(1.0, 0.0))
            .with_seed(common.seed)
            .with_label(label)
    };

    device.seed(common.seed);
    let widths = [784, 1200, 1200, 10];
    let teacher = Mlp::new(&widths, &device).with_dropout(0.1, 0.4);
    let config = recipe("teacher", 8, 3e-3);
    let labels = Objective::new().with(HardLabel::new(), 1);
    let teacher = train_supervised(device.clone(), teacher, &labels, &config, train, None)?.model;

    let distil = |label: &str, student: Student| -> Result<Student, burn_distill::Error> {
        let distiller =
            Distiller::on(device.clone(), teacher.clone(), student).with(SoftTarget::new(8), 1);
        // The teacher runs once on each digit, and not in every epoch.
        let config = recipe(label, 100, 2e-2).with_teacher_cache(TeacherCache::memory(64 << 20));
        Ok(distiller.fit(&config, few.clone(), None)?.student)
    };
    let measured = |student: &Student| measure(student, Some(&teacher), &test, 500, &device);

    let directory = output.or("target/deploy")?;
    let mut table = Vec::new();
    // One start for all: what differs is the rounding.
    let untrained = Student::new(&device);
    let float = distil("32 bits", untrained.clone())?;
    let path = directory.join("student-32.bpk");
    float.clone().into_record().save(path)?;
    table.push(("teacher", "", measure(&teacher, None, &test, 500, &device)?));
    table.push(("student, 32 bits", "", measured(&float)?));

    for form in Form::all(common.backend) {
        let scheme = form.scheme(&device);
        let after = forms::quantised(float.clone(), scheme);
        table.push((form.name, "after training", measured(&after)?));
        after
            .into_record()
            .save(directory.join(form.file("after")))?;

        let rounded = untrained
            .clone()
            .apply_reparameterization(RoundWeights(scheme));
        let rounded = distil(form.name, rounded)?;
        // Takes the weights as the forward pass saw them. They are on the scheme's grid already,
        // so that quantising moves none of them.
        let within = forms::quantised(rounded.materialize(), scheme);
        table.push(("", "in training", measured(&within)?));
        within
            .into_record()
            .save(directory.join(form.file("within")))?;
    }
    print(&table);

    let path = directory.join(Form::all(common.backend)[0].file("within"));
    let student = Student::from_bytes(&std::fs::read(&path)?, &device)?.unpacked();
    let report = measured(&student)?;
    println!(
        "\n{} read back and unpacked once: accuracy {:.2} %, one sample in {:.3} ms.",
        path.display(),
        report.accuracy.unwrap_or_default() * 100.0,
        report.latency_ms.unwrap_or_default(),
    );
    Ok(())
}

fn print(table: &[(&str, &str, ModelReport)]) {
    let percent = |part: Option<f64>| part.map_or("-".into(), |x| format!("{:.2} %", x * 100.0));
    println!(
        "\n{:<26}{:<15}{:>10}{:>10}{:>9}{:>9}{:>11}",
        "", "quantised", "accuracy", "agrees", "KL", "kB", "one sample"
    );
    for (name, when, report) in table {
        let kl = report
            .kl_teacher_student
            .map_or("-".into(), |kl| format!("{kl:.4}"));
        println!(
            "{name:<26}{when:<15}{:>10}{:>10}{kl:>9}{:>9.1}{:>8.3} ms",
            percent(report.accuracy),
            percent(report.agreement),
            report.bytes.unwrap_or_default() as f64 / 1000.0,
            report.latency_ms.unwrap_or_default(),
        );
    }
}
