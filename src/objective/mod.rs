//! The objective: a weighted sum of losses, from code or from a config file.

pub(crate) mod classes;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Side};
use crate::loss::features::activation_boundary::ActivationBoundaryConfig;
use crate::loss::features::attention_transfer::AttentionTransferConfig;
use crate::loss::features::channel_wise::ChannelWiseConfig;
use crate::loss::features::factor_transfer::FactorTransferConfig;
use crate::loss::features::fsp::FspConfig;
use crate::loss::features::hint::HintConfig;
use crate::loss::features::mgd::MgdConfig;
use crate::loss::features::nst::NstConfig;
use crate::loss::features::overhaul::OverhaulConfig;
use crate::loss::features::review_kd::ReviewKdConfig;
use crate::loss::features::vid::VidConfig;
use crate::loss::logits::dist::DistConfig;
use crate::loss::logits::dkd::DkdConfig;
use crate::loss::logits::hard_and_soft::HardAndSoftConfig;
use crate::loss::logits::hard_label::HardLabelConfig;
use crate::loss::logits::jensen_shannon::JensenShannonConfig;
use crate::loss::logits::logit_cosine::LogitCosineConfig;
use crate::loss::logits::logit_mse::LogitMseConfig;
use crate::loss::logits::nkd::NkdConfig;
use crate::loss::logits::reverse_kl::ReverseKlConfig;
use crate::loss::logits::soft_cross_entropy::SoftCrossEntropyConfig;
use crate::loss::logits::soft_target::SoftTargetConfig;
use crate::loss::logits::sparse_soft_target::SparseSoftTargetConfig;
use crate::loss::logits::standardized::StandardizedConfig;
use crate::loss::logits::symmetric_kl::SymmetricKlConfig;
use crate::loss::logits::total_variation::TotalVariationConfig;
use crate::loss::logits::virtual_teacher::VirtualTeacherConfig;
use crate::loss::modules::Parts;
use crate::loss::relations::correlation_congruence::CorrelationCongruenceConfig;
use crate::loss::relations::crd::CrdConfig;
use crate::loss::relations::mmd::MmdConfig;
use crate::loss::relations::pkt::PktConfig;
use crate::loss::relations::rkd::RkdConfig;
use crate::loss::relations::similarity_preserving::SimilarityPreservingConfig;
use crate::loss::sequences::attention_map::AttentionMapConfig;
use crate::loss::sequences::gram_mse::GramMseConfig;
use crate::loss::sequences::hidden_cosine::HiddenCosineConfig;
use crate::loss::sequences::patient_kd::PatientKdConfig;
use crate::loss::{Loss, LossContext};
use crate::objective::classes::Aligned;
use crate::objective::classes::ClassPolicy;
use crate::schedule::Schedule;

/// A loss, its weight and its name in the sum.
#[derive(Debug, Clone)]
pub struct Term {
    name: String,
    weight: Schedule,
    loss: Arc<dyn Loss>,
}

impl Term {
    /// The name, unique within its objective.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weight over training.
    pub fn weight(&self) -> &Schedule {
        &self.weight
    }

    /// The loss.
    pub fn loss(&self) -> &dyn Loss {
        self.loss.as_ref()
    }

    /// Labels name classes of the student's own; only a comparison needs one width on both sides.
    /// Both see single precision at least.
    fn sees<'a>(&self, own: &LossContext<'a>, aligned: &'a Aligned) -> LossContext<'a> {
        match self.loss.needs_teacher() {
            true => aligned.context(own),
            false => aligned.own(own),
        }
    }
}

/// What training minimises: the weighted sum of its terms, Σ wᵢ · lossᵢ.
///
/// Weights are used as they are, not normalised. A term keeps its loss's name; where two terms have
/// the same, the later one is numbered.
///
/// # Example
///
/// ```
/// use burn_distill::loss::{HardLabelConfig, SoftTargetConfig};
/// use burn_distill::Objective;
///
/// # fn main() -> burn_distill::Result<()> {
/// let objective = Objective::new()
///     .with(SoftTargetConfig::new(4.0), 0.9)?
///     .with(HardLabelConfig::new(), 0.1)?;
/// assert_eq!(objective.to_string(), "0.9 · soft_target + 0.1 · hard_label");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Objective {
    terms: Vec<Term>,
    classes: ClassPolicy,
}

