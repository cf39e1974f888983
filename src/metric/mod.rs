//! How far student and teacher are apart: the distillation error, measured.
//!
//! Every measure works alone, as a function of tensors, and inside Burn's training engine, as a
//! metric:
//!
//! | measure | function | metric |
//! |---|---|---|
//! | how often both give one answer | [`agreement`] | [`Fidelity::Agreement`] |
//! | how often an answer is right | [`accuracy`] | [`Fidelity::StudentAccuracy`], [`Fidelity::TeacherAccuracy`] |
//! | divergence of probabilities | [`kl_divergence`] | [`Fidelity::KlTeacherStudent`], [`Fidelity::KlStudentTeacher`] |
//! | how far confidence is from accuracy | [`expected_calibration_error`] | [`CalibrationErrorMetric`] |
//! | what distillation gained | [`gap_recovered`] | |
//! | how far weights are apart | [`parameter_distance`] | |

pub(crate) mod calibration;
pub(crate) mod distance;
pub(crate) mod fidelity;

pub use crate::metric::calibration::{
    CalibrationErrorMetric, ReliabilityBin, expected_calibration_error,
};
pub use crate::metric::distance::{ParameterDistance, parameter_distance};
pub use crate::metric::fidelity::{
    Fidelity, FidelityInput, FidelityMetric, accuracy, agreement, gap_recovered, kl_divergence,
};
