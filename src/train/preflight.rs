//! One batch through both models and every term, before the first epoch.

use std::fmt;
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor};

use crate::attempt::attempt;
use crate::data::batch::DistillBatch;
use crate::data::dataset::DistillData;
use crate::data::distillable::Distillable;
use crate::data::feature::Feature;
use crate::data::head::{Head, Logits};
use crate::data::outputs::Outputs;
use crate::error::{Error, Result, Side};
use crate::loss::context::LossContext;
use crate::loss::modules::LossModules;
use crate::objective::{Objective, ObjectiveModules};
use crate::teacher::Teacher;
use crate::teacher::frozen::Frozen;
use crate::teacher::full_batch::ask;
use crate::train::feed::{Classes, TRAINING, VALIDATION};
use crate::train::finite::{check_input, check_outputs};
use crate::train::metrics::StepMetrics;
use crate::train::widths::Widths;
use crate::train::window::Window;

/// What a distillation will do, found out by running one batch of the data through both models.
///
/// Prints as a table: every term with what it compares, parameter counts, and the memory that
/// training needs at least.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Preflight {
    /// One line per pair that a term compares.
    pub lines: Vec<PreflightLine>,
    /// Scalars in the teacher, 0 where no term needs it or it is not a model.
    pub teacher_parameters: usize,
    /// Scalars in the student.
    pub student_parameters: usize,
    /// Scalars in what losses train, such as projectors.
    pub auxiliary_parameters: usize,
    /// Bytes of all parameters, of the gradients and two optimizer moments of what is trained, of the copy
    /// of the student that is kept at the end of an epoch, and of both sides' outputs for one batch. What the models keep inside for the backward pass comes
    /// on top.
    pub memory: usize,
    /// Training samples.
    pub train_samples: usize,
    /// Validation samples.
    pub valid_samples: usize,
    /// What deserves a look before training.
    pub notes: Vec<String>,
}

/// A pair that a term compares.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreflightLine {
    /// The term.
    pub term: String,
    /// Its weight.
    pub weight: String,
    /// The student's head or feature, with its shape.
    pub student: String,
    /// The teacher's head or feature, with its shape.
    pub teacher: Option<String>,
    /// What the loss trains, such as a projector.
    pub modules: Option<String>,
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
                    line.modules.clone().unwrap_or_else(none),
                ]
            })
            .collect();
        let head = ["term", "weight", "student", "teacher", "trainable"].map(String::from);
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
            "parameters: teacher {}, student {}, auxiliary {}; at least {} of memory; {} training and {} validation samples",
            indicatif::HumanCount(self.teacher_parameters as u64),
            indicatif::HumanCount(self.student_parameters as u64),
            indicatif::HumanCount(self.auxiliary_parameters as u64),
            indicatif::DecimalBytes(self.memory as u64),
            indicatif::HumanCount(self.train_samples as u64),
            indicatif::HumanCount(self.valid_samples as u64),
        )?;
        self.notes
            .iter()
            .try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

/// What the check leaves for the training.
pub(crate) struct Prepared {
    pub preflight: Preflight,
    pub modules: ObjectiveModules,
    pub metrics: StepMetrics,
    pub widths: Widths,
    pub window: Window,
    pub classes: Classes,
}

/// Both models, in inference mode on one device, and the objective.
pub(crate) struct PreflightCheck<'a, J, S> {
    /// `None` where no term needs a teacher.
    pub teacher: Option<&'a Arc<dyn Teacher<J>>>,
    pub student: &'a Frozen<S>,
    pub objective: &'a Objective,
    pub device: &'a Device,
    pub batch_size: usize,
    /// Whether the teacher's outputs are cached, which takes inputs that are always the same.
    pub is_cached: bool,
}

impl<J: Module + 'static, S: Module> PreflightCheck<'_, J, S> {
    pub fn run<I>(
        &self,
        train: &DistillData<I, J>,
        valid: Option<&DistillData<I, J>>,
        rewrite: impl Fn(DistillBatch<I, J>) -> DistillBatch<I, J>,
    ) -> Result<Prepared>
    where
        I: Module + 'static,
        S: Distillable<I>,
    {
        self.objective.validate()?;
        let mut prepared =
            self.one_batch(TRAINING, train, &rewrite, |context, student, teacher| {
                let modules = self.objective.modules(context, self.device);
                Prepared {
                    preflight: self.describe(student, teacher, &modules),
                    metrics: StepMetrics::new(self.objective, context),
                    widths: Widths::of(self.objective, &modules, context),
                    window: Window::of(context),
                    classes: Classes::of(student),
                    modules,
                }
            })?;
        prepared.preflight.train_samples = train.len();
        if let Some(valid) = valid {
            let metrics = self.one_batch(VALIDATION, valid, &rewrite, |context, _, _| {
                StepMetrics::new(self.objective, context)
            })?;
            prepared.preflight.valid_samples = valid.len();
            // A number is reported for both sets or for none.
            if metrics.names.len() < prepared.metrics.names.len() {
                prepared.metrics = metrics;
            }
        }
        Ok(prepared)
    }

