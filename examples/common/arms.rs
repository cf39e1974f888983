//! The methods that are compared, by name.

use burn_distill::loss::{
    Crd, Dist, Dkd, HardLabel, Hint, JensenShannon, LogitMse, ReverseKl, Rkd, SimilarityPreserving,
    SoftTarget,
};
use burn_distill::{IntoTerm, Objective};

/// The feature that both perceptrons give: their last hidden layer.
const H: &str = "hidden";

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Arm {
    pub name: &'static str,
    pub title: &'static str,
    pub teacher: TeacherKind,
    pub objective: Objective,
}

/// Which teacher a method learns from.
#[derive(Debug, Clone, Copy)]
pub enum TeacherKind {
    /// The one that was trained.
    Trained,
    /// One of the same shape that was not.
    Untrained,
    /// The trained one, its probabilities shuffled among the classes that it does not predict.
    Shuffled,
}

/// There is no method of this name.
#[derive(Debug, thiserror::Error)]
#[error("no method is named {0:?}; --list shows their names")]
pub struct UnknownArm(String);

impl Arm {
    fn new(name: &'static str, title: &'static str, objective: Objective) -> Self {
        Self {
            name,
            title,
            teacher: TeacherKind::Trained,
            objective,
        }
    }

    fn from(self, teacher: TeacherKind) -> Self {
        Self { teacher, ..self }
    }

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

    /// All methods, labels only first and the controls last.
    pub fn all() -> Vec<Self> {
        let kd4 = || only(SoftTarget::new(4), 0.9).with(HardLabel::new(), 0.1);
        vec![
            Self::new("labels", "labels only", only(HardLabel::new(), 1.0)),
            Self::new("soft_target_4", "soft targets τ = 4, 0.1 labels", kd4()),
            Self::new("soft_target_8", "soft targets τ = 8", soft(8.0)),
            Self::new("soft_target_20", "soft targets τ = 20", soft(20.0)),
            Self::new(
                "logit_mse",
                "squared error on logits",
                only(LogitMse::new(), 1.0),
            ),
            Self::new(
                "reverse_kl",
                "reverse KL τ = 8",
                only(ReverseKl::new(8), 1.0),
            ),
            Self::new(
                "jensen_shannon",
                "Jensen-Shannon τ = 8",
                only(JensenShannon::new(8), 4.0),
            ),
            Self::new("dkd", "DKD τ = 4 and labels", with_labels(Dkd::new(4), 1.0)),
            Self::new(
                "dist",
                "DIST τ = 4 and labels",
                with_labels(Dist::new(4), 2.0),
            ),
            Self::new(
                "standardized",
                "standardised τ = 2 and labels",
                with_labels(SoftTarget::new(2).standardized(), 9.0),
            ),
            Self::new("hint", "τ = 8 and hint", with_soft(Hint::new(H, H), 1.0)),
            Self::new("rkd", "τ = 8 and RKD", with_soft(Rkd::new(H, H), 1.0)),
            Self::new(
                "similarity",
                "τ = 8 and similarity preserving",
                with_soft(SimilarityPreserving::new(H, H), 100.0),
            ),
            Self::new("crd", "τ = 8 and CRD", with_soft(Crd::new(H, H), 0.8)),
            Self::new(
                "smoothing",
                "control: label smoothing 0.1",
                only(HardLabel::new().with_smoothing(0.1), 1.0),
            ),
            Self::new("shuffled", "control: shuffled teacher, τ = 4", kd4())
                .from(TeacherKind::Shuffled),
            Self::new("untrained", "control: untrained teacher, τ = 4", kd4())
                .from(TeacherKind::Untrained),
        ]
    }
}

fn only(loss: impl IntoTerm, weight: f64) -> Objective {
    Objective::new().with(loss, weight)
}

fn soft(temperature: f64) -> Objective {
    only(SoftTarget::new(temperature), 1.0)
}

fn with_labels(loss: impl IntoTerm, weight: f64) -> Objective {
    only(HardLabel::new(), 1.0).with(loss, weight)
}

fn with_soft(loss: impl IntoTerm, weight: f64) -> Objective {
    soft(8.0).with(loss, weight)
}
