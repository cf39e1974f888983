use burn::module::Module;

use crate::data::outputs::{Distillable, Outputs, Recalled};
use crate::error::{Error, Result};
use crate::knowledge::store::Store;

/// A teacher who is not there: its answers were [recorded](crate::knowledge) before.
///
/// It stands in the teacher's place of a [`Distiller`](crate::Distiller), with the same losses. The answers
/// come with the batches, whose datasets and batchers were given
/// [`with_knowledge`](crate::knowledge::KnowledgeDataset::with_knowledge) of a store of this teacher. Training
/// and validation may have stores of their own.
///
/// Where all logits were recorded, losses see them. Of [some classes](crate::knowledge::LogitsFormat::TopK)
/// logits are made that agree with what was recorded and give all other classes the same share of what is
/// left; [sparse soft targets](crate::loss::SparseSoftTarget) use what was recorded as it is. Features are there
/// if they were recorded, and a term that misses one is refused before training.
///
/// In a report it has neither size nor speed: what it says was read, not computed.
#[derive(Module, Debug)]
pub struct Recorded {
    #[module(skip)]
    teacher: String,
}

impl Recorded {
    /// The teacher of a store.
    pub fn new(store: &Store) -> Self {
        Self {
            teacher: store.header().teacher.clone(),
        }
    }

    /// The fingerprint of its weights; see [`fingerprint`](crate::knowledge::fingerprint).
    pub fn fingerprint(&self) -> &str {
        &self.teacher
    }
}

impl<I: 'static> Distillable<I> for Recorded {
    /// # Panics
    ///
    /// Always: it knows answers, and not how to find them.
    fn outputs(&self, _input: I) -> Outputs {
        panic!(
            "a recorded teacher answers for batches that bring its knowledge along, not for an input"
        )
    }

    fn teach(&self, _input: &I, recalled: Option<&Recalled>) -> Result<Outputs>
    where
        I: Module,
    {
        let recalled = recalled.ok_or(Error::NoKnowledge)?;
        if *recalled.teacher != *self.teacher {
            return Err(Error::OtherTeacher {
                expected: self.teacher.clone(),
                found: recalled.teacher.to_string(),
            });
        }
        recalled.outputs.clone()
    }
}
