//! Widths of features, which a module between them was made for.

use crate::data::feature::Feature;
use crate::error::{Error, Result, Side};
use crate::loss::context::LossContext;
use crate::objective::{Objective, ObjectiveModules};

/// The widths that the terms met in the first batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Widths(Vec<Pair>);

/// A pair of features that a term compares.
#[derive(Debug, Clone)]
struct Pair {
    /// Their names, the student's first.
    names: [String; 2],
    widths: [Option<usize>; 2],
    /// Whether the term trains something, which was made for these widths.
    has_modules: bool,
}

impl Widths {
    pub fn of(
        objective: &Objective,
        modules: &ObjectiveModules,
        context: &LossContext<'_>,
    ) -> Self {
        let pairs = objective.terms().iter().flat_map(|term| {
            let has_modules = modules.of(&term.name()).is_some();
            let features = term.loss().needs().features.into_iter();
            features.map(move |(ours, theirs)| {
                let names = [ours, theirs];
                Pair {
                    widths: widths(&names, context),
                    names,
                    has_modules,
                }
            })
        });
        Self(pairs.collect())
    }

    /// Fails if a module meets another width than it was made for, or if features that could be compared
    /// as they are cannot be any more.
    pub fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let sides = [Side::Student, Side::Teacher];
        for pair in &self.0 {
            let found = widths(&pair.names, context);
            let is_kept = match pair.has_modules {
                true => found == pair.widths,
                false => pair.widths[0] != pair.widths[1] || found[0] == found[1],
            };
            let mut other = (0..2).filter(|side| found[*side] != pair.widths[*side]);
            if let (false, Some(side)) = (is_kept, other.next()) {
                let name = format!(
                    "the width of feature {:?} of the {}",
                    pair.names[side], sides[side]
                );
                let found = found[side].unwrap_or_default();
                return Err(Error::invalid(name, found, "that of the first batch"));
            }
        }
        Ok(())
    }
}

fn widths([ours, theirs]: &[String; 2], context: &LossContext<'_>) -> [Option<usize>; 2] {
    let theirs = context.teacher.and_then(|outputs| outputs.feature(theirs));
    [context.student.feature(ours), theirs].map(|feature| feature.map(Feature::width))
}
