//! Losses: what a student is asked to match.
//!
//! A loss is its parameters: `SoftTarget::new(4.0)`. It is a term of an [`Objective`](crate::Objective),
//! a line of a config file, and its formula is a function of tensors as well, [`soft_target`], whose value
//! is [computed when it is asked for](LossValue): as a mean, as a weighted mean, or per row.
//!
//! | file | loss | compares |
//! |---|---|---|
//! | `soft_target.rs` | [`SoftTarget`] | softened class probabilities |
//! | `sparse_soft_target.rs` | [`SparseSoftTarget`] | softened probabilities of the teacher's likeliest classes |
//! | `dkd.rs` | [`Dkd`] | the true class against all others, and the others among themselves |
//! | `nkd.rs` | [`Nkd`] | the true class, and the others as a distribution of their own |
//! | `dist.rs` | [`Dist`] | how probabilities vary along classes and along samples |
//! | `standardize.rs` | [`standardize`] | z-scores of logits, which any loss on logits can look at instead |
//! | `soft_cross_entropy.rs` | [`SoftCrossEntropy`] | the same, with the teacher's entropy left in the value |
//! | `reverse_kl.rs` | [`ReverseKl`] | softened class probabilities, mode-seeking |
//! | `symmetric_kl.rs` | [`SymmetricKl`] | softened class probabilities, both ways |
//! | `jensen_shannon.rs` | [`JensenShannon`] | softened class probabilities, each with their mixture |
//! | `total_variation.rs` | [`TotalVariation`] | softened class probabilities, by absolute difference |
//! | `logit_mse.rs` | [`LogitMse`] | raw logits |
//! | `logit_cosine.rs` | [`LogitCosine`] | directions of raw logits |
//! | `hint.rs` | [`Hint`] | intermediate features |
//! | `hidden_cosine.rs` | [`HiddenCosine`] | the direction of hidden states |
//! | `patient_kd.rs` | [`PatientKd`] | the direction of first tokens, over several layers |
//! | `attention_map.rs` | [`AttentionMap`] | attention maps of transformers |
//! | `crd.rs` | [`Crd`] | embeddings, contrasted with those of other samples |
//! | `vid.rs` | [`Vid`] | intermediate features, with a learnt variance per channel |
//! | `fsp.rs` | [`Fsp`] | how two features of one model go together |
//! | `factor_transfer.rs` | [`FactorTransfer`] | paraphrases of feature maps |
//! | `activation_boundary.rs` | [`ActivationBoundary`] | which neurons are on |
//! | `overhaul.rs` | [`Overhaul`] | feature maps before their ReLU, above a margin |
//! | `review_kd.rs` | [`ReviewKd`] | feature maps of several levels, fused from below |
//! | `mgd.rs` | [`Mgd`] | feature maps, generated from a masked one |
//! | `channel_wise.rs` | [`ChannelWise`] | where each channel of a feature map looks |
//! | `attention_transfer.rs` | [`AttentionTransfer`] | where feature maps are active |
//! | `nst.rs` | [`Nst`] | the set of channels of feature maps |
//! | `similarity_preserving.rs` | [`SimilarityPreserving`] | similarities within a batch |
//! | `pkt.rs` | [`Pkt`] | who is whose neighbour in a batch |
//! | `rkd.rs` | [`Rkd`] | distances and angles within a batch |
//! | `correlation_congruence.rs` | [`CorrelationCongruence`] | kernels between the samples of a batch |
//! | `mmd.rs` | [`Mmd`] | the distribution of features in a batch |
//! | `gram_mse.rs` | [`GramMse`] | inner products of tokens; TextBrewer's `mmd` |
//! | `hard_label.rs` | [`HardLabel`] | the student with the true classes; needs no teacher |
//! | `virtual_teacher.rs` | [`VirtualTeacher`] | the student with a hand-made teacher; needs no other |
//!
//! All of them reduce alike: a value per row first, then the weighted mean over the valid rows. Losses
//! on the relations within a batch have no value per row; they take the mean over the pairs, or
//! triples, of valid samples. Where a batch is split over devices, each part has only the
//! relations within it.
//!
//! Logits in half precision, `f16` or `bf16`, are compared in single precision: the value is in
//! `f32`, and the gradient arrives at the logits in their own type. In an objective the same holds
//! of features.

