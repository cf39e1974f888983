//! A term of an objective: a loss with its weight, its name, and the head it looks at.

use std::sync::Arc;

use crate::error::{Error, Result, check_positive};
use crate::loss::context::LossContext;
use crate::loss::loss::Loss;
use crate::schedule::Schedule;

/// Keeps the z-score of a row of equal logits finite.
const STANDARDIZE_EPS: f64 = 1e-7;

/// A loss, its weight and its name in the sum; which head it looks at, and whether it sees logits or
/// their z-scores.
///
/// Any loss becomes one where an objective takes it. The methods of this type are there on every loss
/// of this crate as well: `SoftTarget::new(4.0).on("class")`.
///
/// # Example
///
/// ```
/// use burn_distill::Objective;
/// use burn_distill::loss::SoftTarget;
///
/// let objective = Objective::new()
///     .with(SoftTarget::new(4.0).on("class"), 1.0)
///     .with(SoftTarget::new(1.0).on("edge").named("box"), 0.5);
/// assert_eq!(objective.to_string(), "1 · soft_target_class + 0.5 · box");
/// ```
#[derive(Debug, Clone)]
pub struct Term {
    loss: Arc<dyn Loss>,
    weight: Schedule,
    /// Given by hand, or by the objective where two terms would have the same.
    name: Option<String>,
    head: Option<String>,
    standardize: Option<f64>,
}

impl Term {
    /// A term of weight 1 on the first head.
    pub fn new(loss: impl Loss) -> Self {
        Self::shared(Arc::new(loss))
    }

    pub(crate) fn shared(loss: Arc<dyn Loss>) -> Self {
        Self {
            loss,
            weight: Schedule::from(1.0),
            name: None,
            head: None,
            standardize: None,
        }
    }

    /// Looks at the head of this name instead of the first.
    #[must_use]
    pub fn on(mut self, head: impl Into<String>) -> Self {
        self.head = Some(head.into());
        self
    }

    /// Sets the name in progress, reports and errors.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets the loss see z-scores of both sides' logits, by [`standardize`](crate::loss::standardize).
    #[must_use]
    pub fn standardized(mut self) -> Self {
        self.standardize = Some(STANDARDIZE_EPS);
        self
    }

    /// Sets the ε of the [z-scores](Self::standardized).
    #[must_use]
    pub(crate) fn standardized_by(mut self, eps: f64) -> Self {
        self.standardize = Some(eps);
        self
    }

    /// Sets the weight, a number or a [`Schedule`].
    #[must_use]
    pub fn weighted(mut self, weight: impl Into<Schedule>) -> Self {
        self.weight = weight.into();
        self
    }

    /// The name, unique within an objective: the one given, or that of the loss and the head.
    pub fn name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let view = match self.standardize {
            Some(_) => "standardized_",
            None => "",
        };
        let head = self.head.as_ref().map(|head| format!("_{head}"));
        format!("{view}{}{}", self.loss.name(), head.unwrap_or_default())
    }

    /// The weight over training.
    pub fn weight(&self) -> &Schedule {
        &self.weight
    }

    /// The loss.
    pub fn loss(&self) -> &dyn Loss {
        self.loss.as_ref()
    }

    /// The head that the term names.
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// The ε of the z-scores that the loss sees instead of logits.
    pub(crate) fn standardize(&self) -> Option<f64> {
        self.standardize
    }

    pub(crate) fn given_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The context narrowed to the head of the term.
    pub(crate) fn narrow<'a>(&'a self, context: &LossContext<'a>) -> LossContext<'a> {
        match &self.head {
            Some(head) => context.clone().on(head),
            None => context.clone(),
        }
    }

    /// Checks the parameters of the loss, and the weight.
    pub(crate) fn validate(&self) -> Result<()> {
        self.loss.validate()?;
        let name = format!("the weight of {}", self.name());
        self.weight
            .check(&name, |w| w >= 0.0, "a number of at least 0")?;
        let Some(eps) = self.standardize else {
            return Ok(());
        };
        let needs = self.loss.needs();
        if !needs.teacher || needs.heads.is_empty() {
            return Err(Error::invalid(
                format!("{}.standardize", self.loss.name()),
                "on",
                "a loss between the logits of student and teacher",
            ));
        }
        check_positive("standardize", eps)
    }
}

/// What becomes a term of an objective: a [`Loss`], or a [`Term`] that names a head.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a loss",
    label = "expected a loss, such as `SoftTarget::new(4.0)`",
    note = "a closure becomes a loss by `loss_fn(name, closure)`, a type of your own by `impl Loss for {Self}`",
    note = "losses are taken by value, and their parameters are checked when the objective is: hand over neither a reference nor a `Result`"
)]
pub trait IntoTerm {
    /// The term.
    fn into_term(self) -> Term;
}

impl<L: Loss> IntoTerm for L {
    fn into_term(self) -> Term {
        Term::new(self)
    }
}

impl IntoTerm for Term {
    fn into_term(self) -> Term {
        self
    }
}

impl IntoTerm for Arc<dyn Loss> {
    fn into_term(self) -> Term {
        Term::shared(self)
    }
}
