use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::features::attention_transfer::{AttentionReduction, AttentionTransferConfig};
use crate::loss::features::channel_wise::ChannelWiseConfig;
use crate::loss::features::hint::HintConfig;
use crate::loss::features::mgd::MgdConfig;
use crate::loss::features::nst::NstConfig;
use crate::loss::features::review_kd::ReviewKdConfig;
use crate::loss::features::vid::VidConfig;
use crate::loss::logits::dist::DistConfig;
use crate::loss::logits::dkd::DkdConfig;
use crate::loss::logits::hard_label::HardLabelConfig;
use crate::loss::logits::nkd::NkdConfig;
use crate::loss::logits::soft_target::SoftTargetConfig;
use crate::loss::logits::standardized::StandardizedConfig;
use crate::loss::logits::virtual_teacher::VirtualTeacherConfig;
use crate::loss::relations::correlation_congruence::CorrelationCongruenceConfig;
use crate::loss::relations::crd::CrdConfig;
use crate::loss::relations::pkt::PktConfig;
use crate::loss::relations::rkd::RkdConfig;
use crate::loss::relations::similarity_preserving::SimilarityPreservingConfig;
use crate::objective::ObjectiveConfig;
use crate::recipe::stages::{Stage, StagesConfig};
use crate::schedule::Schedule;

/// A method as its paper, or the code of its authors, sets it up: losses, weights and schedules.
///
/// Values are those for CIFAR-100 where a paper has several. Use one as a start and to compare with
/// published numbers; weights of feature losses depend on the features' scale and are worth tuning.
///
/// | preset | objective | features |
/// |---|---|---|
/// | `Hinton2015` | 0.9 soft targets τ = 4 + 0.1 labels | none |
/// | `FitNets2015` | labels + 100 hint; in two stages, hint first and `Hinton2015` then | one pair or more |
/// | `At2017` | labels + 1000 attention transfer, code form | one pair or more |
/// | `Nst2017` | labels + 50 NST | one pair or more |
/// | `Pkt2018` | labels + 30000 PKT | one pair |
/// | `Rkd2019` | labels + RKD, distance 25 and angle 50 | one pair |
/// | `Sp2019` | labels + 3000 similarity preserving | one pair |
/// | `Cc2019` | labels + 0.02 correlation congruence | one pair |
/// | `Vid2019` | labels + VID | one pair or more |
/// | `Crd2020` | labels + 0.8 CRD | one pair |
/// | `TfKd2020` | labels + 0.1 virtual teacher | none |
/// | `Cwd2021` | labels + 3 channel-wise τ = 4 | one pair or more |
/// | `ReviewKd2021` | labels + review, warmed up over 1/12 of the training | two pairs or more, shallow first |
/// | `Dkd2022` | labels + DKD (α 1, β 8, τ = 4), warmed up over 1/12 of the training | none |
/// | `Dist2022` | labels + 2 DIST τ = 4 | none |
/// | `Mgd2022` | labels + MGD | one pair or more |
/// | `Nkd2023` | labels + NKD (γ 1.5) | none |
/// | `LogitStandardization2024` | labels + 9 standardised soft targets τ = 2 | none |
///
/// # Example
///
/// ```
/// use burn_distill::recipe::Preset;
///
/// let objective = Preset::Hinton2015.objective(&[])?.init()?;
/// assert_eq!(objective.to_string(), "0.9 · soft_target + 0.1 · hard_label");
///
/// let objective = Preset::Crd2020.objective(&[("embedding", "embedding")])?.init()?;
/// assert_eq!(objective.to_string(), "1 · hard_label + 0.8 · crd_embedding");
///
/// let error = Preset::Crd2020.objective(&[]).unwrap_err();
/// assert_eq!(error.to_string(), "preset crd2020: features is 0 pairs, expected one pair");
/// # Ok::<(), burn_distill::Error>(())
/// ```
///
/// # References
///
/// Each loss names its paper. The weights of the feature methods are those of RepDistiller (Tian et
/// al., 2020), of DKD and ReviewKD those of mdistiller (Zhao et al., 2022).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs)] // The table above says it once.
pub enum Preset {
    Hinton2015,
    FitNets2015,
    At2017,
    Nst2017,
    Pkt2018,
    Rkd2019,
    Sp2019,
    Cc2019,
    Vid2019,
    Crd2020,
    TfKd2020,
    Cwd2021,
    ReviewKd2021,
    Dkd2022,
    Dist2022,
    Mgd2022,
    Nkd2023,
    LogitStandardization2024,
}

impl Preset {
    /// All presets, oldest first.
    pub const ALL: [Self; 18] = [
        Self::Hinton2015,
        Self::FitNets2015,
        Self::At2017,
        Self::Nst2017,
        Self::Pkt2018,
        Self::Rkd2019,
        Self::Sp2019,
        Self::Cc2019,
        Self::Vid2019,
        Self::Crd2020,
        Self::TfKd2020,
        Self::Cwd2021,
        Self::ReviewKd2021,
        Self::Dkd2022,
        Self::Dist2022,
        Self::Mgd2022,
        Self::Nkd2023,
        Self::LogitStandardization2024,
    ];

