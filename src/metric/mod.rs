//! Measures of how far student and teacher are apart: the distillation error.
//!
//! Every measure works alone, as a function of logits, labels and weights of rows, and inside Burn's
//! training engine, as a metric. A row whose label is below 0 is left out of the measures on labels, a row
//! of weight 0 out of all.
//!
//! | measure | function | metric |
//! |---|---|---|
//! | how often both predict the same class | [`agreement`] | [`Fidelity::Agreement`] |
//! | how often a prediction is right | [`accuracy`] | [`Fidelity::StudentAccuracy`], [`Fidelity::TeacherAccuracy`] |
//! | divergence of probabilities | [`kl_divergence`] | [`Fidelity::KlTeacherStudent`], [`Fidelity::KlStudentTeacher`] |
//! | how far confidence is from accuracy | [`expected_calibration_error`] | [`CalibrationErrorMetric`] |
//! | what distillation gained | [`gap_recovered`] | |
//! | how far weights are apart | [`parameter_distance`] | |

pub(crate) mod calibration;
pub(crate) mod distance;
pub(crate) mod fidelity;
pub(crate) mod json;
pub(crate) mod mean;
pub(crate) mod rows;

pub use crate::metric::calibration::{
    CalibrationErrorMetric, ReliabilityBin, expected_calibration_error,
};
pub use crate::metric::distance::{ParameterDistance, parameter_distance};
pub use crate::metric::fidelity::{
    Fidelity, FidelityInput, FidelityMetric, accuracy, agreement, gap_recovered, kl_divergence,
};
