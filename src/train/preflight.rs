//! One batch through both models and every term, before the first epoch.

use std::fmt;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

use crate::data::dataset::DistillData;
use crate::data::outputs::{Distillable, Feature, Outputs};
use crate::error::{Error, Result};
use crate::loss::LossContext;
use crate::loss::modules::Parts;
use crate::objective::Objective;
use crate::teacher::frozen::Frozen;
use crate::train::step::Stats;

/// What a distillation will do, found out by running one batch of the data through both models.
///
/// Prints as a table: every term with what it compares, parameter counts, and the memory that
/// training needs at least.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Preflight {
    /// One line per pair that a term compares.
    pub lines: Vec<PreflightLine>,
    /// Scalars in the teacher, 0 where no term needs it.
    pub teacher_parameters: usize,
    /// Scalars in the student.
    pub student_parameters: usize,
    /// Scalars in what is trained along, such as projectors.
    pub parts_parameters: usize,
    /// Bytes of all parameters, of the gradients and two optimizer moments of what is trained, and
    /// of both sides' outputs for one batch. What the models keep inside for the backward pass comes
    /// on top.
    pub memory: usize,
    /// Training samples.
    pub train_samples: usize,
    /// Validation samples.
    pub valid_samples: usize,
}

/// A pair that a term compares.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreflightLine {
    /// The term.
    pub term: String,
    /// Its weight.
    pub weight: String,
    /// What it looks at of the student, with its shape.
    pub student: String,
    /// What it looks at of the teacher, with its shape.
    pub teacher: Option<String>,
    /// What is trained along, such as a projector.
    pub parts: Option<String>,
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = || "-".to_string();
        let rows: Vec<[String; 5]> = self
            .lines
            .iter()
            .map(|line| {
                [
                    line.term.clone(),
                    line.weight.clone(),
                    line.student.clone(),
                    line.teacher.clone().unwrap_or_else(none),
                    line.parts.clone().unwrap_or_else(none),
                ]
            })
            .collect();
        let head = ["term", "weight", "student", "teacher", "trained along"].map(String::from);
        let width = |i: usize| {
            let all = rows.iter().chain(std::iter::once(&head));
            all.map(|row| row[i].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        for row in std::iter::once(&head).chain(&rows) {
            let cells = row.iter().zip(widths).map(|(cell, w)| format!("{cell:w$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        write!(
            f,
            "parameters: teacher {}, student {}, trained along {}; at least {} of memory; {} training and {} validation samples",
            indicatif::HumanCount(self.teacher_parameters as u64),
            indicatif::HumanCount(self.student_parameters as u64),
            indicatif::HumanCount(self.parts_parameters as u64),
            indicatif::DecimalBytes(self.memory as u64),
            indicatif::HumanCount(self.train_samples as u64),
            indicatif::HumanCount(self.valid_samples as u64),
        )
    }
}

/// What the check leaves for the training.
pub(crate) struct Ready {
    pub preflight: Preflight,
    pub parts: Vec<Option<Parts>>,
    pub stats: Stats,
}

/// Both models, in inference mode on one device, and what is asked of them.
pub(crate) struct Check<'a, T, S> {
    pub teacher: &'a Frozen<T>,
    pub student: &'a Frozen<S>,
    pub objective: &'a Objective,
    pub device: &'a Device,
    pub batch_size: usize,
}

impl<T: Module, S: Module> Check<'_, T, S> {
    pub fn run<I>(&self, train: &DistillData<I>, valid: Option<&DistillData<I>>) -> Result<Ready>
    where
        I: Module + 'static,
        T: Distillable<I>,
        S: Distillable<I>,
    {
        let first = self.one_batch("training", train, |context, student, teacher| {
            let parts = self.objective.parts(context, self.device);
            Ok(Ready {
                preflight: self.describe(student, teacher, &parts),
                stats: Stats::new(self.objective, context),
                parts,
            })
        })?;
        let mut ready = first;
        ready.preflight.train_samples = train.len();
        if let Some(valid) = valid {
            let stats = self.one_batch("validation", valid, |context, _, _| {
                Ok(Stats::new(self.objective, context))
            })?;
            ready.preflight.valid_samples = valid.len();
            // A number is reported for both sets or for none.
            if stats.names.len() < ready.stats.names.len() {
                ready.stats = stats;
            }
        }
        Ok(ready)
    }

    fn one_batch<I, R>(
        &self,
        what: &'static str,
        data: &DistillData<I>,
        then: impl FnOnce(&LossContext<'_>, &Outputs, Option<&Outputs>) -> Result<R>,
    ) -> Result<R>
    where
        I: Module + 'static,
        T: Distillable<I>,
        S: Distillable<I>,
    {
        if data.is_empty() {
            return Err(Error::EmptyDataset { what });
        }
        let indices: Vec<usize> = (0..self.batch_size.min(data.len())).collect();
        let batch = data.batch(indices, self.device);
        let batch = batch.map_err(|error| Error::Dataset {
            what,
            message: error.to_string(),
        })?;
        if let Some(mask) = &batch.mask
            && !mask.clone().any().into_scalar::<bool>()
        {
            return Err(Error::EmptyMask { what });
        }
        let needs_teacher = self.objective.needs_teacher();
        let teacher = needs_teacher
            .then(|| self.teacher.teach(&batch))
            .transpose()?;
        let student = self.student.outputs(&batch.input);
        if let Some(teacher) = &teacher {
            check_finite("teacher", teacher)?;
        }
        check_finite("student", &student)?;
        let context = LossContext {
            student: &student,
            teacher: teacher.as_ref(),
            targets: &batch.targets,
            mask: batch.mask.as_ref(),
            progress: 0.0,
            parts: None,
            indices: &batch.indices,
            samples: data.len(),
        };
        self.objective.check(&context)?;
        then(&context, &student, teacher.as_ref())
    }

    fn describe(
        &self,
        student: &Outputs,
        teacher: Option<&Outputs>,
        parts: &[Option<Parts>],
    ) -> Preflight {
        let mut lines = Vec::new();
        for (term, parts) in self.objective.terms().iter().zip(parts) {
            let line = |student, teacher| PreflightLine {
                term: term.name().to_string(),
                weight: term.weight().to_string(),
                student,
                teacher,
                parts: parts.as_ref().map(Parts::describe),
            };
            let pairs = term.loss().feature_pairs();
            if pairs.is_empty() {
                let shape = |outputs: &Outputs| format!("logits {:?}", outputs.logits.dims());
                let teacher = teacher.filter(|_| term.loss().needs_teacher());
                lines.push(line(shape(student), teacher.map(shape)));
            }
            for (ours, theirs) in pairs {
                let shape = |name: &str, outputs: &Outputs| {
                    let shape = outputs.feature(name).map(Feature::shape);
                    format!("{name} {:?}", shape.unwrap_or_default())
                };
                let teacher = teacher.map(|outputs| shape(&theirs, outputs));
                lines.push(line(shape(&ours, student), teacher));
            }
        }

        let outputs = [Some(student), teacher].into_iter().flatten();
        let mut memory: usize = outputs.map(output_bytes).sum();
        // A gradient and two moments for what an optimizer moves; nothing for buffers.
        for size in [
            sizes(&self.student.inner().clone().train()),
            sizes(&parts.to_vec().train()),
        ] {
            memory += 4 * size.trained + size.fixed;
        }
        if teacher.is_some() {
            memory += sizes(self.teacher.inner()).fixed;
        }
        Preflight {
            lines,
            teacher_parameters: teacher.map_or(0, |_| Module::num_params(self.teacher.inner())),
            student_parameters: Module::num_params(self.student.inner()),
            parts_parameters: Module::num_params(&parts.to_vec()),
            memory,
            train_samples: 0,
            valid_samples: 0,
        }
    }
}

fn check_finite(side: &str, outputs: &Outputs) -> Result<()> {
    let finite = |what: String, all: Tensor<1, Bool>| match all.into_scalar::<bool>() {
        true => Ok(()),
        false => Err(Error::NonFinite {
            what,
            value: "NaN or infinite".into(),
        }),
    };
    // A class that is ruled out may stand at minus infinity.
    let logits = &outputs.logits;
    let ruled_out = logits.clone().equal_elem(f32::NEG_INFINITY);
    finite(
        format!("the {side}'s logits"),
        logits.clone().is_finite().bool_or(ruled_out).all(),
    )?;
    outputs.features().try_for_each(|(name, feature)| {
        let all = match feature {
            Feature::Rank2(t) => t.clone().is_finite().all(),
            Feature::Rank3(t) => t.clone().is_finite().all(),
            Feature::Rank4(t) => t.clone().is_finite().all(),
        };
        finite(format!("the {side}'s feature {name:?}"), all)
    })
}

fn output_bytes(outputs: &Outputs) -> usize {
    let scalars = outputs
        .features()
        .map(|(_, f)| f.shape().iter().product::<usize>());
    let logits = outputs.logits.shape().num_elements();
    (logits + scalars.sum::<usize>()) * outputs.logits.dtype().size()
}

/// Bytes of a module's parameters.
#[derive(Default)]
struct Sizes {
    /// Of those that take part in training.
    trained: usize,
    fixed: usize,
}

impl ModuleVisitor for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let bytes = tensor.shape().num_elements() * tensor.dtype().size();
        match tensor.is_require_grad() {
            true => self.trained += bytes,
            false => self.fixed += bytes,
        }
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let tensor = param.val();
        self.fixed += tensor.shape().num_elements() * tensor.dtype().size();
    }
}

fn sizes<M: Module>(module: &M) -> Sizes {
    let mut sizes = Sizes::default();
    module.visit(&mut sizes);
    sizes
}
