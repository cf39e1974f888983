//! What a loss is, and what it says it needs.

use std::any::Any;

use burn::tensor::{Device, Tensor};

use crate::data::head::HeadKind;
use crate::data::targets::TargetKind;
use crate::error::Result;
use crate::loss::context::LossContext;
use crate::loss::modules::LossModules;
use crate::ops::closed_form::ClosedForm;
use crate::schedule::Schedule;

/// What a student is asked to match: one term of an [`Objective`](crate::Objective).
///
/// Implement it for a loss of your own, or wrap a closure with [`loss_fn`](crate::loss::loss_fn). Only
/// `name` and `forward` must be written. [`needs`](Self::needs) says beforehand what the loss needs, so
/// that what is missing is an error before training, and what is unused is not computed.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_distill::loss::{Loss, LossContext};
/// use burn_distill::Outputs;
///
/// /// The squared error between raw logits, summed over classes.
/// #[derive(Debug)]
/// struct SquaredError;
///
/// impl Loss for SquaredError {
///     fn name(&self) -> String {
///         "squared_error".into()
///     }
///
///     fn forward(&self, context: &LossContext<'_>) -> Tensor<1> {
///         let error = context.logits() - context.teacher_logits();
///         context.mean((error.clone() * error).sum_dim(1).squeeze_dim(1))
///     }
/// }
///
/// let device = Device::flex();
/// let student = Outputs::new(Tensor::<2>::from_floats([[1.0, 2.0]], &device));
/// let teacher = Outputs::new(Tensor::<2>::from_floats([[4.0, 6.0]], &device));
/// let value = SquaredError.forward(&LossContext::new(&student, &teacher));
/// assert_eq!(value.into_scalar::<f32>(), 25.0);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a loss",
    label = "expected a loss, such as `SoftTarget::new(4.0)`",
    note = "a closure becomes a loss by `loss_fn(name, closure)`, a type of your own by `impl Loss for {Self}`"
)]
pub trait Loss: Any + std::fmt::Debug + Send + Sync {
    /// The name of the term in progress, reports and errors.
    fn name(&self) -> String;

    /// What the loss needs. By default a teacher and nothing else.
    fn needs(&self) -> Needs {
        Needs::teacher()
    }

    /// Checks the parameters of the loss. Called when an objective is checked.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for the first value out of range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Checks the outputs for a batch, for what only the loss can know; that all it
    /// [needs](Self::needs) is there has been checked already. Called before training starts and then for
    /// every batch: shapes cost nothing, numbers that are read back make the training wait.
    ///
    /// # Errors
    ///
    /// What does not fit, naming both sides.
    fn check(&self, context: &LossContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// The modules that the loss trains between these outputs, if there are any. Called once, after
    /// [`check`](Self::check) and before training.
    fn modules(&self, context: &LossContext<'_>, device: &Device) -> Option<LossModules> {
        let _ = (context, device);
        None
    }

    /// The temperature at which the loss compares, where it has one: what a report draws.
    fn temperature(&self) -> Option<&Schedule> {
        None
    }

    /// The closed form of the loss at a progress from 0 to 1, where it has one. Losses on one projected
    /// head that have one share a single pass over its rows.
    #[doc(hidden)]
    fn closed_form(&self, progress: f64) -> Option<ClosedForm> {
        let _ = progress;
        None
    }

    /// The value, of shape `[1]`, with gradients towards the student's outputs.
    fn forward(&self, context: &LossContext<'_>) -> Tensor<1>;
}

/// What a loss needs, as data: an objective checks it once for all losses, and a
/// [preflight](crate::Preflight) prints it.
///
/// # Example
///
/// ```
/// use burn_distill::HeadKind;
/// use burn_distill::loss::{Loss, Needs, SoftTarget};
///
/// assert_eq!(
///     SoftTarget::new(4.0).needs(),
///     Needs::teacher().with_head(HeadKind::Categorical)
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Whether the loss looks at the teacher. An objective in which no term does never runs it.
    pub teacher: bool,
    /// The kinds of head that fit; empty where the loss looks at no head.
    pub heads: Vec<HeadKind>,
    /// The kind of target.
    pub target: Option<TargetKind>,
    /// Pairs of features, the student's name first.
    pub features: Vec<(String, String)>,
    /// Whether the loss needs the index of each sample.
    pub indices: bool,
}

impl Needs {
    /// Nothing: the loss looks at the student's outputs alone.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// A teacher.
    pub fn teacher() -> Self {
        Self {
            teacher: true,
            ..Self::default()
        }
    }

    /// Adds a kind of head that fits; with several, any of them does.
    #[must_use]
    pub fn with_head(mut self, kind: HeadKind) -> Self {
        self.heads.push(kind);
        self
    }

    /// Sets the kind of target.
    #[must_use]
    pub fn with_target(mut self, kind: TargetKind) -> Self {
        self.target = Some(kind);
        self
    }

    /// Adds a pair of features, the student's name first.
    #[must_use]
    pub fn with_features(mut self, student: impl Into<String>, teacher: impl Into<String>) -> Self {
        self.features.push((student.into(), teacher.into()));
        self
    }

    /// Adds the index of each sample.
    #[must_use]
    pub fn with_indices(mut self) -> Self {
        self.indices = true;
        self
    }
}
