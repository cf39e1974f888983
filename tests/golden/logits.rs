//! Losses on outputs.

use burn::tensor::Device;
use burn_distill::loss::{HardLabelConfig, LogitMseConfig, Loss, LossContext, SoftTargetConfig};
use burn_distill::{Outputs, Targets};

use crate::case::{Case, Leaves, Outcome};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    let one = |loss: Box<dyn Loss>, scale: f64| Some(run(case, device, &[(loss, scale)]));
    let soft_target = |t: f64| -> Box<dyn Loss> {
        Box::new(
            SoftTargetConfig::new(t)
                .init()
                .expect("a valid temperature"),
        )
    };
    match (loss, case.variant.as_str()) {
        ("soft_target_kl", "batchmean_t2")
        | ("masked_token_kl", "mean_over_selected_tokens_t2") => {
            let t = case.number("temperature");
            one(soft_target(t), 1.0)
        }
        ("soft_target_kl", "batchmean_no_t2") => {
            let t = case.number("temperature");
            one(soft_target(t), 1.0 / (t * t))
        }
        ("hinton", "alpha_on_kl") => {
            let alpha = case.number("alpha");
            let hard = HardLabelConfig::new().init().expect("valid defaults");
            let soft = soft_target(case.number("temperature"));
            let terms = [
                (soft, alpha),
                (Box::new(hard) as Box<dyn Loss>, 1.0 - alpha),
            ];
            Some(run(case, device, &terms))
        }
        ("mse_logits", "element_mean") => {
            let config = LogitMseConfig::new().with_temperature(case.number("temperature"));
            one(Box::new(config.init().expect("a valid temperature")), 1.0)
        }
        _ => None,
    }
}

/// A weighted sum of losses on student and teacher logits.
fn run(case: &Case, device: &Device, terms: &[(Box<dyn Loss>, f64)]) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let student = Outputs::new(leaves.rows("student_logits"));
    let teacher = Outputs::new(case.constant_rows("teacher_logits", device));
    let targets = match case.has("targets") {
        true => Targets::Classes(case.classes("targets", device)),
        false => Targets::None,
    };
    let mask = case.mask(device);
    let mut context = LossContext::new(&student, &teacher).with_targets(&targets);
    if let Some(mask) = &mask {
        context = context.with_mask(mask);
    }
    let weighted = terms.iter().map(|(loss, weight)| {
        loss.check(&context).expect("a case that fits its loss");
        loss.forward(&context) * *weight
    });
    let total = weighted
        .reduce(|sum, term| sum + term)
        .expect("at least one term");
    leaves.outcome(total)
}