/// The value of an objective for one batch.
pub(crate) struct Value {
    /// The weighted sum, `[1]`.
    pub total: Tensor<1>,
    /// Each term without its weight, `[1]`, in order.
    pub terms: Vec<Tensor<1>>,
    /// What the terms that compare with the teacher saw.
    pub aligned: Aligned,
}

impl Objective {
    /// An objective without terms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a loss with a weight, a number or a [`Schedule`].
    ///
    /// # Errors
    ///
    /// What the loss's `init` says, or [`Error::InvalidParameter`] if the weight is not a number of
    /// at least 0 all the time.
    pub fn with(self, loss: impl IntoLoss, weight: impl Into<Schedule>) -> Result<Self> {
        let loss = loss.into_loss()?;
        let name = loss.name();
        self.with_term(name, loss, weight.into())
    }

    fn with_term(mut self, name: String, loss: Arc<dyn Loss>, weight: Schedule) -> Result<Self> {
        weight.check(
            &format!("the weight of {name}"),
            |w| w >= 0.0,
            "a number of at least 0",
        )?;
        let taken: HashSet<_> = self.terms.iter().map(|t| t.name.as_str()).collect();
        let name = match taken.contains(name.as_str()) {
            false => name,
            true => (2..)
                .map(|n| format!("{name}_{n}"))
                .find(|n| !taken.contains(n.as_str()))
                .expect("one of endlessly many names is free"),
        };
        self.terms.push(Term { name, weight, loss });
        Ok(self)
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
        self.terms.iter().any(|t| t.loss.needs_teacher())
    }

    /// Checks the outputs for one batch against what the terms need.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit, naming both sides.
    pub fn check(&self, context: &LossContext<'_>) -> Result<()> {
        if self.terms.is_empty() {
            return Err(Error::NoTerms);
        }
        if context.teacher.is_none()
            && let Some(term) = self.terms.iter().find(|t| t.loss.needs_teacher())
        {
            return Err(Error::NeedsTeacher {
                term: term.name.clone(),
            });
        }
        let rows = context.student.logits.dims()[0];
        let targets = match context.targets {
            crate::data::batch::Targets::None => None,
            crate::data::batch::Targets::Classes(t) => Some(t.dims()[0]),
            crate::data::batch::Targets::Values(t) => Some(t.dims()[0]),
        };
        let mask = context.mask.map(|m| m.dims()[0]);
        for (what, found) in [("the target", targets), ("the mask", mask)] {
            if let Some(found) = found
                && found != rows
            {
                return Err(Error::BatchMismatch {
                    what,
                    side: Side::Student,
                    expected: rows,
                    found,
                });
            }
        }
        let aligned = self.align(context);
        let mut terms = self.terms.iter();
        terms.try_for_each(|t| t.loss.check(&t.sees(context, &aligned)))
    }

    pub(crate) fn align(&self, context: &LossContext<'_>) -> Aligned {
        self.classes.align(context.student, context.teacher)
    }

    /// The trainable parts that the terms need, one place per term. Call [`check`](Self::check)
    /// first.
    pub fn parts(&self, context: &LossContext<'_>, device: &Device) -> Vec<Option<Parts>> {
        let aligned = self.align(context);
        let terms = self.terms.iter();
        terms
            .map(|t| t.loss.parts(&t.sees(context, &aligned), device))
            .collect()
    }