    /// How many pairs of features the method compares, at least and at most.
    pub fn features(self) -> (usize, usize) {
        match self {
            Self::Hinton2015
            | Self::TfKd2020
            | Self::Dkd2022
            | Self::Dist2022
            | Self::Nkd2023
            | Self::LogitStandardization2024 => (0, 0),
            Self::Pkt2018 | Self::Rkd2019 | Self::Sp2019 | Self::Cc2019 | Self::Crd2020 => (1, 1),
            Self::ReviewKd2021 => (2, usize::MAX),
            Self::FitNets2015
            | Self::At2017
            | Self::Nst2017
            | Self::Vid2019
            | Self::Cwd2021
            | Self::Mgd2022 => (1, usize::MAX),
        }
    }

    /// The method's objective over these pairs of features, the student's name first.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if there are more or fewer pairs than the method compares.
    pub fn objective(self, features: &[(&str, &str)]) -> Result<ObjectiveConfig> {
        self.check(features)?;
        let labels = ObjectiveConfig::new().with(HardLabelConfig::new(), 1.0);
        // Twenty of 240 epochs.
        let warmed_up = || Schedule::from(1.0).warm_up(20.0 / 240.0);
        Ok(match self {
            Self::Hinton2015 => ObjectiveConfig::new()
                .with(SoftTargetConfig::new(4.0), 0.9)
                .with(HardLabelConfig::new(), 0.1),
            Self::FitNets2015 => each(labels, features, 100.0, |s, t| HintConfig::new(s, t)),
            Self::At2017 => each(labels, features, 1000.0, |s, t| {
                AttentionTransferConfig::new(s, t).with_reduction(AttentionReduction::MeanSquare)
            }),
            Self::Nst2017 => each(labels, features, 50.0, |s, t| NstConfig::new(s, t)),
            Self::Pkt2018 => each(labels, features, 30_000.0, |s, t| PktConfig::new(s, t)),
            Self::Rkd2019 => each(labels, features, 1.0, |s, t| RkdConfig::new(s, t)),
            Self::Sp2019 => each(labels, features, 3000.0, |s, t| {
                SimilarityPreservingConfig::new(s, t)
            }),
            Self::Cc2019 => each(labels, features, 0.02, |s, t| {
                CorrelationCongruenceConfig::new(s, t)
            }),
            Self::Vid2019 => each(labels, features, 1.0, |s, t| VidConfig::new(s, t)),
            Self::Crd2020 => each(labels, features, 0.8, |s, t| CrdConfig::new(s, t)),
            Self::TfKd2020 => labels.with(VirtualTeacherConfig::new(), 0.1),
            Self::Cwd2021 => each(labels, features, 3.0, |s, t| ChannelWiseConfig::new(s, t)),
            Self::ReviewKd2021 => {
                let (student, teacher): (Vec<_>, Vec<_>) = features.iter().copied().unzip();
                labels.with(ReviewKdConfig::new(student, teacher), warmed_up())
            }
            Self::Dkd2022 => labels.with(DkdConfig::new(4.0), warmed_up()),
            Self::Dist2022 => labels.with(DistConfig::new(4.0), 2.0),
            Self::Mgd2022 => each(labels, features, 1.0, |s, t| MgdConfig::new(s, t)),
            Self::Nkd2023 => labels.with(NkdConfig::new(1.0), 1.0),
            Self::LogitStandardization2024 => {
                labels.with(StandardizedConfig::new(SoftTargetConfig::new(2.0)), 9.0)
            }
        })
    }

    /// The method as a sequence of trainings of so many epochs in all: two stages for `FitNets2015`,
    /// half of the epochs each, and a single one for all others.
    ///
    /// # Errors
    ///
    /// As for [`objective`](Self::objective).
    pub fn stages(self, features: &[(&str, &str)], epochs: usize) -> Result<StagesConfig> {
        self.check(features)?;
        let Self::FitNets2015 = self else {
            let stage = Stage::new(self.objective(features)?, epochs);
            return Ok(StagesConfig::new().with(stage));
        };
        let hints = each(ObjectiveConfig::new(), features, 1.0, |s, t| {
            HintConfig::new(s, t)
        });
        let soft = Self::Hinton2015.objective(&[])?;
        Ok(StagesConfig::new()
            .with(Stage::new(hints, epochs / 2))
            .with(Stage::new(soft, epochs - epochs / 2)))
    }

    fn check(self, features: &[(&str, &str)]) -> Result<()> {
        let (least, most) = self.features();
        if (least..=most).contains(&features.len()) {
            return Ok(());
        }
        let name = format!("{self:?}").to_lowercase();
        Err(Error::invalid(
            format!("preset {name}: features"),
            format!("{} pairs", features.len()),
            match (least, most) {
                (0, 0) => "none",
                (1, 1) => "one pair",
                (1, _) => "at least one pair",
                _ => "at least two pairs",
            },
        ))
    }
}

/// One term per pair of features.
fn each<L: Into<crate::objective::LossConfig>>(
    objective: ObjectiveConfig,
    features: &[(&str, &str)],
    weight: f64,
    loss: impl Fn(&str, &str) -> L,
) -> ObjectiveConfig {
    features
        .iter()
        .fold(objective, |sum, (s, t)| sum.with(loss(s, t), weight))
}
