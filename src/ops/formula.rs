/// A comparison of one row of logits with a teacher's, with labels, or with both, whose value and
/// gradient have a closed form.
///
/// `p = softmax(z_t / τ)` is the teacher's side, `q = softmax(z_s / τ)` the student's, `y` the label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Formula {
    /// `KL(p ‖ q)`
    Divergence { temperature: f64 },
    /// `KL(q ‖ p)`
    Reverse { temperature: f64 },
    /// `β·KL(p ‖ m) + (1 − β)·KL(q ‖ m)` with `m = β·p + (1 − β)·q`, for `0 < β < 1`
    Mixture { temperature: f64, beta: f64 },
    /// `−log softmax(z_s)_y`, the target smoothed by `ε/C`
    HardLabel { smoothing: f64 },
    /// `α·HardLabel + (1 − α)·τ²·KL(p ‖ q)`
    HardAndSoft { temperature: f64, alpha: f64 },
    /// `α·KL` of the label against all other classes `+ β·KL` of those among themselves
    Decoupled {
        temperature: f64,
        alpha: f64,
        beta: f64,
    },
    /// `KL(p ‖ q)` where only some classes of `p` are known. With `has_rest`, all others are one more
    /// class on both sides; without, `p` gives them nothing
    Known { temperature: f64, has_rest: bool },
    /// `Σ (z_s − z_t)²`, without the classes that either side rules out
    SquaredError,
}

impl Formula {
    /// The temperature that logits are divided by.
    pub(crate) fn temperature(&self) -> f64 {
        match *self {
            Self::Divergence { temperature }
            | Self::Reverse { temperature }
            | Self::Mixture { temperature, .. }
            | Self::HardAndSoft { temperature, .. }
            | Self::Decoupled { temperature, .. }
            | Self::Known { temperature, .. } => temperature,
            Self::HardLabel { .. } | Self::SquaredError => 1.0,
        }
    }
}
