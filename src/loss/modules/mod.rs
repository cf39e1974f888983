//! The trainable parts of losses: everything that is optimised and checkpointed with a student and
//! never part of the student that is handed back.

pub(crate) mod conv_norm;
pub(crate) mod contrast;
pub(crate) mod fusion;
pub(crate) mod projector;
pub(crate) mod translator;

use burn::module::Module;

use crate::loss::features::mgd::MgdGenerator;
use crate::loss::features::overhaul::OverhaulRegressor;
use crate::loss::features::vid::VidParts;
use crate::loss::modules::contrast::Contrast;
use crate::loss::modules::fusion::ReviewKdFusion;
use crate::loss::modules::projector::Projector;
use crate::loss::modules::translator::Translator;

/// What a loss trains along with the student.
///
/// One variant per loss that needs something of its own; a loss makes it once, before training, and
/// gets it back with every step as [`LossContext::parts`](super::LossContext::parts).
#[derive(Module, Debug)]
#[non_exhaustive]
pub enum Parts {
    /// A map between the widths of two features.
    Projector(Projector),
    /// Embeddings and memories of contrastive distillation.
    Contrast(Contrast),
    /// The regressor and the variances of [`Vid`](super::Vid).
    Vid(VidParts),
    /// The translator of [`FactorTransfer`](super::FactorTransfer).
    FactorTransfer(Translator),
    /// The regressor of [`Overhaul`](super::Overhaul).
    Overhaul(OverhaulRegressor),
    /// The fusion of [`ReviewKd`](super::ReviewKd).
    ReviewKd(ReviewKdFusion),
    /// The generator of [`Mgd`](super::Mgd).
    Mgd(MgdGenerator),
}

impl Parts {
    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::Projector(projector) => projector.describe(),
            Self::Contrast(contrast) => contrast.describe(),
            Self::Vid(parts) => parts.describe(),
            Self::FactorTransfer(translator) => translator.describe(),
            Self::Overhaul(regressor) => regressor.describe(),
            Self::ReviewKd(fusion) => fusion.describe(),
            Self::Mgd(generator) => generator.describe(),
        }
    }
}

impl From<Projector> for Parts {
    fn from(projector: Projector) -> Self {
        Self::Projector(projector)
    }
}

impl From<Contrast> for Parts {
    fn from(contrast: Contrast) -> Self {
        Self::Contrast(contrast)
    }
}
