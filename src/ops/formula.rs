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
    /// `α·KL` of the label against all other classes `+ β·KL` of those among themselves
    Decoupled {
        temperature: f64,
        alpha: f64,
        beta: f64,
    },
    /// `KL(p ‖ q)` for a top-k teacher `p`. With `has_tail`, all other classes are one more class on both
    /// sides; without, their probability in `p` is 0
    Sparse { temperature: f64, has_tail: bool },
    /// `Σ (z_s − z_t)²`, without the classes that either side masks
    SquaredError,
}

impl Formula {
    /// Whether it compares with a teacher.
    pub(crate) fn has_teacher(&self) -> bool {
        !matches!(self, Self::HardLabel { .. })
    }

    /// Whether it reads labels.
    pub(crate) fn has_labels(&self) -> bool {
        matches!(self, Self::HardLabel { .. } | Self::Decoupled { .. })
    }

    /// The temperature that logits are divided by.
    pub(crate) fn temperature(&self) -> f64 {
        match *self {
            Self::Divergence { temperature }
            | Self::Reverse { temperature }
            | Self::Mixture { temperature, .. }
            | Self::Decoupled { temperature, .. }
            | Self::Sparse { temperature, .. } => temperature,
            Self::HardLabel { .. } | Self::SquaredError => 1.0,
        }
    }
}
