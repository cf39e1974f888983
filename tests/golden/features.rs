//! Losses on features.

use burn::tensor::Device;
use burn_distill::Feature;
use burn_distill::loss::hint;

use crate::case::{Case, Leaves, Outcome};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    match (loss, case.variant.as_str()) {
        ("fitnet_hint", "element_mean") => {
            let mut leaves = Leaves::new(case, device);
            let student = leaf(case, &mut leaves, "student_features_0");
            let teacher = constant(case, "teacher_features_0", device);
            Some(leaves.outcome(hint(student, teacher).mean()))
        }
        _ => None,
    }
}

/// A feature of the rank that the case gives.
pub fn leaf(case: &Case, leaves: &mut Leaves<'_>, name: &str) -> Feature {
    match case.shape(name).len() {
        2 => leaves.tensor::<2>(name).into(),
        3 => leaves.tensor::<3>(name).into(),
        4 => leaves.tensor::<4>(name).into(),
        rank => panic!("{}: {name} has rank {rank}", case.name),
    }
}

/// The same, without a gradient.
pub fn constant(case: &Case, name: &str, device: &Device) -> Feature {
    match case.shape(name).len() {
        2 => case.constant::<2>(name, device).into(),
        3 => case.constant::<3>(name, device).into(),
        4 => case.constant::<4>(name, device).into(),
        rank => panic!("{}: {name} has rank {rank}", case.name),
    }
}