    pub(crate) fn forward(&self, context: &LossContext<'_>, parts: &[Option<Parts>]) -> Value {
        let aligned = self.align(context);
        let terms: Vec<_> = self
            .terms
            .iter()
            .zip(parts)
            .map(|(term, parts)| {
                term.loss.forward(&LossContext {
                    parts: parts.as_ref(),
                    ..term.sees(context, &aligned)
                })
            })
            .collect();
        let weighted = self.terms.iter().zip(&terms);
        let total = weighted
            .map(|(term, value)| value.clone() * term.weight.at(context.progress))
            .reduce(|sum, value| sum + value)
            .expect("an objective that runs has terms");
        Value {
            total,
            terms,
            aligned,
        }
    }
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(" + ")?;
            }
            match &term.weight {
                Schedule::Constant(weight) => write!(f, "{weight} · {}", term.name)?,
                changing => write!(f, "({changing}) · {}", term.name)?,
            }
        }
        Ok(())
    }
}

/// What can become a loss: a [`Loss`], or the config of one.
pub trait IntoLoss {
    /// Checks the values of a config and makes the loss.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] for the first value out of range.
    fn into_loss(self) -> Result<Arc<dyn Loss>>;
}

impl<L: Loss + 'static> IntoLoss for L {
    fn into_loss(self) -> Result<Arc<dyn Loss>> {
        Ok(Arc::new(self))
    }
}

/// The losses that a config file can name, and everything that a new one has to be told to.
macro_rules! known_losses {
    ($($variant:ident($config:ident)),* $(,)?) => {
        /// A loss by name, as a config file holds it.
        ///
        /// In TOML, `loss = { soft_target = { temperature = 4.0 } }`. A loss that is not in this
        /// list implements [`Loss`] and joins an objective from code.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum LossConfig {
            $(
                #[doc = concat!("See [`", stringify!($config), "`].")]
                $variant($config),
            )*
        }

        impl IntoLoss for LossConfig {
            fn into_loss(self) -> Result<Arc<dyn Loss>> {
                match self {
                    $(Self::$variant(config) => config.into_loss(),)*
                }
            }
        }

        $(
            impl From<$config> for LossConfig {
                fn from(config: $config) -> Self {
                    Self::$variant(config)
                }
            }

            impl IntoLoss for $config {
                fn into_loss(self) -> Result<Arc<dyn Loss>> {
                    Ok(Arc::new(self.init()?))
                }
            }
        )*
    };
}

known_losses! {
    SoftTarget(SoftTargetConfig),
    SoftCrossEntropy(SoftCrossEntropyConfig),
    ReverseKl(ReverseKlConfig),
    SymmetricKl(SymmetricKlConfig),
    JensenShannon(JensenShannonConfig),
    TotalVariation(TotalVariationConfig),
    LogitMse(LogitMseConfig),
    LogitCosine(LogitCosineConfig),
    Hint(HintConfig),
    HiddenCosine(HiddenCosineConfig),
    PatientKd(PatientKdConfig),
    AttentionMap(AttentionMapConfig),
    Crd(CrdConfig),
    Vid(VidConfig),
    Fsp(FspConfig),
    FactorTransfer(FactorTransferConfig),
    ActivationBoundary(ActivationBoundaryConfig),
    Overhaul(OverhaulConfig),
    ReviewKd(ReviewKdConfig),
    Mgd(MgdConfig),
    ChannelWise(ChannelWiseConfig),
    AttentionTransfer(AttentionTransferConfig),
    Nst(NstConfig),
    SimilarityPreserving(SimilarityPreservingConfig),
    Pkt(PktConfig),
    Rkd(RkdConfig),
    CorrelationCongruence(CorrelationCongruenceConfig),
    Mmd(MmdConfig),
    GramMse(GramMseConfig),
    HardLabel(HardLabelConfig),
    HardAndSoft(HardAndSoftConfig),
    Dkd(DkdConfig),
    Nkd(NkdConfig),
    Dist(DistConfig),
    Standardized(StandardizedConfig),
    VirtualTeacher(VirtualTeacherConfig),
    SparseSoftTarget(SparseSoftTargetConfig),
}

