//! Losses on features with maps, margins or parts of their own.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor};
use burn_distill::loss::{
    ActivationBoundaryConfig, BoundaryReduction, FactorForm, FspConfig, FspForm, Loss, LossContext,
    OverhaulReduction, Parts, VidConfig, VidRegressor, factor_transfer, hcl, overhaul,
};
use burn_distill::{Feature, Outputs, Projector};

use crate::case::{Case, Leaves, Outcome};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    match (loss, case.variant.as_str()) {
        ("vid", "identity_regressor") => Some(vid(case, device, VidRegressor::Identity)),
        ("vid", "three_conv1x1_relu_regressor") => {
            Some(vid(case, device, VidRegressor::ThreeLayers))
        }
        ("fsp", "avgpool_mse_summed_pairs" | "textbrewer_sequence") => {
            Some(fsp(case, device, FspForm::MeanSquare))
        }
        ("fsp", "torchdistill_maxpool_colnorm") => Some(fsp(case, device, FspForm::ColumnNorm)),
        ("factor_transfer", "repdistiller_channel_mean") => {
            assert_eq!(case.number("p1"), 2.0);
            let form = match case.number("p2") {
                1.0 => FactorForm::ChannelL1,
                2.0 => FactorForm::ChannelSquare,
                power => panic!("{}: power {power}", case.name),
            };
            Some(summed(case, device, |s, t| factor_transfer(s, t, form)))
        }
        ("factor_transfer", "flat_l2norm_l1_mean") => {
            let form = FactorForm::FlatL1;
            Some(summed(case, device, |s, t| factor_transfer(s, t, form)))
        }
        ("factor_transfer", "flat_l2norm_l2_per_sample") => {
            let form = FactorForm::FlatL2;
            Some(summed(case, device, |s, t| factor_transfer(s, t, form)))
        }
        ("ab", "element_mean") => Some(boundary(case, device, BoundaryReduction::Mean, |_, _| 1.0)),
        ("ab", "sum_over_batch") => {
            Some(boundary(case, device, BoundaryReduction::Sum, |_, _| 1.0))
        }
        ("ab", "repdistiller_layerweighted") => {
            let scale = case.number("scale");
            let weight = |i: i32, layers: i32| scale * 2f64.powi(i - layers + 1);
            Some(boundary(case, device, BoundaryReduction::Sum, weight))
        }
        ("ofd", "partial_l2_sum_over_chw_mean_batch") => {
            Some(ofd(case, device, OverhaulReduction::Mean))
        }
        ("ofd", "partial_l2_sum") => Some(ofd(case, device, OverhaulReduction::Sum)),
        ("review_kd", "hcl") => Some(summed(case, device, |s, t| hcl(map(s), map(t)))),
        _ => None,
    }
}

/// The features of both sides, the student's as leaves.
struct Features<'a> {
    leaves: Leaves<'a>,
    student: Vec<Feature>,
    teacher: Vec<Feature>,
}

impl<'a> Features<'a> {
    fn new(case: &'a Case, device: &Device) -> Self {
        let mut leaves = Leaves::new(case, device);
        let names = |side: &'static str| {
            let names = (0..).map(move |i| format!("{side}_features_{i}"));
            names.take_while(|name| case.has(name))
        };
        let leaf = |name: String| -> Feature {
            match case.shape(&name).len() {
                2 => leaves.tensor::<2>(&name).into(),
                3 => leaves.tensor::<3>(&name).into(),
                _ => leaves.tensor::<4>(&name).into(),
            }
        };
        let constant = |name: String| -> Feature {
            match case.shape(&name).len() {
                2 => case.constant::<2>(&name, device).into(),
                3 => case.constant::<3>(&name, device).into(),
                _ => case.constant::<4>(&name, device).into(),
            }
        };
        Self {
            student: names("student").map(leaf).collect(),
            teacher: names("teacher").map(constant).collect(),
            leaves,
        }
    }

    /// Outputs of both sides with the features `0`, `1` and so on, for the terms of an objective.
    fn outputs(&self, rows: usize, device: &Device) -> (Outputs, Outputs) {
        let outputs = |features: &[Feature]| {
            let empty = Outputs::new(Tensor::<2>::zeros([rows, 2], device));
            let named = features.iter().enumerate();
            named.fold(empty, |all, (i, x)| {
                all.with_feature(i.to_string(), x.clone())
            })
        };
        (outputs(&self.student), outputs(&self.teacher))
    }
}

