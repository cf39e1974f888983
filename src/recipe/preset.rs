//! Methods as their papers set them up.

use crate::loss::features::attention_transfer::AttentionTransfer;
use crate::loss::features::channel_wise::ChannelWise;
use crate::loss::features::hint::Hint;
use crate::loss::features::mgd::Mgd;
use crate::loss::features::nst::Nst;
use crate::loss::features::review_kd::ReviewKd;
use crate::loss::features::vid::Vid;
use crate::loss::logits::dist::Dist;
use crate::loss::logits::dkd::Dkd;
use crate::loss::logits::hard_label::HardLabel;
use crate::loss::logits::nkd::Nkd;
use crate::loss::logits::soft_target::SoftTarget;
use crate::loss::logits::virtual_teacher::VirtualTeacher;
use crate::loss::reduction::{DifferenceReduction, Reduction};
use crate::loss::relations::correlation_congruence::CorrelationCongruence;
use crate::loss::relations::crd::Crd;
use crate::loss::relations::pkt::Pkt;
use crate::loss::relations::rkd::Rkd;
use crate::loss::relations::similarity_preserving::SimilarityPreserving;
use crate::loss::term::IntoTerm;
use crate::objective::Objective;
use crate::recipe::stages::{Stage, Stages};
use crate::schedule::Schedule;

/// A pair of features, the student's name first.
type Pair<'a> = (&'a str, &'a str);

fn labels() -> Objective {
    Objective::new().with(HardLabel::new(), 1)
}

/// Twenty of 240 epochs.
fn warmed_up() -> Schedule {
    Schedule::from(1.0).warm_up(20.0 / 240.0)
}

