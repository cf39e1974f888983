//! What contrastive distillation trains, and its memories.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use burn::module::{Module, RunningState};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Distribution, IndexingUpdateOp, Int, Tensor};

use crate::data::targets::from_bool;
use crate::ops::vectors::{mask_rows, unit};

/// Past embeddings of every training sample; see [`crd`](fn@crate::loss::crd).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrdMemory {
    /// The student's, `[M, D]`.
    pub student: Tensor<2>,
    /// The teacher's, `[M, D]`.
    pub teacher: Tensor<2>,
    /// `ln Z` for the student's and for the teacher's embeddings, `[2]`. Where there are none, each
    /// batch estimates its own.
    pub normalisers: Option<Tensor<1>>,
}

impl CrdMemory {
    /// Memories of both sides, `[M, D]` each, without normalisers.
    pub fn new(student: Tensor<2>, teacher: Tensor<2>) -> Self {
        Self {
            student: student.without_autodiff(),
            teacher: teacher.without_autodiff(),
            normalisers: None,
        }
    }

    /// The same memories with normalisers, what
    /// [`crd_normalisers`](fn@crate::loss::crd_normalisers) gives for the first batch.
    #[must_use]
    pub fn with_normalisers(mut self, normalisers: Tensor<1>) -> Self {
        self.normalisers = Some(normalisers.without_autodiff());
        self
    }

    /// Moves the entries of a batch's samples towards their new embeddings: `unit(m · old +
    /// (1 − m) · new)` with the momentum `m`. Of a sample that is there twice the last row is taken.
    ///
    /// # Panics
    ///
    /// Panics if there is not one index below `M` for each row.
    #[must_use]
    pub fn updated(
        self,
        indices: &[usize],
        student: Tensor<2>,
        teacher: Tensor<2>,
        momentum: f64,
    ) -> Self {
        self.moved(indices, None, student, teacher, momentum)
    }

    /// [`updated`](Self::updated) for the valid rows, those that `mask` names.
    pub(crate) fn moved(
        self,
        indices: &[usize],
        mask: Option<&Tensor<1, Bool>>,
        student: Tensor<2>,
        teacher: Tensor<2>,
        momentum: f64,
    ) -> Self {
        let device = self.student.device();
        let rows = index_tensor(indices, &device);
        let mut seen = HashSet::new();
        let later = indices.iter().rev().map(|index| !seen.insert(index));
        let mut repeated: Vec<bool> = later.collect();
        repeated.reverse();
        let mut ignored = Tensor::<1, Bool>::from_data(repeated.as_slice(), &device);
        if let Some(mask) = mask {
            ignored = ignored.bool_or(mask.clone().bool_not());
        }
        let towards = |memory: Tensor<2>, new: Tensor<2>| {
            let old = memory.clone().select(0, rows.clone());
            let new = new.without_autodiff() * (1.0 - momentum);
            let step = mask_rows(unit(old.clone() * momentum + new) - old, &ignored);
            memory.select_assign(0, rows.clone(), step, IndexingUpdateOp::Add)
        };
        Self {
            student: towards(self.student, student),
            teacher: towards(self.teacher, teacher),
            normalisers: self.normalisers,
        }
    }
}

/// Indices as a tensor, `[N]`.
pub(crate) fn index_tensor(indices: &[usize], device: &Device) -> Tensor<1, Int> {
    let indices: Vec<i64> = indices.iter().map(|index| *index as i64).collect();
    Tensor::from_data(indices.as_slice(), device)
}

/// Embeddings of both sides and a memory of them for every training sample: checkpointed with the
/// student, never part of the student that is handed back.
///
/// The embeddings are linear maps with bias, and are trained. The memories are buffers: no
/// optimizer touches them, yet they are in a count of parameters, as the statistics of a batch
/// normalisation are. Clones share them.
#[derive(Module, Debug)]
pub(crate) struct Contrast {
    student: Linear,
    teacher: Linear,
    memory_student: RunningState<Tensor<2>>,
    memory_teacher: RunningState<Tensor<2>>,
    /// `ln Z` for the student's and for the teacher's embeddings, and 1 once they are known.
    normalisers: RunningState<Tensor<1>>,
    #[module(skip)]
    turn: Arc<Mutex<()>>,
}

impl Contrast {
    /// Embeddings of features of two widths, and random memories of `samples` samples.
    pub fn new(
        student: usize,
        teacher: usize,
        width: usize,
        samples: usize,
        device: &Device,
    ) -> Self {
        // The mean squared norm of a row is 1, as it is once the row has been updated.
        let bound = (3.0 / width as f64).sqrt();
        let memory = || {
            let entries = Distribution::Uniform(-bound, bound);
            RunningState::new(Tensor::random([samples, width], entries, device))
        };
        Self {
            student: LinearConfig::new(student, width).init(device),
            teacher: LinearConfig::new(teacher, width).init(device),
            memory_student: memory(),
            memory_teacher: memory(),
            normalisers: RunningState::new(Tensor::zeros([3], device)),
            turn: Arc::default(),
        }
    }

    /// Features as unit vectors of the common width.
    pub fn embed(&self, student: Tensor<2>, teacher: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        (
            unit(self.student.forward(student)),
            unit(self.teacher.forward(teacher)),
        )
    }

    /// To be held from reading to writing, since several devices share the memories.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock();
        turn.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The memories on a device, outside autodiff and without normalisers.
    pub fn read(&self, device: &Device) -> CrdMemory {
        CrdMemory::new(
            constant(&self.memory_student, device),
            constant(&self.memory_teacher, device),
        )
    }

    /// The normalisers that are known, or an estimate where none are.
    pub fn normalisers_or(&self, estimate: Tensor<1>) -> Tensor<1> {
        let kept = constant(&self.normalisers, &estimate.device());
        let is_known = kept.clone().narrow(0, 2, 1).greater_elem(0.5).expand([2]);
        estimate.mask_where(is_known, kept.narrow(0, 0, 2))
    }

    /// Stores what a step leaves. Its normalisers are known from then on if any row was valid.
    pub fn write(&self, memory: CrdMemory, mask: Option<&Tensor<1, Bool>>) {
        let normalisers = memory.normalisers.expect("a step has normalisers");
        let known = constant(&self.normalisers, &normalisers.device()).narrow(0, 2, 1);
        let known = match mask {
            Some(mask) => known.max_pair(from_bool(mask.clone().any())),
            None => known.ones_like(),
        };
        replace(&self.memory_student, memory.student);
        replace(&self.memory_teacher, memory.teacher);
        replace(&self.normalisers, Tensor::cat(vec![normalisers, known], 0));
    }
}

fn constant<const D: usize>(state: &RunningState<Tensor<D>>, device: &Device) -> Tensor<D> {
    let value = state.value().without_autodiff();
    value.to_device(&device.clone().inner())
}

fn replace<const D: usize>(state: &RunningState<Tensor<D>>, value: Tensor<D>) {
    // A running state takes an update up when it is next asked for its value, which a checkpoint
    // does not do.
    state.update(value.autodiff());
    let _ = state.value_sync();
}
