//! The methods that are compared, by name.

use burn_distill::loss::{
    CrdConfig, DistConfig, DkdConfig, HardLabelConfig, HintConfig, JensenShannonConfig,
    LogitMseConfig, ReverseKlConfig, RkdConfig, SimilarityPreservingConfig, SoftTargetConfig,
    StandardizedConfig,
};
use burn_distill::{LossConfig, ObjectiveConfig};

/// The feature that both perceptrons give: their last hidden layer.
const H: &str = "hidden";

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Arm {
    pub name: &'static str,
    pub title: &'static str,
    pub teacher: TeacherKind,
    pub objective: ObjectiveConfig,
}

/// Which teacher a method learns from.
#[derive(Debug, Clone, Copy)]
pub enum TeacherKind {
    /// The one that was trained.
    Trained,
    /// One of the same shape that was not.
    Untrained,
    /// The trained one, its wrong answers shuffled.
    Shuffled,
}

/// There is no method of this name.
#[derive(Debug, thiserror::Error)]
#[error("no method is named {0:?}; --list shows their names")]
pub struct UnknownArm(String);

impl Arm {
    /// The methods of these names, or all of them.
    pub fn chosen(names: &[String]) -> Result<Vec<Self>, UnknownArm> {
        let all = Self::all();
        if names.is_empty() {
            return Ok(all);
        }
        let find = |name: &String| {
            let found = all.iter().find(|arm| arm.name == name);
            found.cloned().ok_or_else(|| UnknownArm(name.clone()))
        };
        names.iter().map(find).collect()
    }

    /// All methods, labels alone first and the controls last.
    pub fn all() -> Vec<Self> {
        use TeacherKind::{Shuffled, Trained, Untrained};
        let arm = |name, title, teacher, objective| Self {
            name,
            title,
            teacher,
            objective,
        };
        let only = ObjectiveConfig::new;
        let soft = |t: f64| only().with(SoftTargetConfig::new(t), 1.0);
        fn labels(loss: impl Into<LossConfig>, weight: f64) -> ObjectiveConfig {
            ObjectiveConfig::new()
                .with(HardLabelConfig::new(), 1.0)
                .with(loss, weight)
        }
        fn with_soft(loss: impl Into<LossConfig>, weight: f64) -> ObjectiveConfig {
            ObjectiveConfig::new()
                .with(SoftTargetConfig::new(8.0), 1.0)
                .with(loss, weight)
        }
        let beside = |objective: ObjectiveConfig| objective.with(HardLabelConfig::new(), 0.1);
        let kd4 = || beside(only().with(SoftTargetConfig::new(4.0), 0.9));
        vec![
            arm(
                "labels",
                "labels alone",
                Trained,
                only().with(HardLabelConfig::new(), 1.0),
            ),
            arm(
                "soft_target_4",
                "soft targets τ = 4, 0.1 labels",
                Trained,
                kd4(),
            ),
            arm("soft_target_8", "soft targets τ = 8", Trained, soft(8.0)),
            arm("soft_target_20", "soft targets τ = 20", Trained, soft(20.0)),
            arm(
                "logit_mse",
                "squared error on logits",
                Trained,
                only().with(LogitMseConfig::new(), 1.0),
            ),
            arm(
                "reverse_kl",
                "reverse divergence τ = 8",
                Trained,
                only().with(ReverseKlConfig::new(8.0), 1.0),
            ),
            arm(
                "jensen_shannon",
                "Jensen-Shannon τ = 8",
                Trained,
                only().with(JensenShannonConfig::new(8.0), 4.0),
            ),
            arm(
                "dkd",
                "DKD τ = 4 and labels",
                Trained,
                labels(DkdConfig::new(4.0), 1.0),
            ),
            arm(
                "dist",
                "DIST τ = 4 and labels",
                Trained,
                labels(DistConfig::new(4.0), 2.0),
            ),
            arm(
                "standardized",
                "standardised τ = 2 and labels",
                Trained,
                labels(StandardizedConfig::new(SoftTargetConfig::new(2.0)), 9.0),
            ),
            arm(
                "hint",
                "τ = 8 and hint",
                Trained,
                with_soft(HintConfig::new(H, H), 1.0),
            ),
            arm(
                "rkd",
                "τ = 8 and RKD",
                Trained,
                with_soft(RkdConfig::new(H, H), 1.0),
            ),
            arm(
                "similarity",
                "τ = 8 and similarity preserving",
                Trained,
                with_soft(SimilarityPreservingConfig::new(H, H), 100.0),
            ),
            arm(
                "crd",
                "τ = 8 and CRD",
                Trained,
                with_soft(CrdConfig::new(H, H), 0.8),
            ),
            arm(
                "smoothing",
                "control: label smoothing 0.1",
                Trained,
                only().with(HardLabelConfig::new().with_smoothing(0.1), 1.0),
            ),
            arm(
                "shuffled",
                "control: shuffled teacher, τ = 4",
                Shuffled,
                kd4(),
            ),
            arm(
                "untrained",
                "control: untrained teacher, τ = 4",
                Untrained,
                kd4(),
            ),
        ]
    }
}
