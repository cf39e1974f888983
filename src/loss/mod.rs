//! Losses: what a student is asked to match.
//!
//! Every method comes in three forms, from the plainest to the most convenient:
//!
//! - a pure function of tensors, such as [`soft_target`], for a training loop of your own;
//! - a config, such as [`SoftTargetConfig`], which is what a config file holds, and whose `init`
//!   checks the values;
//! - a [`Loss`], a term of an objective: what `init` returns, or what you write yourself.
//!
//! | file | loss | compares |
//! |---|---|---|
//! | `soft_target.rs` | [`SoftTarget`] | softened class probabilities |
//! | `sparse_soft_target.rs` | [`SparseSoftTarget`] | softened probabilities of the teacher's likeliest classes |
//! | `dkd.rs` | [`Dkd`] | the true class against all others, and the others among themselves |
//! | `nkd.rs` | [`Nkd`] | the true class, and the others as a distribution of their own |
//! | `dist.rs` | [`Dist`] | how probabilities vary along classes and along samples |
//! | `standardized.rs` | [`Standardized`] | z-scores of logits, by another loss on logits |
//! | `soft_cross_entropy.rs` | [`SoftCrossEntropy`] | the same, with the teacher's entropy left in the value |
//! | `reverse_kl.rs` | [`ReverseKl`] | softened class probabilities, the other way round |
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
//! | `hard_and_soft.rs` | [`HardAndSoft`] | softened class probabilities, and the student with the true classes |
//! | `hard_label.rs` | [`HardLabel`] | the student with the true classes; needs no teacher |
//! | `virtual_teacher.rs` | [`VirtualTeacher`] | the student with a hand-made teacher; needs no other |
//! | `chunked_head.rs` | [`ChunkedHead`] | several of these at the output of language models, without the logits of all tokens |
//!
//! All of them reduce alike: a value per row first, then the mean over the rows that count. Losses
//! on the relations within a batch have no value per row; they take the mean over the pairs, or
//! triples, of samples that count. Where a batch is split over devices, each part has only the
//! relations within it.
//!
//! Logits in half precision, `f16` or `bf16`, are compared in single precision: the value is in
//! `f32`, and the gradient arrives at the logits in their own type. In an objective the same holds
//! of features.

pub(crate) mod custom;
pub(crate) mod features;
pub(crate) mod head;
pub(crate) mod logits;
pub(crate) mod modules;
pub(crate) mod relations;
pub(crate) mod sequences;

#[cfg(test)]
mod testing;

