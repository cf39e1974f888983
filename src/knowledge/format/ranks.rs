//! Classes by how often they occur, so that those of one row have small numbers close to each other.

use std::cmp::Reverse;

use safetensors::SafeTensors;

use crate::knowledge::format::bits::Sound;
use crate::knowledge::format::tensors::{Tensor, serialize};

/// A numbering of classes: the most frequent is number 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranks {
    classes: Vec<u32>,
    ranks: Vec<u32>,
}

/// The name of the only tensor of the file.
const NAME: &str = "class_of_rank";

impl Ranks {
    /// The numbering in which `classes[n]` is number `n`.
    pub(crate) fn new(classes: Vec<u32>) -> Sound<Self> {
        let mut ranks = vec![u32::MAX; classes.len()];
        for (rank, class) in classes.iter().enumerate() {
            match ranks.get_mut(*class as usize) {
                Some(place) if *place == u32::MAX => *place = rank as u32,
                _ => return Err("ranks do not name every class once".into()),
            }
        }
        Ok(Self { classes, ranks })
    }

    /// The numbering by these counts, classes of one count in their own order.
    pub(crate) fn by_count(counts: &[u64]) -> Self {
        let mut classes: Vec<u32> = (0..counts.len() as u32).collect();
        classes.sort_by_key(|class| Reverse(counts[*class as usize]));
        Self::new(classes).expect("a sorted list of all classes has every class once")
    }

    pub(crate) fn rank(&self, class: u32) -> u32 {
        self.ranks[class as usize]
    }

    pub(crate) fn class(&self, rank: u32) -> u32 {
        self.classes[rank as usize]
    }

    /// The bytes of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let data: Vec<u8> = self.classes.iter().flat_map(|c| c.to_le_bytes()).collect();
        let shape = vec![self.classes.len()];
        let tensor = Tensor::new(NAME, safetensors::Dtype::U32, shape, &data);
        let mut out = Vec::new();
        for part in serialize(&[tensor]).parts() {
            out.extend_from_slice(part);
        }
        out
    }

    /// The numbering of so many classes that a file holds.
    pub(crate) fn from_bytes(bytes: &[u8], classes: usize) -> Sound<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let tensor = file.tensor(NAME).map_err(|error| error.to_string())?;
        if tensor.dtype() != safetensors::Dtype::U32 || tensor.shape() != [classes] {
            return Err(format!(
                "{NAME} is {:?} {:?}, expected U32 [{classes}]",
                tensor.dtype(),
                tensor.shape()
            )
            .into());
        }
        let (chunks, _) = tensor.data().as_chunks();
        Self::new(chunks.iter().map(|c| u32::from_le_bytes(*c)).collect())
    }
}
