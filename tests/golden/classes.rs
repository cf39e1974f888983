//! Losses on outputs that tell classes apart: the true one, the likeliest, their order.

use burn::tensor::{Device, Int, Tensor};
use burn_distill::loss::{
    Dist, Dkd, HardLabel, Nkd, SoftTarget, SparseSoftTarget, soft_target, sparse_soft_target,
};
use burn_distill::{MissingProbability, Objective, Outputs, Term, TopK};

use crate::case::{Case, Leaves, Outcome, value};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    let number = |name: &str| case.number(name);
    let objective = Objective::new();
    let objective = match (loss, case.variant.as_str()) {
        ("dkd", "tckd_nckd") => objective.with(dkd(case), 1),
        ("nkd", "target_plus_nontarget") => {
            let nkd = Nkd::new(number("temperature")).with_gamma(number("gamma"));
            objective.with(nkd, 1)
        }
        ("dist", "pearson_tau2") => objective.with(dist(case), 1),
        ("dist", "segmentation_nchw") => return Some(segmentation(case, device)),
        ("ls_kd", "zscore_both_t2") => objective.with(standardized_soft_target(case), 1),
        ("ls_kd", "with_ce_alpha_on_ce") => objective
            .with(HardLabel::new(), number("alpha"))
            .with(standardized_soft_target(case), number("beta")),
        ("ls_kd", "standardized_dkd") => {
            objective.with(standardized(case, Term::new(dkd(case))), 1)
        }
        ("sparse_topk_kl", "zero") => {
            return Some(sparse(case, device, MissingProbability::Renormalize));
        }
        ("sparse_topk_kl", "symmetric_uniform") => {
            return Some(sparse(case, device, MissingProbability::Bucket));
        }
        _ => return None,
    };
    let mut leaves = Leaves::new(case, device);
    let student = Outputs::new(leaves.rows("student_logits"));
    let teacher = Outputs::new(case.constant_rows("teacher_logits", device));
    let total = value(
        &objective,
        &student,
        &teacher,
        &case.targets(device),
        device,
    );
    Some(leaves.outcome(total))
}

fn dkd(case: &Case) -> Dkd {
    Dkd::new(case.number("temperature"))
        .with_alpha(case.number("alpha"))
        .with_beta(case.number("beta"))
}

fn dist(case: &Case) -> Dist {
    Dist::new(case.number("tau"))
        .with_beta(case.number("beta"))
        .with_gamma(case.number("gamma"))
}

fn standardized_soft_target(case: &Case) -> Term {
    standardized(case, Term::new(SoftTarget::new(case.number("temperature"))))
}

/// A loss on z-scores, whose ε is that of the original.
fn standardized(case: &Case, term: Term) -> Term {
    assert_eq!(case.number("eps"), 1e-7);
    term.standardized()
}

/// Classes on axis 1 of `[N, C, H, W]`, every pixel a row.
fn segmentation(case: &Case, device: &Device) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let student = Outputs::images(leaves.tensor("student_logits"));
    let teacher = Outputs::images(case.constant("teacher_logits", device));
    let objective = Objective::new().with(dist(case), 1);
    let total = value(
        &objective,
        &student,
        &teacher,
        &case.targets(device),
        device,
    );
    leaves.outcome(total)
}

/// A teacher of which only some classes are known: as a function, and as a term.
fn sparse(case: &Case, device: &Device, missing: MissingProbability) -> Outcome {
    let top_k = || {
        let values = case.constant_rows("teacher_values", device);
        let indices: Tensor<2, Int> = case
            .classes("teacher_indices", device)
            .reshape(values.dims());
        let student = case.shape("student_logits");
        let classes = *student.last().expect("logits have classes");
        let at = case.number("target_generation_temperature");
        TopK::new(indices, values, classes).at_temperature(at)
    };
    let temperature = case.number("temperature");
    let mask = case.mask(device);

    let mut leaves = Leaves::new(case, device);
    let loss = sparse_soft_target(leaves.rows("student_logits"), top_k(), temperature, missing);
    let loss = match &mask {
        Some(mask) => loss.weighted(mask),
        None => loss,
    };
    let function = leaves.outcome(loss.mean());
    if function.compare(case).is_err() {
        return function;
    }
    if missing == MissingProbability::Bucket {
        // Soft targets see the same in a teacher that is its top k.
        let mut leaves = Leaves::new(case, device);
        let loss = soft_target(leaves.rows("student_logits"), top_k(), temperature);
        let loss = match &mask {
            Some(mask) => loss.weighted(mask),
            None => loss,
        };
        let soft = leaves.outcome(loss.mean());
        if soft.compare(case).is_err() {
            return soft;
        }
    }

    let mut leaves = Leaves::new(case, device);
    let student = Outputs::new(leaves.rows("student_logits"));
    let teacher = Outputs::new(top_k());
    let k = case.shape("teacher_values").last().copied().unwrap_or(0);
    let term = SparseSoftTarget::new(k)
        .with_temperature(temperature)
        .with_missing_probability(missing);
    let objective = Objective::new().with(term, 1);
    let total = value(
        &objective,
        &student,
        &teacher,
        &case.targets(device),
        device,
    );
    leaves.outcome(total)
}