pub use crate::data::top_k::{MissingMass, TopK};
pub use crate::loss::custom::{CustomLoss, loss_fn};
pub use crate::loss::features::activation_boundary::{
    ActivationBoundary, ActivationBoundaryConfig, BoundaryReduction, activation_boundary,
    activation_boundary_no_reduction,
};
pub use crate::loss::features::attention_transfer::{
    ActivationMap, AttentionReduction, AttentionTransfer, AttentionTransferConfig,
    attention_transfer, attention_transfer_no_reduction,
};
pub use crate::loss::features::channel_wise::{
    ChannelWise, ChannelWiseConfig, channel_wise, channel_wise_no_reduction,
};
pub use crate::loss::features::factor_transfer::{
    FactorForm, FactorTransfer, FactorTransferConfig, factor_transfer, factor_transfer_no_reduction,
};
pub use crate::loss::features::fsp::{
    Fsp, FspConfig, FspForm, fsp, fsp_no_reduction, fsp_sequence,
};
pub use crate::loss::features::hint::{Hint, HintConfig, hint, hint_no_reduction};
pub use crate::loss::features::mgd::{
    Mgd, MgdConfig, MgdGenerator, MgdReduction, mgd, mgd_no_reduction,
};
pub use crate::loss::features::nst::{Nst, NstConfig, nst, nst_no_reduction};
pub use crate::loss::features::overhaul::{
    Overhaul, OverhaulConfig, OverhaulReduction, OverhaulRegressor, margins, overhaul,
    overhaul_no_reduction,
};
pub use crate::loss::features::review_kd::{ReviewKd, ReviewKdConfig, hcl, hcl_no_reduction};
pub use crate::loss::features::vid::{
    Vid, VidConfig, VidParts, VidRegressor, vid, vid_no_reduction,
};
pub use crate::loss::head::head_loss::HeadLoss;
pub use crate::loss::head::{ChunkedHead, Head};
pub use crate::loss::logits::dist::{Dist, DistConfig, dist};
pub use crate::loss::logits::dkd::{Dkd, DkdConfig, dkd, dkd_no_reduction};
pub use crate::loss::logits::hard_and_soft::{
    HardAndSoft, HardAndSoftConfig, hard_and_soft, hard_and_soft_no_reduction,
};
pub use crate::loss::logits::hard_label::{
    HardLabel, HardLabelConfig, hard_label, hard_label_no_reduction,
};
pub use crate::loss::logits::jensen_shannon::{
    JensenShannon, JensenShannonConfig, jensen_shannon, jensen_shannon_no_reduction,
};
pub use crate::loss::logits::logit_cosine::{
    Centring, LogitCosine, LogitCosineConfig, logit_cosine, logit_cosine_no_reduction,
};
pub use crate::loss::logits::logit_mse::{
    LogitMse, LogitMseConfig, LogitReduction, logit_mse, logit_mse_no_reduction,
};
pub use crate::loss::logits::nkd::{Nkd, NkdConfig, nkd, nkd_no_reduction};
pub use crate::loss::logits::reverse_kl::{
    ReverseKl, ReverseKlConfig, reverse_kl, reverse_kl_no_reduction,
};
pub use crate::loss::logits::scale::TemperatureScale;
pub use crate::loss::logits::soft_cross_entropy::{
    SoftCrossEntropy, SoftCrossEntropyConfig, soft_cross_entropy, soft_cross_entropy_no_reduction,
};
pub use crate::loss::logits::soft_target::{
    SoftTarget, SoftTargetConfig, soft_target, soft_target_no_reduction,
};
pub use crate::loss::logits::sparse_soft_target::{
    SparseSoftTarget, SparseSoftTargetConfig, sparse_soft_target, sparse_soft_target_no_reduction,
};
pub use crate::loss::logits::standardized::{Standardized, StandardizedConfig, standardize};
pub use crate::loss::logits::symmetric_kl::{
    SymmetricKl, SymmetricKlConfig, symmetric_kl, symmetric_kl_no_reduction,
};
pub use crate::loss::logits::total_variation::{
    TotalVariation, TotalVariationConfig, total_variation, total_variation_no_reduction,
};
pub use crate::loss::logits::virtual_teacher::{
    VirtualTeacher, VirtualTeacherConfig, virtual_teacher, virtual_teacher_no_reduction,
};
pub use crate::loss::modules::Parts;
pub use crate::loss::modules::contrast::CrdMemory;
pub use crate::loss::modules::fusion::ReviewKdFusion;
pub use crate::loss::modules::translator::{Paraphraser, Translator, reconstruction};
pub use crate::loss::relations::correlation_congruence::{
    Correlation, CorrelationCongruence, CorrelationCongruenceConfig, CorrelationReduction,
    correlation_congruence,
};
pub use crate::loss::relations::crd::{Crd, CrdConfig, crd, crd_no_reduction, crd_normalisers};
pub use crate::loss::relations::mmd::{Mmd, MmdConfig, mmd};
pub use crate::loss::relations::pkt::{Pkt, PktConfig, pkt};
pub use crate::loss::relations::rkd::{Rkd, RkdConfig, rkd_angle, rkd_distance};
pub use crate::loss::relations::similarity_preserving::{
    SimilarityNorm, SimilarityPreserving, SimilarityPreservingConfig, similarity_preserving,
};
pub use crate::loss::sequences::attention_map::{
    AttentionDistance, AttentionHeads, AttentionInput, AttentionMap, AttentionMapConfig,
    attention_map, attention_map_no_reduction,
};
pub use crate::loss::sequences::gram_mse::{GramMse, GramMseConfig, gram_mse};
pub use crate::loss::sequences::hidden_cosine::{
    CosineNorm, HiddenCosine, HiddenCosineConfig, hidden_cosine, hidden_cosine_no_reduction,
};
pub use crate::loss::sequences::patient_kd::{
    PatientKd, PatientKdConfig, patient_kd, patient_kd_no_reduction,
};
pub use crate::ops::kernel::Kernel;

use burn::tensor::{Bool, Device, Tensor};

use crate::data::batch::Targets;
use crate::data::outputs::{Feature, Outputs};
use crate::error::{Error, Result, Side};
use crate::ops::classes::labels_that_count;
use crate::ops::vectors::mean_rows;
use crate::schedule::Schedule;

/// One term of a distillation objective.
///
/// Implement it for a loss of your own, or wrap a closure with [`loss_fn`]. `forward` is all that
/// must be written; the rest says beforehand what the loss needs, so that what is missing is an
/// error before training and what nobody needs is not computed.
pub trait Loss: std::fmt::Debug + Send + Sync {
    /// The name of the term in progress, reports and errors.
    fn name(&self) -> String;

    /// Whether the loss looks at the teacher. An objective in which no term does never runs it.
    fn needs_teacher(&self) -> bool {
        true
    }

    /// Checks one batch of outputs before training starts: shapes, features, targets.
    fn check(&self, _context: &LossContext<'_>) -> Result<()> {
        Ok(())
    }

    /// The trainable parts that the loss needs between these outputs, if it needs any. Called once,
    /// after [`check`](Self::check) and before training.
    fn parts(&self, _context: &LossContext<'_>, _device: &Device) -> Option<Parts> {
        None
    }

    /// The temperature that it compares at, where it has one: what a report draws.
    fn temperature(&self) -> Option<&Schedule> {
        None
    }