    /// Runs one batch, whose panic is an error: a student that was trained before may be in the hands of the
    /// caller.
    fn one_batch<I, R>(
        &self,
        what: &'static str,
        data: &DistillData<I, J>,
        rewrite: &impl Fn(DistillBatch<I, J>) -> DistillBatch<I, J>,
        then: impl FnOnce(&LossContext<'_>, &Outputs, Option<&Outputs>) -> R,
    ) -> Result<R>
    where
        I: Module + 'static,
        S: Distillable<I>,
    {
        if data.is_empty() {
            return Err(Error::EmptyDataset { what });
        }
        let samples: Vec<usize> = (0..self.batch_size.min(data.len())).collect();
        attempt(what, &samples, || {
            let batch = self.read(what, data)?;
            self.on_batch(what, data, rewrite(batch), then)
        })
    }

    fn on_batch<I, R>(
        &self,
        what: &'static str,
        data: &DistillData<I, J>,
        batch: DistillBatch<I, J>,
        then: impl FnOnce(&LossContext<'_>, &Outputs, Option<&Outputs>) -> R,
    ) -> Result<R>
    where
        I: Module + 'static,
        S: Distillable<I>,
    {
        if is_masked_whole(&batch) {
            self.check_any_is_valid(what, data)?;
        }
        let teacher = self.ask(data, &batch)?;
        if self.is_cached && !data.is_recorded() {
            self.check_repeats(what, data, teacher.as_ref())?;
        }
        let student = self.student.outputs(&batch.input);
        let checked = teacher
            .iter()
            .try_for_each(|teacher| check_outputs(what, Side::Teacher, teacher, &batch));
        let checked = checked.and_then(|()| check_outputs(what, Side::Student, &student, &batch));
        if checked.is_err() {
            check_input(what, &batch)?;
        }
        checked?;
        Classes::of(&student).check(&batch, what)?;
        let targets = batch.targets.clone().without_autodiff();
        let context = LossContext {
            teacher: teacher.as_ref(),
            ..LossContext::without_teacher(&student)
        };
        let context = context
            .with_targets(&targets)
            .with_indices(&batch.indices, data.len());
        let checked = self.objective.check(&context);
        match what {
            // What does not fit there is the models' and not the batch's.
            TRAINING => checked?,
            _ => checked.map_err(|error| error.in_batch(what, &batch.indices))?,
        }
        Ok(then(&context, &student, teacher.as_ref()))
    }

    /// The first batch.
    fn read<I>(&self, what: &'static str, data: &DistillData<I, J>) -> Result<DistillBatch<I, J>> {
        let indices: Vec<usize> = (0..self.batch_size.min(data.len())).collect();
        data.read(what, indices, self.device, true)
    }

    /// Fails unless some batch has a row of weight above 0.
    fn check_any_is_valid<I>(&self, what: &'static str, data: &DistillData<I, J>) -> Result<()> {
        let all: Vec<usize> = (0..data.len()).collect();
        for indices in all.chunks(self.batch_size).skip(1) {
            if !is_masked_whole(&data.read(what, indices.to_vec(), self.device, false)?) {
                return Ok(());
            }
        }
        Err(Error::EmptyMask { what })
    }

    fn ask<I>(
        &self,
        data: &DistillData<I, J>,
        batch: &DistillBatch<I, J>,
    ) -> Result<Option<Outputs>> {
        let outputs = self.teacher.map(|teacher| {
            let full = teacher.info().wants_full_batches;
            ask(
                teacher.as_ref(),
                data,
                batch,
                self.batch_size,
                self.device,
                full,
            )
        });
        outputs.transpose()
    }

    /// Fails if a second reading of the same samples gives the teacher another input.
    fn check_repeats<I>(
        &self,
        what: &'static str,
        data: &DistillData<I, J>,
        first: Option<&Outputs>,
    ) -> Result<()> {
        let Some(first) = first else {
            return Ok(());
        };
        let again = self.ask(data, &self.read(what, data)?)?;
        match again.is_some_and(|again| is_same(first, &again)) {
            true => Ok(()),
            false => Err(Error::invalid(
                "teacher_cache",
                format!("on for {what} data whose inputs are never the same twice"),
                "views with seeds (`DistillData::builder(..).with_views`), or no cache",
            )),
        }
    }

    fn describe(
        &self,
        student: &Outputs,
        teacher: Option<&Outputs>,
        modules: &ObjectiveModules,
    ) -> Preflight {
        let mut lines = Vec::new();
        for term in self.objective.terms() {
            let needs = term.loss().needs();
            let trained = modules.of(&term.name());
            let line = |student, teacher| PreflightLine {
                term: term.name(),
                weight: term.weight().to_string(),
                student,
                teacher,
                modules: trained.map(describe_modules),
            };
            let teacher = teacher.filter(|_| needs.teacher);
            if needs.features.is_empty() {
                let head = |outputs: &Outputs| {
                    let named = term.head().map(|name| (name, outputs.head(name)));
                    let first = || outputs.first_head().map(|(name, head)| (name, Some(head)));
                    match named.or_else(first) {
                        Some((name, Some(head))) => format!("{name} {:?}", head.shape()),
                        _ => "-".to_string(),
                    }
                };
                lines.push(line(head(student), teacher.map(head)));
            }
            for (ours, theirs) in &needs.features {
                let shape = |name: &str, outputs: &Outputs| {
                    let shape = outputs.feature(name).map(Feature::shape);
                    format!("{name} {:?}", shape.unwrap_or_default())
                };
                let teacher = teacher.map(|outputs| shape(theirs, outputs));
                lines.push(line(shape(ours, student), teacher));
            }
        }

        let outputs = [Some(student), teacher].into_iter().flatten();
        let mut memory: usize = outputs.map(output_bytes).sum();
        // A gradient and two moments for what an optimizer moves; nothing for buffers.
        let student = sizes(&self.student.inner().clone().train());
        for size in [&student, &sizes(&modules.clone().train())] {
            memory += 4 * size.trained + size.fixed;
        }
        // The copy that outlasts an error.
        memory += student.trained + student.fixed;
        let module = self.teacher.and_then(|teacher| teacher.info().module);
        if let Some(module) = &module {
            memory += sizes(module).fixed;
        }
        Preflight {
            lines,
            teacher_parameters: module.as_ref().map_or(0, Module::num_params),
            student_parameters: Module::num_params(self.student.inner()),
            auxiliary_parameters: Module::num_params(modules),
            memory,
            train_samples: 0,
            valid_samples: 0,
            notes: Vec::new(),
        }
    }
}

/// A module on one line: its type, and its parameters.
fn describe_modules(modules: &LossModules) -> String {
    let shown = burn::module::ModuleDisplay::format(modules, Default::default());
    let name = shown.split([' ', '{', '\n']).next().unwrap_or_default();
    format!("{name}, {} parameters", Module::num_params(modules))
}

/// Whether two outputs have the same numbers.
fn is_same(a: &Outputs, b: &Outputs) -> bool {
    let heads = a
        .heads()
        .zip(b.heads())
        .all(|((_, a), (_, b))| a.shape() == b.shape() && is_equal(a.tensor(), b.tensor()));
    let features = a.features().zip(b.features()).all(|((_, a), (_, b))| {
        a.shape() == b.shape()
            && match (a, b) {
                (Feature::Rank2(a), Feature::Rank2(b)) => is_equal(a.clone(), b.clone()),
                (Feature::Rank3(a), Feature::Rank3(b)) => is_equal(a.clone(), b.clone()),
                (Feature::Rank4(a), Feature::Rank4(b)) => is_equal(a.clone(), b.clone()),
                _ => false,
            }
    });
    heads && features
}

fn is_equal<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> bool {
    a.into_data() == b.into_data()
}

/// Whether no row of the first head has a weight above 0.
fn is_masked_whole<I, J>(batch: &DistillBatch<I, J>) -> bool {
    let weights = batch.targets.first_weights();
    weights.is_some_and(|weights| weights.values().clone().sum().into_scalar::<f32>() <= 0.0)
}

/// Bytes of the outputs for one batch; those of a projection that is never whole are its hidden states.
fn output_bytes(outputs: &Outputs) -> usize {
    let features = outputs.features().map(|(_, feature)| {
        let scalars: usize = feature.shape().iter().product();
        scalars * feature.dtype().size()
    });
    let heads = outputs.heads().map(|(_, head)| match head {
        Head::Categorical(Logits::Projected(layer)) => {
            let hidden = layer.hidden();
            hidden.shape().num_elements() * hidden.dtype().size()
        }
        Head::Categorical(Logits::TopK(top_k)) => 8 * top_k.log_probs.shape().num_elements(),
        Head::Categorical(Logits::Dense(x)) | Head::Binary(x) | Head::Continuous(x) => {
            x.shape().num_elements() * x.dtype().size()
        }
    });
    features.sum::<usize>() + heads.sum::<usize>()
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
