//! Weighted means over rows, accumulated on the host.

/// A mean in the making: `Σ w·v` and `Σ w`, in double precision.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Adds one value. A weight of 0 leaves it out, whatever it is.
    pub fn add(&mut self, value: f64, weight: f64) {
        if weight > 0.0 {
            self.sum += weight * value;
            self.weight += weight;
        }
    }

    /// Adds what another mean was taken of.
    pub fn join(&mut self, other: Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }

    /// `Σ w·v / Σ w`; `None` where nothing was added.
    pub fn get(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}