    /// The pairs of features that the loss compares, student's name first.
    fn feature_pairs(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The value, of shape `[1]`, with gradients towards the student's outputs.
    fn forward(&self, context: &LossContext<'_>) -> Tensor<1>;
}

/// What a loss sees of a training step.
///
/// Student and teacher are named rather than ordered: both sides have the same type, and a swapped
/// pair would compile.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LossContext<'a> {
    /// The student's outputs, with gradients.
    pub student: &'a Outputs,
    /// The teacher's outputs, constants; `None` where no term needs a teacher.
    pub teacher: Option<&'a Outputs>,
    /// The right answers, where they are known.
    pub targets: &'a Targets,
    /// The rows that count; all of them where there is no mask.
    pub mask: Option<&'a Tensor<1, Bool>>,
    /// Share of the training done, from 0 to 1.
    pub progress: f64,
    /// The trainable parts that the loss asked for.
    pub parts: Option<&'a Parts>,
    /// The place of each sample in its dataset; empty in a loop that does not say.
    pub indices: &'a [usize],
    /// How many samples the training data has; 0 outside training.
    pub samples: usize,
}

impl<'a> LossContext<'a> {
    /// A context for a loop of your own: outputs of both sides, no targets, no mask.
    pub fn new(student: &'a Outputs, teacher: &'a Outputs) -> Self {
        Self {
            student,
            teacher: Some(teacher),
            targets: &Targets::None,
            mask: None,
            progress: 0.0,
            parts: None,
            indices: &[],
            samples: 0,
        }
    }

    /// The same context with targets.
    #[must_use]
    pub fn with_targets(mut self, targets: &'a Targets) -> Self {
        self.targets = targets;
        self
    }

    /// The same context with a mask.
    #[must_use]
    pub fn with_mask(mut self, mask: &'a Tensor<1, Bool>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// The same context with the parts that a loss asked for.
    #[must_use]
    pub fn with_parts(mut self, parts: &'a Parts) -> Self {
        self.parts = Some(parts);
        self
    }

    /// The same context with the place of each sample among all `samples` of the training data.
    #[must_use]
    pub fn with_indices(mut self, indices: &'a [usize], samples: usize) -> Self {
        self.indices = indices;
        self.samples = samples;
        self
    }

    /// The same context at another progress.
    #[must_use]
    pub fn at(mut self, progress: f64) -> Self {
        self.progress = progress;
        self
    }

    /// The teacher's outputs.
    ///
    /// # Panics
    ///
    /// Panics if there is no teacher, which an objective's check rules out for a loss that
    /// [needs one](Loss::needs_teacher).
    pub fn teacher(&self) -> &'a Outputs {
        self.teacher.expect("a loss that needs a teacher has one")
    }

    /// The mean of one value per row over the rows that count, `[1]`.
    pub fn mean(&self, rows: Tensor<1>) -> Tensor<1> {
        mean_rows(rows, self.mask)
    }

    /// Fails unless both sides' logits have one shape.
    pub fn check_logits(&self, term: &str) -> Result<()> {
        let (student, teacher) = (self.student.logits.dims(), self.teacher().logits.dims());
        match student == teacher {
            true => Ok(()),
            false => Err(Error::ShapeMismatch {
                what: format!("term {term:?}: logits"),
                student: student.to_vec(),
                teacher: teacher.to_vec(),
            }),
        }
    }

    /// Fails unless there are class targets, and each that counts is one of the student's classes.
    pub fn check_class_targets(&self, term: &str) -> Result<()> {
        let Some(labels) = self.targets.classes() else {
            return Err(Error::MissingTargets {
                term: term.to_string(),
                expected: "class targets",
                found: self.targets.kind(),
            });
        };
        let classes = self.student.logits.dims()[1];
        let out_of_range = |label: &i64| *label < 0 || *label >= classes as i64;
        let labels = labels_that_count(labels, self.mask).into_data();
        match labels.iter::<i64>().find(out_of_range) {
            Some(label) => Err(Error::LabelOutOfRange { label, classes }),
            None => Ok(()),
        }
    }

    /// Fails unless the student has at least two classes.
    pub fn check_two_classes(&self, term: &str) -> Result<()> {
        match self.student.logits.dims()[1] {
            classes @ 0..2 => Err(Error::invalid(
                format!("term {term:?}: the number of classes"),
                classes,
                "at least 2",
            )),
            _ => Ok(()),
        }
    }

    /// The feature of this name of one side, or an error that lists what there is.
    pub fn feature(&self, term: &str, side: Side, name: &str) -> Result<&'a Feature> {
        let outputs = match side {
            Side::Student => self.student,
            Side::Teacher => self.teacher(),
        };
        outputs.feature(name).ok_or_else(|| Error::MissingFeature {
            term: term.to_string(),
            name: name.to_string(),
            side,
            available: outputs.feature_names(),
        })
    }
}