/// The sum of a function over all pairs of features.
fn summed(case: &Case, device: &Device, loss: impl Fn(Feature, Feature) -> Tensor<1>) -> Outcome {
    let features = Features::new(case, device);
    let pairs = features.student.into_iter().zip(features.teacher);
    let total = pairs
        .map(|(s, t)| loss(s, t))
        .reduce(|sum, value| sum + value);
    features.leaves.outcome(total.expect("at least one pair"))
}

fn map(feature: Feature) -> Tensor<4> {
    match feature {
        Feature::Rank4(x) => x,
        other => panic!("expected maps, got {:?}", other.shape()),
    }
}

fn ofd(case: &Case, device: &Device, reduction: OverhaulReduction) -> Outcome {
    let margin = case.constant::<1>("margin", device);
    summed(case, device, |s, t| {
        overhaul(map(s), map(t), margin.clone(), reduction)
    })
}

/// A weighted sum of terms, on the context of a step.
fn weighted(terms: &[(Box<dyn Loss>, f64)], context: &LossContext<'_>) -> Tensor<1> {
    let terms = terms.iter().map(|(loss, weight)| {
        loss.check(context).expect("a case that fits its loss");
        loss.forward(context) * *weight
    });
    terms
        .reduce(|sum, term| sum + term)
        .expect("at least one term")
}

fn boundary(
    case: &Case,
    device: &Device,
    reduction: BoundaryReduction,
    weight: impl Fn(i32, i32) -> f64,
) -> Outcome {
    let features = Features::new(case, device);
    let layers = features.student.len();
    let term = |i: usize| -> (Box<dyn Loss>, f64) {
        let config = ActivationBoundaryConfig::new(i.to_string(), i.to_string())
            .with_margin(case.number("margin"))
            .with_reduction(reduction);
        let loss = config.init().expect("a valid margin");
        (Box::new(loss), weight(i as i32, layers as i32))
    };
    let terms: Vec<_> = (0..layers).map(term).collect();
    let rows = features.student[0].shape()[0];
    let (student, teacher) = features.outputs(rows, device);
    let total = weighted(&terms, &LossContext::new(&student, &teacher));
    features.leaves.outcome(total)
}

fn fsp(case: &Case, device: &Device, form: FspForm) -> Outcome {
    let features = Features::new(case, device);
    let term = |i: usize| -> (Box<dyn Loss>, f64) {
        let names = [i.to_string(), (i + 1).to_string()];
        let config = FspConfig::new(names.clone(), names).with_form(form);
        (Box::new(config.init().expect("two names")), 1.0)
    };
    let terms: Vec<_> = (1..features.student.len()).map(|i| term(i - 1)).collect();
    let mask = case.mask(device);
    let samples = features.student[0].shape()[0];
    let rows = mask.as_ref().map_or(samples, |mask| mask.dims()[0]);
    let (student, teacher) = features.outputs(rows, device);
    let mut context = LossContext::new(&student, &teacher);
    if let Some(mask) = &mask {
        context = context.with_mask(mask);
    }
    let total = weighted(&terms, &context);
    features.leaves.outcome(total)
}

/// The loss with the weights of the case in place of its own.
fn vid(case: &Case, device: &Device, regressor: VidRegressor) -> Outcome {
    assert_eq!(case.number("eps"), 1e-5);
    let config = VidConfig::new("0", "0").with_regressor(regressor);
    let loss = config.init().expect("two names");
    let mut features = Features::new(case, device);
    let rows = features.student[0].shape()[0];
    let (student, teacher) = features.outputs(rows, device);
    let context = LossContext::new(&student, &teacher);
    loss.check(&context).expect("a case that fits its loss");
    let mut parts = loss.parts(&context, device).expect("it trains variances");
    let Parts::Vid(vid) = &mut parts else {
        panic!("other parts: {}", parts.describe())
    };
    let leaves = &mut features.leaves;
    vid.log_scale = Param::initialized(ParamId::new(), leaves.tensor("log_scale"));
    for (i, layer) in vid.layers.iter_mut().enumerate() {
        let Projector::Conv1x1(layer) = layer else {
            panic!("another layer: {}", layer.describe())
        };
        let weight: Tensor<2> = leaves.tensor(&format!("regressor_w{i}"));
        let weight = weight.unsqueeze_dims(&[2, 3]);
        layer.weight = Param::initialized(ParamId::new(), weight);
    }
    let total = loss.forward(&context.with_parts(&parts));
    features.leaves.outcome(total)
}
