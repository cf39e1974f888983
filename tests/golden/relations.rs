//! Losses on attention, channels and the relations of samples: everything that compares features
//! without comparing them element by element.

use burn::tensor::Device;
use burn_distill::loss::{
    AttentionTransfer, Correlation, CorrelationCongruence, DifferenceReduction, GramMse, Kernel,
    KnownLoss, Nst, Pkt, Rkd, SimilarityNorm, SimilarityPreserving,
};
use burn_distill::{Objective, Outputs};

use crate::case::{Case, Leaves, Outcome, value};
use crate::features::{constant, leaf};

pub fn compute(loss: &str, case: &Case, device: &Device) -> Option<Outcome> {
    // Several layers are several terms.
    let layers: Vec<KnownLoss> = (0..)
        .map(|layer| format!("features_{layer}"))
        .take_while(|name| case.has(&format!("student_{name}")))
        .map(|name| of_layer(loss, case, name))
        .collect::<Option<_>>()?;
    let terms = match loss {
        "mmd" => layers.into_iter().take(1).collect(),
        _ => layers,
    };
    (!terms.is_empty()).then(|| run(case, device, terms))
}

/// The loss on one layer, or `None` for a variant that no loss here has.
fn of_layer(loss: &str, case: &Case, name: String) -> Option<KnownLoss> {
    let student = name.clone();
    let attention = |signed, reduction| {
        AttentionTransfer::new(student.clone(), name.clone())
            .with_power(case.number("p") as u32)
            .with_signed(signed)
            .with_reduction(reduction)
    };
    let gaussian = |order: &str| Correlation::Gaussian {
        gamma: case.number("gamma"),
        order: case.number(order) as u32,
    };
    let congruence = |correlation| {
        CorrelationCongruence::new(student.clone(), name.clone()).with_correlation(correlation)
    };
    let torchdistill = |correlation| {
        congruence(correlation)
            .with_normalize(false)
            .with_reduction(DifferenceReduction::Norm)
    };
    Some(match (loss, case.variant.as_str()) {
        ("attention_transfer", "code_meansq_summed_over_layers") => {
            attention(true, DifferenceReduction::MeanSquare).into()
        }
        ("attention_transfer", "kdzoo_abs_sum_eps1e-6") => {
            attention(false, DifferenceReduction::MeanSquare).into()
        }
        ("attention_transfer", "paper_l2_norm_per_sample") => {
            attention(false, DifferenceReduction::Norm).into()
        }
        ("similarity_preserving", "rownorm_gram") => {
            SimilarityPreserving::new(student, name).into()
        }
        ("similarity_preserving", "torchdistill_l1_rownorm_gram") => {
            SimilarityPreserving::new(student, name)
                .with_norm(SimilarityNorm::L1)
                .into()
        }
        ("pkt", "cosine_eps1e-7" | "cosine_eps1e-6") => {
            Pkt::new(student, name).with_eps(case.number("eps")).into()
        }
        ("rkd", "distance" | "angle" | "combined_25_50" | "distance_squared") => {
            Rkd::new(student, name)
                .with_distance_weight(case.number("distance_weight"))
                .with_angle_weight(case.number("angle_weight"))
                .with_squared(case.variant == "distance_squared")
                .into()
        }
        ("nst", "poly2_mmd") => Nst::new(student, name)
            .with_kernel(Kernel::Polynomial {
                degree: case.number("degree") as u32,
                offset: case.number("c"),
            })
            .into(),
        ("mmd", "textbrewer_gram_mse") => {
            let both = ["features_0", "features_1"];
            GramMse::new(both, both).into()
        }
        ("correlation_congruence", "taylor_rbf_mse") => congruence(gaussian("p_order")).into(),
        ("correlation_congruence", "torchdistill_gaussian_fro_over_n2") => {
            torchdistill(gaussian("max_p")).into()
        }
        ("correlation_congruence", "torchdistill_bilinear_fro_over_n2") => {
            torchdistill(Correlation::Bilinear).into()
        }
        ("correlation_congruence", "repdistiller_adjacent") => congruence(Correlation::Adjacent)
            .with_normalize(false)
            .into(),
        _ => return None,
    })
}

/// The sum of terms, each with weight 1, on features alone.
fn run(case: &Case, device: &Device, terms: Vec<KnownLoss>) -> Outcome {
    let mut leaves = Leaves::new(case, device);
    let mut student = Outputs::features_only();
    let mut teacher = Outputs::features_only();
    let names = (0..).map(|layer| format!("features_{layer}"));
    for name in names.take_while(|name| case.has(&format!("student_{name}"))) {
        let feature = leaf(case, &mut leaves, &format!("student_{name}"));
        student = student.with_feature(&name, feature);
        let feature = constant(case, &format!("teacher_{name}"), device);
        teacher = teacher.with_feature(&name, feature);
    }
    let terms = terms.into_iter();
    let objective = terms.fold(Objective::new(), |sum, term| sum.with(term, 1));
    let total = value(
        &objective,
        &student,
        &teacher,
        &case.targets(device),
        device,
    );
    leaves.outcome(total)
}
