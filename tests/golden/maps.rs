//! Losses on features with maps, margins or parts of their own.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use burn_distill::loss::{
    ActivationBoundary, FactorForm, Fsp, FspForm, Loss, LossContext, LossValue, Reduction, Vid,
    factor_transfer, hcl, overhaul,
};
use burn_distill::{Feature, Objective, Outputs};

use crate::case::{Case, Leaves, Outcome, value};
use crate::features::{constant, leaf};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    match (loss, case.variant.as_str()) {
        ("vid", "identity_regressor") => Some(vid(case, device, false)),
        ("vid", "three_conv1x1_relu_regressor") => Some(vid(case, device, true)),
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
        ("ab", "element_mean") => Some(boundary(case, device, Reduction::Mean, |_, _| 1.0)),
        ("ab", "sum_over_batch") => Some(boundary(case, device, Reduction::Sum, |_, _| 1.0)),
        ("ab", "repdistiller_layerweighted") => {
            let scale = case.number("scale");
            let weight = |i: i32, layers: i32| scale * 2f64.powi(i - layers + 1);
            Some(boundary(case, device, Reduction::Sum, weight))
        }
        ("ofd", "partial_l2_sum_over_chw_mean_batch") => Some(ofd(case, device, Reduction::Mean)),
        ("ofd", "partial_l2_sum") => Some(ofd(case, device, Reduction::Sum)),
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
        Self {
            student: names("student")
                .map(|name| leaf(case, &mut leaves, &name))
                .collect(),
            teacher: names("teacher")
                .map(|name| constant(case, &name, device))
                .collect(),
            leaves,
        }
    }

    /// Outputs of both sides with the features `0`, `1` and so on, for the terms of an objective.
    fn outputs(&self) -> (Outputs, Outputs) {
        let outputs = |features: &[Feature]| {
            let named = features.iter().enumerate();
            named.fold(Outputs::features_only(), |all, (i, x)| {
                all.with_feature(i.to_string(), x.clone())
            })
        };
        (outputs(&self.student), outputs(&self.teacher))
    }
}

/// The sum of a function over all pairs of features.
fn summed(case: &Case, device: &Device, loss: impl Fn(Feature, Feature) -> LossValue) -> Outcome {
    let features = Features::new(case, device);
    let pairs = features.student.into_iter().zip(features.teacher);
    let total = pairs
        .map(|(s, t)| loss(s, t).mean())
        .reduce(|sum, value| sum + value);
    features.leaves.outcome(total.expect("at least one pair"))
}

fn map(feature: Feature) -> Tensor<4> {
    match feature {
        Feature::Rank4(x) => x,
        other => panic!("expected maps, got {:?}", other.shape()),
    }
}

fn ofd(case: &Case, device: &Device, reduction: Reduction) -> Outcome {
    let features = Features::new(case, device);
    let margin = case.constant::<1>("margin", device);
    let pairs = features.student.into_iter().zip(features.teacher);
    let total = pairs
        .map(|(s, t)| {
            let rows = overhaul(map(s), map(t), margin.clone());
            match reduction {
                Reduction::Mean => rows.mean(),
                _ => rows.per_row().sum(),
            }
        })
        .reduce(|sum, value| sum + value);
    features.leaves.outcome(total.expect("at least one pair"))
}

/// The value of an objective on the features of a case.
fn of_terms(case: &Case, device: &Device, features: Features<'_>, objective: Objective) -> Outcome {
    let (student, teacher) = features.outputs();
    let total = value(
        &objective,
        &student,
        &teacher,
        &case.targets(device),
        device,
    );
    features.leaves.outcome(total)
}

fn boundary(
    case: &Case,
    device: &Device,
    reduction: Reduction,
    weight: impl Fn(i32, i32) -> f64,
) -> Outcome {
    let features = Features::new(case, device);
    let layers = features.student.len();
    let objective = (0..layers).fold(Objective::new(), |sum, i| {
        let loss = ActivationBoundary::new(i.to_string(), i.to_string())
            .with_margin(case.number("margin"))
            .with_reduction(reduction);
        sum.with(loss, weight(i as i32, layers as i32))
    });
    of_terms(case, device, features, objective)
}

fn fsp(case: &Case, device: &Device, form: FspForm) -> Outcome {
    let features = Features::new(case, device);
    let objective = (1..features.student.len()).fold(Objective::new(), |sum, i| {
        let names = [(i - 1).to_string(), i.to_string()];
        sum.with(Fsp::new(names.clone(), names).with_form(form), 1)
    });
    of_terms(case, device, features, objective)
}

/// The loss with the weights of the case in place of its own.
fn vid(case: &Case, device: &Device, has_regressor: bool) -> Outcome {
    assert_eq!(case.number("eps"), 1e-5);
    let loss = Vid::new("0", "0").with_regressor(has_regressor);
    let mut features = Features::new(case, device);
    let (student, teacher) = features.outputs();
    let context = LossContext::new(&student, &teacher);
    loss.check(&context).expect("a case that fits its loss");
    let modules = loss.modules(&context, device);
    let modules = modules.expect("it trains variances").map(&mut FromCase {
        leaves: &mut features.leaves,
        layers: 0,
    });
    let total = loss.forward(&context.with_modules(&modules));
    features.leaves.outcome(total)
}

/// Puts the numbers of a case in place of parameters: those of the layers in their order, and those of
/// the variances.
struct FromCase<'a, 'b> {
    leaves: &'a mut Leaves<'b>,
    layers: usize,
}

impl ModuleMapper for FromCase<'_, '_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // The layers of a case may be wider inside than those of the loss.
        let mut shape = [1; D];
        let leaf: Tensor<1> = match D {
            1 => {
                let leaf: Tensor<1> = self.leaves.tensor("log_scale");
                shape[0] = leaf.dims()[0];
                leaf
            }
            _ => {
                self.layers += 1;
                let name = format!("regressor_w{}", self.layers - 1);
                let leaf: Tensor<2> = self.leaves.tensor(&name);
                shape[..2].copy_from_slice(&leaf.dims());
                leaf.flatten(0, 1)
            }
        };
        Param::initialized(param.id, leaf.reshape(shape))
    }
}