/// One term in a config file.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `loss` | required | a [`LossConfig`] | what is compared |
/// | `weight` | 1 | at least 0, may follow a [`Schedule`] | its factor in the sum |
/// | `name` | the loss's | any text | its name in progress, reports and errors |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TermConfig {
    /// What is compared.
    pub loss: LossConfig,
    /// Its factor in the sum.
    #[serde(default = "one")]
    pub weight: Schedule,
    /// Its name, if not the loss's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn one() -> Schedule {
    Schedule::Constant(1.0)
}

/// An objective in a config file, TOML or JSON.
///
/// | field | default | range | meaning |
/// |---|---|---|---|
/// | `classes` | `error` | `error`, `truncate`, `pad` | what happens where teacher and student have different numbers of classes, a [`ClassPolicy`] |
/// | `terms` | required | at least one | the terms of the sum |
///
/// # Example
///
/// ```
/// use burn_distill::ObjectiveConfig;
///
/// # fn main() -> burn_distill::Result<()> {
/// let config = ObjectiveConfig::from_toml(
///     r#"
///     [[terms]]
///     weight = 0.9
///     loss = { soft_target = { temperature = { cosine = { from = 8.0, to = 2.0 } } } }
///
///     [[terms]]
///     weight = 0.1
///     loss = { hard_label = { smoothing = 0.1 } }
///     "#,
/// )?;
/// assert_eq!(config.init()?.terms().len(), 2);
///
/// let error = ObjectiveConfig::from_json(r#"{"terms": [{"loss": {"hard_label": {"smooth": 1}}}]}"#);
/// assert!(error.unwrap_err().to_string().contains("unknown field `smooth`"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ObjectiveConfig {
    /// What happens where teacher and student have different numbers of classes.
    #[serde(default)]
    pub classes: ClassPolicy,
    /// The terms of the sum.
    pub terms: Vec<TermConfig>,
}

impl ObjectiveConfig {
    /// A config without terms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a loss with a weight, a number or a [`Schedule`].
    #[must_use]
    pub fn with(mut self, loss: impl Into<LossConfig>, weight: impl Into<Schedule>) -> Self {
        self.terms.push(TermConfig {
            loss: loss.into(),
            weight: weight.into(),
            name: None,
        });
        self
    }

    /// Sets what happens where teacher and student have different numbers of classes.
    #[must_use]
    pub fn with_class_policy(mut self, policy: ClassPolicy) -> Self {
        self.classes = policy;
        self
    }

    /// Reads a config from TOML text.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the key and the line of what is wrong.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| config_error("TOML", error))
    }

    /// Reads a config from JSON text.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the key and the line of what is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| config_error("JSON", error))
    }

    /// Reads a config from a file whose name ends in `.toml` or `.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, [`Error::Config`] with its name if it has another
    /// ending or cannot be understood.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let read = match path.extension().and_then(|e| e.to_str()) {
            Some("toml") => Self::from_toml(&text),
            Some("json") => Self::from_json(&text),
            _ => Err(config_error("", "expected a file ending in .toml or .json")),
        };
        read.map_err(|error| match error {
            Error::Config { message, .. } => config_error(path.display(), message),
            other => other,
        })
    }

    /// Checks every value and makes the objective.
    ///
    /// # Errors
    ///
    /// [`Error::NoTerms`] for an empty list, [`Error::InvalidParameter`] for the first value out of
    /// range.
    pub fn init(&self) -> Result<Objective> {
        if self.terms.is_empty() {
            return Err(Error::NoTerms);
        }
        let empty = Objective::new().with_class_policy(self.classes);
        self.terms.iter().try_fold(empty, |sum, term| {
            let loss = term.loss.clone().into_loss()?;
            let name = term.name.clone().unwrap_or_else(|| loss.name());
            sum.with_term(name, loss, term.weight.clone())
        })
    }
}

fn config_error(origin: impl std::fmt::Display, message: impl std::fmt::Display) -> Error {
    Error::Config {
        origin: origin.to_string(),
        message: message.to_string().trim_end().to_string(),
    }
}

#[cfg(test)]
#[path = "tests/objective.rs"]
mod tests;
