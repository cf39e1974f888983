//! What every loss promises, and one test that holds each to it.
//!
//! A new loss without a row in [`contract`] does not compile. What is special about a loss, numbers by
//! hand, limits, edge cases, stands in a file of its own.

mod batch;
mod fields;
mod files;
mod promises;

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
use crate::loss::known::KnownLoss;
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
use batch::CHANNELS;

/// What a formula promises.
struct Contract {
    /// Zero where the student is the teacher.
    zero_at_teacher: bool,
    /// The same where a number is added to all logits of a row.
    shift: bool,
    /// The same where all of the student's numbers are multiplied by one that is greater than 0.
    scale: bool,
    /// It draws random numbers in every step, so that values of different batches cannot be compared.
    draws: bool,
}

impl Contract {
    const PLAIN: Self = Self {
        zero_at_teacher: true,
        shift: false,
        scale: false,
        draws: false,
    };
}

/// The contract of every loss; the numbers of the losses themselves do not matter.
fn contract(loss: &KnownLoss) -> Contract {
    let plain = Contract::PLAIN;
    let on_logits = Contract {
        shift: true,
        ..plain
    };
    let of_directions = Contract {
        scale: true,
        ..plain
    };
    let above_teacher = |contract: Contract| Contract {
        zero_at_teacher: false,
        ..contract
    };
    match loss {
        KnownLoss::SoftTarget(_) => on_logits,
        KnownLoss::SoftCrossEntropy(_) => above_teacher(on_logits),
        KnownLoss::ReverseKl(_) => on_logits,
        KnownLoss::SymmetricKl(_) => on_logits,
        KnownLoss::JensenShannon(_) => on_logits,
        KnownLoss::TotalVariation(_) => on_logits,
        KnownLoss::LogitMse(_) => plain,
        KnownLoss::LogitCosine(_) => of_directions,
        KnownLoss::HardLabel(_) => above_teacher(on_logits),
        KnownLoss::Dkd(_) => on_logits,
        KnownLoss::Nkd(_) => above_teacher(on_logits),
        KnownLoss::Dist(_) => on_logits,
        KnownLoss::VirtualTeacher(_) => above_teacher(on_logits),
        KnownLoss::SparseSoftTarget(_) => on_logits,
        KnownLoss::Hint(_) => plain,
        KnownLoss::HiddenCosine(_) => of_directions,
        KnownLoss::PatientKd(_) => of_directions,
        KnownLoss::AttentionMap(_) => plain,
        KnownLoss::Crd(_) => Contract {
            draws: true,
            ..above_teacher(plain)
        },
        KnownLoss::Vid(_) => above_teacher(plain),
        KnownLoss::Fsp(_) => plain,
        KnownLoss::FactorTransfer(_) => above_teacher(plain),
        KnownLoss::ActivationBoundary(_) => above_teacher(plain),
        KnownLoss::Overhaul(_) => above_teacher(plain),
        KnownLoss::ReviewKd(_) => above_teacher(plain),
        KnownLoss::Mgd(_) => Contract {
            draws: true,
            ..above_teacher(plain)
        },
        KnownLoss::ChannelWise(_) => plain,
        KnownLoss::AttentionTransfer(_) => of_directions,
        KnownLoss::Nst(_) => of_directions,
        KnownLoss::SimilarityPreserving(_) => of_directions,
        KnownLoss::Pkt(_) => of_directions,
        KnownLoss::Rkd(_) => of_directions,
        KnownLoss::CorrelationCongruence(_) => plain,
        KnownLoss::Mmd(_) => plain,
        KnownLoss::GramMse(_) => plain,
    }
}

/// One of each loss. That none is missing is what the test on the names shows.
fn all() -> Vec<KnownLoss> {
    vec![
        SoftTarget::new(2).into(),
        SoftCrossEntropy::new(2).into(),
        ReverseKl::new(2).into(),
        SymmetricKl::new(2).into(),
        JensenShannon::new(2).into(),
        TotalVariation::new(2).into(),
        LogitMse::new().into(),
        LogitCosine::new().into(),
        HardLabel::new().with_smoothing(0.1).into(),
        Dkd::new(2).into(),
        Nkd::new(2).into(),
        Dist::new(2).into(),
        VirtualTeacher::new().into(),
        SparseSoftTarget::new(3).into(),
        Hint::new("v", "v").into(),
        HiddenCosine::new("t", "t").into(),
        PatientKd::new("t", "t").with_pair("t2", "t2").into(),
        AttentionMap::new("a", "a").into(),
        Crd::new("v", "v").into(),
        Vid::new("m", "m").into(),
        Fsp::new(["m", "m2"], ["m", "m2"]).into(),
        FactorTransfer::new("m", "m").into(),
        ActivationBoundary::new("m", "m").into(),
        Overhaul::new("m", "m", vec![-0.5; CHANNELS]).into(),
        ReviewKd::new(["m", "m2"], ["m", "m2"]).into(),
        Mgd::new("m", "m").into(),
        ChannelWise::new("m", "m").into(),
        AttentionTransfer::new("m", "m").into(),
        Nst::new("m", "m").into(),
        SimilarityPreserving::new("v", "v").into(),
        Pkt::new("v", "v").into(),
        Rkd::new("v", "v").into(),
        CorrelationCongruence::new("v", "v").into(),
        Mmd::new("v", "v").into(),
        GramMse::new(["t", "t2"], ["t", "t2"]).into(),
    ]
}
