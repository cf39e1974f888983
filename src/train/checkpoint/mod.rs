//! Checkpoints: sets of files of which at least one is whole at every moment, and what they belong to.
//!
//! ```text
//! DIRECTORY/checkpoint.lock          held by the training that writes here
//! DIRECTORY/checkpoint/model-3.bpk   what is trained after epoch 3: student, auxiliary modules, average
//!                      optim-3.bpk   the optimizer's state
//!                      scheduler-3.bpk
//!                      set-3.json    written last: the set is whole with it, and it says what it belongs to
//! DIRECTORY/checkpoint.before/       sets of an earlier training, until one that began afresh has its first
//! ```

pub(crate) mod directory;
pub(crate) mod identity;
pub(crate) mod manifest;
pub(crate) mod optimizer;
pub(crate) mod resume;
pub(crate) mod saver;
pub(crate) mod settings;
pub(crate) mod student;
