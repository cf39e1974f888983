//! The losses that a config file can name.

use std::any::Any;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::loss::features::activation_boundary::ActivationBoundary;
use crate::loss::features::attention_transfer::AttentionTransfer;
use crate::loss::features::channel_wise::ChannelWise;
use crate::loss::features::factor_transfer::FactorTransfer;
use crate::loss::features::fsp::Fsp;
use crate::loss::features::hint::Hint;
use crate::loss::features::mgd::Mgd;
use crate::loss::features::nst::Nst;
use crate::loss::features::overhaul::Overhaul;
use crate::loss::features::review_kd::ReviewKd;
use crate::loss::features::vid::Vid;
use crate::loss::logits::dist::Dist;
use crate::loss::logits::dkd::Dkd;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::jensen_shannon::JensenShannon;
use crate::loss::logits::logit_cosine::LogitCosine;
use crate::loss::logits::logit_mse::LogitMse;
use crate::loss::logits::nkd::Nkd;
use crate::loss::logits::reverse_kl::ReverseKl;
use crate::loss::logits::soft_cross_entropy::SoftCrossEntropy;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::logits::sparse_soft_target::SparseSoftTarget;
use crate::loss::logits::symmetric_kl::SymmetricKl;
use crate::loss::logits::total_variation::TotalVariation;
use crate::loss::logits::virtual_teacher::VirtualTeacher;
use crate::loss::loss::Loss;
use crate::loss::relations::correlation_congruence::CorrelationCongruence;
use crate::loss::relations::crd::Crd;
use crate::loss::relations::mmd::Mmd;
use crate::loss::relations::pkt::Pkt;
use crate::loss::relations::rkd::Rkd;
use crate::loss::relations::similarity_preserving::SimilarityPreserving;
use crate::loss::sequences::attention_map::AttentionMap;
use crate::loss::sequences::gram_mse::GramMse;
use crate::loss::sequences::hidden_cosine::HiddenCosine;
use crate::loss::sequences::patient_kd::PatientKd;
use crate::loss::term::{IntoTerm, Term};

impl IntoTerm for KnownLoss {
    fn into_term(self) -> Term {
        Term::shared(self.into_loss())
    }
}

/// Makes the enum of the known losses. A new loss is one more line below.
macro_rules! known_losses {
    ($($loss:ident),* $(,)?) => {
        /// A loss by name, as a config file holds it.
        ///
        /// In TOML, `loss = { soft_target = { temperature = 4.0 } }`. A loss that is not in this list
        /// implements [`Loss`] and joins an objective from code.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum KnownLoss {
            $(
                #[doc = concat!("See [`", stringify!($loss), "`].")]
                $loss($loss),
            )*
        }

        impl KnownLoss {
            /// The loss by name, if it is one of these.
            pub(crate) fn of(loss: &dyn Loss) -> Option<Self> {
                let loss: &dyn Any = loss;
                $(
                    if let Some(loss) = loss.downcast_ref::<$loss>() {
                        return Some(Self::$loss(loss.clone()));
                    }
                )*
                None
            }

            /// The loss itself.
            pub(crate) fn into_loss(self) -> Arc<dyn Loss> {
                match self {
                    $(Self::$loss(loss) => Arc::new(loss),)*
                }
            }
        }

        $(
            impl $loss {
                /// This loss on the head of this name; see [`Term::on`].
                #[must_use]
                pub fn on(self, head: impl Into<String>) -> Term {
                    Term::new(self).on(head)
                }

                /// This loss as a term of this name; see [`Term::named`].
                #[must_use]
                pub fn named(self, name: impl Into<String>) -> Term {
                    Term::new(self).named(name)
                }

                /// This loss between z-scores of logits; see [`Term::standardized`].
                #[must_use]
                pub fn standardized(self) -> Term {
                    Term::new(self).standardized()
                }
            }

            impl From<$loss> for KnownLoss {
                fn from(loss: $loss) -> Self {
                    Self::$loss(loss)
                }
            }
        )*
    };
}

known_losses! {
    SoftTarget,
    SoftCrossEntropy,
    ReverseKl,
    SymmetricKl,
    JensenShannon,
    TotalVariation,
    LogitMse,
    LogitCosine,
    Hint,
    HiddenCosine,
    PatientKd,
    AttentionMap,
    Crd,
    Vid,
    Fsp,
    FactorTransfer,
    ActivationBoundary,
    Overhaul,
    ReviewKd,
    Mgd,
    ChannelWise,
    AttentionTransfer,
    Nst,
    SimilarityPreserving,
    Pkt,
    Rkd,
    CorrelationCongruence,
    Mmd,
    GramMse,
    HardLabel,
    Dkd,
    Nkd,
    Dist,
    VirtualTeacher,
    SparseSoftTarget,
}
