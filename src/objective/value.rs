//! The value of an objective for one batch.

use burn::tensor::Tensor;

use crate::data::head::{Head, Logits};
use crate::data::precision::single;
use crate::loss::context::LossContext;
use crate::objective::classes::Aligned;
use crate::objective::{Objective, ObjectiveModules};
use crate::ops::closed_form::{ClosedForm, labelled};
use crate::ops::projected::{Projected, ProjectedTerm};

/// The value of an objective for one batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObjectiveValue {
    /// The weighted sum, `[1]`, with gradients towards the student.
    pub total: Tensor<1>,
    /// Each term without its weight, `[1]`, in order.
    pub terms: Vec<Tensor<1>>,
    /// What the terms that compare with the teacher saw.
    pub(crate) aligned: Aligned,
}

/// Terms with a closed form on one projected head: they share a pass over its rows.
struct Group<'a> {
    head: &'a str,
    /// Whether they see the outputs as they are compared, which may have another number of classes.
    is_compared: bool,
    terms: Vec<(usize, ClosedForm)>,
}

impl Objective {
    /// The value for the outputs of one batch, for a loop of your own. [Check](Self::check) the first
    /// batch, and train its [`modules`](Self::modules) with the student.
    ///
    /// # Panics
    ///
    /// Panics if the objective has no terms, or where outputs do not fit that a check would refuse.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_distill::loss::{LossContext, SoftTarget};
    /// use burn_distill::{Objective, Outputs};
    ///
    /// let device = Device::flex().autodiff();
    /// let logits = Tensor::<2>::from_floats([[0.0, 0.0]], &device).require_grad();
    /// let student = Outputs::new(logits.clone());
    /// let teacher = Outputs::new(Tensor::<2>::from_floats([[3f32.ln(), 0.0]], &device.inner()));
    ///
    /// let objective = Objective::new().with(SoftTarget::new(1.0), 2.0);
    /// let context = LossContext::new(&student, &teacher);
    /// objective.check(&context)?;
    /// let modules = objective.modules(&context, &Device::flex());
    /// let value = objective.forward(&context, &modules);
    /// let gradients = value.total.backward();
    /// let gradient = logits.grad(&gradients).unwrap().into_data();
    /// assert!((gradient.iter::<f32>().next().unwrap() + 0.5).abs() < 1e-6);
    /// # Ok::<(), burn_distill::Error>(())
    /// ```
    pub fn forward(&self, context: &LossContext<'_>, modules: &ObjectiveModules) -> ObjectiveValue {
        self.value_of(context, self.align(context), modules)
    }

    /// The value where it is known already what the terms see.
    pub(crate) fn value_of(
        &self,
        context: &LossContext<'_>,
        aligned: Aligned,
        modules: &ObjectiveModules,
    ) -> ObjectiveValue {
        let mut values: Vec<Option<Tensor<1>>> = vec![None; self.terms().len()];
        let mut total: Option<Tensor<1>> = None;
        let mut add = |value: Tensor<1>| {
            total = Some(match total.take() {
                Some(sum) => sum + value,
                None => value,
            });
        };
        for group in self.groups(context, &aligned) {
            let of_group = self.run_group(&group, context, &aligned);
            for ((index, _), value) in group.terms.iter().zip(of_group.values) {
                values[*index] = Some(value);
            }
            add(of_group.total);
        }
        for (term, value) in self.terms().iter().zip(&mut values) {
            if value.is_some() {
                continue;
            }
            let name = term.name();
            let found = aligned.seen_by(term, context, |seen| {
                term.loss().forward(&LossContext {
                    modules: modules.of(&name),
                    ..seen.clone()
                })
            });
            let found = single(found);
            add(found.clone() * term.weight().at(context.progress));
            *value = Some(found);
        }
        ObjectiveValue {
            total: total.expect("an objective that runs has terms"),
            terms: values.into_iter().flatten().collect(),
            aligned,
        }
    }

    fn groups<'a>(&'a self, context: &LossContext<'a>, aligned: &'a Aligned) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (index, term) in self.terms().iter().enumerate() {
            let seen = aligned.narrowed(term, context);
            let Some(Head::Categorical(Logits::Projected(_))) = seen.student_head() else {
                continue;
            };
            let form = term.loss().closed_form(context.progress);
            let Some(form) = form.filter(|_| term.standardize().is_none()) else {
                continue;
            };
            let is_compared = term.loss().needs().teacher && aligned.changed().is_some();
            let head = seen.head_name();
            let same =
                |group: &&mut Group<'_>| group.head == head && group.is_compared == is_compared;
            match groups.iter_mut().find(same) {
                Some(group) => group.terms.push((index, form)),
                None => groups.push(Group {
                    head,
                    is_compared,
                    terms: vec![(index, form)],
                }),
            }
        }
        groups
    }

    fn run_group(
        &self,
        group: &Group<'_>,
        context: &LossContext<'_>,
        aligned: &Aligned,
    ) -> crate::ops::projected::ProjectedValue {
        let seen = match group.is_compared {
            true => aligned.context(context),
            false => aligned.own(context),
        };
        let seen = seen.on(group.head);
        let Some(Head::Categorical(Logits::Projected(layer))) = seen.student_head() else {
            unreachable!("the terms of a group look at a projected head");
        };
        let mut forms = group.terms.iter().map(|(_, form)| form);
        let has_teacher = forms.any(|form| form.formula.has_teacher());
        let teacher = seen.teacher_head().filter(|_| has_teacher);
        let terms: Vec<_> = (group.terms.iter())
            .map(|(index, form)| {
                let weights = seen.row_weights().cloned();
                let (labels, weights) = labelled(form.formula, seen.labels().cloned(), weights);
                ProjectedTerm {
                    form: *form,
                    labels,
                    weights,
                    factor: self.terms()[*index].weight().at(context.progress),
                }
            })
            .collect();
        Projected::new(layer, teacher.and_then(Head::logits)).run(&terms)
    }
}

#[cfg(test)]
#[path = "tests/value.rs"]
mod tests;