pub(crate) mod context;
pub(crate) mod custom;
pub(crate) mod features;
pub(crate) mod known;
pub(crate) mod logits;
#[allow(clippy::module_inception)] // The trait that all others implement.
pub(crate) mod loss;
pub(crate) mod modules;
pub(crate) mod reduction;
pub(crate) mod relations;
pub(crate) mod sequences;
pub(crate) mod term;
pub(crate) mod value;

#[cfg(test)]
pub(crate) mod testing;

pub use crate::loss::context::LossContext;
pub use crate::loss::custom::{CustomLoss, loss_fn};
pub use crate::loss::features::activation_boundary::{ActivationBoundary, activation_boundary};
pub use crate::loss::features::attention_transfer::{AttentionTransfer, attention_transfer};
pub use crate::loss::features::channel_wise::{ChannelWise, channel_wise};
pub use crate::loss::features::factor_transfer::{FactorForm, FactorTransfer, factor_transfer};
pub use crate::loss::features::fsp::{Fsp, FspForm, fsp};
pub use crate::loss::features::hint::{Hint, hint};
pub use crate::loss::features::mgd::{Mgd, mgd};
pub use crate::loss::features::nst::{Nst, nst};
pub use crate::loss::features::overhaul::{Overhaul, margins, overhaul};
pub use crate::loss::features::review_kd::{ReviewKd, hcl};
pub use crate::loss::features::vid::{Vid, vid};
pub use crate::loss::known::KnownLoss;
pub use crate::loss::logits::dist::{Dist, dist};
pub use crate::loss::logits::dkd::{Dkd, dkd};
pub use crate::loss::logits::hard_label::{HardLabel, hard_label};
pub use crate::loss::logits::jensen_shannon::{JensenShannon, jensen_shannon};
pub use crate::loss::logits::logit_cosine::{LogitCosine, logit_cosine};
pub use crate::loss::logits::logit_mse::{LogitMse, logit_mse};
pub use crate::loss::logits::nkd::{Nkd, nkd};
pub use crate::loss::logits::reverse_kl::{ReverseKl, reverse_kl};
pub use crate::loss::logits::scale::TemperatureScale;
pub use crate::loss::logits::soft_cross_entropy::{SoftCrossEntropy, soft_cross_entropy};
pub use crate::loss::logits::soft_target::{SoftTarget, soft_target};
pub use crate::loss::logits::sparse_soft_target::{SparseSoftTarget, sparse_soft_target};
pub use crate::loss::logits::standardize::standardize;
pub use crate::loss::logits::symmetric_kl::{SymmetricKl, symmetric_kl};
pub use crate::loss::logits::total_variation::{TotalVariation, total_variation};
pub use crate::loss::logits::virtual_teacher::{VirtualTeacher, virtual_teacher};
pub use crate::loss::loss::{Loss, Needs};
pub use crate::loss::modules::LossModules;
pub use crate::loss::modules::contrast::CrdMemory;
pub use crate::loss::modules::projector::Regressor;
pub use crate::loss::modules::translator::{Paraphraser, reconstruction};
pub use crate::loss::reduction::{DifferenceReduction, Reduction};
pub use crate::loss::relations::correlation_congruence::{
    Correlation, CorrelationCongruence, correlation_congruence,
};
pub use crate::loss::relations::crd::{Crd, crd, crd_normalisers};
pub use crate::loss::relations::mmd::{Mmd, mmd};
pub use crate::loss::relations::pkt::{Pkt, pkt};
pub use crate::loss::relations::rkd::{Rkd, rkd_angle, rkd_distance};
pub use crate::loss::relations::similarity_preserving::{
    SimilarityNorm, SimilarityPreserving, similarity_preserving,
};
pub use crate::loss::sequences::attention_map::{
    AttentionDistance, AttentionHeads, AttentionMap, attention_map,
};
pub use crate::loss::sequences::gram_mse::{GramMse, gram_mse};
pub use crate::loss::sequences::hidden_cosine::{CosineNorm, HiddenCosine, hidden_cosine};
pub use crate::loss::sequences::patient_kd::{PatientKd, patient_kd};
pub use crate::loss::value::LossValue;
pub use crate::ops::kernel::Kernel;

#[cfg(test)]
#[path = "tests/contract/mod.rs"]
mod contract;
