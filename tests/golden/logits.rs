//! Losses on outputs.

use burn::tensor::Device;
use burn_distill::loss::{
    HardLabel, JensenShannon, LogitMse, ReverseKl, SoftCrossEntropy, SoftTarget, TemperatureScale,
    TotalVariation,
};
use burn_distill::{Objective, Outputs};

use crate::case::{Case, Leaves, Outcome, value};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    let number = |name: &str| case.number(name);
    let objective = Objective::new();
    let (objective, scale) = match (loss, case.variant.as_str()) {
        ("soft_target_kl", "batchmean_t2")
        | ("masked_token_kl", "mean_over_selected_tokens_t2") => (
            objective.with(SoftTarget::new(number("temperature")), 1),
            1.0,
        ),
        ("soft_target_kl", "batchmean_no_t2") => {
            let t = number("temperature");
            (objective.with(SoftTarget::new(t), 1), 1.0 / (t * t))
        }
        ("hinton", "alpha_on_kl") => {
            let alpha = number("alpha");
            let soft = SoftTarget::new(number("temperature"));
            let objective = objective.with(soft, alpha);
            (objective.with(HardLabel::new(), 1.0 - alpha), 1.0)
        }
        ("soft_target_kl", "soft_cross_entropy_no_t2")
        | ("masked_token_kl", "soft_cross_entropy_masked_mean") => {
            let loss = SoftCrossEntropy::new(number("temperature"));
            let loss = loss.with_scale(TemperatureScale::None);
            (objective.with(loss, 1), 1.0)
        }
        ("masked_token_kl", "tv_distance_masked_mean") => {
            let loss = TotalVariation::new(number("temperature"));
            (objective.with(loss, 1), 1.0)
        }
        ("reverse_kl", "batchmean_no_t2" | "token_masked_mean_T1") => {
            let loss = ReverseKl::new(number("temperature")).with_scale(TemperatureScale::None);
            (objective.with(loss, 1), 1.0)
        }
        ("generalized_jsd", "trl_batchmean") => {
            let loss = JensenShannon::new(number("temperature"))
                .with_scale(TemperatureScale::None)
                .with_beta(number("beta"));
            // Without a mask the original divides by the samples, not by the tokens.
            let shape = case.shape("student_logits");
            let tokens: usize = shape[1..shape.len() - 1].iter().product();
            let scale = if case.has("mask") { 1 } else { tokens };
            (objective.with(loss, 1), scale as f64)
        }
        ("generalized_jsd", "distillm_js_distance") => {
            let loss = JensenShannon::new(1).with_beta(1.0 - number("lam"));
            (objective.with(loss, 1), 1.0)
        }
        ("mse_logits", "element_mean") => {
            let loss = LogitMse::new().with_temperature(number("temperature"));
            (objective.with(loss, 1), 1.0)
        }
        _ => return None,
    };
    Some(run(case, device, &objective, scale))
}

/// An objective on student and teacher logits, times a factor.
fn run(case: &Case, device: &Device, objective: &Objective, scale: f64) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let student = Outputs::new(leaves.rows("student_logits"));
    let teacher = Outputs::new(case.constant_rows("teacher_logits", device));
    let total = value(objective, &student, &teacher, &case.targets(device), device);
    leaves.outcome(total * scale)
}
