//! The objective: a weighted sum of losses, from code or from a config file.

pub(crate) mod classes;
pub(crate) mod config;
pub(crate) mod requirements;
pub(crate) mod value;

use std::collections::HashMap;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Device;

use crate::data::precision::InSingle;
use crate::error::{Error, Result};
use crate::loss::context::LossContext;
use crate::loss::modules::LossModules;
use crate::loss::term::{IntoTerm, Term};
use crate::objective::classes::{Aligned, ClassPolicy};
use crate::schedule::Schedule;

/// What training minimises: the weighted sum of its terms, Σ wᵢ · lossᵢ.
///
/// Weights are used as they are, not normalised. A term has the name of its loss; where two terms would
/// have the same, the later one is numbered. Nothing is checked while it is put together:
/// [`validate`](Self::validate) checks all parameters at once, and a [`Distiller`](crate::Distiller)
/// does so before anything runs.
///
/// It comes from code, or from a [config file](Self::from_file), and runs inside
/// [`Distiller::fit`](crate::Distiller::fit) or in a [loop of your own](Self::forward).
///
/// # Example
///
/// ```
/// use burn_distill::loss::{HardLabel, SoftTarget};
/// use burn_distill::Objective;
///
/// let objective = Objective::new()
///     .with(SoftTarget::new(4.0), 0.9)
///     .with(HardLabel::new(), 0.1);
/// assert_eq!(objective.to_string(), "0.9 · soft_target + 0.1 · hard_label");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Objective {
    terms: Vec<Term>,
    /// Each name, and the number that the next term of the same name would have.
    names: HashMap<String, usize>,
    classes: ClassPolicy,
}

impl Objective {
    /// An objective without terms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a loss with a weight, a number or a [`Schedule`].
    #[must_use]
    pub fn with(self, loss: impl IntoTerm, weight: impl Into<Schedule>) -> Self {
        self.with_term(loss.into_term().weighted(weight))
    }

    /// Adds a term that has its weight already.
    pub(crate) fn with_term(mut self, term: Term) -> Self {
        let name = term.name();
        let unique = match self.names.get(&name).copied() {
            None => name,
            Some(next) => {
                let (number, unique) = (next..)
                    .map(|number| (number, format!("{name}_{number}")))
                    .find(|(_, numbered)| !self.names.contains_key(numbered))
                    .expect("one of endlessly many names is free");
                self.names.insert(name, number + 1);
                unique
            }
        };
        self.names.insert(unique.clone(), 2);
        let term = match term.name() == unique {
            true => term,
            false => term.named(unique),
        };
        self.terms.push(term);
        self
    }

    /// Sets what happens where teacher and student have different numbers of classes.
    #[must_use]
    pub fn with_class_policy(mut self, policy: ClassPolicy) -> Self {
        self.classes = policy;
        self
    }

    /// What happens where teacher and student have different numbers of classes.
    pub fn class_policy(&self) -> ClassPolicy {
        self.classes
    }

    /// The terms, in order.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether any term looks at the teacher.
    pub fn needs_teacher(&self) -> bool {
        self.terms.iter().any(|term| term.loss().needs().teacher)
    }

    /// Checks the parameters of every loss, and every weight.
    ///
    /// # Errors
    ///
    /// [`Error::NoTerms`] if there is no term, [`Error::InvalidParameter`] for the first value out of
    /// range.
    pub fn validate(&self) -> Result<()> {
        if self.terms.is_empty() {
            return Err(Error::NoTerms);
        }
        self.terms.iter().try_for_each(Term::validate)
    }

    /// Checks the parameters, and the outputs for one batch against what the terms need.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit, naming both sides.
    pub fn check(&self, context: &LossContext<'_>) -> Result<()> {
        self.validate()?;
        let aligned = self.align(context);
        self.check_shapes(context, &aligned)?;
        requirements::check_labels(context)?;
        self.terms.iter().try_for_each(|term| {
            requirements::check_standardized(term, &aligned.narrowed(term, context))
        })
    }

    /// The part of the check that reads no number back, and so can be made of every batch.
    pub(crate) fn check_shapes(&self, context: &LossContext<'_>, aligned: &Aligned) -> Result<()> {
        requirements::check_rows(context)?;
        for term in &self.terms {
            requirements::check_needs(term, context, self.classes)?;
        }
        self.terms
            .iter()
            .try_for_each(|term| term.loss().check(&aligned.narrowed(term, context)))
    }

    pub(crate) fn align(&self, context: &LossContext<'_>) -> Aligned {
        self.classes.align(context.student, context.teacher)
    }

    /// The modules that the terms train, for outputs that have been [checked](Self::check).
    pub fn modules(&self, context: &LossContext<'_>, device: &Device) -> ObjectiveModules {
        let aligned = self.align(context);
        let modules = self.terms.iter().filter_map(|term| {
            let made = aligned.seen_by(term, context, |seen| term.loss().modules(seen, device));
            // As the outputs are that they see.
            made.map(|made| (term.name(), made.map(&mut InSingle)))
        });
        ObjectiveModules {
            modules: modules.collect(),
        }
    }
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(" + ")?;
            }
            let weight = term.weight();
            match weight.constant() {
                Some(weight) => write!(f, "{weight} · {}", term.name())?,
                None => write!(f, "({weight}) · {}", term.name())?,
            }
        }
        Ok(())
    }
}

/// What the terms of an objective train, by the name of the term: a module to hand to an optimizer
/// beside the student.
#[derive(Debug, Clone, Default)]
pub struct ObjectiveModules {
    modules: Vec<(String, LossModules)>,
}

impl ObjectiveModules {
    /// What the term of this name trains.
    pub fn of(&self, term: &str) -> Option<&LossModules> {
        let found = self.modules.iter().find(|(name, _)| name == term);
        found.map(|(_, modules)| modules)
    }

    fn each(self, change: impl Fn(LossModules) -> LossModules) -> Self {
        let modules = self.modules.into_iter();
        Self {
            modules: modules.map(|(name, m)| (name, change(m))).collect(),
        }
    }
}

/// Paths begin with the name of the term, so that their order does not matter.
impl Module for ObjectiveModules {
    fn collect_devices(&self, devices: burn::module::Devices) -> burn::module::Devices {
        let modules = self.modules.iter();
        modules.fold(devices, |devices, (_, m)| m.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|modules| modules.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|modules| modules.to_device(device))
    }

    fn train(self) -> Self {
        self.each(Module::train)
    }

    fn valid(&self) -> Self {
        self.clone().each(|modules| modules.valid())
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }

    fn visit<V: burn::module::ModuleVisitor>(&self, visitor: &mut V) {
        for (name, modules) in &self.modules {
            visitor.enter_module(name, "Struct:LossModules");
            modules.visit(visitor);
            visitor.exit_module(name, "Struct:LossModules");
        }
    }

    fn map<M: burn::module::ModuleMapper>(self, mapper: &mut M) -> Self {
        let modules = self.modules.into_iter().map(|(name, modules)| {
            mapper.enter_module(&name, "Struct:LossModules");
            let modules = modules.map(mapper);
            mapper.exit_module(&name, "Struct:LossModules");
            (name, modules)
        });
        Self {
            modules: modules.collect(),
        }
    }
}

impl burn::module::ModuleDisplayDefault for ObjectiveModules {
    fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
        let modules = self.modules.iter();
        let content = modules.fold(content, |content, (name, m)| content.add(name, m));
        content.optional()
    }
}

impl ModuleDisplay for ObjectiveModules {}

#[cfg(test)]
#[path = "tests/objective.rs"]
mod tests;
