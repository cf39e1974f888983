//! The trainable parts of losses: everything that is optimised and checkpointed with a student and
//! never part of the student that is handed back.

use burn::module::Module;

use crate::{Contrast, Projector};

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
}

impl Parts {
    /// What it is, in a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::Projector(projector) => projector.describe(),
            Self::Contrast(contrast) => contrast.describe(),
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
