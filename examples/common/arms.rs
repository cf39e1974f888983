//! The methods that are compared, by name.

use burn_distill::ObjectiveConfig;
use burn_distill::loss::{HardLabelConfig, HintConfig, LogitMseConfig, SoftTargetConfig};

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
                "hint",
                "soft targets τ = 8 and hint",
                Trained,
                soft(8.0).with(HintConfig::new("hidden", "hidden"), 1.0),
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
