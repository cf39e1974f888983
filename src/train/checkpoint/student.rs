//! A student from a checkpoint.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Bool, Bytes, Int, Tensor};

use crate::error::{Error, Result};
use crate::train::best::best_student;
use crate::train::checkpoint::directory::{Found, Sets};

/// Loads the student of a directory of checkpoints, the one of
/// [`FitConfig::with_checkpoints`](crate::FitConfig::with_checkpoints), into a student of the same shape,
/// and hands it back in inference mode: the student of the best epoch where the training keeps it
/// ([`FitConfig::with_best`](crate::FitConfig::with_best)), or else of the newest whole checkpoint.
/// Checksums are compared; a damaged set is passed over.
///
/// A training may be writing into the directory meanwhile.
///
/// # Errors
///
/// [`Error::Checkpoint`] if no set of files is whole, or if the newest one that is belongs to another
/// student, and [`Error::Io`].
///
/// # Example
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_distill::load_student;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path();
/// let student: Linear = LinearConfig::new(2, 3).init(&Device::flex());
/// let error = load_student(directory, student).unwrap_err();
/// assert!(error.to_string().ends_with("there is none"));
/// ```
pub fn load_student<S: Module>(directory: impl AsRef<Path>, student: S) -> Result<S> {
    let directory = directory.as_ref();
    let refused = |epoch, reason: String| Error::Checkpoint {
        directory: directory.to_path_buf(),
        epoch,
        reason,
    };
    let sets = Sets::of(directory);
    match again(|| best_student(&sets.folder)) {
        Ok(Some(record)) => {
            let loaded = student.try_load_record(record);
            let loaded = loaded.map_err(|error| refused(0, error.to_string()))?;
            return Ok(loaded.valid());
        }
        Ok(None) => {}
        Err(reason) => return Err(refused(0, format!("of the best epoch, {reason}"))),
    }
    let Found { set, .. } = again(|| sets.newest())?;
    let set = set.ok_or_else(|| refused(0, "there is none".into()))?;
    let epoch = set.manifest.epoch;
    let (found, expected) = (set.manifest.student, tensors(&student));
    if found != expected {
        let reason = format!("its student has {found} parameter tensors, this one {expected}");
        return Err(refused(epoch, reason));
    }
    let [model, ..] = set.parts;
    // What losses train, and the average, are beside the student.
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(model));
    let loaded = record.and_then(|record| student.try_load_record(record.allow_unused(true)));
    let loaded = loaded.map_err(|error| refused(epoch, error.to_string()))?;
    Ok(loaded.valid())
}

/// How often to look again while a training replaces the sets.
const TRIES: usize = 20;

fn again<T, E>(read: impl Fn() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
    let mut tries = (1..TRIES).map(|_| read());
    tries.find(std::result::Result::is_ok).unwrap_or_else(&read)
}

/// How many parameter tensors a module has.
pub(crate) fn tensors<M: Module>(module: &M) -> usize {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
            self.0 += 1;
        }
        fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {
            self.0 += 1;
        }
        fn visit_bool<const D: usize>(&mut self, _param: &Param<Tensor<D, Bool>>) {
            self.0 += 1;
        }
    }
    let mut count = Count(0);
    module.visit(&mut count);
    count.0
}
