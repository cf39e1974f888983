//! Losses on outputs that tell classes apart: the true one, the likeliest, their order.

use burn::tensor::{Device, Int, Tensor};
use burn_distill::loss::{
    DistConfig, DkdConfig, HardLabelConfig, LossContext, MissingMass, NkdConfig, SoftTargetConfig,
    StandardizedConfig, TopK, sparse_soft_target_no_reduction,
};
use burn_distill::{IntoLoss, LossConfig, Outputs, Targets};

use crate::case::{Case, Leaves, Outcome};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    let number = |name: &str| case.number(name);
    match (loss, case.variant.as_str()) {
        ("dkd", "tckd_nckd") => Some(run(case, device, vec![(dkd(case).into(), 1.0)])),
        ("nkd", "target_plus_nontarget") => {
            let config = NkdConfig::new(number("temperature")).with_gamma(number("gamma"));
            Some(run(case, device, vec![(config.into(), 1.0)]))
        }
        ("dist", "pearson_tau2") => {
            let config = DistConfig::new(number("tau"));
            let config = config.with_beta(number("beta")).with_gamma(number("gamma"));
            Some(run(case, device, vec![(config.into(), 1.0)]))
        }
        ("dist", "segmentation_nchw") => Some(segmentation(case, device)),
        ("ls_kd", "zscore_both_t2") => {
            let config = standardized(case, SoftTargetConfig::new(number("temperature")));
            Some(run(case, device, vec![(config.into(), 1.0)]))
        }
        ("ls_kd", "with_ce_alpha_on_ce") => {
            let config = standardized(case, SoftTargetConfig::new(number("temperature")));
            let hard = HardLabelConfig::new();
            let terms = vec![
                (hard.into(), number("alpha")),
                (config.into(), number("beta")),
            ];
            Some(run(case, device, terms))
        }
        ("ls_kd", "standardized_dkd") => {
            let config = standardized(case, dkd(case));
            Some(run(case, device, vec![(config.into(), 1.0)]))
        }
        ("sparse_topk_kl", "zero") => Some(sparse(case, device, MissingMass::Renormalize)),
        ("sparse_topk_kl", "symmetric_uniform") => Some(sparse(case, device, MissingMass::Bucket)),
        _ => None,
    }
}

fn dkd(case: &Case) -> DkdConfig {
    DkdConfig::new(case.number("temperature"))
        .with_alpha(case.number("alpha"))
        .with_beta(case.number("beta"))
}

fn standardized(case: &Case, loss: impl Into<LossConfig>) -> StandardizedConfig {
    StandardizedConfig::new(loss).with_eps(case.number("eps"))
}

/// A weighted sum of losses on student and teacher logits.
fn run(case: &Case, device: &Device, terms: Vec<(LossConfig, f64)>) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let student = Outputs::new(leaves.rows("student_logits"));
    let teacher = Outputs::new(case.constant_rows("teacher_logits", device));
    let loss = sum(case, device, terms, &student, &teacher);
    leaves.outcome(loss)
}

/// Classes on axis 1 of `[N, C, H, W]`, every pixel a row.
fn segmentation(case: &Case, device: &Device) -> Outcome {
    let rows = |maps: Tensor<4>| Outputs::new(maps.permute([0, 2, 3, 1]));
    let mut leaves = Leaves::new(case, device);
    let student = rows(leaves.tensor("student_logits"));
    let teacher = rows(case.constant("teacher_logits", device));
    let config = DistConfig::new(case.number("tau"))
        .with_beta(case.number("beta"))
        .with_gamma(case.number("gamma"));
    let loss = sum(case, device, vec![(config.into(), 1.0)], &student, &teacher);
    leaves.outcome(loss)
}

fn sum(
    case: &Case,
    device: &Device,
    terms: Vec<(LossConfig, f64)>,
    student: &Outputs,
    teacher: &Outputs,
) -> Tensor<1> {
    let targets = match case.has("targets") {
        true => Targets::Classes(case.classes("targets", device)),
        false => Targets::None,
    };
    let context = LossContext::new(student, teacher).with_targets(&targets);
    let weighted = terms.into_iter().map(|(config, weight)| {
        let loss = config.into_loss().expect("valid parameters");
        loss.check(&context).expect("a case that fits its loss");
        loss.forward(&context) * weight
    });
    weighted
        .reduce(|sum, term| sum + term)
        .expect("at least one term")
}

/// A teacher of which only some classes are known.
fn sparse(case: &Case, device: &Device, missing_mass: MissingMass) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let student: Tensor<2> = leaves.rows("student_logits");
    let values = case.constant_rows("teacher_values", device);
    let indices: Tensor<2, Int> = case
        .classes("teacher_indices", device)
        .reshape(values.dims());
    let teacher =
        TopK::new(indices, values).at_temperature(case.number("target_generation_temperature"));
    let temperature = case.number("temperature");
    let rows = sparse_soft_target_no_reduction(student.clone(), teacher, temperature, missing_mass);

    let outputs = Outputs::new(student);
    let mask = case.mask(device);
    let mut context = LossContext::new(&outputs, &outputs);
    if let Some(mask) = &mask {
        context = context.with_mask(mask);
    }
    leaves.outcome(context.mean(rows))
}
