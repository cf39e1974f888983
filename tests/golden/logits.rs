//! Losses on outputs.

use burn::tensor::Device;
use burn_distill::loss::{
    HardAndSoftConfig, HardLabelConfig, JensenShannonConfig, LogitMseConfig, Loss, LossContext,
    ReverseKlConfig, SoftCrossEntropyConfig, SoftTargetConfig, TemperatureScale,
    TotalVariationConfig,
};
use burn_distill::{Outputs, Result, Targets};

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
            // As one loss; its own α is the labels'.
            let config = HardAndSoftConfig::new(case.number("temperature")).with_alpha(1.0 - alpha);
            let together = run(case, device, &[(boxed(config.init()), 1.0)]);
            if together.compare(case).is_err() {
                return Some(together);
            }
            let hard = HardLabelConfig::new().init().expect("valid defaults");
            let soft = soft_target(case.number("temperature"));
            let terms = [
                (soft, alpha),
                (Box::new(hard) as Box<dyn Loss>, 1.0 - alpha),
            ];
            Some(run(case, device, &terms))
        }
        ("soft_target_kl", "soft_cross_entropy_no_t2")
        | ("masked_token_kl", "soft_cross_entropy_masked_mean") => {
            let config = SoftCrossEntropyConfig::new(case.number("temperature"));
            let config = config.with_scale(TemperatureScale::None);
            one(boxed(config.init()), 1.0)
        }
        ("masked_token_kl", "tv_distance_masked_mean") => {
            let config = TotalVariationConfig::new(case.number("temperature"));
            one(boxed(config.init()), 1.0)
        }
        ("reverse_kl", "batchmean_no_t2" | "token_masked_mean_T1") => {
            let config = ReverseKlConfig::new(case.number("temperature"));
            let config = config.with_scale(TemperatureScale::None);
            one(boxed(config.init()), 1.0)
        }
        ("generalized_jsd", "trl_batchmean") => {
            let config = JensenShannonConfig::new(case.number("temperature"));
            let config = config.with_scale(TemperatureScale::None);
            let config = config.with_beta(case.number("beta"));
            // Without a mask the original divides by the samples, not by the tokens.
            let shape = case.shape("student_logits");
            let tokens: usize = shape[1..shape.len() - 1].iter().product();
            let scale = if case.has("mask") { 1 } else { tokens };
            one(boxed(config.init()), scale as f64)
        }
        ("generalized_jsd", "distillm_js_distance") => {
            let config = JensenShannonConfig::new(1.0).with_beta(1.0 - case.number("lam"));
            one(boxed(config.init()), 1.0)
        }
        ("mse_logits", "element_mean") => {
            let config = LogitMseConfig::new().with_temperature(case.number("temperature"));
            one(Box::new(config.init().expect("a valid temperature")), 1.0)
        }
        _ => None,
    }
}

fn boxed(loss: Result<impl Loss + 'static>) -> Box<dyn Loss> {
    Box::new(loss.expect("valid parameters"))
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