/// One term per pair of features.
fn each<L: IntoTerm>(
    objective: Objective,
    pairs: &[Pair<'_>],
    weight: f64,
    loss: impl Fn(&str, &str) -> L,
) -> Objective {
    let pairs = pairs.iter();
    pairs.fold(objective, |sum, (s, t)| sum.with(loss(s, t), weight))
}

/// Objectives of published methods, as their papers or the code of their authors set them up: losses,
/// weights and schedules.
///
/// Values are those for CIFAR-100 where a paper has several. Use one as a start and to compare with
/// published numbers; weights of feature losses depend on the features' scale and are worth tuning. Pairs
/// of features have the student's name first.
///
/// | preset | objective |
/// |---|---|
/// | [`Preset::hinton2015`] | 0.9 soft targets τ = 4 + 0.1 labels |
/// | [`Preset::fitnets2015`] | two stages: hints first, soft targets as in `hinton2015` then |
/// | [`Preset::hint2015`] | labels + 100 hint |
/// | [`Preset::at2017`] | labels + 1000 attention transfer, code form |
/// | [`Preset::nst2017`] | labels + 50 NST |
/// | [`Preset::pkt2018`] | labels + 30000 PKT |
/// | [`Preset::rkd2019`] | labels + RKD, distance 25 and angle 50 |
/// | [`Preset::sp2019`] | labels + 3000 similarity preserving |
/// | [`Preset::cc2019`] | labels + 0.02 correlation congruence |
/// | [`Preset::vid2019`] | labels + VID |
/// | [`Preset::crd2020`] | labels + 0.8 CRD |
/// | [`Preset::tfkd2020`] | labels + 0.1 virtual teacher |
/// | [`Preset::cwd2021`] | labels + 3 channel-wise τ = 4 |
/// | [`Preset::review_kd2021`] | labels + review, warmed up over 1/12 of the training |
/// | [`Preset::dkd2022`] | labels + DKD (α 1, β 8, τ = 4), warmed up over 1/12 of the training |
/// | [`Preset::dist2022`] | labels + 2 DIST τ = 4 |
/// | [`Preset::mgd2022`] | labels + MGD |
/// | [`Preset::nkd2023`] | labels + NKD (γ 1.5) |
/// | [`Preset::logit_standardization2024`] | labels + 9 standardized soft targets τ = 2 |
///
/// # Example
///
/// ```
/// use burn_distill::recipe::Preset;
///
/// let objective = Preset::hinton2015();
/// assert_eq!(objective.to_string(), "0.9 · soft_target + 0.1 · hard_label");
///
/// let objective = Preset::crd2020("embedding", "embedding");
/// assert_eq!(objective.to_string(), "1 · hard_label + 0.8 · crd_embedding");
/// ```
///
/// # References
///
/// Each loss names its paper. The weights of the feature methods are those of RepDistiller (Tian et
/// al., 2020), of DKD and ReviewKD those of mdistiller (Zhao et al., 2022).
#[derive(Debug, Clone, Copy)]
pub struct Preset;

impl Preset {
    /// Soft targets of Hinton et al.
    pub fn hinton2015() -> Objective {
        Objective::new()
            .with(SoftTarget::new(4), 0.9)
            .with(HardLabel::new(), 0.1)
    }

    /// Hints of FitNets in one stage, beside labels.
    pub fn hint2015(pairs: &[(&str, &str)]) -> Objective {
        each(labels(), pairs, 100.0, |s, t| Hint::new(s, t))
    }

    /// FitNets as in the paper: a stage of hints, then one of [soft targets](Self::hinton2015), half of the epochs
    /// each.
    pub fn fitnets2015(pairs: &[(&str, &str)], epochs: usize) -> Stages {
        let hints = each(Objective::new(), pairs, 1.0, |s, t| Hint::new(s, t));
        Stages::new()
            .with(Stage::new(hints, epochs / 2))
            .with(Stage::new(Self::hinton2015(), epochs - epochs / 2))
    }

    /// Attention transfer of Zagoruyko and Komodakis, in the form of their code.
    pub fn at2017(pairs: &[(&str, &str)]) -> Objective {
        each(labels(), pairs, 1000.0, |s, t| {
            AttentionTransfer::new(s, t).with_reduction(DifferenceReduction::MeanSquare)
        })
    }

    /// Neuron selectivity transfer of Huang and Wang.
    pub fn nst2017(pairs: &[(&str, &str)]) -> Objective {
        each(labels(), pairs, 50.0, |s, t| Nst::new(s, t))
    }

    /// Probabilistic knowledge transfer of Passalis and Tefas.
    pub fn pkt2018(student: &str, teacher: &str) -> Objective {
        labels().with(Pkt::new(student, teacher), 30_000)
    }

    /// Relational knowledge distillation of Park et al.
    pub fn rkd2019(student: &str, teacher: &str) -> Objective {
        labels().with(Rkd::new(student, teacher), 1)
    }

    /// Similarity-preserving distillation of Tung and Mori.
    pub fn sp2019(student: &str, teacher: &str) -> Objective {
        labels().with(SimilarityPreserving::new(student, teacher), 3000)
    }

    /// Correlation congruence of Peng et al.
    pub fn cc2019(student: &str, teacher: &str) -> Objective {
        labels().with(CorrelationCongruence::new(student, teacher), 0.02)
    }

    /// Variational information distillation of Ahn et al.
    pub fn vid2019(pairs: &[(&str, &str)]) -> Objective {
        each(labels(), pairs, 1.0, |s, t| Vid::new(s, t))
    }

    /// Contrastive representation distillation of Tian et al.
    pub fn crd2020(student: &str, teacher: &str) -> Objective {
        labels().with(Crd::new(student, teacher), 0.8)
    }

    /// Teacher-free distillation of Yuan et al., by a virtual teacher.
    pub fn tfkd2020() -> Objective {
        labels().with(VirtualTeacher::new(), 0.1)
    }

    /// Channel-wise distillation of Shu et al.
    pub fn cwd2021(pairs: &[(&str, &str)]) -> Objective {
        each(labels(), pairs, 3.0, |s, t| ChannelWise::new(s, t))
    }

    /// Knowledge review of Chen et al., over two pairs of features or more, shallow first.
    pub fn review_kd2021(
        first: (&str, &str),
        second: (&str, &str),
        deeper: &[(&str, &str)],
    ) -> Objective {
        let pairs = [first, second].into_iter().chain(deeper.iter().copied());
        let (student, teacher): (Vec<_>, Vec<_>) = pairs.unzip();
        labels().with(ReviewKd::new(student, teacher), warmed_up())
    }

    /// Decoupled knowledge distillation of Zhao et al.
    pub fn dkd2022() -> Objective {
        labels().with(Dkd::new(4), warmed_up())
    }

    /// DIST of Huang et al.
    pub fn dist2022() -> Objective {
        labels().with(Dist::new(4), 2)
    }

    /// Masked generative distillation of Yang et al., with their weight for detection.
    pub fn mgd2022(pairs: &[(&str, &str)]) -> Objective {
        each(labels(), pairs, 2e-5, |s, t| {
            Mgd::new(s, t).with_reduction(Reduction::Sum)
        })
    }

    /// Normalised distillation of Yang et al.
    pub fn nkd2023() -> Objective {
        labels().with(Nkd::new(1), 1)
    }

    /// Logit standardization of Sun et al.
    pub fn logit_standardization2024() -> Objective {
        labels().with(SoftTarget::new(2).standardized(), 9)
    }
}
