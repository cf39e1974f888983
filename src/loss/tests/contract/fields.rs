//! The fields of every loss in a config file: their names, defaults and ranges.

use crate::loss::known::KnownLoss;

/// Some values that a field must not have, and what is expected instead.
pub type Range = (&'static [&'static str], &'static str);

pub const ABOVE_0: Range = (&["0", "-1", "nan", "inf"], "a number greater than 0");
const AT_LEAST_0: Range = (&["-1", "nan", "inf"], "a number of at least 0");
const COUNT: Range = (&["0"], "a whole number of at least 1");

/// The fields of a loss in a file. That names of features must not be empty, and temperatures are
/// greater than 0, need not be said.
pub struct Fields {
    /// Those that a file may leave out, with the values that they have then.
    pub defaults: &'static str,
    /// Other values that they may have.
    pub others: &'static [&'static str],
    /// What they must not have.
    pub ranges: &'static [(&'static str, Range)],
    /// The same of several fields, or of parts of one, and what is said after the name of the loss.
    pub refused: &'static [(&'static str, &'static str)],
}

pub fn fields(loss: &KnownLoss) -> Fields {
    let none = Fields {
        defaults: "",
        others: &[],
        ranges: &[],
        refused: &[],
    };
    match loss {
        KnownLoss::SoftTarget(_) => Fields {
            defaults: "temperature = 4.0",
            others: &["temperature = { cosine = { from = 8.0, to = 1.0 } }"],
            ..none
        },
        KnownLoss::SoftCrossEntropy(_) => Fields {
            defaults: "temperature = 4.0, scale = 'squared'",
            others: &["scale = 'none'"],
            ..none
        },
        KnownLoss::ReverseKl(_) | KnownLoss::SymmetricKl(_) => Fields {
            defaults: "temperature = 1.0, scale = 'squared'",
            others: &["scale = 'none'"],
            ..none
        },
        KnownLoss::JensenShannon(_) => Fields {
            defaults: "temperature = 1.0, beta = 0.5, scale = 'squared'",
            others: &["beta = 0.0, scale = 'none'", "beta = 1.0"],
            ranges: &[("beta", (&["-0.1", "1.1", "nan"], "a number in [0, 1]"))],
            ..none
        },
        KnownLoss::TotalVariation(_) => Fields {
            defaults: "temperature = 1.0",
            ..none
        },
        KnownLoss::LogitMse(_) => Fields {
            defaults: "temperature = 1.0, reduction = 'mean'",
            others: &["reduction = 'sum'"],
            ..none
        },
        KnownLoss::LogitCosine(_) => Fields {
            defaults: "centred = false",
            others: &["centred = true"],
            ..none
        },
        KnownLoss::HardLabel(_) => Fields {
            defaults: "smoothing = 0.0",
            others: &["smoothing = 0.999"],
            ranges: &[("smoothing", (&["-0.1", "1", "nan"], "a number in [0, 1)"))],
            ..none
        },
        KnownLoss::Dkd(_) => Fields {
            defaults: "temperature = 4.0, alpha = 1.0, beta = 8.0",
            others: &["alpha = 0.0, beta = 0.0"],
            ranges: &[("alpha", AT_LEAST_0), ("beta", AT_LEAST_0)],
            refused: &[(
                "temperature = { linear = { from = 4, to = -1 } }",
                "temperature is -1, expected a number greater than 0",
            )],
        },
        KnownLoss::Nkd(_) => Fields {
            defaults: "temperature = 1.0, gamma = 1.5",
            others: &["gamma = 0.0"],
            ranges: &[("gamma", AT_LEAST_0)],
            ..none
        },
        KnownLoss::Dist(_) => Fields {
            defaults: "temperature = 1.0, beta = 1.0, gamma = 1.0",
            others: &["beta = 0.0, gamma = 0.0"],
            ranges: &[("beta", AT_LEAST_0), ("gamma", AT_LEAST_0)],
            ..none
        },
        KnownLoss::VirtualTeacher(_) => Fields {
            defaults: "temperature = 20.0, correct = 0.99",
            others: &["correct = 0.01"],
            ranges: &[("correct", (&["0", "1", "nan"], "a number in (0, 1)"))],
            ..none
        },
        KnownLoss::SparseSoftTarget(_) => Fields {
            defaults: "k = 64, temperature = 1.0, missing_probability = 'bucket'",
            others: &["k = 1, missing_probability = 'renormalize'"],
            ranges: &[("k", (&["0"], "at least 1"))],
            ..none
        },
        KnownLoss::Hint(_) => Fields {
            defaults: "regressor = 'auto'",
            others: &[
                "regressor = 'linear'",
                "regressor = 'conv1x1'",
                "regressor = 'conv_bn_relu'",
                "regressor = 'mlp'",
            ],
            ..none
        },
        KnownLoss::HiddenCosine(_) => Fields {
            defaults: "norm = 'added'",
            others: &["norm = 'clamped'"],
            ..none
        },
        KnownLoss::PatientKd(_) => Fields {
            refused: &[
                (
                    "pairs = []",
                    "pairs is [], expected at least one pair of features",
                ),
                (
                    r#"pairs = [["", "t"]]"#,
                    r#"student is "", expected the name of a feature"#,
                ),
            ],
            ..none
        },
        KnownLoss::AttentionMap(_) => Fields {
            defaults: "distance = 'mse', heads = 'each'",
            others: &[
                "distance = 'kl_of_scores', heads = 'mean'",
                "distance = 'kl_of_probabilities'",
            ],
            ..none
        },
        KnownLoss::Crd(_) => Fields {
            defaults: "width = 128, negatives = 16384, temperature = 0.07, momentum = 0.5",
            others: &["width = 1, negatives = 1, momentum = 0.0"],
            ranges: &[
                ("width", COUNT),
                ("negatives", COUNT),
                ("momentum", (&["-0.1", "1", "nan"], "a number in [0, 1)")),
            ],
            ..none
        },
        KnownLoss::Vid(_) => Fields {
            defaults: "has_regressor = true, epsilon = 1e-5, initial_variance = 5.0",
            others: &["has_regressor = false, epsilon = 1e-6, initial_variance = 1.0"],
            ranges: &[
                ("epsilon", ABOVE_0),
                (
                    "initial_variance",
                    (
                        &["0.00001", "nan", "inf"],
                        "a number greater than vid.epsilon",
                    ),
                ),
            ],
            ..none
        },
        KnownLoss::Fsp(_) => Fields {
            defaults: "form = 'mean_square'",
            others: &["form = 'column_norm'"],
            refused: &[(
                r#"student = ["m", ""]"#,
                r#"student is "", expected the name of a feature"#,
            )],
            ..none
        },
        KnownLoss::FactorTransfer(_) => Fields {
            defaults: "form = 'flat_l1'",
            others: &[
                "form = 'flat_l2'",
                "form = 'channel_l1'",
                "form = 'channel_square'",
            ],
            ..none
        },
        KnownLoss::ActivationBoundary(_) => Fields {
            defaults: "margin = 1.0, reduction = 'mean'",
            others: &["margin = 0.5, reduction = 'sum'"],
            ranges: &[("margin", ABOVE_0)],
            ..none
        },
        KnownLoss::Overhaul(_) => Fields {
            defaults: "reduction = 'mean'",
            others: &["margins = [-1.0, 0.0], reduction = 'sum'"],
            refused: &[
                (
                    "margins = [-1.0, 0.5]",
                    "margins is 0.5, expected a number of at most 0",
                ),
                (
                    "margins = [-1.0, nan]",
                    "margins is NaN, expected a number of at most 0",
                ),
                (
                    "margins = [-1.0, -inf]",
                    "margins is -inf, expected a number of at most 0",
                ),
            ],
            ..none
        },
        KnownLoss::ReviewKd(_) => Fields {
            others: &["width = 1"],
            ranges: &[("width", (&["0"], "at least 1"))],
            refused: &[
                (
                    "student = [], teacher = []",
                    "student is empty, expected at least one name",
                ),
                (
                    r#"teacher = ["c"]"#,
                    r#"teacher is ["c"], expected as many names as review_kd.student"#,
                ),
            ],
            ..none
        },
        KnownLoss::Mgd(_) => Fields {
            defaults: "mask_ratio = 0.65, reduction = 'mean'",
            others: &["mask_ratio = 0.0, reduction = 'sum'"],
            ranges: &[(
                "mask_ratio",
                (&["-0.1", "1", "nan"], "a number from 0 to below 1"),
            )],
            ..none
        },
        KnownLoss::ChannelWise(_) => Fields {
            defaults: "temperature = 4.0",
            others: &["temperature = { cosine = { from = 8.0, to = 2.0 } }"],
            ..none
        },
        KnownLoss::AttentionTransfer(_) => Fields {
            defaults: "power = 2, signed = false, reduction = 'norm'",
            others: &["power = 1, signed = true, reduction = 'mean_square'"],
            ranges: &[("power", COUNT)],
            ..none
        },
        KnownLoss::Nst(_) => Fields {
            defaults: "kernel = { polynomial = { degree = 2, offset = 0.0 } }",
            others: &["kernel = 'gaussian'", "kernel = 'linear'"],
            refused: &[(
                "kernel = { polynomial = { degree = 0, offset = 0.0 } }",
                "kernel.degree is 0, expected a whole number of at least 1",
            )],
            ..none
        },
        KnownLoss::SimilarityPreserving(_) => Fields {
            defaults: "norm = 'l2'",
            others: &["norm = 'l1'"],
            ..none
        },
        KnownLoss::Pkt(_) => Fields {
            defaults: "eps = 1e-7",
            others: &["eps = 1e-6"],
            ranges: &[("eps", ABOVE_0)],
            ..none
        },
        KnownLoss::Rkd(_) => Fields {
            defaults: "distance_weight = 25.0, angle_weight = 50.0, squared = false",
            others: &[
                "angle_weight = 0.0, squared = true",
                "distance_weight = 0.0",
            ],
            ranges: &[
                ("distance_weight", AT_LEAST_0),
                ("angle_weight", AT_LEAST_0),
            ],
            refused: &[(
                "distance_weight = 0, angle_weight = 0",
                "angle_weight is 0, expected a number greater than 0 where rkd.distance_weight is 0",
            )],
        },
        KnownLoss::CorrelationCongruence(_) => Fields {
            defaults: "correlation = { gaussian = { gamma = 0.4, order = 2 } }, normalize = true, reduction = 'mean_square'",
            others: &[
                "correlation = { gaussian = { gamma = 1e-9, order = 1 } }",
                "correlation = 'bilinear', reduction = 'norm'",
                "correlation = 'adjacent', normalize = false",
            ],
            refused: &[
                (
                    "correlation = { gaussian = { gamma = 0.0, order = 2 } }",
                    "correlation.gamma is 0, expected a number greater than 0",
                ),
                (
                    "correlation = { gaussian = { gamma = 0.4, order = 0 } }",
                    "correlation.order is 0, expected a whole number of at least 1",
                ),
                (
                    "correlation = 'adjacent', reduction = 'norm'",
                    "reduction is norm, expected its default where correlation is adjacent",
                ),
            ],
            ..none
        },
        KnownLoss::Mmd(_) => Fields {
            defaults: "kernel = 'gaussian'",
            others: &["kernel = { polynomial = { degree = 3, offset = 0.5 } }"],
            refused: &[(
                "kernel = { polynomial = { degree = 3, offset = -1.0 } }",
                "kernel.offset is -1, expected a number of at least 0",
            )],
            ..none
        },
        KnownLoss::GramMse(_) => none,
    }
}
