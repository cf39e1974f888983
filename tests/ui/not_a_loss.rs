//! A type that is not a loss, a loss as a `Result`, and a reference to one.

use burn_distill::loss::SoftTarget;
use burn_distill::{Objective, Result};

struct NoLoss;

fn main() {
    let _ = Objective::new().with(NoLoss, 1.0);

    let checked: Result<SoftTarget> = Ok(SoftTarget::new(4.0));
    let _ = Objective::new().with(checked, 1.0);

    let loss = SoftTarget::new(4.0);
    let _ = Objective::new().with(&loss, 1.0);
}
